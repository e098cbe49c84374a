package jsontext

import (
	"encoding/json"
	"testing"
)

func FuzzAppendString(f *testing.F) {
	for _, s := range []string{"", "a", `"\`, "\x00\x1f\n\r\t", "é€😀", "\u2028"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		text := AppendString([]byte{'['}, s)
		if string(text) != string(AppendString([]byte{'['}, []byte(s))) {
			t.Fatal("a string and its bytes differ")
		}
		var got []string
		if err := json.Unmarshal(append(text, ']'), &got); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		want, err := json.Marshal([]string{s}) // with what is no UTF-8 replaced, as Unmarshal does it
		if err != nil {
			t.Fatal(err)
		}
		var as []string
		if err := json.Unmarshal(want, &as); err != nil || got[0] != as[0] {
			t.Fatalf("%q became %q, %v", s, got, err)
		}
	})
}
