package lakehouse

import (
	"maps"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemill/tidemill/internal/predicate"
)

// Skipped says how much of a snapshot a condition leaves out.
type Skipped struct {
	Files       int   // ByPartition and ByStats together
	ByPartition int   // because of the values of the partition columns alone
	ByStats     int   // because of the files' statistics
	Bytes       int64 // of the files skipped
}

// Prune returns the files that may hold rows of which a condition is true, in their
// order, and what it skips. A nil condition keeps all files.
//
// No file that holds such a row is skipped, whoever wrote it. What a file's statistics
// leave open, other writers' habits included, keeps the file: see bounds.go. Columns are
// found by name without regard to case; one that the table lacks makes its part of the
// condition unknown.
func (s *Snapshot) Prune(p *predicate.Node) (keep []File, sk Skipped) {
	c := compile(p, s.Schema(), s.PartitionBy())
	if c.root == nil {
		keep = make([]File, 0, s.NumFiles())
	}
	for f := range s.Files() {
		why := c.judge(&f)
		if why == mustRead {
			keep = append(keep, f)
			continue
		}
		if why == byPartition {
			sk.ByPartition++
		} else {
			sk.ByStats++
		}
		sk.Files++
		sk.Bytes += f.Size
	}
	return keep, sk
}

type verdict int

const (
	mustRead verdict = iota
	byPartition
	byStats
)

// judge is a condition compiled for one table. It is used by one goroutine.
type judge struct {
	root    *test // nil: keeps all
	columns []*column
	paths   *statsPath // of the columns that statistics are needed of; nil: none
	stats   fileStats  // of the file that is judged
}

// column is a column of the condition, and what is known of it in the file that is judged.
type column struct {
	name      string
	typ       arrow.DataType
	partition bool
	nested    bool
	span      span
	parsed    map[string]span // partition values seen
}

// test is a node of the condition.
type test struct {
	op     predicate.Op
	column *column
	values []point
	args   []*test
}

// compile finds the columns of a condition and brings its constants to their types.
func compile(p *predicate.Node, schema *arrow.Schema, partitionBy []string) *judge {
	c := &judge{}
	c.root = c.compile(p, schema, partitionBy)
	return c
}

func (c *judge) compile(p *predicate.Node, schema *arrow.Schema, partitionBy []string) *test {
	if p.IsUnknown() {
		return nil
	}
	if p.Op == predicate.And || p.Op == predicate.Or {
		t := &test{op: p.Op}
		for _, a := range p.Args {
			arg := c.compile(a, schema, partitionBy)
			switch {
			case arg != nil:
				t.args = append(t.args, arg)
			case p.Op == predicate.Or:
				return nil
			}
		}
		if len(t.args) == 0 {
			return nil
		}
		return t
	}
	path, typ := resolve(p.Column, schema)
	if typ == nil {
		return nil
	}
	t := &test{op: p.Op}
	for _, v := range p.Values {
		x, ok := constant(typ, v)
		if !ok {
			return nil
		}
		t.values = append(t.values, x)
	}
	t.column = c.column(path, typ, partitionBy)
	return t
}

// resolve finds a column or a field of a struct by its path; the type is nil when there is none.
func resolve(path []string, schema *arrow.Schema) ([]string, arrow.DataType) {
	fields := schema.Fields()
	out := make([]string, 0, len(path))
	for i, name := range path {
		at := -1
		for j := range fields {
			if strings.EqualFold(fields[j].Name, name) {
				at = j
			}
		}
		if at < 0 {
			return nil, nil
		}
		out = append(out, fields[at].Name)
		if i == len(path)-1 {
			return out, fields[at].Type
		}
		st, ok := fields[at].Type.(*arrow.StructType)
		if !ok {
			return nil, nil
		}
		fields = st.Fields()
	}
	return nil, nil
}

func (c *judge) column(path []string, typ arrow.DataType, partitionBy []string) *column {
	name := strings.Join(path, "\x00")
	for _, col := range c.columns {
		if col.name == name {
			return col
		}
	}
	col := &column{name: name, typ: typ, nested: len(path) > 1}
	for _, p := range partitionBy {
		if len(path) == 1 && p == path[0] {
			col.partition, col.parsed = true, map[string]span{}
		}
	}
	if !col.partition {
		c.paths = c.paths.add(path, len(c.columns))
	}
	c.columns = append(c.columns, col)
	return col
}

// judge says whether a file has to be read, and if not, why.
func (c *judge) judge(f *File) verdict {
	if c.root == nil {
		return mustRead
	}
	for _, col := range c.columns {
		if col.partition {
			col.span = col.ofPartition(f.PartitionValues[col.name])
		} else {
			col.span = span{}
		}
	}
	if !c.root.possible() {
		return byPartition
	}
	if c.paths == nil || f.Stats == "" || !c.stats.read(f.Stats, c.paths, len(c.columns)) {
		return mustRead
	}
	own := f.ours()
	for i, col := range c.columns {
		if !col.partition {
			col.span = statsSpan(col.typ, c.stats.columns[i], c.stats.rows, own, col.nested)
		}
	}
	if !c.root.possible() {
		return byStats
	}
	return mustRead
}

// ofPartition is what a file's partition value says of the column: all.
func (c *column) ofPartition(v *string) span {
	if v == nil || *v == "" {
		return span{nulls: allNull}
	}
	s, ok := c.parsed[*v]
	if !ok {
		s = spanOfPartition(c.typ, *v)
		c.parsed[*v] = s
	}
	return s
}

// possible says whether the condition can be true of a row of the file.
func (t *test) possible() bool {
	switch t.op {
	case predicate.And:
		for _, a := range t.args {
			if !a.possible() {
				return false
			}
		}
		return true
	case predicate.Or:
		for _, a := range t.args {
			if a.possible() {
				return true
			}
		}
		return false
	case predicate.IsNull:
		return t.column.span.nulls != noNull
	case predicate.IsNotNull:
		return t.column.span.nulls != allNull
	}
	if t.column.span.nulls == allNull {
		return false // a comparison with null is not true
	}
	for _, v := range t.values {
		if t.column.span.may(t.op, v) {
			return true
		}
	}
	return false
}

// tagWriter marks files of ours that have no other tag of ours, so that their statistics
// are known to follow our rules.
const (
	tagPrefix = "tidemill."
	tagWriter = tagPrefix + "writer"
)

var writerTags = map[string]string{tagWriter: "1"} // shared, never changed

// withWriter makes sure that a file's tags have one of ours.
func withWriter(tags map[string]string) map[string]string {
	if len(tags) == 0 {
		return writerTags
	}
	for k := range tags {
		if strings.HasPrefix(k, tagPrefix) {
			return tags
		}
	}
	tags = maps.Clone(tags)
	tags[tagWriter] = writerTags[tagWriter]
	return tags
}

// ours says whether we wrote a file, and so know the rules that its statistics follow.
func (f *File) ours() bool {
	if f.meta != nil {
		return true
	}
	for k := range f.Tags {
		if strings.HasPrefix(k, tagPrefix) {
			return true
		}
	}
	return false
}
