package pgchanges

import (
	"encoding/json"
	"testing"
)

func TestArrayText(t *testing.T) {
	ty := newTypes(false)
	ty.known[1007] = shape{elem: 23, delim: ','}
	ty.known[1009] = shape{elem: 25, delim: ','}
	ty.known[1020] = shape{elem: 603, delim: ';'}
	for _, c := range []struct {
		oid        uint32
		text, want string
	}{
		{1007, "{}", "[]"},
		{1007, "{1,NULL,-3}", "[1,null,-3]"},
		{1007, "{{1,2},{3,4}}", "[[1,2],[3,4]]"},
		{1007, "[0:1]={7,8}", "[7,8]"},
		{1009, `{a,"b,c","d\"e\\f","NULL",""}`, `["a","b,c","d\"e\\f","NULL",""]`},
		{1020, "{(1,1),(0,0);(2,2),(1,1)}", `["(1,1),(0,0)","(2,2),(1,1)"]`},
		{1007, "{1,", `"{1,"`}, // no array: text as it is
	} {
		if got := string(ty.value(nil, c.oid, c.text)); got != c.want {
			t.Errorf("%s became %s, want %s", c.text, got, c.want)
		}
	}
}

func FuzzArray(f *testing.F) {
	for _, s := range []string{"{}", "{1,2}", `{"a\\"}`, "{{1},{2}}", "[1:2]={1,2}", `{"`, "{1;2}"} {
		f.Add(s)
	}
	ty := newTypes(false)
	ty.known[1009] = shape{elem: 25, delim: ','}
	f.Fuzz(func(t *testing.T, s string) {
		if got := ty.value(nil, 1009, s); !json.Valid(got) {
			t.Errorf("%q became %s", s, got)
		}
	})
}
