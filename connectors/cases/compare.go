package cases

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/big"
	"slices"
	"strings"
	"time"
)

// Diff is one difference between what was expected and what came.
type Diff struct {
	Line  int    `json:"line"`           // of the test's file
	Field string `json:"field"`          // such as "scored[0].amount"
	Want  string `json:"want,omitempty"` // as JSON; "" when nothing was expected
	Got   string `json:"got,omitempty"`  // as JSON; "" when nothing came
	Note  string `json:"note,omitempty"` // what else helps to see why
}

// Actual is a row that came out.
type Actual struct {
	Values map[string]any // as JSON has them
	Note   string         // for people: what became of the row
}

// CompareRows compares rows with those that came out, in order.
func (c Case) CompareRows(field string, want []Row, got []Actual) (out []Diff) {
	for i := range max(len(want), len(got)) {
		at := fmt.Sprintf("%s[%d]", field, i)
		switch {
		case i >= len(want):
			out = append(out, Diff{Line: c.lineOf(field), Field: at, Got: show(got[i].Values), Note: "was not expected" + because(got[i].Note)})
		case i >= len(got):
			out = append(out, Diff{Line: want[i].Line, Field: at, Want: show(object(want[i].Values)), Note: "did not come"})
		default:
			out = append(out, c.compareRow(at, want[i], got[i])...)
		}
	}
	return out
}

func because(note string) string {
	if note == "" {
		return ""
	}
	return ": " + note
}

func (c Case) compareRow(at string, want Row, got Actual) (out []Diff) {
	for _, v := range want.Values {
		have, ok := got.Values[v.Name]
		switch {
		case !ok:
			out = append(out, Diff{Line: v.Line, Field: at + "." + v.Name, Want: show(v.Want),
				Note: "there is no such column; there are: " + strings.Join(slices.Sorted(maps.Keys(got.Values)), ", ")})
		case v.Name == "message" && strings.HasPrefix(at, "quarantined"):
			if !strings.Contains(fmt.Sprint(have), fmt.Sprint(v.Want)) {
				out = append(out, Diff{Line: v.Line, Field: at + "." + v.Name, Want: show(v.Want), Got: show(have)})
			}
		case !c.equal(v.Want, have):
			out = append(out, Diff{Line: v.Line, Field: at + "." + v.Name, Want: show(v.Want), Got: show(have), Note: got.Note})
		}
	}
	return out
}

// CompareWarnings compares counts of warnings.
func (c Case) CompareWarnings(got map[string]int64) (out []Diff) {
	names := slices.Sorted(maps.Keys(c.Warnings))
	for name := range got {
		if _, ok := c.Warnings[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if c.Warnings[name] != got[name] {
			out = append(out, Diff{Line: c.lineOf("warnings"), Field: "warnings." + name, Want: fmt.Sprint(c.Warnings[name]), Got: fmt.Sprint(got[name])})
		}
	}
	return out
}

// lineOf is where a field of the case stands; the case's own line when it has none.
func (c Case) lineOf(field string) int {
	if l, ok := c.line[field]; ok {
		return l
	}
	return c.Line
}

// Equal says whether two JSON values are the same; contains: whether got has all of
// want, and perhaps more fields.
func Equal(want, got any, contains bool) bool {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok || !contains && len(w) != len(g) {
			return false
		}
		for k, v := range w {
			have, ok := g[k]
			if !ok || !Equal(v, have, contains) {
				return false
			}
		}
		return true
	case []any:
		g, ok := got.([]any)
		if !ok || len(w) != len(g) {
			return false
		}
		for i := range w {
			if !Equal(w[i], g[i], contains) {
				return false
			}
		}
		return true
	}
	wn, ok1 := number(want)
	gn, ok2 := number(got)
	if ok1 && ok2 {
		return wn.Cmp(gn) == 0
	}
	return ok1 == ok2 && want == got
}

// equal compares a value of a row with what was expected: times as instants, numbers
// within the tolerance, structs by the fields that are expected.
func (c Case) equal(want, got any) bool {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return false
		}
		for k, v := range w {
			if !c.equal(v, g[k]) {
				return false
			}
		}
		return true
	case []any:
		g, ok := got.([]any)
		if !ok || len(w) != len(g) {
			return false
		}
		for i := range w {
			if !c.equal(w[i], g[i]) {
				return false
			}
		}
		return true
	}
	if wn, ok := number(want); ok {
		gn, ok := number(got)
		return ok && c.near(wn, gn)
	}
	if w, ok := want.(string); ok {
		g, ok := got.(string)
		if !ok || w == g {
			return ok && w == g
		}
		wt, ok1 := instant(w)
		gt, ok2 := instant(g)
		return ok1 && ok2 && wt.Equal(gt)
	}
	return want == got
}

func (c Case) near(want, got *big.Rat) bool {
	if want.Cmp(got) == 0 {
		return true
	}
	w, _ := want.Float64()
	g, _ := got.Float64()
	return math.Abs(w-g) <= c.Tolerance*math.Max(1, math.Max(math.Abs(w), math.Abs(g)))
}

func number(v any) (*big.Rat, bool) {
	var text string
	switch v := v.(type) {
	case json.Number:
		text = string(v)
	case int, int32, int64, uint64:
		text = fmt.Sprint(v)
	case float64, float32:
		text = fmt.Sprintf("%v", v)
	default:
		return nil, false
	}
	if len(text) > 400 || strings.ContainsAny(text, "eE") && len(text) > 40 {
		return nil, false
	}
	return new(big.Rat).SetString(text)
}

// instant reads a time as people write it; without a zone it is UTC.
func instant(s string) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999", "2006-01-02"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

func object(vs []Value) map[string]any {
	m := map[string]any{}
	for _, v := range vs {
		m[v.Name] = v.Want
	}
	return m
}

func show(v any) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Sprint(v)
	}
	return strings.TrimSpace(b.String())
}
