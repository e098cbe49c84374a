package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/activities"
	"github.com/tidemill/tidemill/connectors"
	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/internal/problem"
	"github.com/tidemill/tidemill/lakehouse/quarantine"
	"github.com/tidemill/tidemill/models"
	"github.com/tidemill/tidemill/query"
)

// look takes rows through both hops without tables: decoded messages are checked,
// get their features and scores, and nothing is kept. `connector try` and
// `connector test` show what comes out. It is for some hundred rows, not for load.
type look struct {
	contract *contract.Table
	plan     qualityPlan
	scorer   *models.Scorer     // nil: not scored
	model    string             // as the contract names it
	mock     map[string]float64 // scores in the model's place; nil: none
}

// LookRow is what becomes of a row.
type LookRow struct {
	Source string `json:"source"`
	Offset int64  `json:"offset"`
	// Values are the columns that the scored table would have, without those that
	// begin with an underscore; nil for a row that is quarantined.
	Values  Columns `json:"values,omitempty"`
	Class   string  `json:"class,omitempty"` // of a quarantined row, as in the quarantine table
	Rule    string  `json:"rule,omitempty"`
	Column  string  `json:"column,omitempty"`
	Message string  `json:"message,omitempty"`
	Raw     string  `json:"raw"`

	ordinal int64
}

// Quarantined says that the row would go to the quarantine table.
func (r LookRow) Quarantined() bool { return r.Rule != "" }

// Looked is what becomes of the rows of a sample.
type Looked struct {
	Rows      []LookRow        `json:"rows"`
	Warnings  map[string]int64 `json:"warnings,omitempty"`
	NewFields []string         `json:"new_fields,omitempty"` // that would become columns
}

// newLook prepares a contract. Without a scorer and a mock, rows are not scored.
func newLook(ctx context.Context, engine *query.Engine, c *contract.Table) (*look, error) {
	p, err := activities.CompileContract(ctx, engine, c)
	if err != nil {
		return nil, err
	}
	return &look{contract: c, plan: qualityPlan{p}}, nil
}

// load opens the contract's model if the project has its file, and returns a note
// for people when rows cannot be scored. The caller closes the look.
func (l *look) load(ctx context.Context, local *localModel, log *slog.Logger) (note string, err error) {
	score := l.contract.Score()
	if score == nil {
		return "", nil
	}
	l.model = score.Model
	if local == nil {
		return fmt.Sprintf("rows are not scored: tidemill.yaml names no file for the model %s", score.Model), nil
	}
	l.scorer, err = local.scorer(ctx, score, log)
	if bad, ok := errors.AsType[*models.BindError](err); ok {
		return "", problem.List{l.contract.Problem("score", "the model %s does not fit: %v", score.Model, bad)}
	}
	if errors.Is(err, models.ErrRuntime) {
		return "rows are not scored: " + l.named(err), nil
	}
	return "", err
}

// named is the text of a model's error; a file that is not registered has no version.
func (l *look) named(err error) string {
	name, _, _ := strings.Cut(l.model, "@")
	return strings.ReplaceAll(err.Error(), name+"@0", l.model)
}

func (l *look) close() {
	if l.scorer != nil {
		_ = l.scorer.Close()
	}
}

// take takes a sample's rows through. Rows that did not decode stand among the
// others by their positions.
func (l *look) take(ctx context.Context, d *connectors.Decoded, now time.Time) (*Looked, error) {
	out := &Looked{Rows: []LookRow{}}
	for _, f := range d.NewFields {
		out.NewFields = append(out.NewFields, f.Name+" "+contract.TypeName(f.Type))
	}
	recs, origin, err := l.numbered(d)
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, r := range recs {
			r.Release()
		}
	}()
	if len(recs) > 0 {
		res, err := l.plan.run(ctx, recs, now)
		if err != nil {
			return nil, err
		}
		defer res.release()
		out.Warnings = res.warnings
		for _, f := range res.failed {
			row := origin[f.Row]
			row.Class, row.Rule, row.Column, row.Message = f.Class, f.Rule, f.Column, f.Message
			out.Rows = append(out.Rows, row)
		}
		for _, rec := range res.passed {
			rows, err := l.score(ctx, rec, origin)
			if err != nil {
				return nil, err
			}
			out.Rows = append(out.Rows, rows...)
		}
	}
	for _, b := range d.Bad {
		out.Rows = append(out.Rows, LookRow{
			Source: b.Partition, Offset: b.Offset, Raw: string(b.Raw), Class: b.Class, Rule: b.Rule, Column: b.Column, Message: b.Message, ordinal: -1,
		})
	}
	// By position; rows of one message keep their order.
	slices.SortStableFunc(out.Rows, func(a, b LookRow) int {
		if a.Source != b.Source {
			return strings.Compare(a.Source, b.Source)
		}
		if a.Offset != b.Offset {
			return int(min(max(a.Offset-b.Offset, -1), 1))
		}
		return int(min(max(a.ordinal-b.ordinal, -1), 1))
	})
	return out, nil
}

// numbered adds the row numbers that checks tell rows by, and what is known of each.
func (l *look) numbered(d *connectors.Decoded) (recs []arrow.Record, origin []LookRow, err error) {
	for _, rec := range d.Records {
		n := int(rec.NumRows())
		ids := array.NewInt64Builder(memory.DefaultAllocator)
		source, err1 := columnOf[*array.String](rec, batch.ColSource)
		offset, err2 := columnOf[*array.Int64](rec, batch.ColOffset)
		raw, err3 := columnOf[*array.Binary](rec, batch.ColRaw)
		if err := errors.Join(err1, err2, err3); err != nil {
			ids.Release()
			return recs, nil, err
		}
		for i := range n {
			id := int64(len(origin))
			ids.Append(id)
			origin = append(origin, LookRow{Source: strings.Clone(source.Value(i)), Offset: offset.Value(i), Raw: string(raw.Value(i)), ordinal: id})
		}
		numbers := ids.NewArray()
		ids.Release()
		schema := arrow.NewSchema(append(slices.Clone(rec.Schema().Fields()), arrow.Field{Name: batch.ColRow, Type: arrow.PrimitiveTypes.Int64}), nil)
		recs = append(recs, array.NewRecord(schema, append(slices.Clone(rec.Columns()), numbers), int64(n)))
		numbers.Release()
	}
	return recs, origin, nil
}

func columnOf[T arrow.Array](rec arrow.Record, name string) (T, error) {
	var zero T
	at := rec.Schema().FieldIndices(name)
	if len(at) != 1 {
		return zero, fmt.Errorf("no column %s", name)
	}
	c, ok := rec.Column(at[0]).(T)
	if !ok {
		return zero, fmt.Errorf("column %s is %s", name, rec.Column(at[0]).DataType())
	}
	return c, nil
}

// score scores rows that passed. When the model refuses some of them, all are tried
// one by one, so that each is told its own reason.
func (l *look) score(ctx context.Context, rec arrow.Record, origin []LookRow) (out []LookRow, err error) {
	ids, err := columnOf[*array.Int64](rec, batch.ColRow)
	if err != nil {
		return nil, err
	}
	var scores []arrow.Array
	var names []string
	if l.scorer != nil && l.mock == nil && rec.NumRows() > 0 {
		scores, err = l.scorer.Score(ctx, rec)
		if err != nil && models.IsRowFault(err) {
			if rec.NumRows() > 1 {
				for i := range rec.NumRows() {
					one := rec.NewSlice(i, i+1)
					rows, err := l.score(ctx, one, origin)
					one.Release()
					if err != nil {
						return nil, err
					}
					out = append(out, rows...)
				}
				return out, nil
			}
			return []LookRow{l.refused(origin[ids.Value(0)], err)}, nil
		}
		if err != nil {
			return nil, err
		}
		defer func() {
			for _, a := range scores {
				a.Release()
			}
		}()
		for _, f := range l.scorer.Fields() {
			names = append(names, f.Name)
		}
	}
	for i := range int(rec.NumRows()) {
		row := origin[ids.Value(i)]
		for c, f := range rec.Schema().Fields() {
			if !strings.HasPrefix(f.Name, "_") {
				row.Values = append(row.Values, column{f.Name, jsonOf(rec.Column(c), i)})
			}
		}
		for c, name := range names {
			row.Values = append(row.Values, column{name, jsonOf(scores[c], i)})
		}
		if l.mock != nil {
			for _, o := range l.contract.Score().Outputs {
				v, ok := l.mock[o.Column]
				if ok {
					row.Values = append(row.Values, column{o.Column, v})
				}
			}
		}
		out = append(out, row)
	}
	return out, nil
}

// refused is a row that the model does not take, as hop two words it.
func (l *look) refused(row LookRow, err error) LookRow {
	row.Class, row.Rule, row.Message = quarantine.ClassScore, "rejected", l.named(err)
	if bad, ok := errors.AsType[*models.RowsError](err); ok && len(bad.Rows) > 0 {
		b := bad.Rows[0]
		row.Rule, row.Column, row.Message = "model_input", b.Column, fmt.Sprintf("model %s: %s: %s", l.model, b.Column, b.Message)
	} else if errors.Is(err, models.ErrCrashed) {
		row.Rule, row.Message = "crash", "the row crashes the model: "+l.named(err)
	}
	return row
}

// Columns are a row's values in the table's order; as JSON an object.
type Columns []column

type column struct {
	name  string
	value any
}

// MarshalJSON implements json.Marshaler.
func (c Columns) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, v := range c {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Quote(v.name))
		b.WriteByte(':')
		data, err := json.Marshal(v.value)
		if err != nil {
			return nil, err
		}
		b.Write(data)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// values are the columns as a test compares them: as JSON has them.
func (c Columns) values() (map[string]any, error) {
	data, err := c.MarshalJSON()
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	out := map[string]any{}
	return out, dec.Decode(&out)
}
