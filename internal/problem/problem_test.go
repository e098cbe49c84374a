package problem

import (
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"testing"
)

func TestText(t *testing.T) {
	for _, c := range []struct {
		p    Problem
		want string
	}{
		{Problem{"tables/a.yaml", 3, 5, "checks[1].expr", "is empty; write a SQL expression"}, "tables/a.yaml:3: checks[1].expr: is empty; write a SQL expression"},
		{Problem{File: "a.yaml", Message: "is empty"}, "a.yaml: is empty"},
		{Problem{Line: 3, Field: "key", Message: "m"}, "line 3: key: m"},
		{Problem{Field: "key", Message: "m"}, "key: m"},
		{Problem{Message: "m"}, "m"},
	} {
		if got := c.p.Error(); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestListErr(t *testing.T) {
	var l List
	if err := l.Err(); err != nil {
		t.Fatalf("empty list is the error %v", err)
	}
	l.Addf("b", 1, "", "third")
	l.Addf("a", 9, "f", "second %d", 2)
	l.Addf("a", 1, "", "first")
	l.Addf("a", 9, "f", "second 2")
	err := l.Err()
	if want := "a:1: first\na:9: f: second 2\nb:1: third"; err.Error() != want {
		t.Fatalf("got\n%v\nwant\n%s", err, want)
	}
	if l[0].Message != "third" {
		t.Fatal("Err reordered the list it was called on")
	}
}

func TestOf(t *testing.T) {
	p := Problem{File: "a", Message: "m"}
	for name, err := range map[string]error{
		"problem": p, "list": List{p}, "wrapped": fmt.Errorf("load: %w", List{p}), "joined": errors.Join(fs.ErrClosed, p),
	} {
		if got := Of(err); !reflect.DeepEqual(got, List{p}) {
			t.Errorf("%s: got %v", name, got)
		}
	}
	if Of(fs.ErrClosed) != nil || Of(nil) != nil {
		t.Error("found problems in errors that hold none")
	}
	var l List
	l.AddErr("f", nil)
	l.AddErr("f", fs.ErrClosed)
	l.AddErr("f", p)
	if want := (List{{File: "f", Message: fs.ErrClosed.Error()}, p}); !reflect.DeepEqual(l, want) {
		t.Errorf("got %v, want %v", l, want)
	}
}
