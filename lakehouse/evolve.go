package lakehouse

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemill/tidemill/lakehouse/delta"
)

// Evolve gives the table what it should have beyond what it has: columns of the schema
// that it lacks are added at its end, if they are nullable. All else that differs, the
// partition columns included, is a *SchemaError. Others may commit meanwhile, in this
// process and elsewhere: what they wrote without the new columns has null in them.
//
// Columns that the table has and the schema lacks stay, if they are nullable.
func (t *Table) Evolve(ctx context.Context, schema *arrow.Schema, partitionBy []string) error {
	return t.evolve(ctx, func(s *Snapshot) ([]arrow.Field, error) {
		added, err := s.Accepts(schema, partitionBy)
		if se, ok := errors.AsType[*SchemaError](err); ok {
			se.Table = t.root
		}
		return added, err
	})
}

// AddColumns is Evolve for whom the partition columns do not matter.
func (t *Table) AddColumns(ctx context.Context, schema *arrow.Schema) error {
	return t.evolve(ctx, func(s *Snapshot) ([]arrow.Field, error) {
		fields, problems := mergeSchema(s.Schema(), schema)
		if len(problems) > 0 {
			return nil, &SchemaError{Table: t.root, Problems: problems}
		}
		return fields[s.Schema().NumFields():], nil
	})
}

// Extend adds the columns that choose picks, knowing those that the table has; they
// become nullable. It is asked again after each commit of another that came in between,
// so that of several who would add one column at once, the later ones see it.
func (t *Table) Extend(ctx context.Context, choose func(have *arrow.Schema) []arrow.Field) error {
	return t.evolve(ctx, func(s *Snapshot) ([]arrow.Field, error) {
		fields := slices.Clone(choose(s.Schema()))
		for i := range fields {
			fields[i].Nullable = true
		}
		return fields, nil
	})
}

// evolve commits new columns behind those that there are.
func (t *Table) evolve(ctx context.Context, more func(*Snapshot) ([]arrow.Field, error)) error {
	_, err := t.commit(ctx, func(s *Snapshot) (*Commit, error) {
		fields, err := more(s)
		if err != nil || len(fields) == 0 {
			return nil, err
		}
		m := s.meta.Metadata
		all := slices.Concat(s.Schema().Fields(), fields)
		if m.SchemaString, err = delta.SchemaString(arrow.NewSchema(all, nil)); err != nil {
			return nil, err
		}
		return &Commit{Operation: "ADD COLUMNS", metadata: &m}, nil
	})
	return err
}

// SchemaChange is a way in which a table differs from what it should be.
type SchemaChange int

const (
	AddedRequired SchemaChange = iota + 1 // a column that it lacks is not nullable
	Renamed                               // it has the column in another case
	Retyped                               // it has the column with another type
	MadeRequired                          // its column is nullable and should not be
	MadeNullable                          // its column is not nullable and should be
	Dropped                               // its column is not nullable and should not be there
	Repartitioned                         // it has other partition columns
)

// SchemaProblem is one difference.
type SchemaProblem struct {
	Change         SchemaChange
	Have, Want     arrow.Field // as far as there is one; not for Repartitioned
	HaveBy, WantBy []string    // Repartitioned: the partition columns
}

// Error says what differs and why that stays.
func (p SchemaProblem) Error() string {
	switch p.Change {
	case AddedRequired:
		return fmt.Sprintf("column %s: a column added to a table must be nullable, for the rows that are there have no value", p.Want.Name)
	case Renamed:
		return fmt.Sprintf("column %s: the table has it as %s; columns cannot be renamed", p.Want.Name, p.Have.Name)
	case Retyped:
		return fmt.Sprintf("column %s: the table has type %s, not %s; types cannot be changed: use another name", p.Want.Name, p.Have.Type, p.Want.Type)
	case MadeRequired:
		return fmt.Sprintf("column %s: the table has it nullable; it cannot become required", p.Want.Name)
	case MadeNullable:
		return fmt.Sprintf("column %s: the table requires it; it cannot become nullable", p.Want.Name)
	case Dropped:
		return fmt.Sprintf("column %s: the table requires it; columns cannot be dropped", p.Have.Name)
	case Repartitioned:
		return fmt.Sprintf("it is partitioned by %v, not by %v, and that cannot be changed", p.HaveBy, p.WantBy)
	}
	return "the schema differs"
}

// SchemaError says in which ways a table is not what it should be and cannot become it.
type SchemaError struct {
	Table    string // its path in the store
	Problems []SchemaProblem
}

// Error returns a line per problem.
func (e *SchemaError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// mergeSchema returns a table's columns and behind them those that it lacks of want.
func mergeSchema(table, want *arrow.Schema) ([]arrow.Field, []SchemaProblem) {
	fields := slices.Clone(table.Fields())
	var out []SchemaProblem
	for _, w := range want.Fields() {
		i := slices.IndexFunc(fields, func(f arrow.Field) bool { return strings.EqualFold(f.Name, w.Name) })
		if i < 0 {
			if !w.Nullable {
				out = append(out, SchemaProblem{Change: AddedRequired, Want: w})
			}
			fields = append(fields, arrow.Field{Name: w.Name, Type: w.Type, Nullable: true})
			continue
		}
		problem := SchemaProblem{Have: fields[i], Want: w}
		switch {
		case fields[i].Name != w.Name:
			problem.Change = Renamed
		case !sameType(fields[i].Type, w.Type):
			problem.Change = Retyped
		case w.Nullable && !fields[i].Nullable:
			problem.Change = MadeNullable
		case !w.Nullable && fields[i].Nullable:
			problem.Change = MadeRequired
		default:
			continue
		}
		out = append(out, problem)
	}
	for _, f := range table.Fields() {
		renamed := slices.ContainsFunc(want.Fields(), func(w arrow.Field) bool { return strings.EqualFold(f.Name, w.Name) })
		if !f.Nullable && !renamed {
			out = append(out, SchemaProblem{Change: Dropped, Have: f})
		}
	}
	return fields, out
}

// sameType compares types but for what Delta does not tell apart: the names of list
// elements, the ways to write UTC.
func sameType(a, b arrow.DataType) bool {
	if arrow.TypeEqual(a, b) {
		return true
	}
	if a.ID() != arrow.TIMESTAMP || b.ID() != arrow.TIMESTAMP {
		return false
	}
	x, y := a.(*arrow.TimestampType), b.(*arrow.TimestampType)
	utc := func(zone string) bool { return zone == "UTC" || zone == "Etc/UTC" || zone == "Z" || zone == "+00:00" }
	return x.Unit == y.Unit && utc(x.TimeZone) && utc(y.TimeZone)
}

// stillFits says whether a file that was written for one schema of the table may be
// added to it at another: it has what is required, and nothing else or otherwise.
func stillFits(written, now *metadata) error {
	if written == nil || written == now {
		return nil
	}
	if !slices.Equal(written.PartitionColumns, now.PartitionColumns) {
		return fmt.Errorf("%w: the table is partitioned by %v now", ErrSchemaChanged, now.PartitionColumns)
	}
	for _, f := range now.schema.Fields() {
		i := written.schema.FieldIndices(f.Name)
		switch {
		case len(i) == 0 && !f.Nullable:
			return fmt.Errorf("%w: it requires column %s now", ErrSchemaChanged, f.Name)
		case len(i) == 0:
		case !sameType(written.schema.Field(i[0]).Type, f.Type):
			return fmt.Errorf("%w: column %s has type %s now", ErrSchemaChanged, f.Name, f.Type)
		case written.schema.Field(i[0]).Nullable && !f.Nullable:
			return fmt.Errorf("%w: it requires column %s now", ErrSchemaChanged, f.Name)
		}
	}
	for _, f := range written.schema.Fields() {
		if len(now.schema.FieldIndices(f.Name)) == 0 {
			return fmt.Errorf("%w: it has no column %s any more", ErrSchemaChanged, f.Name)
		}
	}
	return nil
}

// ErrSchemaChanged: a commit cannot go on, because another changed the table's columns
// in a way that the files to be added do not fit. Write them again.
var ErrSchemaChanged = errors.New("the table's schema changed")
