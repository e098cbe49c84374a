package infer

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/contract"
)

func propose(t *testing.T, messages ...string) (*Proposal, string) {
	t.Helper()
	var in [][]byte
	for _, m := range messages {
		in = append(in, []byte(m))
	}
	p, err := Infer(in)
	if err != nil {
		t.Fatal(err)
	}
	return p, p.YAML("events", "a test")
}

func TestTypes(t *testing.T) {
	for name, c := range map[string]struct {
		rows []string
		want []string
	}{
		"scalars": {
			[]string{`{"id":1,"a":1.5,"b":true,"s":"x","at":"2026-01-31T12:00:00Z","d":"2026-01-31"}`, `{"id":2,"a":2,"b":null,"s":"y","at":"2026-01-31 12:00:01","d":"2026-02-01"}`},
			[]string{
				"{name: id, type: long, required: true}", "{name: a, type: double, required: true}   # or decimal(18,1)", "{name: b, type: boolean}",
				"{name: s, type: string, required: true}", "{name: at, type: timestamp, required: true}", "{name: d, type: date, required: true}",
				"# key: [id]   # different in all rows of the sample; so are s", "# event_time: at",
			},
		},
		"nested": {
			[]string{`{"p":{"lat":1.5,"lon":2},"tags":["a",null],"none":null,"e":[]}`, `{"p":{"lat":1,"name":"x"},"l":[{"q":1}]}`},
			[]string{
				`{name: p, type: "struct<lat: double, lon: long, name: string>", required: true}`, "{name: tags, type: list<string>}",
				"{name: none, type: string}   # only null", "{name: e, type: list<string>}", `{name: l, type: "list<struct<q: long>>"}`,
			},
		},
		"what has no type":    {[]string{`{"id":1,"x":1}`, `{"id":2,"x":"one"}`}, []string{`# "x" holds numbers and text`}},
		"names":               {[]string{`{"a b":1,"A":2,"a":3,"yes":4}`}, []string{`# "a b" is no name`, "name: A,", `# "a" differs from A`, `name: "yes"`}},
		"a date that is none": {[]string{`{"d":"2026-01-31"}`, `{"d":"2026-02-30"}`}, []string{"{name: d, type: string, required: true}"}},
		"a time that is none": {[]string{`{"d":"2026-01-31T25:00:00Z"}`}, []string{"{name: d, type: string, required: true}"}},
		"beyond 64 bits":      {[]string{`{"big":123456789012345678901234567890}`}, []string{"{name: big, type: \"decimal(38,0)\", required: true}"}},
		"beyond 128 bits":     {[]string{`{"big":` + strings.Repeat("9", 50) + `}`}, []string{"{name: big, type: double, required: true}"}},
		"beyond all":          {[]string{`{"id":1,"n":1e999}`}, []string{`# "n" holds values that no type`}},
		"unix":                {[]string{`{"ts":1769860800000}`}, []string{"{name: ts, type: long, required: true}   # or timestamp"}},
		"frames":              {[]string{"[{\"id\":1},{\"id\":2}]", "{\"id\":3}\n{\"id\":4}\nbroken"}, []string{"from 4 rows", "# 1 further rows", "# key: [id]"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, got := propose(t, c.rows...)
			for _, w := range c.want {
				if !strings.Contains(got, w) {
					t.Errorf("no %q in\n%s", w, got)
				}
			}
			if _, err := contract.Parse("tables/events.yaml", []byte(got)); err != nil {
				t.Errorf("%v\n%s", err, got)
			}
		})
	}
	if _, err := Infer([][]byte{[]byte("{}"), []byte("no")}); !errors.Is(err, ErrNothing) {
		t.Errorf("rows without fields: %v", err)
	}
}

// TestEveryRowLands makes up samples of rows that agree more or less, and holds the
// proposal to what it promises: it is a contract, and none of the rows that are JSON
// objects is turned away under it.
func TestEveryRowLands(t *testing.T) {
	for seed := range uint64(400) {
		r := maker{rand.New(rand.NewPCG(seed, 7))}
		var rows [][]byte
		shape := r.shape(0)
		for range 1 + r.IntN(30) {
			rows = append(rows, []byte(r.row(shape)))
		}
		p, err := Infer(rows)
		if errors.Is(err, ErrNothing) {
			continue
		}
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, rows)
		}
		src := p.YAML("events", "a test")
		c, err := contract.Parse("tables/events.yaml", []byte(src))
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, src)
		}
		bad, err := badRows(c.ArrowSchema(), rows)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if p.Broken != 0 || len(bad) > 0 {
			t.Fatalf("seed %d: %d broken, turned away %+v under\n%s", seed, p.Broken, bad, src)
		}
	}
}

// maker makes up rows.
type maker struct{ *rand.Rand }

// shape is a kind of values: a name of a scalar, "[" or "{" with what is inside.
type shape struct {
	kind   string
	fields []string
	inner  []shape
}

func (r maker) shape(depth int) shape {
	s := shape{kind: "{"}
	if depth > 0 {
		s.kind = []string{"long", "double", "text", "bool", "time", "day", "wide", "null", "any", "{", "["}[r.IntN(11)]
	}
	if depth > 3 && strings.Contains("{[", s.kind) {
		s.kind = "long"
	}
	n := 0
	switch s.kind {
	case "{":
		n = r.IntN(6)
	case "[":
		n = 1
	}
	for i := range n {
		s.fields = append(s.fields, []string{"id", "a b", "_x", "Name", "name", "é", "on", "9", "v"}[r.IntN(9)]+strings.Repeat("z", i))
		s.inner = append(s.inner, r.shape(depth+1))
	}
	return s
}

func (r maker) row(s shape) string {
	var parts []string
	for i, f := range s.fields {
		if r.IntN(8) > 0 {
			name, err := json.Marshal(f)
			if err != nil {
				panic(err)
			}
			parts = append(parts, fmt.Sprintf("%s:%s", name, r.value(s.inner[i])))
		}
	}
	return "{" + strings.Join(parts, ",") + "}"
}

func (r maker) value(s shape) string {
	if r.IntN(25) == 0 {
		return "null"
	}
	if r.IntN(60) == 0 { // now and then one that does not fit the others
		s = r.shape(2)
	}
	switch s.kind {
	case "long":
		return fmt.Sprint(int64(r.Uint64()) >> r.IntN(64))
	case "double":
		return []string{fmt.Sprint(r.NormFloat64() * 1e6), "1e3", "-0.0", "1E-400", "1.0", "0", "1e400"}[min(r.IntN(60), 6)]
	case "text":
		return []string{`""`, `"x"`, `"\u00e9\n"`, `"2026-13-01"`, `"null"`}[r.IntN(5)]
	case "bool":
		return fmt.Sprint(r.IntN(2) == 0)
	case "time":
		return []string{`"2026-01-31T12:00:00Z"`, `"2026-01-31 12:00:00.123456789+02:00"`, `"2026-01-31T12:00"`, `"2026-01-31"`, `"0000-01-31T12:00:00Z"`}[min(r.IntN(40), 4)]
	case "day":
		return []string{`"2026-01-31"`, `"1999-12-31"`, `"2026-02-30"`}[min(r.IntN(20), 2)]
	case "wide":
		return strings.Repeat("7", 1+r.IntN(45))
	case "any":
		return r.value(r.shape(2))
	case "[":
		var parts []string
		for range r.IntN(4) {
			parts = append(parts, r.value(s.inner[0]))
		}
		return "[" + strings.Join(parts, ",") + "]"
	case "{":
		return r.row(s)
	}
	return "null"
}
