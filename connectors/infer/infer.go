package infer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/connectors/decode"
	"github.com/tidemill/tidemill/contract"
)

// Proposal is a contract that a sample fits.
type Proposal struct {
	Rows   int // that were looked at: JSON objects
	Broken int // rows that are none, and would be quarantined under any contract

	columns []column
	keys    []string // candidates
	times   []string
}

// column is a proposed column, or a field that cannot be one.
type column struct {
	contract.Column
	why     string // it cannot be one
	comment string
}

// ErrNothing: a sample has no field that a column could be made of.
var ErrNothing = errors.New("no row of the sample has a field that could be a column; the messages must be JSON objects, several separated by newlines, or JSON arrays of objects; put what makes them so into the connector's processors")

// Infer looks at messages as they reach the lakehouse output.
func Infer(messages [][]byte) (*Proposal, error) {
	p := &Proposal{}
	root := &value{}
	var rows [][]byte
	for _, m := range messages {
		for _, row := range split(m) {
			if !lands(row) || root.see(row) != nil {
				p.Broken++
				continue
			}
			rows = append(rows, row)
		}
	}
	p.Rows = len(rows)
	for {
		p.propose(root)
		if !slices.ContainsFunc(p.columns, func(c column) bool { return c.why == "" }) {
			return nil, ErrNothing
		}
		again, err := p.demote(root, rows)
		if err != nil {
			return nil, err
		}
		if !again {
			break
		}
	}
	p.candidates(root)
	return p, nil
}

// split cuts a message into rows, as the decoder does.
func split(m []byte) (rows [][]byte) {
	m = bytes.TrimSpace(bytes.TrimPrefix(m, []byte("\xef\xbb\xbf")))
	switch {
	case len(m) == 0:
		return nil
	case m[0] == '[':
		var elems []json.RawMessage
		if json.Unmarshal(m, &elems) == nil {
			for _, e := range elems {
				rows = append(rows, e)
			}
			return rows
		}
		return [][]byte{m}
	case json.Valid(m):
		return [][]byte{m}
	}
	for line := range bytes.SplitSeq(m, []byte{'\n'}) {
		if line = bytes.TrimSpace(line); len(line) > 0 {
			rows = append(rows, line)
		}
	}
	return rows
}

// lands says whether the decoder takes a row as such, whatever its columns.
func lands(row []byte) bool {
	bad, err := badRows(arrow.NewSchema([]arrow.Field{{Name: "no_such_field", Type: arrow.BinaryTypes.String, Nullable: true}}, nil), [][]byte{row})
	return err == nil && len(bad) == 0
}

// badRows are those that the decoder does not take under a contract's columns.
func badRows(schema *arrow.Schema, rows [][]byte) ([]decode.BadRow, error) {
	plan, err := decode.NewPlan(schema, decode.Options{})
	if err != nil {
		return nil, err
	}
	dec := plan.NewDecoder(memory.DefaultAllocator)
	var out []decode.BadRow
	flush := func() {
		rec, _, bad := dec.Flush()
		rec.Release()
		out = append(out, bad...)
	}
	for i, row := range rows {
		if dec.Rows() >= 1000 {
			flush()
		}
		at := decode.Position{Partition: "sample", First: int64(i)}
		if err := dec.Message(row, at); err != nil {
			flush() // the record was full
			if err := dec.Message(row, at); err != nil {
				return nil, err
			}
		}
	}
	flush()
	return out, nil
}

var columnName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]{0,127}$`)

func (p *Proposal) propose(root *value) {
	p.columns = nil
	names := map[string]string{}
	for _, name := range root.fields {
		f := root.byName[name]
		c := column{Column: contract.Column{Name: name, Required: f.nulls == 0 && f.seen == root.seen}}
		lower := strings.ToLower(name)
		switch other := names[lower]; {
		case !columnName.MatchString(name):
			c.why = "is no name that a column can have"
		case other != "":
			c.why = "differs from " + other + " only in upper and lower case"
		default:
			c.Type, c.why = f.typ(0)
		}
		if c.why == "" {
			names[lower] = name
			c.comment = f.comment(c.Type)
		}
		p.columns = append(p.columns, c)
	}
}

// comment is what a person may want to decide otherwise.
func (v *value) comment(t contract.Type) string {
	switch {
	case len(v.kinds()) == 0:
		return "only null in the sample"
	case t.Kind == contract.Long && v.unix == v.ints && v.ints > 0:
		return "or timestamp: the numbers can be Unix times"
	case t.Kind == contract.Double && v.floats > 0 && v.places > 0 && v.places <= 4 && v.whole <= 18:
		return fmt.Sprintf("or decimal(18,%d), which is exact: there are at most %d digits after the point", v.places, v.places)
	}
	return ""
}

// demote finds values that the decoder does not take as the type that was proposed,
// and has the next wider one tried.
func (p *Proposal) demote(root *value, rows [][]byte) (again bool, err error) {
	var fields []arrow.Field
	for _, c := range p.columns {
		if c.why == "" {
			fields = append(fields, arrow.Field{Name: c.Name, Type: c.Type.Arrow(), Nullable: !c.Required})
		}
	}
	bad, err := badRows(arrow.NewSchema(fields, nil), rows)
	if err != nil {
		return false, fmt.Errorf("decode the sample: %w", err)
	}
	done := map[*value]bool{}
	for _, b := range bad {
		v := root.at(b.Column)
		if v == nil {
			return false, fmt.Errorf("decode the sample: %s: %s", b.Rule, b.Message)
		}
		if !done[v] {
			done[v] = true
			v.unlike++
			again = true
		}
	}
	return again, nil
}

// at finds the place that a path of the decoder names, such as a.b[2].c; nil when
// there is none.
func (v *value) at(path string) *value {
	if path == "" {
		return nil
	}
	for v != nil && path != "" {
		if path[0] == '[' {
			_, path, _ = strings.Cut(path, "]")
			v = v.elem
			continue
		}
		path = strings.TrimPrefix(path, ".")
		end := strings.IndexAny(path, ".[")
		if end < 0 {
			end = len(path)
		}
		v, path = v.byName[path[:end]], path[end:]
	}
	return v
}

// candidates finds columns that can be the key and the event time.
func (p *Proposal) candidates(root *value) {
	for _, c := range p.columns {
		if c.why != "" || !c.Required {
			continue
		}
		v := root.byName[c.Name]
		switch c.Type.Kind {
		case contract.Timestamp:
			p.times = append(p.times, c.Name)
		case contract.String, contract.Long:
			if len(v.distinct) == p.Rows && p.Rows > 1 && v.unix < p.Rows {
				p.keys = append(p.keys, c.Name)
			}
		}
	}
	// A name that says what it is goes before the others.
	slices.SortStableFunc(p.keys, func(a, b string) int { return rank(b) - rank(a) })
}

func rank(name string) int {
	lower := strings.ToLower(name)
	switch {
	case lower == "id" || strings.HasSuffix(lower, "_id") || strings.HasSuffix(name, "Id") || strings.HasSuffix(name, "ID"):
		return 2
	case strings.Contains(lower, "id") || strings.Contains(lower, "key"):
		return 1
	}
	return 0
}

// YAML is the contract of a table, with comments. from says where the sample is from.
func (p *Proposal) YAML(table, from string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Proposed by `tidemill contract infer` from %d rows of %s. Look it over: a\n# sample shows what there was, not what may come.\n", p.Rows, from)
	if p.Broken > 0 {
		fmt.Fprintf(&b, "# %d further rows are no JSON objects; they would be quarantined.\n", p.Broken)
	}
	fmt.Fprintf(&b, "table: %s\ncolumns:\n", table)
	for _, c := range p.columns {
		if c.why != "" {
			fmt.Fprintf(&b, "  # %s %s; it is dropped unless the connector makes another field of it\n", inComment(c.Name), c.why)
			continue
		}
		typ := c.Type.String()
		if strings.ContainsAny(typ, ",: ") {
			typ = `"` + typ + `"`
		}
		line := fmt.Sprintf("  - {name: %s, type: %s", quoted(c.Name), typ)
		if c.Required {
			line += ", required: true"
		}
		line += "}"
		if c.comment != "" {
			line += "   # " + c.comment
		}
		b.WriteString(line + "\n")
	}
	if len(p.keys) > 0 {
		fmt.Fprintf(&b, "# key: [%s]%s\n", p.keys[0], others("different in all rows of the sample", p.keys[1:]))
	}
	if len(p.times) > 0 {
		fmt.Fprintf(&b, "# event_time: %s%s\n", p.times[0], others("when a row happened", p.times[1:]))
	}
	return b.String()
}

// reserved are names that YAML takes for something else than text.
var reserved = regexp.MustCompile(`(?i)^(y|n|yes|no|on|off|true|false|null)$`)

func quoted(name string) string {
	if reserved.MatchString(name) {
		return `"` + name + `"`
	}
	return name
}

func others(what string, more []string) string {
	text := "   # " + what
	if len(more) > 0 {
		text += "; so are " + strings.Join(more, ", ")
	}
	return text
}

// inComment is a field's name as a comment can hold it.
func inComment(name string) string {
	data, err := json.Marshal(name)
	if err != nil {
		return "a field"
	}
	if r := []rune(string(data)); len(r) > 80 {
		return string(r[:80]) + "…"
	}
	return string(data)
}
