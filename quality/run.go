package quality

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/query"
)

// ErrRows is returned when features do not return every row once. It is a
// problem of the contract's file, see [problem.Of].
var ErrRows = errors.New("features change the number of rows")

// Run checks records and computes their features. See the package comment for
// what they must hold and what comes out. The records are only read; records
// that all pass and get no features are returned as they are, retained.
//
// An error means that no row was judged: ctx ended, memory ran out, the
// records are not what the plan was compiled for, or the SQL fails whichever
// row is left out ([query.Error] or [problem.Problem]).
func (p *Plan) Run(ctx context.Context, recs []arrow.Record) (*Result, error) {
	r, err := p.run(ctx, recs)
	if err != nil {
		return nil, fmt.Errorf("check %s: %w", p.table.Name(), err)
	}
	return r, nil
}

func (p *Plan) run(ctx context.Context, recs []arrow.Record) (*Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	res := &Result{}
	if err := p.checkFreshness(recs, res); err != nil {
		return nil, err
	}
	if p.flags == "" && p.features == nil {
		res.Passed = slices.Clone(recs)
		for _, r := range recs {
			r.Retain()
		}
		return res, nil
	}
	rows, err := newRows(recs, p)
	if err != nil {
		return nil, err
	}
	defer rows.release()
	var columns []arrow.Array
	switch {
	case rows.n == 0:
		columns, err = p.noRows(), nil
	case p.combined != "":
		columns, err = p.runCombined(ctx, rows, res)
	default:
		columns, err = p.runApart(ctx, rows, res)
	}
	if err != nil {
		return nil, err
	}
	defer releaseAll(columns)
	slices.SortFunc(res.Failed, func(a, b Failure) int { return cmp.Compare(a.Row, b.Row) })
	res.Passed, err = rows.passed(p, columns)
	return res, err
}

func (p *Plan) noRows() []arrow.Array {
	if p.features == nil {
		return nil
	}
	out := make([]arrow.Array, len(p.features.fields))
	for i, f := range p.features.fields {
		out[i] = emptyArray(f.Type)
	}
	return out
}

// runCombined computes flags and features together. Where a check fails the
// features are null, and those rows go.
func (p *Plan) runCombined(ctx context.Context, rows *rows, res *Result) ([]arrow.Array, error) {
	out, err := p.survive(ctx, p.combined, rows, res)
	if err != nil {
		return nil, err
	}
	defer out.Release()
	failed := p.judge(rows, out, res)
	return rows.drop(failed, out.Columns()[len(p.checks):])
}

// runApart computes the flags first, then the features of the rows that passed.
func (p *Plan) runApart(ctx context.Context, rows *rows, res *Result) ([]arrow.Array, error) {
	if p.flags != "" {
		out, err := p.survive(ctx, p.flags, rows, res)
		if err != nil {
			return nil, err
		}
		failed := p.judge(rows, out, res)
		out.Release()
		if _, err := rows.drop(failed, nil); err != nil {
			return nil, err
		}
	}
	if p.features == nil {
		return nil, nil
	}
	if rows.n == 0 {
		return p.noRows(), nil
	}
	out, err := p.survive(ctx, p.features.sql, rows, res)
	if err != nil {
		return nil, err
	}
	defer out.Release()
	last := int(out.NumCols()) - 1
	if err := p.sameRows(rows, out.Column(last).(*array.Int64)); err != nil {
		return nil, err
	}
	columns := slices.Clone(out.Columns()[:last])
	for _, c := range columns {
		c.Retain()
	}
	return columns, nil
}

// sameRows makes sure that the features returned every row once; the query
// sorts them.
func (p *Plan) sameRows(rows *rows, got *array.Int64) error {
	want := rows.ordinals
	if got.NullN() == 0 && slices.Equal(got.Int64Values(), want) {
		return nil
	}
	what := fmt.Sprintf("the query returns %d rows for %d", got.Len(), len(want))
	if got.Len() == len(want) {
		what = "the query returns some rows twice and others not at all"
	}
	return fmt.Errorf("%w: %w", ErrRows, p.table.Problem("features", "%s; every row of batch has to come out once: no WHERE, GROUP BY or LIMIT, joins that match once (LEFT JOIN on a unique key), checks to turn rows away", what))
}

// survive runs a query over the rows. When single rows make it fail, they
// become failures and the query runs again over the others.
func (p *Plan) survive(ctx context.Context, sql string, rows *rows, res *Result) (arrow.Record, error) {
	out, err := p.query(ctx, sql, rows.views())
	if err == nil || !byRow(err) {
		return out, err
	}
	first := err
	guilty := marks{at: make([]bool, rows.n)}
	if err := p.blame(ctx, sql, rows, res, &guilty, 0, rows.n); err != nil {
		return nil, err
	}
	if guilty.n == 0 {
		return nil, first
	}
	if _, err := rows.drop(guilty, nil); err != nil {
		return nil, err
	}
	if rows.n == 0 {
		return p.emptyOf(ctx, sql)
	}
	return p.query(ctx, sql, rows.views())
}

func (p *Plan) query(ctx context.Context, sql string, views []arrow.Record) (arrow.Record, error) {
	out, err := p.engine.Run(ctx, sql, map[string][]arrow.Record{view: views})
	if err != nil {
		return nil, err
	}
	return out[0], nil
}

func (p *Plan) emptyOf(ctx context.Context, sql string) (arrow.Record, error) {
	empty := emptyRecord(p.input)
	defer empty.Release()
	return p.query(ctx, sql, []arrow.Record{empty})
}

func byRow(err error) bool {
	e, ok := errors.AsType[*query.Error](err)
	return ok && e.ByRow()
}

// blame finds the rows in from..to that make a query fail, by halving, and
// reports them. It costs two queries per halving and guilty row.
func (p *Plan) blame(ctx context.Context, sql string, rows *rows, res *Result, guilty *marks, from, to int) error {
	part := rows.slice(from, to)
	defer releaseAll(part)
	out, err := p.query(ctx, sql, part)
	switch {
	case err == nil:
		out.Release()
		return nil
	case !byRow(err):
		return err
	case to-from > 1:
		middle := from + (to-from)/2
		if err := p.blame(ctx, sql, rows, res, guilty, from, middle); err != nil {
			return err
		}
		return p.blame(ctx, sql, rows, res, guilty, middle, to)
	}
	f, err := p.accuse(ctx, rows, from, part, err)
	if err != nil {
		return err
	}
	guilty.set(from)
	res.Failed = append(res.Failed, f)
	return nil
}

// accuse says which rule stumbles over a row. A check before it may simply fail.
func (p *Plan) accuse(ctx context.Context, rows *rows, at int, row []arrow.Record, cause error) (Failure, error) {
	for _, c := range p.checks {
		if c.OnFail == contract.OnFailWarn {
			continue
		}
		out, err := p.query(ctx, "SELECT "+c.flag+" AS failed FROM "+view, row)
		if byRow(err) {
			return p.failure(rows, at, c, "cannot be computed: "+sqlText(err)), nil
		}
		if err != nil {
			return Failure{}, err
		}
		failed := out.Column(0).(*array.Boolean).Value(0)
		out.Release()
		if failed {
			return p.failure(rows, at, c, "failed"), nil
		}
	}
	if c, err := p.stumblingWarning(ctx, row); c != nil || err != nil {
		if err != nil {
			return Failure{}, err
		}
		return p.failure(rows, at, *c, "cannot be computed: "+sqlText(cause)), nil
	}
	return Failure{Row: rows.row(at), Rule: RuleFeatures, Class: ClassFeatures, Message: "features cannot be computed: " + sqlText(cause)}, nil
}

// stumblingWarning finds a warn check that cannot be computed for a row.
func (p *Plan) stumblingWarning(ctx context.Context, row []arrow.Record) (*check, error) {
	for i, c := range p.checks {
		if c.OnFail != contract.OnFailWarn {
			continue
		}
		out, err := p.query(ctx, "SELECT "+c.flag+" AS failed FROM "+view, row)
		if byRow(err) {
			return &p.checks[i], nil
		}
		if err != nil {
			return nil, err
		}
		out.Release()
	}
	return nil, nil
}

func sqlText(err error) string {
	if e, ok := errors.AsType[*query.Error](err); ok {
		return e.Message
	}
	return err.Error()
}
