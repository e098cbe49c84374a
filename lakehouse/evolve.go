package lakehouse

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"
)

// mergeSchema returns a table's columns and behind them those that it lacks of want.
func mergeSchema(table, want *arrow.Schema) ([]arrow.Field, error) {
	fields := slices.Clone(table.Fields())
	var errs []error
	for _, w := range want.Fields() {
		i := slices.IndexFunc(fields, func(f arrow.Field) bool { return strings.EqualFold(f.Name, w.Name) })
		switch {
		case i < 0 && !w.Nullable:
			errs = append(errs, fmt.Errorf("column %s: a column added to a table must be nullable, for the rows that are there have no value", w.Name))
		case i < 0:
			fields = append(fields, arrow.Field{Name: w.Name, Type: w.Type, Nullable: true})
		case fields[i].Name != w.Name:
			errs = append(errs, fmt.Errorf("column %s: the table has it as %s; columns cannot be renamed", w.Name, fields[i].Name))
		case !sameType(fields[i].Type, w.Type):
			errs = append(errs, fmt.Errorf("column %s: the table has type %s, not %s; types cannot be changed: use another name", w.Name, fields[i].Type, w.Type))
		case w.Nullable && !fields[i].Nullable:
			errs = append(errs, fmt.Errorf("column %s: the table requires it; it cannot become nullable", w.Name))
		}
	}
	for _, f := range table.Fields() {
		if !f.Nullable && len(want.FieldIndices(f.Name)) == 0 {
			errs = append(errs, fmt.Errorf("column %s: the table requires it; columns cannot be dropped", f.Name))
		}
	}
	return fields, errors.Join(errs...)
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
