package query

import (
	"fmt"
	"slices"
	"strings"

	duckdb "github.com/duckdb/duckdb-go-bindings"
)

// mustSelect refuses a WITH in front of a statement that writes. DuckDB's
// classification of prepared statements comes too late to say so: the table
// that would be written is not there.
func (c *conn) mustSelect(sql string) error {
	if _, ok := cutWord(sql, "with"); !ok {
		return nil
	}
	var res duckdb.Result
	defer duckdb.DestroyResult(&res)
	const onlySelect = "Only SELECT statements" // of json_serialize_sql
	if duckdb.Query(c.c, "SELECT contains(json_serialize_sql("+literal(sql)+")::VARCHAR, "+literal(onlySelect)+") AS writes WHERE writes", &res) == duckdb.StateError {
		return parseError(duckdb.ResultError(&res))
	}
	if chunk := duckdb.FetchChunk(res); chunk.Ptr != nil {
		defer duckdb.DestroyDataChunk(&chunk)
		if duckdb.DataChunkGetSize(chunk) > 0 {
			return errOnlyReads
		}
	}
	return nil
}

// shown returns the query whose result a DESCRIBE, SUMMARIZE or SHOW is about, or the
// statement itself.
func shown(sql string) string {
	for _, verb := range []string{"describe", "desc", "summarize", "show"} {
		if rest, ok := cutWord(sql, verb); ok {
			if sql = rest; !startsQuery(rest) {
				sql = "FROM " + rest
			}
		}
	}
	return sql
}

// tableNames returns the tables that a query reads, CTEs left out.
func (c *conn) tableNames(sql string) ([]string, error) {
	var stmts duckdb.ExtractedStatements
	n := duckdb.ExtractStatements(c.c, sql, &stmts)
	defer duckdb.DestroyExtracted(&stmts)
	if n == 0 {
		return nil, parseError(duckdb.ExtractStatementsError(stmts))
	}
	v := duckdb.GetTableNames(c.c, sql, false)
	defer duckdb.DestroyValue(&v)
	var names []string
	for i := range duckdb.GetListSize(v) {
		child := duckdb.GetListChild(v, i)
		names = append(names, duckdb.GetVarchar(child))
		duckdb.DestroyValue(&child)
	}
	slices.Sort(names)
	return slices.CompactFunc(names, strings.EqualFold), nil
}

// viewSQL reads a table's files under the table's schema: columns that files
// lack are null, columns that the table no longer has are left out, partition
// columns are constants, which lets DuckDB skip whole files.
func viewSQL(s *Source, files []SourceFile) (string, error) {
	columns, empty := make([]string, s.Schema.NumFields()), make([]string, s.Schema.NumFields())
	types := map[string]string{}
	for i, f := range s.Schema.Fields() {
		t, err := fileType(f.Type)
		if err != nil {
			return "", fmt.Errorf("column %q: %w", f.Name, err)
		}
		types[f.Name] = t
		columns[i] = quote(f.Name)
		empty[i] = "NULL::" + t + " AS " + quote(f.Name)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "SELECT %s FROM (SELECT %s WHERE false", strings.Join(columns, ", "), strings.Join(empty, ", "))
	for _, group := range groupFiles(s.PartitionBy, files) {
		paths := make([]string, len(group))
		for i, f := range group {
			paths[i] = literal(f.Path)
		}
		b.WriteString(" UNION ALL BY NAME SELECT ")
		b.WriteString(groupColumns(s, group[0], types))
		fmt.Fprintf(&b, " FROM read_parquet([%s], union_by_name = true, hive_partitioning = false)", strings.Join(paths, ", "))
	}
	b.WriteString(")")
	return b.String(), nil
}

// groupColumns lists what a group of files gives: their own columns, and the
// partition columns as constants.
func groupColumns(s *Source, f SourceFile, types map[string]string) string {
	if len(s.PartitionBy) == 0 {
		return "*"
	}
	var names, constants []string
	for _, p := range s.PartitionBy {
		names = append(names, literal(strings.ToLower(p)))
		value := "NULL"
		if v := f.Partition[p]; v != nil && *v != "" {
			value = literal(*v)
		}
		constants = append(constants, "CAST("+value+" AS "+types[p]+") AS "+quote(p))
	}
	return "COLUMNS(c -> lower(c) NOT IN (" + strings.Join(names, ", ") + ")), " + strings.Join(constants, ", ")
}

func groupFiles(partitionBy []string, files []SourceFile) [][]SourceFile {
	var groups [][]SourceFile
	at := map[string]int{}
	for _, f := range files {
		var key strings.Builder
		for _, p := range partitionBy {
			if v := f.Partition[p]; v != nil && *v != "" {
				key.WriteString(literal(*v))
			}
			key.WriteByte(',')
		}
		i, ok := at[key.String()]
		if !ok {
			i = len(groups)
			at[key.String()] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], f)
	}
	return groups
}
