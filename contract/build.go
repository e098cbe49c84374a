package contract

import (
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/tidemill/tidemill/internal/problem"
	"github.com/tidemill/tidemill/internal/strictyaml"
)

// builder turns a checked tree into a Table and reports what fields get wrong
// about each other. Fields with a problem of their own are not in the tree any
// more; what refers to them is given the benefit of the doubt.
type builder struct {
	root     *strictyaml.Node
	problems *problem.List
	t        *Table
	columns  map[string]Column // by lower-case name; columns whose type is wrong are in with a zero Type
	unsure   bool              // some column could not be read, so an unknown name may be its
}

// build returns the table of a checked tree; it is whole only when no problem
// has been reported.
func build(root *strictyaml.Node, ps *problem.List) *Table {
	b := builder{root: root, problems: ps, columns: map[string]Column{}, t: &Table{
		file:       root.File,
		name:       root.Get("table").Text(),
		eventTime:  root.Get("event_time").Text(),
		onNewField: NewField(root.Get("on_new_field").TextOr(string(NewFieldIgnore))),
		lines:      map[string]position{},
	}}
	b.index(root, position{root.Line, root.Column})
	b.tableName()
	b.tableColumns()
	b.t.key = b.refs("key", b.keyColumn)
	b.eventTime()
	b.partitions()
	b.clusterBy()
	b.retention()
	b.dedupe()
	b.features()
	b.checks()
	b.score()
	b.sinks()
	if len(*ps) > 0 {
		return nil
	}
	b.t.seal()
	return b.t
}

func (b *builder) add(n *strictyaml.Node, format string, args ...any) {
	b.problems.Add(n.Problem(format, args...))
}

// index notes where every field stands: at its name, or for the entries of a
// list at their own beginning.
func (b *builder) index(n *strictyaml.Node, at position) {
	b.t.lines[n.Path] = at
	for _, e := range n.Entries {
		b.index(e.Value, position{e.Line, e.Column})
	}
	for _, item := range n.Items {
		b.index(item, position{item.Line, item.Column})
	}
}

func (b *builder) tableName() {
	for _, suffix := range []string{"_scored", "_quarantine"} {
		if strings.HasSuffix(b.t.name, suffix) {
			b.add(b.root.Get("table"), "a name may not end in %s: such tables are made beside the table they belong to; choose another", suffix)
		}
	}
}

func (b *builder) tableColumns() {
	list := b.root.Get("columns")
	b.unsure = list == nil || len(list.Each()) < len(list.Items)
	first := map[string]*strictyaml.Node{}
	for _, item := range list.Each() {
		name, typ := item.Get("name"), item.Get("type")
		c := Column{Name: name.Text(), Required: item.Get("required").Bool()}
		if typ != nil {
			c.Type = b.parseType(typ)
		}
		if name == nil {
			b.unsure = true
			continue
		}
		lower := strings.ToLower(c.Name)
		if f := first[lower]; f != nil {
			same := "is the name of the column on line %d too; names must differ"
			if f.Value != c.Name {
				same = "differs from the column on line %d only in upper and lower case; readers of the table cannot tell them apart"
			}
			b.add(name, same, f.Line)
			continue
		}
		first[lower] = name
		b.columns[lower] = c
		b.t.columns = append(b.t.columns, c)
	}
}

func (b *builder) parseType(n *strictyaml.Node) Type {
	t, err := ParseType(n.Value)
	if err != nil {
		p := n.Problem("%v", err)
		if te, ok := errors.AsType[*TypeError](err); ok && !n.Block {
			p.Column += te.Offset
		}
		b.problems.Add(p)
	}
	return t
}

// column looks up a column that a field names.
func (b *builder) column(n *strictyaml.Node) (Column, bool) {
	c, ok := b.columns[strings.ToLower(n.Value)]
	switch {
	case ok && c.Name == n.Value:
		return c, true
	case ok:
		b.add(n, "there is no column %s, but there is %s; write it that way", n.Value, c.Name)
	case !b.unsure:
		var names []string
		for _, c := range b.t.columns {
			names = append(names, c.Name)
		}
		hint := "the columns are " + strings.Join(names, ", ")
		if near := strictyaml.Suggest(n.Value, names); near != "" {
			hint = "did you mean " + near + "?"
		}
		b.add(n, "there is no column %s; %s", n.Value, hint)
	}
	return Column{}, false
}

// refs reads a list of column names without repetitions.
func (b *builder) refs(field string, judge func(*strictyaml.Node, Column)) []string {
	var out []string
	for _, n := range b.root.Get(field).Each() {
		if slices.Contains(out, n.Value) {
			b.add(n, "%s is listed twice; remove one", n.Value)
			continue
		}
		out = append(out, n.Value)
		if c, ok := b.column(n); ok && c.Type.Kind != 0 {
			judge(n, c)
		}
	}
	return out
}

func (b *builder) keyColumn(n *strictyaml.Node, c Column) {
	switch {
	case c.Type.Nested():
		b.add(n, "the column %s is of type %s, which cannot be compared; choose a column with a single value", c.Name, c.Type)
	case !c.Required:
		b.add(n, "a key's columns must be required; add required: true to the column %s", c.Name)
	}
}

func (b *builder) eventTime() {
	n := b.root.Get("event_time")
	if n == nil {
		return
	}
	if c, ok := b.column(n); ok && c.Type.Kind != 0 && c.Type.Kind != Timestamp {
		b.add(n, "the column %s is of type %s; it must be a timestamp", c.Name, c.Type)
	}
}

func (b *builder) features() {
	n := b.root.Get("features")
	if n == nil {
		return
	}
	b.t.features = trimEnd(n.Value)
	b.t.featuresLine = n.Line
	if n.Block {
		b.t.featuresLine++
	}
}

// trimEnd drops what |, |- and |+ leave different at the end of a block.
func trimEnd(text string) string { return strings.TrimRight(text, " \t\r\n") }

func (b *builder) checks() {
	first := map[string]int{}
	for _, item := range b.root.Get("checks").Each() {
		c := Check{
			Name:      item.Get("name").Text(),
			Expr:      trimEnd(item.Get("expr").Text()),
			Freshness: item.Get("freshness").Duration(),
		}
		if name := item.Get("name"); name != nil {
			lower := strings.ToLower(c.Name)
			if line, ok := first[lower]; ok {
				b.add(name, "is the name of the check on line %d too; metrics and quarantined rows name checks, so names must differ", line)
			} else {
				first[lower] = name.Line
			}
		}
		onFail := item.Get("on_fail")
		c.OnFail = OnFail(onFail.TextOr(string(OnFailQuarantine)))
		if item.Has("freshness") {
			if onFail != nil && c.OnFail != OnFailWarn {
				b.add(onFail, "freshness is about a whole batch, so it can only warn; write on_fail: warn or leave it out")
			}
			c.OnFail = OnFailWarn
			if !b.root.Has("event_time") {
				b.add(item.Get("freshness").Or(item), "freshness needs to know when rows happened; add event_time: and the name of a timestamp column to the table")
			}
		}
		b.t.checks = append(b.t.checks, c)
	}
}

var tensorIndex = regexp.MustCompile(`^(.*\S)\s*\[\s*([0-9]{1,6})\s*\]$`)

func (b *builder) score() {
	n := b.root.Get("score")
	if n == nil {
		return
	}
	s := &Score{
		Model:     n.Get("model").Text(),
		Isolation: Isolation(n.Get("isolation").TextOr(string(IsolationProcess))),
	}
	for _, in := range n.Get("inputs").Each() {
		switch {
		case slices.Contains(s.Inputs, in.Value):
			b.add(in, "%s is listed twice; remove one", in.Value)
			continue
		case !b.root.Has("features"): // with features, only the SQL says which columns there are
			if c, ok := b.column(in); ok && c.Type.Nested() {
				b.add(in, "the column %s is of type %s; a model takes single values", c.Name, c.Type)
			}
		}
		s.Inputs = append(s.Inputs, in.Value)
	}
	b.outputs(n.Get("output"), s)
	b.t.score = s
}

func (b *builder) outputs(n *strictyaml.Node, s *Score) {
	if n == nil {
		return
	}
	seen := map[string]bool{}
	for _, e := range n.Entries {
		value := n.Get(e.Key)
		if value == nil {
			continue
		}
		lower := strings.ToLower(e.Key)
		at := problem.Problem{File: value.File, Line: e.Line, Column: e.Column, Field: value.Path}
		if c, ok := b.columns[lower]; ok {
			at.Message = "the table has the column " + c.Name + " already; give the score another name"
			b.problems.Add(at)
		} else if d := b.derived(lower); d != "" {
			at.Message = "partition_by adds the column " + d + " to the table; give the score another name"
			b.problems.Add(at)
		} else if seen[lower] {
			at.Message = "another output differs only in upper and lower case; readers of the table cannot tell them apart"
			b.problems.Add(at)
		}
		seen[lower] = true
		s.Outputs = append(s.Outputs, b.output(e.Key, value))
	}
}

func (b *builder) output(column string, n *strictyaml.Node) Output {
	out := Output{Column: column, Tensor: strings.TrimSpace(n.Value), Index: -1}
	if m := tensorIndex.FindStringSubmatch(out.Tensor); m != nil {
		out.Tensor = m[1]
		out.Index, _ = strconv.Atoi(m[2]) // at most six digits
	} else if strings.HasSuffix(out.Tensor, "]") {
		b.add(n, "%s must name an output of the model, with a whole number in brackets if it takes one value of several, such as probabilities[1]", strictyaml.Quote(n.Value))
	}
	return out
}
