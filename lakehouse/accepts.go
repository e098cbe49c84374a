package lakehouse

import (
	"slices"

	"github.com/apache/arrow/go/v17/arrow"
)

// Accepts says what [Table.Evolve] would say of a schema and partition columns, without
// changing anything: the columns that the table would get, or a *SchemaError.
func (s *Snapshot) Accepts(schema *arrow.Schema, partitionBy []string) (added []arrow.Field, err error) {
	fields, problems := mergeSchema(s.Schema(), schema)
	if have := s.PartitionBy(); !slices.Equal(have, partitionBy) {
		problems = append(problems, SchemaProblem{Change: Repartitioned, HaveBy: have, WantBy: slices.Clone(partitionBy)})
	}
	if len(problems) > 0 {
		return nil, &SchemaError{Problems: problems}
	}
	return fields[s.Schema().NumFields():], nil
}
