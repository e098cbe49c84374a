package query

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	duckdb "github.com/duckdb/duckdb-go-bindings"
)

// Rows is a result as it is computed. Use it from one goroutine.
type Rows struct {
	tables    *Tables
	conn      *conn
	stop      func()
	refs      map[string]*travel // by the names of their views
	stats     []TableStats
	plan      arrow.Record // what an EXPLAIN says above DuckDB's plan, until it is read
	done      []func()
	out       *collector
	schema    *arrow.Schema
	res       duckdb.Result
	err       error
	begun     bool // a transaction is open
	explained bool
	closed    bool
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
	if rec := r.plan; rec != nil {
		r.plan = nil
		return rec, nil
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
	if r.begun { // the end of the transaction takes the views away
		if x := r.conn.exec("ROLLBACK"); x != nil {
			err = &Error{Class: "INTERNAL", Message: x.Error()} // never hand out a connection with foreign views
		}
	}
	if r.plan != nil {
		r.plan.Release()
		r.plan = nil
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

// start makes the views that a statement needs and begins to run it. All of it is one
// transaction, so that now() is the same in the statement and in the constants that
// files are chosen by; at its end the views are gone.
func (r *Rows) start(ctx context.Context, sql, inner string) error {
	if err := r.conn.exec("BEGIN TRANSACTION"); err != nil {
		return err
	}
	r.begun = true
	if err := r.conn.mustSelect(inner); err != nil {
		return err
	}
	needs, opened, err := r.read(ctx, shown(inner))
	if err != nil {
		return err
	}
	explain := explains(sql)
	for _, o := range opened {
		if err := r.view(ctx, o, Need{Where: needs.need(o.view), Plan: explain == planOnly}); err != nil {
			return err
		}
	}
	s, err := r.conn.prepare(sql)
	if err != nil {
		return err
	}
	if explain != noPlan {
		r.explained = s.schema.NumFields() == 2
		r.plan = planRecord(r.conn.engine.o.Allocator, s.schema, r.stats)
	}
	return r.execute(s)
}

// opening is a table that a statement names.
type opening struct {
	view   string // its name in the statement
	ref    Ref
	source *Source
}

// open finds the version of a table that a name in the statement stands for.
func (r *Rows) open(ctx context.Context, name string) (*opening, error) {
	o := &opening{view: name, ref: Ref{Name: name, Path: isPath(name)}}
	if t := r.refs[name]; t != nil {
		ref, err := r.conn.version(ctx, t)
		if err != nil {
			return nil, err
		}
		o.ref = ref
	}
	var err error
	if o.source, err = r.tables.find(ctx, o.ref); err != nil {
		return nil, fmt.Errorf("open table: %w", err)
	}
	return o, nil
}

// read opens the tables of a query and finds out which of their rows it needs.
func (r *Rows) read(ctx context.Context, sql string) (*needs, []*opening, error) {
	names, err := r.conn.tableNames(sql)
	if err != nil {
		return nil, nil, err
	}
	tree := r.conn.syntax(ctx, sql)
	first := newNeeds()
	first.walk(tree["statements"], nil)
	known := func(name string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) })
	}
	for _, lower := range slices.Sorted(maps.Keys(first.names)) {
		if !known(lower) {
			names = append(names, first.names[lower])
		}
	}
	n := newNeeds()
	n.opaque = tree == nil
	var opened []*opening
	for _, name := range names {
		o, err := r.open(ctx, name)
		if e := asError(err); e != nil && e.Class == "Catalog" && first.ctes[strings.ToLower(name)] {
			continue // it is a common table expression after all
		}
		if err != nil {
			return nil, nil, err
		}
		opened = append(opened, o)
		n.schemas[strings.ToLower(name)] = o.source.Schema
	}
	n.walk(tree["statements"], nil)
	return n, opened, r.conn.compute(ctx, n.consts)
}

// view fetches a table's files and makes the view that the statement reads.
func (r *Rows) view(ctx context.Context, o *opening, need Need) error {
	start := time.Now()
	files, err := o.source.Fetch(ctx, need)
	if errors.Is(err, fs.ErrNotExist) && o.ref.Version == nil && o.ref.At == nil {
		// The snapshot was older than the table keeps files that it has replaced.
		if o.source, err = r.tables.find(ctx, o.ref); err == nil {
			files, err = o.source.Fetch(ctx, need)
		}
	}
	if err != nil {
		return fmt.Errorf("open table %s: %w", o.ref, err)
	}
	if files.Close != nil {
		r.done = append(r.done, files.Close)
	}
	r.stats = append(r.stats, TableStats{Table: o.ref.String(), Version: o.source.Version, ReadStats: files.Stats, Took: time.Since(start)})
	sql, err := viewSQL(o.source, files.Files)
	if err != nil {
		return fmt.Errorf("open table %s: %w", o.ref, err)
	}
	if err := r.conn.exec("CREATE OR REPLACE TEMP VIEW " + quote(o.view) + " AS " + sql); err != nil {
		return fmt.Errorf("open table %s: %w", o.ref, err)
	}
	return nil
}
