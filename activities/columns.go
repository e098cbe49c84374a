package activities

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/quality"
	"github.com/tidemill/tidemill/query"
)

// CheckContract finds what is wrong with a contract's SQL.
func CheckContract(ctx context.Context, engine *query.Engine, c *contract.Table) error {
	_, err := CompileContract(ctx, engine, c)
	return err
}

// CompileContract compiles a contract's checks and features as turns run them. What is wrong
// with the SQL are problems of its file.
func CompileContract(ctx context.Context, engine *query.Engine, c *contract.Table) (*quality.Plan, error) {
	return quality.Compile(ctx, engine, c, workSchema(c, nil))
}

// workSchema is what checks and features run over: the contract's columns, those
// of the landed table that pass by, and what is needed to tell rows apart and
// explain them later.
func workSchema(c *contract.Table, carried []arrow.Field) *arrow.Schema {
	long := arrow.PrimitiveTypes.Int64
	return arrow.NewSchema(slices.Concat(c.ArrowSchema().Fields(), carried, []arrow.Field{
		{Name: batch.ColSource, Type: arrow.BinaryTypes.String},
		{Name: batch.ColOffset, Type: long},
		{Name: batch.ColLandedVersion, Type: long},
		{Name: batch.ColRow, Type: long},
	}), nil)
}

// prepareScored has the scored table created, with the columns that it takes now.
func (a *Activities) prepareScored(ctx context.Context, s *state) error {
	landed := s.landed.Snapshot().Schema()
	var carried []arrow.Field
	for again := false; ; again = true {
		before := carried
		carried = s.carried(landed)
		if again && len(before) == len(carried) {
			return Permanent(ErrTypeContract, fmt.Errorf("scored table %s%s: its columns keep changing", s.name, Suffix))
		}
		schema := scoredSchema(s, carried)
		// Create adds nullable columns that a changed contract has brought, and
		// refuses what would change the meaning of those that are there.
		t, err := a.o.Tables.Create(ctx, s.name+Suffix, lakehouse.CreateOptions{Schema: schema, PartitionBy: s.contract.PartitionBy()})
		if err == nil {
			s.scored, s.schema, s.landedAs, s.work = t, schema, landed, workSchema(s.contract, carried)
			a.tellLeftOut(s, landed, carried)
			return nil
		}
		if objstore.Retryable(err) || ctx.Err() != nil {
			return fmt.Errorf("scored table: %w", err)
		}
		retry, rerr := s.carriedTooMuch(ctx, a, err, carried)
		if rerr != nil {
			return fmt.Errorf("scored table: %w", rerr)
		}
		if !retry {
			return Permanent(ErrTypeContract, SchemaProblems(s.contract, s.name+Suffix, err))
		}
	}
}

// carriedTooMuch says whether a scored table refused nothing but columns that
// merely pass by: it got others of their names after it was last looked at.
func (s *state) carriedTooMuch(ctx context.Context, a *Activities, err error, carried []arrow.Field) (bool, error) {
	se, ok := errors.AsType[*lakehouse.SchemaError](err)
	if !ok {
		return false, nil
	}
	derived := len(s.contract.Derived())
	for _, p := range se.Problems {
		if !slices.ContainsFunc(carried[derived:], func(f arrow.Field) bool { return f.Name == p.Want.Name }) {
			return false, nil
		}
	}
	if s.scored == nil {
		if s.scored, err = a.o.Tables.Open(ctx, s.name+Suffix); err != nil {
			return false, err
		}
	}
	_, err = s.scored.Refresh(ctx)
	return err == nil, err
}

// carried are the landed table's columns that pass by checks, features and
// model into the scored table: those that partition_by has added, and those that
// the contract does not know, which on_new_field: add has added or an earlier
// contract had. A feature or a score goes before a column of its name, and so
// does what the scored table has under that name with another type.
func (s *state) carried(landed *arrow.Schema) []arrow.Field {
	var out []arrow.Field
	taken := map[string]bool{}
	for _, f := range s.contract.ArrowSchema().Fields() {
		taken[strings.ToLower(f.Name)] = true
	}
	for _, d := range s.contract.Derived() {
		out = append(out, arrow.Field{Name: d.Name, Type: arrow.FixedWidthTypes.Date32, Nullable: true})
		taken[strings.ToLower(d.Name)] = true
	}
	for _, f := range s.plan.Columns().Fields() {
		taken[strings.ToLower(f.Name)] = true
	}
	if s.scorer != nil {
		for _, f := range s.scorer.Fields() {
			taken[strings.ToLower(f.Name)] = true
		}
	}
	for _, f := range landed.Fields() {
		if !strings.HasPrefix(f.Name, "_") && f.Nullable && !taken[strings.ToLower(f.Name)] && s.scoredTakes(f) {
			out = append(out, f)
		}
	}
	return out
}

// scoredTakes says whether the scored table has a column, or may get it.
func (s *state) scoredTakes(f arrow.Field) bool {
	if s.scored == nil {
		return true
	}
	for _, have := range s.scored.Snapshot().Schema().Fields() {
		if strings.EqualFold(have.Name, f.Name) {
			return have.Name == f.Name && have.Nullable && arrow.TypeEqual(have.Type, f.Type)
		}
	}
	return true
}

// tellLeftOut says which columns of the landed table are not in the scored one.
func (a *Activities) tellLeftOut(s *state, landed *arrow.Schema, carried []arrow.Field) {
	var out []string
	for _, f := range landed.Fields() {
		known := strings.HasPrefix(f.Name, "_") || s.contract.ArrowSchema().HasField(f.Name)
		if !known && !slices.ContainsFunc(carried, func(c arrow.Field) bool { return c.Name == f.Name }) {
			out = append(out, f.Name)
		}
	}
	if len(out) > 0 {
		a.o.Logger.Warn("columns of the landed table are not in the scored one, which has others of their names", "table", s.name, "columns", out)
	}
}

// scoredSchema is what a scored row has: the contract's columns, the features,
// the scores, what is carried along, and what explains it.
func scoredSchema(s *state, carried []arrow.Field) *arrow.Schema {
	long, str := arrow.PrimitiveTypes.Int64, arrow.BinaryTypes.String
	fields := slices.Clone(s.plan.Columns().Fields())
	if s.scorer != nil {
		fields = append(fields, s.scorer.Fields()...)
	}
	n := s.contract.ArrowSchema().NumFields()
	for i := n; i < len(fields); i++ {
		fields[i].Nullable = true // so that a later contract may do without them, or add others
	}
	return arrow.NewSchema(slices.Concat(fields, carried, []arrow.Field{
		{Name: batch.ColSource, Type: str},
		{Name: batch.ColOffset, Type: long},
		{Name: batch.ColLandedVersion, Type: long},
		{Name: batch.ColContract, Type: str},
		{Name: batch.ColModel, Type: str, Nullable: true},
		{Name: batch.ColModelVersion, Type: long, Nullable: true},
		{Name: batch.ColModelSHA256, Type: str, Nullable: true},
	}), nil)
}
