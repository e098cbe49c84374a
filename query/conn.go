package query

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	duckdb "github.com/duckdb/duckdb-go-bindings"
)

// conn is a connection with a fixed set of views. Views are temporary, so other
// connections do not see them; what they return is set for one run only. A
// statement is prepared once and run for batch after batch.
type conn struct {
	engine *Engine
	id     uint64
	c      duckdb.Connection
	key    string // of the set of views
	views  map[string]*arrow.Schema
	stmts  map[string]*statement

	ctx   context.Context // of the run in progress
	input *input          // of the run in progress, nil between runs
}

// statement is a prepared query and the schema of its result.
type statement struct {
	prepared duckdb.PreparedStatement
	schema   *arrow.Schema
}

// maxStatements bounds what a connection remembers; a pipeline needs a handful.
const maxStatements = 64

// viewsKey identifies a set of views; equal keys can share connections.
func viewsKey(views map[string]*arrow.Schema) (string, error) {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(views)) {
		b.WriteString(quote(name))
		for _, f := range views[name].Fields() {
			t, err := sqlType(f.Type)
			if err != nil {
				return "", fmt.Errorf("column %q of view %q: %w", f.Name, name, err)
			}
			b.WriteByte(' ')
			b.WriteString(quote(f.Name))
			b.WriteString(t)
		}
		b.WriteByte(';')
	}
	return b.String(), nil
}

func (e *Engine) connect(key string, views map[string]*arrow.Schema) (*conn, error) {
	c := &conn{engine: e, key: key, views: maps.Clone(views), stmts: map[string]*statement{}, ctx: context.Background()}
	if duckdb.Connect(e.db, &c.c) == duckdb.StateError {
		return nil, fmt.Errorf("connect to DuckDB")
	}
	var cc duckdb.ClientContext
	duckdb.ConnectionGetClientContext(c.c, &cc)
	c.id = uint64(duckdb.ClientContextGetConnectionId(cc))
	duckdb.DestroyClientContext(&cc)
	e.byID.Store(c.id, c)
	for name := range views {
		if err := c.exec("CREATE TEMP VIEW " + quote(name) + " AS SELECT * FROM " + scanFunction + "(" + literal(name) + ")"); err != nil {
			c.close()
			return nil, fmt.Errorf("create view %q: %w", name, err)
		}
	}
	return c, nil
}

func (c *conn) close() {
	c.forget()
	c.engine.byID.Delete(c.id)
	duckdb.Disconnect(&c.c)
}

func (c *conn) forget() {
	for _, s := range c.stmts {
		duckdb.DestroyPrepare(&s.prepared)
	}
	clear(c.stmts)
}

// exec runs a statement of ours that returns nothing.
func (c *conn) exec(sql string) error {
	var res duckdb.Result
	defer duckdb.DestroyResult(&res)
	if duckdb.Query(c.c, sql, &res) == duckdb.StateError {
		return parseError(duckdb.ResultError(&res))
	}
	return nil
}

// prepare compiles one reading statement, casting what has no contract type.
func (c *conn) prepare(sql string) (*statement, error) {
	if s := c.stmts[sql]; s != nil {
		return s, nil
	}
	p, err := c.prepareOne(sql)
	if err != nil {
		return nil, err
	}
	columns, err := c.columns(p)
	if err == nil && slices.ContainsFunc(columns, func(col column) bool { return col.cast != "" }) {
		duckdb.DestroyPrepare(&p)
		p, err = c.prepareOne(castQuery(sql, columns))
	}
	if err != nil {
		duckdb.DestroyPrepare(&p)
		return nil, err
	}
	fields := make([]arrow.Field, len(columns))
	for i, col := range columns {
		fields[i] = arrow.Field{Name: col.name, Type: col.typ, Nullable: true}
	}
	if len(c.stmts) >= maxStatements {
		c.forget()
	}
	s := &statement{prepared: p, schema: arrow.NewSchema(fields, nil)}
	c.stmts[sql] = s
	return s, nil
}

// castQuery wraps a query so that its columns come out with contract types.
func castQuery(sql string, columns []column) string {
	names, exprs := make([]string, len(columns)), make([]string, len(columns))
	for i, col := range columns {
		names[i] = fmt.Sprintf("c%d", i)
		exprs[i] = names[i] + " AS " + quote(col.name)
		if col.cast != "" {
			exprs[i] = "CAST(" + names[i] + " AS " + col.cast + ") AS " + quote(col.name)
		}
	}
	return "SELECT " + strings.Join(exprs, ", ") + " FROM (\n" + strings.TrimRight(strings.TrimSpace(sql), "; \t\n") + "\n) AS t(" + strings.Join(names, ", ") + ")"
}

func (c *conn) prepareOne(sql string) (p duckdb.PreparedStatement, err error) {
	var stmts duckdb.ExtractedStatements
	n := duckdb.ExtractStatements(c.c, sql, &stmts)
	defer duckdb.DestroyExtracted(&stmts)
	switch {
	case n == 0 && duckdb.ExtractStatementsError(stmts) != "":
		return p, parseError(duckdb.ExtractStatementsError(stmts))
	case n == 0:
		return p, &Error{Class: "Statement", Message: "there is no SQL here; write a SELECT", Offset: -1}
	case n > 1:
		return p, &Error{Class: "Statement", Message: fmt.Sprintf("%d statements where one is expected; keep the SELECT", n), Offset: -1}
	}
	if duckdb.PrepareExtractedStatement(c.c, stmts, 0, &p) == duckdb.StateError {
		defer duckdb.DestroyPrepare(&p)
		return duckdb.PreparedStatement{}, parseError(duckdb.PrepareError(p))
	}
	err = c.mayRun(p)
	if err != nil {
		duckdb.DestroyPrepare(&p)
	}
	return p, err
}

var errOnlyReads = &Error{Class: "Statement", Message: "only statements that read can run here; write a SELECT", Offset: -1}

func (c *conn) mayRun(p duckdb.PreparedStatement) error {
	switch t := duckdb.PreparedStatementType(p); {
	case t != duckdb.StatementTypeSelect && !(c.engine.o.explain && t == duckdb.StatementTypeExplain):
		return errOnlyReads
	case duckdb.NParams(p) > 0:
		return &Error{Class: "Statement", Message: "the statement has a parameter (?, $1), for which there is no value; write the value", Offset: -1}
	}
	return nil
}

func (c *conn) columns(p duckdb.PreparedStatement) ([]column, error) {
	columns := make([]column, duckdb.PreparedStatementColumnCount(p))
	for i := range columns {
		lt := duckdb.PreparedStatementColumnLogicalType(p, duckdb.IdxT(i))
		col := column{name: duckdb.PreparedStatementColumnName(p, duckdb.IdxT(i))}
		dt, cast, err := resultType(lt, c.engine.o.lenient)
		duckdb.DestroyLogicalType(&lt)
		if err != nil {
			return nil, &Error{Class: "Binder", Message: fmt.Sprintf("column %q %v", col.name, err), Offset: -1, Name: col.name}
		}
		col.typ = dt
		if cast {
			col.cast, _ = sqlType(dt)
		}
		columns[i] = col
	}
	return columns, nil
}

// interruptEvery is how often a cancelled statement is told to stop: DuckDB
// forgets an interrupt that comes just before the statement starts.
const interruptEvery = 5 * time.Millisecond

// watch interrupts the connection when the context ends. The function it
// returns ends the watch, and with it any interrupt that is still on its way.
func (c *conn) watch(ctx context.Context) (stop func()) {
	finished, left := make(chan struct{}), make(chan struct{})
	after := context.AfterFunc(ctx, func() {
		defer close(left)
		t := time.NewTicker(interruptEvery)
		defer t.Stop()
		for {
			duckdb.Interrupt(c.c)
			select {
			case <-finished:
				return
			case <-t.C:
			}
		}
	})
	return func() {
		close(finished)
		if !after() {
			<-left
		}
	}
}
