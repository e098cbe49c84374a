package strictyaml

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidemill/tidemill/internal/problem"
)

// Kind is what a field holds.
type Kind uint8

const (
	Text     Kind = iota + 1
	Integer       // whole number within Min and Max
	Boolean       // true or false
	Duration      // number and unit, such as 30s or 30d; above zero, at least Least
	Bytes         // size, such as 256MiB
	Object        // a mapping with the Fields given
	List          // a sequence of Of
	Map           // a mapping with free names; values are Of
	Any           // anything at all
)

// Spec describes one value of a format. Which of its parts count depends on Kind.
type Spec struct {
	Kind Kind
	Doc  string // what it is for: a sentence without its full stop

	Fields     []Field  // Object: in the order to show them
	ExactlyOne []string // Object: of these fields, one must be there and no other

	Of       *Spec // List, Map
	Keys     *Spec // Map: what names must look like; a Text
	MinItems int   // List, Map

	Enum       []string
	Pattern    *regexp.Regexp     // Text: must match
	Looks      string             // Text: Pattern in words, after "must be"
	Valid      func(string) error // Text: further check; its error's text follows the field's name
	Min, Max   int                // Integer
	Least      time.Duration      // Duration
	OrOff      bool               // Duration: "off" is allowed, too
	Default    string             // shown to people; the value itself is the caller's business
	Examples   []string
	SchemaOnly string // Text: pattern for editors where the real check is a parser of its own
	Secret     bool   // Text: the value, which is or may hold a secret, is never quoted
}

// Field is a field of an Object.
type Field struct {
	Name     string
	Required bool
	Spec
}

// names of what YAML takes a plain scalar for.
func tagName(tag string) string {
	switch tag {
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "a truth value"
	case "!!timestamp":
		return "a date"
	case "!!null":
		return "nothing"
	case "!!str":
		return "text"
	default:
		return "a value of the type " + tag
	}
}

func (n *Node) kindName() string {
	switch n.Kind {
	case Mapping:
		return "a mapping"
	case Sequence:
		return "a list"
	case Null:
		return "nothing"
	default:
		return tagName(n.Tag)
	}
}

// Check holds a node against the description and adds what is wrong to ps.
// Values with a problem of their own are out of [Node.Get] and [Node.Each]
// afterwards, so that nothing is reported twice.
func (s *Spec) Check(n *Node, ps *problem.List) {
	if n.bad {
		return
	}
	fail := func(format string, args ...any) {
		n.bad = true
		ps.Add(n.Problem(format, args...))
	}
	if n.Kind == Null && s.Kind != Any {
		if n.Path == "" {
			fail("holds no fields; begin with %s", s.Fields[0].Name+":")
			return
		}
		fail("has no value; give it one or remove it (%s)", s.Doc)
		return
	}
	switch s.Kind {
	case Object:
		s.checkObject(n, ps, fail)
	case List:
		if n.Kind != Sequence {
			fail("must be a list, not %s; write [a, b] or lines that begin with a dash", n.kindName())
			return
		}
		for _, item := range n.Items {
			s.Of.Check(item, ps)
		}
		if len(n.Items) < s.MinItems {
			fail("is an empty list; give it an entry or remove it")
		}
	case Map:
		s.checkMap(n, ps, fail)
	case Any:
	default:
		if n.Kind != Scalar {
			fail("must be %s, not %s", s.article(), n.kindName())
			return
		}
		s.checkScalar(n, fail)
	}
}

func (s *Spec) article() string {
	switch s.Kind {
	case Integer:
		return "a whole number"
	case Boolean:
		return "true or false"
	case Duration:
		return "a duration such as 30s or 1m"
	case Bytes:
		return "a size such as 256MiB"
	default:
		return "text"
	}
}

func (s *Spec) checkObject(n *Node, ps *problem.List, fail func(string, ...any)) {
	if n.Kind != Mapping {
		fail("must be a mapping with the fields %s, not %s", strings.Join(s.names(), ", "), n.kindName())
		return
	}
	for i := range n.Entries {
		e := &n.Entries[i]
		f := s.field(e.Key)
		if f == nil {
			e.Value.bad = true
			ps.Add(problem.Problem{File: n.File, Line: e.Line, Column: e.Column, Field: Join(n.Path, e.Key), Message: s.unknown(e.Key)})
			continue
		}
		f.Check(e.Value, ps)
	}
	for _, f := range s.Fields {
		if f.Required && !n.Has(f.Name) {
			p := n.Problem("is missing; add it: %s", f.Doc)
			p.Field = Join(n.Path, f.Name)
			ps.Add(p)
		}
	}
	if len(s.ExactlyOne) > 0 {
		var have []string
		for _, name := range s.ExactlyOne {
			if n.Has(name) {
				have = append(have, name)
			}
		}
		switch {
		case len(have) == 0:
			fail("needs %s; add one", strings.Join(s.ExactlyOne, " or "))
		case len(have) > 1:
			fail("has %s; keep one and make the other an entry of its own", strings.Join(have, " and "))
		}
	}
}

func (s *Spec) field(name string) *Field {
	for i := range s.Fields {
		if s.Fields[i].Name == name {
			return &s.Fields[i]
		}
	}
	return nil
}

func (s *Spec) names() []string {
	names := make([]string, len(s.Fields))
	for i, f := range s.Fields {
		names[i] = f.Name
	}
	return names
}

func (s *Spec) unknown(key string) string {
	if near := Suggest(key, s.names()); near != "" {
		return fmt.Sprintf("unknown field; did you mean %s?", near)
	}
	return "unknown field; the fields here are " + strings.Join(s.names(), ", ")
}

func (s *Spec) checkMap(n *Node, ps *problem.List, fail func(string, ...any)) {
	if n.Kind != Mapping {
		fail("must be a mapping of names to values, not %s", n.kindName())
		return
	}
	for _, e := range n.Entries {
		if s.Keys != nil && !s.Keys.Pattern.MatchString(e.Key) {
			e.Value.bad = true
			ps.Add(problem.Problem{File: n.File, Line: e.Line, Column: e.Column, Field: Join(n.Path, e.Key),
				Message: fmt.Sprintf("the name %s must be %s", Quote(e.Key), s.Keys.Looks)})
			continue
		}
		s.Of.Check(e.Value, ps)
	}
	if len(n.Entries) < s.MinItems {
		fail("is empty; give it an entry or remove it")
	}
}

func (s *Spec) checkScalar(n *Node, fail func(string, ...any)) {
	switch s.Kind {
	case Integer:
		v, err := strconv.Atoi(n.Value)
		switch {
		case err != nil || n.Tag != "!!int" && !n.interpolated:
			fail("must be a whole number without quotes, not %s", n.Quoted())
		case v < s.Min || v > s.Max:
			fail("is %s; it must be between %d and %d", n.Quoted(), s.Min, s.Max)
		}
	case Boolean:
		if n.Value != "true" && n.Value != "false" || n.Tag != "!!bool" && !n.interpolated {
			fail("must be true or false without quotes, not %s", n.Quoted())
		}
	case Duration:
		d, err := parseDuration(n.Value)
		switch {
		case s.OrOff && n.Value == Off:
		case (err != nil || d <= 0) && s.OrOff:
			fail("must be a duration with a unit, such as %s, or off, not %s", strings.Join(s.Examples, " or "), n.Quoted())
		case (err != nil || d <= 0) && s.Least > 0:
			fail("must be a duration with a unit, such as %s, not %s", strings.Join(s.Examples, " or "), n.Quoted())
		case err != nil || d <= 0:
			fail("must be a duration above zero with a unit, such as 30s, 1m or 1h30m, not %s", n.Quoted())
		case d < s.Least:
			fail("is %s; it must be at least %s (m stands for minutes, h for hours, d for days, w for weeks)", n.Quoted(), FormatDuration(s.Least))
		}
	case Bytes:
		if _, err := parseBytes(n.Value); err != nil {
			fail("%s %v", n.Quoted(), err)
		}
	default:
		s.checkText(n, fail)
	}
}

func (s *Spec) checkText(n *Node, fail func(string, ...any)) {
	switch {
	case n.Tag != "!!str" && !n.interpolated:
		value := n.Quoted()
		if s.Secret {
			value = "the value"
		}
		fail("YAML takes %s for %s; put it in quotes if you mean text", value, tagName(n.Tag))
	case strings.TrimSpace(n.Value) == "":
		fail("is empty; give it a value or remove it (%s)", s.Doc)
	case len(s.Enum) > 0 && !slices.Contains(s.Enum, n.Value):
		hint := ""
		if near := Suggest(n.Value, s.Enum); near != "" && !n.interpolated {
			hint = fmt.Sprintf("; did you mean %s?", near)
		}
		fail("must be %s, not %s%s", strings.Join(s.Enum, " or "), n.Quoted(), hint)
	case s.Pattern != nil && !s.Pattern.MatchString(n.Value):
		fail("%s must be %s", n.Quoted(), s.Looks) // no secret has a pattern
	case s.Valid != nil:
		err := s.Valid(n.Value)
		switch {
		case err != nil && s.Secret:
			fail("%v", err)
		case err != nil:
			fail("%s %v", n.Quoted(), err)
		}
	}
}
