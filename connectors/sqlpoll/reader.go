package sqlpoll

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
)

// reader makes JSON of a result's rows.
type reader struct {
	rows    *sql.Rows
	driver  string
	names   [][]byte // as JSON, with what comes before a value: {"a":
	classes []class
	cursor  []int // columns of the result that are the cursor's, in its order
	columns []string
	values  []any
	into    []any
}

func (p *Poller) newReader(rows *sql.Rows) (*reader, error) {
	types, err := rows.ColumnTypes()
	if err != nil {
		return nil, err
	}
	r := &reader{rows: rows, driver: p.c.Driver, columns: p.c.Cursor, values: make([]any, len(types)), into: make([]any, len(types))}
	at := map[string]int{}
	for i, t := range types {
		name, err := json.Marshal(t.Name())
		if err != nil {
			return nil, err
		}
		before := []byte{','}
		if i == 0 {
			before[0] = '{'
		}
		r.names = append(r.names, append(append(before, name...), ':'))
		r.classes = append(r.classes, classOf(t))
		r.into[i] = &r.values[i]
		at[strings.ToLower(t.Name())] = i
	}
	for _, c := range p.c.Cursor {
		i, ok := at[plain(c)]
		if !ok {
			return nil, fmt.Errorf("the cursor's column %s is not in the result; add it to columns or to the query", c)
		}
		r.cursor = append(r.cursor, i)
	}
	return r, nil
}

// next returns a row and its cursor; nil at the end.
func (r *reader) next() (keys []key, row []byte, err error) {
	if !r.rows.Next() {
		return nil, nil, r.rows.Err()
	}
	if err := r.rows.Scan(r.into...); err != nil {
		return nil, nil, err
	}
	for n, i := range r.cursor {
		k, problem := keyOf(r.values[i], r.classes[i])
		if problem == "" && k.Kind == "t" && r.driver == "sqlite" {
			problem = "is a time, which SQLite compares as a text; use an integer or a TEXT column"
		}
		if problem != "" {
			return nil, nil, fmt.Errorf("the cursor's column %s %s", r.columns[n], problem)
		}
		keys = append(keys, k)
	}
	var buf []byte
	for i, v := range r.values {
		buf = append(buf, r.names[i]...)
		buf = appendJSON(buf, v, r.classes[i])
	}
	return keys, append(buf, '}'), nil
}
