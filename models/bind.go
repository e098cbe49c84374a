package models

import (
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemill/tidemill/contract"
)

// issue is something in a contract that does not fit a model. field is a path
// in the contract such as "score.inputs[2]".
type issue struct{ field, text string }

type issues []issue

func (is *issues) add(field, format string, args ...any) {
	*is = append(*is, issue{field, fmt.Sprintf(format, args...)})
}

// feed says which columns fill one input of a model, one value a row each.
type feed struct {
	info    TensorInfo
	columns []string
	fields  []string // where the contract names each column
}

// shape is the input's shape for a number of rows.
func (f feed) shape(rows int) []int64 {
	if len(f.info.Shape) == 1 {
		return []int64{int64(rows)}
	}
	return []int64{int64(rows), int64(len(f.columns))}
}

// bindInputs deals columns out to a model's inputs: by name without a list, or
// when the list has all the names; else in the list's order.
func bindInputs(sig Signature, inputs []string) ([]feed, issues) {
	var is issues
	feeds := make([]feed, len(sig.Inputs))
	widths := make([]int, len(sig.Inputs)) // -1: as many as there are
	total, named := 0, len(sig.Inputs) > 1
	for i, info := range sig.Inputs {
		feeds[i].info = info
		widths[i] = inputWidth(info, &is)
		named = named && widths[i] == 1
		total += widths[i]
	}
	if len(sig.Inputs) == 0 {
		is.add("score.model", "the model has no inputs; it would give every row the same score")
	}
	if is != nil {
		return nil, is
	}
	switch {
	case len(inputs) == 0:
		for i, info := range sig.Inputs {
			if widths[i] != 1 {
				is.add("score.inputs", "the model's input %s takes several columns at once: list them here, in the order the model was trained with", info)
				continue
			}
			feeds[i].columns, feeds[i].fields = []string{info.Name}, []string{"score.inputs"}
		}
		return feeds, is
	case len(sig.Inputs) == 1 && widths[0] == -1:
		widths[0], total = len(inputs), len(inputs)
	case slices.Contains(widths, -1):
		is.add("score.model", "the model has several inputs (%s), one of them with a free number of columns: which columns go where cannot be told; export it with fixed sizes", names(sig.Inputs))
		return nil, is
	}
	if total != len(inputs) {
		is.add("score.inputs", "lists %d columns; the model takes %d (%s)", len(inputs), total, names(sig.Inputs))
		return nil, is
	}
	order := make([]int, len(inputs)) // position in inputs, by position in the model
	for i := range order {
		order[i] = i
	}
	if named {
		matched, moved := 0, false
		for i, info := range sig.Inputs {
			if at := slices.Index(inputs, info.Name); at >= 0 {
				matched++
				moved = moved || at != i
				order[i] = at
			}
		}
		if moved && matched < len(inputs) {
			is.add("score.inputs", "some of the names are the model's inputs (%s) but in another order, and others are none: name all of the inputs, or give the columns in the model's order", names(sig.Inputs))
			return nil, is
		}
	}
	at := 0
	for i := range feeds {
		for range widths[i] {
			feeds[i].columns = append(feeds[i].columns, inputs[order[at]])
			feeds[i].fields = append(feeds[i].fields, fmt.Sprintf("score.inputs[%d]", order[at]))
			at++
		}
	}
	return feeds, is
}

// inputWidth is how many columns an input takes; -1: any number.
func inputWidth(info TensorInfo, is *issues) int {
	width := 1
	switch {
	case info.Kind != "":
		is.add("score.model", "the model's input %s is not a tensor", info)
	case !info.Type.supported():
		is.add("score.model", "the model's input %s is of a type that no column has; export it with float32, float64, int32, int64, bool or string", info)
	case info.Shape == nil:
		return -1
	case len(info.Shape) < 1 || len(info.Shape) > 2:
		is.add("score.model", "the model's input %s must have one row a record: shape [rows] or [rows,columns]", info)
	case info.Shape[0] >= 0:
		is.add("score.model", "the model's input %s has a fixed number of rows; export it with a dynamic first dimension (skl2onnx: FloatTensorType([None, n]); torch: dynamic_axes)", info)
	case len(info.Shape) == 2:
		width = int(info.Shape[1])
	}
	if width == 0 {
		is.add("score.model", "the model's input %s takes no columns", info)
	}
	return width
}

// accepts says whether a column's values can go into a tensor.
func accepts(t Type, column arrow.DataType) bool {
	switch t {
	case String:
		return column.ID() == arrow.STRING || column.ID() == arrow.LARGE_STRING
	case Bool:
		return column.ID() == arrow.BOOL
	}
	switch column.ID() {
	case arrow.BOOL, arrow.FLOAT32, arrow.FLOAT64, arrow.DECIMAL128, arrow.INT8, arrow.INT16, arrow.INT32, arrow.INT64,
		arrow.UINT8, arrow.UINT16, arrow.UINT32, arrow.UINT64:
		return true
	}
	return false
}

// checkColumns looks the columns up in a schema; indices is by feed, then column.
func checkColumns(feeds []feed, schema *arrow.Schema) (indices [][]int, is issues) {
	indices = make([][]int, len(feeds))
	for f, feed := range feeds {
		for c, name := range feed.columns {
			at := schema.FieldIndices(name)
			switch {
			case len(at) == 0:
				is.add(feed.fields[c], "the model's input %s wants a column %s, and neither columns nor features have it", feed.info, name)
				continue
			case len(at) > 1:
				is.add(feed.fields[c], "there are %d columns %s; name them apart in features", len(at), name)
				continue
			}
			if typ := schema.Field(at[0]).Type; !accepts(feed.info.Type, typ) {
				is.add(feed.fields[c], "column %s is %s and the model's input %s takes %s; derive a fitting one in features, %s",
					name, typ, feed.info, columnTypes(feed.info.Type), adviceFor(feed.info.Type, name, typ))
			}
			indices[f] = append(indices[f], at[0])
		}
	}
	return indices, is
}

func columnTypes(t Type) string {
	switch t {
	case String:
		return "string columns"
	case Bool:
		return "boolean columns"
	}
	return "numbers (or booleans, as 0 and 1)"
}

func adviceFor(t Type, name string, column arrow.DataType) string {
	switch {
	case t == String:
		return fmt.Sprintf("such as CAST(%s AS VARCHAR)", name)
	case t == Bool:
		return fmt.Sprintf("such as %s <> 0", name)
	case column.ID() == arrow.TIMESTAMP || column.ID() == arrow.DATE32:
		return fmt.Sprintf("such as hour(%s) or epoch(%s)", name, name)
	}
	return fmt.Sprintf("such as CASE %s WHEN 'a' THEN 0 ELSE 1 END, or CAST(%s AS DOUBLE)", name, name)
}

// pick says which values of a run's outputs make one column.
type pick struct {
	column string
	tensor int // among the outputs asked for
	index  int // column of a [rows,n] tensor; -1: it has one
	info   TensorInfo
	typ    arrow.DataType
}

// bindOutputs maps outputs to columns. tensors are the outputs to ask for.
// scored, if not nil, is the table the columns go into: its types hold.
func bindOutputs(sig Signature, outputs []contract.Output, scored *arrow.Schema) (picks []pick, tensors []string, is issues) {
	for _, o := range outputs {
		field := "score.output." + o.Column
		info, ok := sig.Output(o.Tensor)
		if !ok {
			is.add(field, "the model has no output %s; it has %s", o.Tensor, names(sig.Outputs))
			continue
		}
		if !checkOutput(info, o.Index, field, &is) {
			continue
		}
		typ := arrowTypes[info.Type]
		if scored != nil {
			if at := scored.FieldIndices(o.Column); len(at) == 1 {
				want := scored.Field(at[0]).Type
				if !converts(typ, want) {
					is.add(field, "the scored table has a column %s of %s, and the model's output %s gives %s: give the score another name", o.Column, want, info, typ)
					continue
				}
				typ = want
			}
		}
		at := slices.Index(tensors, o.Tensor)
		if at < 0 {
			at = len(tensors)
			tensors = append(tensors, o.Tensor)
		}
		picks = append(picks, pick{o.Column, at, o.Index, info, typ})
	}
	if len(outputs) == 0 {
		is.add("score.output", "names no output of the model; it has %s", names(sig.Outputs))
	}
	return picks, tensors, is
}

func checkOutput(info TensorInfo, index int, field string, is *issues) bool {
	switch {
	case info.Kind == KindSequence || info.Kind == KindMap:
		is.add(field, "the model's output %s is a %s (a ZipMap gives one dictionary a row, slowly): convert the model with options={'zipmap': False} and take one value of the tensor, such as %s[1]", info.Name, info.Kind, info.Name)
	case info.Kind != "":
		is.add(field, "the model's output %s is not a tensor", info)
	case arrowTypes[info.Type] == nil:
		is.add(field, "the model's output %s is of a type that no column has; add a Cast to float32, float64, int32, int64, bool or string", info)
	case info.Shape == nil:
		return true // seen when it runs
	case len(info.Shape) < 1 || len(info.Shape) > 2 || info.Shape[0] >= 0:
		is.add(field, "the model's output %s must have one row a record: shape [rows] or [rows,n] with a dynamic first dimension", info)
	case len(info.Shape) == 1 && index > 0:
		is.add(field, "the model's output %s has one value a row; leave out the [%d]", info, index)
	case len(info.Shape) == 2 && info.Shape[1] >= 0 && int64(index) >= info.Shape[1]:
		is.add(field, "the model's output %s has %d values a row, counted from 0; there is no [%d]", info, info.Shape[1], index)
	case len(info.Shape) == 2 && info.Shape[1] > 1 && index < 0:
		is.add(field, "the model's output %s has %d values a row; say which, such as %s[1]", info, info.Shape[1], info.Name)
	default:
		return true
	}
	return false
}

// arrowTypes are the columns that outputs make.
var arrowTypes = map[Type]arrow.DataType{
	Float32: arrow.PrimitiveTypes.Float32, Float64: arrow.PrimitiveTypes.Float64,
	Int32: arrow.PrimitiveTypes.Int32, Int64: arrow.PrimitiveTypes.Int64,
	Bool: arrow.FixedWidthTypes.Boolean, String: arrow.BinaryTypes.String,
}

// converts says whether an output may fill a column of another type, so that a
// table keeps its type when a model's new version comes with a wider float.
func converts(from, to arrow.DataType) bool {
	float := func(t arrow.DataType) bool { return t.ID() == arrow.FLOAT32 || t.ID() == arrow.FLOAT64 }
	return from.ID() == to.ID() || float(from) && float(to) || from.ID() == arrow.INT32 && to.ID() == arrow.INT64
}

// BindError: contract and model do not fit. [Gate.Check] reports the same with
// the contract's lines before a model is registered.
type BindError struct{ Problems []string }

func (e *BindError) Error() string { return strings.Join(e.Problems, "; ") }

func (is issues) err() error {
	if len(is) == 0 {
		return nil
	}
	e := &BindError{}
	for _, i := range is {
		e.Problems = append(e.Problems, i.field+": "+i.text)
	}
	return e
}

// OutputFields are the columns that scoring with a model adds, in the
// contract's order; a [BindError] if its outputs do not fit. Types that scored
// has for them already hold; it may be nil.
func OutputFields(sig Signature, outputs []contract.Output, scored *arrow.Schema) ([]arrow.Field, error) {
	picks, _, is := bindOutputs(sig, outputs, scored)
	if err := is.err(); err != nil {
		return nil, err
	}
	return fields(picks), nil
}

func fields(picks []pick) []arrow.Field {
	out := make([]arrow.Field, len(picks))
	for i, p := range picks {
		out[i] = arrow.Field{Name: p.column, Type: p.typ}
	}
	return out
}
