package quality

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/query"
)

// CheckCondition says what is wrong with an SQL condition over single rows that have the
// columns of a schema, "" when nothing is. An error is what nobody can mend by changing
// the condition.
func CheckCondition(ctx context.Context, engine *query.Engine, table *contract.Table, expr string, schema *arrow.Schema) (string, error) {
	fields := append(slices.Clone(schema.Fields()), arrow.Field{Name: batch.ColRow, Type: arrow.PrimitiveTypes.Int64})
	p := &Plan{engine: engine, table: table, input: arrow.NewSchema(fields, nil)}
	_, message, err := p.compileCheck(ctx, contract.Check{Expr: expr})
	return message, err
}

// Meeting returns which rows of a record meet an SQL condition over single rows, in
// order. Of an error that is the rows' or the condition's fault, [query.Error.ByAuthor]
// says so.
func Meeting(ctx context.Context, engine *query.Engine, expr string, rec arrow.Record) ([]int, error) {
	n := int(rec.NumRows())
	b := array.NewInt64Builder(memory.DefaultAllocator)
	defer b.Release()
	b.Reserve(n)
	for i := range n {
		b.UnsafeAppend(int64(i))
	}
	rows := b.NewArray()
	defer rows.Release()
	fields := append(slices.Clone(rec.Schema().Fields()), arrow.Field{Name: batch.ColRow, Type: rows.DataType()})
	with := array.NewRecord(arrow.NewSchema(fields, nil), append(slices.Clone(rec.Columns()), rows), int64(n))
	defer with.Release()
	recs, err := engine.Run(ctx, "SELECT "+batch.ColRow+" FROM "+view+" WHERE (\n"+expr+"\n)", map[string][]arrow.Record{view: {with}})
	if err != nil {
		return nil, fmt.Errorf("condition: %w", err)
	}
	var out []int
	for _, rec := range recs {
		c, ok := rec.Column(0).(*array.Int64)
		if !ok {
			err = errors.New("condition: row numbers have another type")
		}
		for i := 0; ok && i < c.Len(); i++ {
			out = append(out, int(c.Value(i)))
		}
		rec.Release()
	}
	slices.Sort(out)
	return out, err
}
