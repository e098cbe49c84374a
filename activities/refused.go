package activities

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/internal/problem"
	"github.com/tidemill/tidemill/lakehouse"
)

// SchemaProblems turns what a table of a contract refuses ([lakehouse.SchemaError])
// into problems of the contract's file: what the table has, and what to do. Other
// errors are returned with the table's name.
func SchemaProblems(c *contract.Table, table string, err error) error {
	se, ok := errors.AsType[*lakehouse.SchemaError](err)
	if !ok {
		return fmt.Errorf("%s: table %s: %w", c.File(), table, err)
	}
	var ps problem.List
	for _, p := range se.Problems {
		ps.Add(refusal(c, table, p))
	}
	return ps.Err()
}

// refusal is one difference as a problem of the contract.
func refusal(c *contract.Table, table string, p lakehouse.SchemaProblem) problem.Problem {
	name := p.Want.Name
	if name == "" {
		name = p.Have.Name
	}
	field := fieldOf(c, name)
	part := func(of string) string { // of a column; features and scores have none
		if strings.HasPrefix(field, "columns[") {
			return field + "." + of
		}
		return field
	}
	typ := func(f arrow.Field) string { return contract.TypeName(f.Type) }
	switch p.Change {
	case lakehouse.AddedRequired:
		return c.Problem(part("required"), "the column %s is new, and the rows that the table %s has cannot have a value in it; leave out required: true, or %s", name, table, anew(c))
	case lakehouse.Renamed:
		return c.Problem(part("name"), "the table %s has the column as %s, and readers cannot tell them apart by case; write it that way, or %s", table, p.Have.Name, anew(c))
	case lakehouse.Retyped:
		return c.Problem(part("type"), "the table %s has the column %s as %s, not %s, and a column keeps its type; %s", table, name, typ(p.Have), typ(p.Want), otherType(c, table, p))
	case lakehouse.MadeRequired:
		return c.Problem(part("required"), "the table %s has the column %s as not required, and rows with null there; leave out required: true and add a check such as `%[2]s IS NOT NULL`, or %s", table, name, anew(c))
	case lakehouse.MadeNullable:
		return c.Problem(part("required"), "the table %s requires the column %s; write required: true, or %s", table, name, anew(c))
	case lakehouse.Dropped:
		return c.Problem("columns", "the table %s requires the column %s, which the contract does not have any more; put {name: %[2]s, type: %s, required: true} back, or %s", table, name, typ(p.Have), anew(c))
	case lakehouse.Repartitioned:
		return c.Problem("partition_by", "the table %s is %s, the contract wants it %s, and files stay where they are; %s, or %s", table, partitioned(p.HaveBy), partitioned(p.WantBy), writeBack(p.HaveBy), anew(c))
	}
	return c.Problem(field, "the table %s: %v", table, p)
}

// anew says how to get a table that is as the contract wants it, and to read both.
func anew(c *contract.Table) string {
	return fmt.Sprintf("give the contract another name, such as table: %s_2, and query both where the old rows are needed, as in "+
		"SELECT … FROM %[1]s UNION ALL BY NAME SELECT … FROM %[1]s_2", c.Name())
}

// otherType says what to do about a type that cannot change.
func otherType(c *contract.Table, table string, p lakehouse.SchemaProblem) string {
	if _, ok := c.Column(p.Want.Name); !ok {
		return "give it another name" // a feature or a score
	}
	return fmt.Sprintf("write type: %s and cast in a query or a view over the table, such as SELECT * REPLACE (TRY_CAST(%s AS %s) AS %[2]s) FROM %[4]s, or %[5]s",
		contract.TypeName(p.Have.Type), p.Want.Name, sqlType(p.Want.Type), table, anew(c))
}

// sqlType is a type as SQL writes it.
func sqlType(t arrow.DataType) string {
	name := contract.TypeName(t)
	if sql, ok := map[string]string{"string": "VARCHAR", "long": "BIGINT", "int": "INTEGER", "timestamp": "TIMESTAMPTZ"}[name]; ok {
		return sql
	}
	return strings.ToUpper(name)
}

func partitioned(by []string) string {
	if len(by) == 0 {
		return "not partitioned"
	}
	return "partitioned by " + strings.Join(by, ", ")
}

func writeBack(by []string) string {
	if len(by) == 0 {
		return "remove partition_by"
	}
	return "write partition_by as it was"
}

// fieldOf finds what in a contract brings a table's column: a column, a score, or the features.
func fieldOf(c *contract.Table, name string) string {
	if i := slices.IndexFunc(c.Columns(), func(col contract.Column) bool { return col.Name == name }); i >= 0 {
		return fmt.Sprintf("columns[%d]", i)
	}
	if s := c.Score(); s != nil && slices.ContainsFunc(s.Outputs, func(o contract.Output) bool { return o.Column == name }) {
		return "score.output." + name
	}
	if slices.ContainsFunc(c.Derived(), func(d contract.Derived) bool { return d.Name == name }) {
		return "partition_by"
	}
	if c.Features() != "" && !strings.HasPrefix(name, "_") {
		return "features"
	}
	return "columns"
}
