package infer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/tidemill/tidemill/contract"
)

// value is what is known of the values in one place: a field, or a list's elements.
type value struct {
	seen, nulls                     int
	bools, ints, wide, floats, text int // wide: whole numbers beyond 64 bits
	objects, lists                  int

	fields []string // of objects, in the order in which they came
	byName map[string]*value
	elem   *value // of lists

	days, times   int // of text: dates alone, and dates with times
	unix          int // whole numbers that can be Unix times of this century
	whole, places int // most digits before and after the point, of plain numbers
	distinct      map[string]bool
	unlike        int // how often the decoder did not take the type that was chosen
}

// maxDistinct bounds what is remembered to tell whether values are unique.
const maxDistinct = 100_000

// see notes one JSON value.
func (v *value) see(raw json.RawMessage) error {
	raw = bytes.TrimSpace(raw)
	v.seen++
	switch {
	case len(raw) == 0:
		return fmt.Errorf("a value is missing")
	case raw[0] == 'n':
		v.nulls++
	case raw[0] == 't' || raw[0] == 'f':
		v.bools++
	case raw[0] == '"':
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return err
		}
		v.text++
		v.seeText(s)
	case raw[0] == '{':
		v.objects++
		return v.seeObject(raw)
	case raw[0] == '[':
		v.lists++
		var elems []json.RawMessage
		if err := json.Unmarshal(raw, &elems); err != nil {
			return err
		}
		if v.elem == nil {
			v.elem = &value{}
		}
		for _, e := range elems {
			if err := v.elem.see(e); err != nil {
				return err
			}
		}
	default:
		v.seeNumber(string(raw))
	}
	return nil
}

// remember notes a single value, to tell whether all differ.
func (v *value) remember(text string) {
	if v.distinct == nil {
		v.distinct = map[string]bool{}
	}
	if len(v.distinct) < maxDistinct {
		v.distinct[text] = true
	}
}

var (
	day     = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}$`)
	instant = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}`)
	plain   = regexp.MustCompile(`^-?([0-9]+)(?:\.([0-9]+))?$`)
)

func (v *value) seeText(s string) {
	switch {
	case day.MatchString(s):
		v.days++
	case instant.MatchString(s):
		v.times++
	}
	v.remember(s)
}

func (v *value) seeNumber(s string) {
	v.remember(s)
	m := plain.FindStringSubmatch(s)
	if m == nil {
		v.floats++
		v.whole = contract.MaxPrecision + 1 // with an exponent it is no amount of money
		return
	}
	v.whole, v.places = max(v.whole, len(m[1])), max(v.places, len(m[2]))
	if strings.Contains(s, ".") {
		v.floats++
		return
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		v.wide++
		return
	}
	v.ints++
	const from, to = 1_000_000_000, 4_000_000_000 // 2001 to 2096
	if n > from && n < to || n > from*1000 && n < to*1000 {
		v.unix++
	}
}

func (v *value) seeObject(raw json.RawMessage) error {
	if v.byName == nil {
		v.byName = map[string]*value{}
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if _, err := dec.Token(); err != nil {
		return err
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return err
		}
		name, _ := key.(string)
		var field json.RawMessage
		if err := dec.Decode(&field); err != nil {
			return err
		}
		f := v.byName[name]
		if f == nil {
			f = &value{}
			v.byName[name] = f
			v.fields = append(v.fields, name)
		}
		if err := f.see(field); err != nil {
			return err
		}
	}
	return nil
}

// kinds names what kinds of values there are, null left out.
func (v *value) kinds() (out []string) {
	for _, k := range []struct {
		n    int
		name string
	}{{v.bools, "booleans"}, {v.ints + v.wide + v.floats, "numbers"}, {v.text, "text"}, {v.objects, "objects"}, {v.lists, "lists"}} {
		if k.n > 0 {
			out = append(out, k.name)
		}
	}
	return out
}

// maxDepth keeps types within what contracts nest.
const maxDepth = 12

// typ is the narrowest type that takes all values. why says what keeps them from
// having one.
func (v *value) typ(depth int) (t contract.Type, why string) {
	kinds := v.kinds()
	switch {
	case depth > maxDepth:
		return t, "is nested too deep"
	case len(kinds) > 1:
		return t, "holds " + strings.Join(kinds[:len(kinds)-1], ", ") + " and " + kinds[len(kinds)-1]
	case len(kinds) == 0:
		return contract.Type{Kind: contract.String}, ""
	case v.bools > 0:
		return v.ladder(contract.Type{Kind: contract.Boolean})
	case v.objects > 0:
		return v.structure(depth)
	case v.lists > 0:
		if v.unlike > 0 {
			return t, "holds lists that a column does not take"
		}
		elem, why := v.elem.typ(depth + 1)
		if why != "" {
			return t, "is a list that " + why
		}
		return contract.Type{Kind: contract.List, Elem: &elem}, ""
	case v.text > 0 && v.days == v.text:
		return v.ladder(contract.Type{Kind: contract.Date}, contract.Type{Kind: contract.String})
	case v.text > 0 && v.days+v.times == v.text:
		return v.ladder(contract.Type{Kind: contract.Timestamp}, contract.Type{Kind: contract.String})
	case v.text > 0:
		return v.ladder(contract.Type{Kind: contract.String})
	}
	double := contract.Type{Kind: contract.Double}
	switch {
	case v.floats > 0:
		return v.ladder(double)
	case v.wide > 0:
		return v.ladder(contract.Type{Kind: contract.Decimal, Precision: contract.MaxPrecision}, double)
	}
	return v.ladder(contract.Type{Kind: contract.Long}, double)
}

// ladder takes the first type, or a later one when the decoder refused those before.
func (v *value) ladder(types ...contract.Type) (contract.Type, string) {
	if v.unlike >= len(types) {
		return contract.Type{}, "holds values that no type of a column takes"
	}
	return types[v.unlike], ""
}

var fieldName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)

// structure is the type of objects: the fields that have one.
func (v *value) structure(depth int) (contract.Type, string) {
	t := contract.Type{Kind: contract.Struct}
	if v.unlike > 0 {
		return t, "holds objects that a column does not take"
	}
	var names []string
	for _, name := range v.fields {
		lower := strings.ToLower(name)
		if !fieldName.MatchString(name) || slices.Contains(names, lower) {
			continue
		}
		typ, why := v.byName[name].typ(depth + 1)
		if why != "" {
			continue
		}
		names = append(names, lower)
		t.Fields = append(t.Fields, contract.Column{Name: name, Type: typ})
	}
	if len(t.Fields) == 0 {
		return t, "holds objects without a field that a column could have"
	}
	return t, ""
}
