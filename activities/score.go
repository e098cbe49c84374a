package activities

import (
	"context"
	"errors"
	"fmt"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/lakehouse/quarantine"
	"github.com/tidemill/tidemill/models"
)

// poisonPolicy says what becomes of rows that kill the model's process.
type poisonPolicy int

const (
	poisonHandOver   poisonPolicy = iota // they become Parts, for RecoverBatch
	poisonFail                           // the attempt fails as a whole
	poisonQuarantine                     // they are quarantined
)

// maxCrashes bounds how often a piece may crash the model while the rows to
// blame are being looked for; each crash costs a new process. What is left
// then is handed over as it is.
const maxCrashes = 40

// score adds the scores and what explains a row. Rows that the model refuses
// go to quarantine; rows that crash it go where the policy says. The records
// returned have the scored table's schema and are the caller's.
func (p *piece) score(ctx context.Context, rec arrow.Record) (out []arrow.Record, err error) {
	if p.s.scorer == nil {
		return []arrow.Record{p.explain(rec, nil)}, nil
	}
	defer func() {
		if err != nil {
			releaseAll(out)
		}
	}()
	crashes := 0
	rec.Retain()
	todo := []arrow.Record{rec}
	defer func() { releaseAll(todo) }()
	for len(todo) > 0 {
		r := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		more, done, err := p.scoreOne(ctx, r, &crashes)
		r.Release()
		if err != nil {
			return out, err
		}
		if done != nil {
			out = append(out, done)
		}
		todo = append(todo, more...)
	}
	return out, nil
}

// scoreOne scores one record, or says which parts of it to try instead.
func (p *piece) scoreOne(ctx context.Context, r arrow.Record, crashes *int) (more []arrow.Record, done arrow.Record, err error) {
	arrays, err := p.s.scorer.Score(ctx, r)
	if err == nil {
		done = p.explain(r, arrays)
		for _, a := range arrays {
			a.Release()
		}
		return nil, done, nil
	}
	if ctx.Err() != nil {
		return nil, nil, ctx.Err()
	}
	if bad, ok := errors.AsType[*models.RowsError](err); ok {
		return p.withoutRows(r, bad)
	}
	n := r.NumRows()
	switch {
	case errors.Is(err, models.ErrRejected) && n == 1:
		p.quarantine(rowsOf(r)[0], quarantine.Row{Class: quarantine.ClassScore, Rule: "rejected", Message: err.Error()})
		return nil, nil, nil
	case errors.Is(err, models.ErrRejected):
	case errors.Is(err, models.ErrCrashed):
		*crashes++
		if n == 1 || *crashes > maxCrashes {
			return nil, nil, p.poisoned(r, err)
		}
	default:
		if _, ok := errors.AsType[*models.BindError](err); ok {
			return nil, nil, Permanent(ErrTypeModel, p.s.contract.Problem("score", "%v", err))
		}
		return nil, nil, err
	}
	half := n / 2
	return []arrow.Record{r.NewSlice(half, n), r.NewSlice(0, half)}, nil, nil
}

// withoutRows quarantines the rows that cannot be scored and returns the others.
func (p *piece) withoutRows(r arrow.Record, bad *models.RowsError) ([]arrow.Record, arrow.Record, error) {
	rows := rowsOf(r)
	out := make(map[int]bool, len(bad.Rows))
	for _, b := range bad.Rows {
		out[b.Row] = true
		p.quarantine(rows[b.Row], quarantine.Row{Class: quarantine.ClassScore, Rule: "model_input", Column: b.Column, Message: fmt.Sprintf("model %s: %s: %s", p.s.model.Ref(), b.Column, b.Message)})
	}
	if len(out) == int(r.NumRows()) {
		return nil, nil, nil
	}
	rest, err := filter(p.a.mem, r, func(i int) bool { return !out[i] })
	if err != nil {
		return nil, nil, err
	}
	return []arrow.Record{rest}, nil, nil
}

// poisoned deals with rows that crash the model.
func (p *piece) poisoned(r arrow.Record, cause error) error {
	switch p.poison {
	case poisonFail:
		return Permanent(ErrTypePoison, fmt.Errorf("%d rows crash the model: %w", r.NumRows(), cause))
	case poisonQuarantine:
		for _, row := range rowsOf(r) {
			p.quarantine(row, quarantine.Row{Class: quarantine.ClassScore, Rule: "crash", Message: "the row crashes the model: " + cause.Error()})
		}
		return nil
	}
	for _, row := range rowsOf(r) {
		seg, at := p.locate(row)
		o := p.origin[seg]
		n := len(p.out.poison)
		if n > 0 && p.out.poison[n-1].File == o.file.Path && p.out.poison[n-1].To == o.from+at {
			p.out.poison[n-1].To++
			continue
		}
		p.out.poison = append(p.out.poison, Part{Version: o.version, File: o.file.Path, From: o.from + at, To: o.from + at + 1})
	}
	return nil
}

// rowsOf returns the ordinals of a record's rows in their piece.
func rowsOf(r arrow.Record) []int64 {
	c, err := column[*array.Int64](r, batch.ColRow)
	if err != nil {
		panic(err) // every record of a piece has it
	}
	return c.Int64Values()
}

// explain puts together what the scored table has of each row.
func (p *piece) explain(r arrow.Record, scores []arrow.Array) arrow.Record {
	s := p.s
	n := int(r.NumRows())
	var cols []arrow.Array
	for i := range s.plan.Columns().NumFields() {
		cols = append(cols, r.Column(i))
	}
	cols = append(cols, scores...)
	for _, f := range s.schema.Fields()[len(cols):] {
		at := r.Schema().FieldIndices(f.Name)
		if len(at) == 0 {
			break // what is left explains the row
		}
		cols = append(cols, r.Column(at[0]))
	}
	mem := p.a.mem
	var model, sum string
	if s.model != nil {
		model, sum = s.model.Name, s.model.SHA256
	}
	own := []arrow.Array{constantString(mem, s.contract.Version(), n), constantString(mem, model, n), nil, constantString(mem, sum, n)}
	if s.model != nil {
		own[2] = constantLong(mem, int64(s.model.Version), n)
	} else {
		own[2] = array.MakeArrayOfNull(mem, arrow.PrimitiveTypes.Int64, n)
	}
	rec := array.NewRecord(s.schema, append(cols, own...), int64(n))
	for _, a := range own {
		a.Release()
	}
	return rec
}
