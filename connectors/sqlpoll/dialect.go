package sqlpoll

import (
	"fmt"
	"slices"
	"strings"
)

// dialect is how a driver's SQL differs.
type dialect struct {
	driver string           // its name in database/sql
	param  func(int) string // placeholder of the nth argument, from 1
	tuples bool             // (a, b) > (x, y) is known, and made use of by indexes
	limit  string           // behind ORDER BY, with %d
}

func question(int) string { return "?" }

func numbered(prefix string) func(int) string {
	return func(n int) string { return fmt.Sprint(prefix, n) }
}

const limit = " LIMIT %d"

var dialects = map[string]dialect{
	"postgres":   {"postgres", numbered("$"), true, limit},
	"pgx":        {"pgx", numbered("$"), true, limit},
	"mysql":      {"mysql", question, true, limit},
	"sqlite":     {"sqlite", question, true, limit},
	"clickhouse": {"clickhouse", numbered("$"), true, limit},
	"snowflake":  {"snowflake", question, false, limit},
	"trino":      {"trino", question, false, limit},
	"mssql":      {"sqlserver", numbered("@p"), false, " OFFSET 0 ROWS FETCH NEXT %d ROWS ONLY"},
	"oracle":     {"oracle", numbered(":"), false, " FETCH NEXT %d ROWS ONLY"},
}

// Drivers are the names that [Config.Driver] may have, sorted.
func Drivers() []string {
	var out []string
	for name := range dialects {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// query is SQL being put together, with its arguments.
type query struct {
	d    dialect
	sql  strings.Builder
	args []any
}

func (q *query) arg(v any) string {
	q.args = append(q.args, v)
	return q.d.param(len(q.args))
}

// compare writes that columns, as a tuple, are greater than values, or not greater.
func (q *query) compare(columns []string, greater bool, values []any) {
	op, last := ">", ">"
	if !greater {
		op, last = "<", "<="
	}
	if q.d.tuples || len(columns) == 1 {
		left, right := strings.Join(columns, ", "), make([]string, len(values))
		for i, v := range values {
			right[i] = q.arg(v)
		}
		if len(columns) == 1 {
			fmt.Fprintf(&q.sql, "%s %s %s", left, last, right[0])
			return
		}
		fmt.Fprintf(&q.sql, "(%s) %s (%s)", left, last, strings.Join(right, ", "))
		return
	}
	q.sql.WriteByte('(')
	for i, c := range columns {
		if i > 0 {
			q.sql.WriteString(" OR ")
		}
		q.sql.WriteByte('(')
		for j := range i {
			fmt.Fprintf(&q.sql, "%s = %s AND ", columns[j], q.arg(values[j]))
		}
		sign := op
		if i == len(columns)-1 {
			sign = last
		}
		fmt.Fprintf(&q.sql, "%s %s %s)", c, sign, q.arg(values[i]))
	}
	q.sql.WriteByte(')')
}

// page is the query for the rows behind values, up to others; either may be nil.
func (c Config) page(d dialect, after, upTo []any, n int) (string, []any) {
	q := &query{d: d}
	columns := "*"
	if len(c.Columns) > 0 {
		columns = strings.Join(c.Columns, ", ")
	}
	c.from(q, columns, after, upTo)
	q.sql.WriteString(" ORDER BY " + strings.Join(c.Cursor, ", "))
	fmt.Fprintf(&q.sql, d.limit, n)
	return q.sql.String(), q.args
}

// highest is the query for the highest values there are.
func (c Config) highest(d dialect) string {
	q := &query{d: d}
	c.from(q, strings.Join(c.Cursor, ", "), nil, nil)
	q.sql.WriteString(" ORDER BY " + strings.Join(c.Cursor, " DESC, ") + " DESC")
	fmt.Fprintf(&q.sql, d.limit, 1)
	return q.sql.String()
}

func (c Config) from(q *query, columns string, after, upTo []any) {
	source := c.Table
	if source == "" {
		source = "(" + strings.TrimRight(strings.TrimSpace(c.Query), ";") + ") t"
	}
	fmt.Fprintf(&q.sql, "SELECT %s FROM %s", columns, source)
	word := " WHERE "
	and := func() {
		q.sql.WriteString(word)
		word = " AND "
	}
	if c.Where != "" {
		and()
		fmt.Fprintf(&q.sql, "(%s)", c.Where)
	}
	if after != nil {
		and()
		q.compare(c.Cursor, true, after)
	}
	if upTo != nil {
		and()
		q.compare(c.Cursor, false, upTo)
	}
}
