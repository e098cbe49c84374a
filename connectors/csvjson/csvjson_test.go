package csvjson

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

func kinds(name string) Kind {
	return map[string]Kind{"s": Text, "n": Number, "b": Bool, "t": Time, "l": Nested}[name]
}

func TestConvert(t *testing.T) {
	for _, c := range []struct{ in, want, problem string }{
		{in: ""},
		{in: "s,n\n"},
		{in: "\xef\xbb\xbfs,n\r\n1,1\r\nx, 2.50 \r\n", want: `{"s":"1","n":1}` + "\n" + `{"s":"x","n":2.50}` + "\n"},
		{in: "n\n01\n+1\n1e5\n-0.5\n1.\n.5\nNaN\n-\n", want: `{"n":"01"}|{"n":"+1"}|{"n":1e5}|{"n":-0.5}|{"n":"1."}|{"n":".5"}|{"n":"NaN"}|{"n":"-"}|`},
		{in: "b,t\nTRUE,1700000000\nno,2026-01-31\n", want: `{"b":true,"t":1700000000}|{"b":"no","t":"2026-01-31"}|`},
		{in: "s,n\n,\n", want: `{"s":null,"n":null}|`},
		{in: "s\n\"a\"\"b\\\nc\t\"\n", want: `{"s":"a\"b\\\nc\t"}|`},
		{in: "l\n\"[1,\n 2]\"\n[1\n", want: `{"l":[1,2]}|{"l":"[1"}|`},
		{in: "x,y,z\n12,false,a\n", want: `{"x":12,"y":false,"z":"a"}|`},
		{in: "s,n\na\n", problem: "line 2 has 1 fields, the header has 2"},
		{in: "s,n\n\"a\"x,1\n", problem: "line 2: "},
		{in: "s,\n", problem: "column 2 of the header has no name"},
		{in: "s,s\n", problem: `names "s" twice`},
	} {
		var out bytes.Buffer
		err := Convert(&out, strings.NewReader(c.in), Options{Kind: kinds})
		if c.problem != "" {
			if err == nil || !strings.Contains(err.Error(), c.problem) {
				t.Errorf("%q: error %v, want %q", c.in, err, c.problem)
			}
			continue
		}
		if want := strings.ReplaceAll(c.want, "|", "\n"); err != nil || out.String() != want {
			t.Errorf("%q:\n%s%v\nwant:\n%s", c.in, out.String(), err, want)
		}
	}
}

// TestConvertAgainstJSON: whatever text there is, each row is one line of valid
// JSON that says the same.
func TestConvertAgainstJSON(t *testing.T) {
	const alphabet = "a1-.e+0\"\\,\n\r\x00\x1f é世 []{}tru"
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 4))
		var in bytes.Buffer
		w := csv.NewWriter(&in)
		_ = w.Write([]string{"s", "n", "g"})
		var want [][]string
		for range 20 {
			rec := make([]string, 3)
			for i := range rec {
				runes := []rune(alphabet)
				for range r.IntN(8) {
					rec[i] += string(runes[r.IntN(len(runes))])
				}
				rec[i] = strings.ReplaceAll(rec[i], "\r", "") // CSV drops it before a newline
			}
			want = append(want, rec)
			_ = w.Write(rec)
		}
		w.Flush()
		var out bytes.Buffer
		if err := Convert(&out, &in, Options{Kind: kinds}); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		if len(lines) != len(want) {
			t.Fatalf("seed %d: %d lines for %d rows", seed, len(lines), len(want))
		}
		for i, line := range lines {
			dec := json.NewDecoder(strings.NewReader(line))
			dec.UseNumber()
			got := map[string]any{}
			if err := dec.Decode(&got); err != nil {
				t.Fatalf("seed %d: %q: %v", seed, line, err)
			}
			for j, name := range []string{"s", "n", "g"} {
				text := ""
				if v := got[name]; v != nil {
					text = fmt.Sprint(v)
				}
				if text != want[i][j] && text != strings.ToLower(strings.TrimSpace(want[i][j])) {
					t.Fatalf("seed %d: %q became %q in %s", seed, want[i][j], text, line)
				}
			}
		}
	}
}

func BenchmarkConvert(b *testing.B) {
	var in bytes.Buffer
	in.WriteString("s,n,b,t\n")
	for i := range 10_000 {
		fmt.Fprintf(&in, "card-%d,%d.25,true,2026-01-31T08:00:00Z\n", i, i)
	}
	b.SetBytes(int64(in.Len()))
	for b.Loop() {
		var out bytes.Buffer
		if err := Convert(&out, bytes.NewReader(in.Bytes()), Options{Kind: kinds}); err != nil {
			b.Fatal(err)
		}
	}
}
