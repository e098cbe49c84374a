package contract

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Difference is one way in which a contract differs from an earlier one.
type Difference struct {
	Change string `json:"change"` // added | removed | changed
	Field  string `json:"field"`  // such as "columns.amount" or "on_new_field"; what has a name is called by it
	From   string `json:"from,omitempty"`
	To     string `json:"to,omitempty"` // both as JSON
}

// Diff lists what differs between two contracts, in the order of the canonical form. It
// goes by that form alone, so that it knows every field that ever comes into it.
func Diff(from, to *Table) ([]Difference, error) {
	a, err := fields(from.json)
	if err != nil {
		return nil, err
	}
	b, err := fields(to.json)
	if err != nil {
		return nil, err
	}
	var out []Difference
	for _, name := range order {
		out = append(out, diff(name, a[name], b[name])...)
		delete(a, name)
		delete(b, name)
	}
	var rest []string
	for name := range a {
		rest = append(rest, name)
	}
	for name := range b {
		if _, ok := a[name]; !ok {
			rest = append(rest, name)
		}
	}
	slices.Sort(rest)
	for _, name := range rest {
		out = append(out, diff(name, a[name], b[name])...)
	}
	return out, nil
}

var order = []string{"table", "columns", "key", "event_time", "partition_by", "cluster_by", "retention", "on_new_field", "checks", "features", "score"}

func fields(data []byte) (m map[string]any, err error) {
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("canonical form: %w", err)
	}
	return m, nil
}

func diff(field string, a, b any) []Difference {
	if reflect.DeepEqual(a, b) {
		return nil
	}
	an, aOK := named(a)
	bn, bOK := named(b)
	if aOK && bOK {
		return diffNamed(field, an, bn)
	}
	switch {
	case a == nil:
		return []Difference{{Change: "added", Field: field, To: text(b)}}
	case b == nil:
		return []Difference{{Change: "removed", Field: field, From: text(a)}}
	}
	return []Difference{{Change: "changed", Field: field, From: text(a), To: text(b)}}
}

// entry is one of a list of things with names.
type entry struct {
	name string
	of   map[string]any
}

// named takes a list of things with names apart; none is such a list, too.
func named(v any) (out []entry, ok bool) {
	if v == nil {
		return nil, true
	}
	list, ok := v.([]any)
	if !ok {
		return nil, false
	}
	for _, item := range list {
		m, _ := item.(map[string]any)
		name, ok := m["name"].(string)
		if !ok {
			return nil, false
		}
		out = append(out, entry{name, m})
	}
	return out, true
}

func diffNamed(field string, a, b []entry) (out []Difference) {
	find := func(in []entry, name string) map[string]any {
		if i := slices.IndexFunc(in, func(e entry) bool { return e.name == name }); i >= 0 {
			return in[i].of
		}
		return nil
	}
	for _, e := range b {
		was := find(a, e.name)
		switch {
		case was == nil:
			out = append(out, Difference{Change: "added", Field: field + "." + e.name, To: text(e.of)})
		case !reflect.DeepEqual(was, e.of):
			out = append(out, Difference{Change: "changed", Field: field + "." + e.name, From: text(was), To: text(e.of)})
		}
	}
	for _, e := range a {
		if find(b, e.name) == nil {
			out = append(out, Difference{Change: "removed", Field: field + "." + e.name, From: text(e.of)})
		}
	}
	if len(out) == 0 {
		out = append(out, Difference{Change: "changed", Field: field, From: "its order", To: "another order"})
	}
	return out
}

func text(v any) string {
	if m, ok := v.(map[string]any); ok {
		short := map[string]any{}
		for k, x := range m {
			if k != "name" {
				short[k] = x
			}
		}
		v = short
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // SQL is full of < and >
	if err := enc.Encode(v); err != nil {
		return fmt.Sprint(v)
	}
	return strings.TrimSpace(b.String())
}
