package query

import (
	"context"
	"fmt"
	"io"

	"github.com/apache/arrow/go/v17/arrow"
	duckdb "github.com/duckdb/duckdb-go-bindings"
)

// Rows is a result as it is computed. Use it from one goroutine.
type Rows struct {
	tables *Tables
	conn   *conn
	stop   func()
	views  []string
	done   []func()
	out    *collector
	schema *arrow.Schema
	res    duckdb.Result
	err    error
	closed bool
}

// Schema returns the result's columns.
func (r *Rows) Schema() *arrow.Schema { return r.schema }

// rowsPerRecord bounds the memory of a result that is read piece by piece.
const rowsPerRecord = 16 * vectorSize

func (r *Rows) execute(s *statement) error {
	var pending duckdb.PendingResult
	defer duckdb.DestroyPending(&pending)
	if duckdb.PendingPreparedStreaming(s.prepared, &pending) == duckdb.StateError {
		return parseError(duckdb.PendingError(pending))
	}
	if duckdb.ExecutePending(pending, &r.res) == duckdb.StateError {
		return parseError(duckdb.ResultError(&r.res))
	}
	r.schema = s.schema
	r.out = newCollector(r.conn.engine.o.Allocator, s.schema)
	return nil
}

// Next returns the next rows, at most some ten thousand, or io.EOF. The caller
// releases the record.
func (r *Rows) Next() (arrow.Record, error) {
	if r.err != nil {
		return nil, r.err
	}
	for r.out.rows < rowsPerRecord {
		chunk := duckdb.FetchChunk(r.res)
		if chunk.Ptr == nil {
			r.err = io.EOF
			if text := duckdb.ResultError(&r.res); text != "" {
				r.err = fmt.Errorf("query tables: %w", orContext(r.conn.ctx, parseError(text)))
				return nil, r.err
			}
			break
		}
		err := r.out.add(chunk)
		duckdb.DestroyDataChunk(&chunk)
		if err != nil {
			r.err = fmt.Errorf("query tables: %w", err)
			return nil, r.err
		}
	}
	if err := r.conn.ctx.Err(); err != nil {
		r.err = err
		return nil, err
	}
	if r.out.rows == 0 {
		return nil, io.EOF
	}
	return r.out.record(), nil
}

// Close gives the files and the connection back. More calls do nothing.
func (r *Rows) Close() {
	if r.closed {
		return
	}
	r.closed = true
	r.stop()
	duckdb.DestroyResult(&r.res)
	if r.out != nil {
		r.out.release()
	}
	r.conn.forget() // statements hold on to files
	err := r.err
	for _, v := range r.views {
		if x := r.conn.exec("DROP VIEW IF EXISTS temp." + quote(v)); x != nil {
			err = &Error{Class: "INTERNAL", Message: x.Error()} // never hand out a connection with foreign views
		}
	}
	r.conn.ctx = context.Background()
	r.tables.engine.giveBack(r.conn, err)
	for _, f := range r.done {
		f()
	}
	if r.err == nil {
		r.err = io.EOF
	}
}

// start makes the views that a statement needs and begins to run it.
func (r *Rows) start(ctx context.Context, sql, inner string) error {
	if err := r.conn.mustSelect(inner); err != nil {
		return err
	}
	names, err := r.conn.tableNames(inner)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := r.open(ctx, name); err != nil {
			return err
		}
	}
	s, err := r.conn.prepare(sql)
	if err != nil {
		return err
	}
	return r.execute(s)
}

// open makes a view of a table.
func (r *Rows) open(ctx context.Context, name string) error {
	source, err := r.tables.find(ctx, name)
	if err != nil {
		return fmt.Errorf("open table: %w", err)
	}
	if source.Close != nil {
		r.done = append(r.done, source.Close)
	}
	sql, err := viewSQL(source)
	if err != nil {
		return fmt.Errorf("open table %q: %w", name, err)
	}
	r.views = append(r.views, name)
	if err := r.conn.exec("CREATE OR REPLACE TEMP VIEW " + quote(name) + " AS " + sql); err != nil {
		return fmt.Errorf("open table %q: %w", name, err)
	}
	return nil
}
