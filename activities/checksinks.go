package activities

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/internal/problem"
	"github.com/tidemill/tidemill/internal/strictyaml"
	"github.com/tidemill/tidemill/quality"
	"github.com/tidemill/tidemill/query"
)

// scoreTypes are those that a model's output may have. Which one it is only the model
// knows, so that a sink's condition is right if it is right for one of them.
var scoreTypes = []arrow.DataType{arrow.PrimitiveTypes.Float64, arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64, arrow.FixedWidthTypes.Boolean}

// CheckSinks finds what is wrong with the conditions and the columns of a contract's
// sinks: a problem.List. Its other SQL is CheckContract's.
func CheckSinks(ctx context.Context, engine *query.Engine, c *contract.Table) error {
	if len(c.Sinks()) == 0 {
		return nil
	}
	plan, err := quality.Compile(ctx, engine, c, workSchema(c, nil))
	if err != nil {
		return nil //nolint:nilerr // CheckContract has it
	}
	var ps problem.List
	for i, s := range c.Sinks() {
		schema := sinkSchema(c, plan.Columns(), scoreTypes[0])
		if c.OnNewField() != contract.NewFieldAdd {
			ps.Add(sinkColumns(c, i, s, schema)...)
		}
		if s.Where == "" {
			continue
		}
		message := ""
		for n, t := range scoreTypes {
			m, err := quality.CheckCondition(ctx, engine, c, s.Where, sinkSchema(c, plan.Columns(), t))
			if err != nil {
				return err
			}
			if n == 0 || m == "" {
				message = m
			}
			if m == "" || c.Score() == nil {
				break
			}
		}
		if message != "" {
			ps.Add(c.Problem(fmt.Sprintf("sinks[%d].where", i), "%s", message))
		}
	}
	return ps.Err()
}

// sinkSchema is what a scored row has, as far as the contract tells.
func sinkSchema(c *contract.Table, columns *arrow.Schema, score arrow.DataType) *arrow.Schema {
	long, str := arrow.PrimitiveTypes.Int64, arrow.BinaryTypes.String
	fields := slices.Clone(columns.Fields())
	if s := c.Score(); s != nil {
		for _, o := range s.Outputs {
			fields = append(fields, arrow.Field{Name: o.Column, Type: score, Nullable: true})
		}
	}
	for _, d := range c.Derived() {
		fields = append(fields, arrow.Field{Name: d.Name, Type: arrow.FixedWidthTypes.Date32, Nullable: true})
	}
	return arrow.NewSchema(append(fields,
		arrow.Field{Name: batch.ColSource, Type: str}, arrow.Field{Name: batch.ColOffset, Type: long}, arrow.Field{Name: batch.ColLandedVersion, Type: long},
		arrow.Field{Name: batch.ColContract, Type: str}, arrow.Field{Name: batch.ColModel, Type: str, Nullable: true},
		arrow.Field{Name: batch.ColModelVersion, Type: long, Nullable: true}, arrow.Field{Name: batch.ColModelSHA256, Type: str, Nullable: true},
	), nil)
}

func sinkColumns(c *contract.Table, i int, s contract.Sink, schema *arrow.Schema) (ps problem.List) {
	var have []string
	for _, f := range schema.Fields() {
		have = append(have, f.Name)
	}
	for _, name := range s.Columns {
		if slices.Contains(have, name) {
			continue
		}
		hint := "the columns are " + strings.Join(have, ", ")
		if near := strictyaml.Suggest(name, have); near != "" {
			hint = "did you mean " + near + "?"
		}
		at := slices.Index(s.Columns, name)
		ps.Add(c.Problem(fmt.Sprintf("sinks[%d].columns[%d]", i, at), "the scored table has no column %s; %s", name, hint))
	}
	return ps
}
