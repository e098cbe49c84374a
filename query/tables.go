package query

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"
	duckdb "github.com/duckdb/duckdb-go-bindings"
)

// TableSource finds the tables that SQL names. It is implemented on snapshots
// of the lakehouse; methods may be called at the same time.
type TableSource interface {
	// Names lists the tables there are.
	Names(ctx context.Context) ([]string, error)
	// Open returns one version of a table, its files on local disk, or
	// fs.ErrNotExist.
	Open(ctx context.Context, name string) (*Source, error)
}

// Source is one version of a table on local disk.
type Source struct {
	Schema      *arrow.Schema // the table's columns in order, partition columns among them
	PartitionBy []string
	Files       []SourceFile
	Close       func() // called once when the query is done with the files; may be nil
}

// SourceFile is one Parquet file of a table. It does not change while in use.
type SourceFile struct {
	Path string // below the directory of [TablesOptions]
	// Partition holds the values of the partition columns in Delta's text form;
	// nil and "" mean null. What the file itself has for them is ignored.
	Partition map[string]*string
}

// TablesOptions configure [Tables].
type TablesOptions struct {
	Dir         string // holds all files of all sources; nothing else can be read
	Threads     int    // default GOMAXPROCS
	MemoryLimit int64  // bytes, default 1 GiB
	Connections int    // queries at once, default 4
}

// Tables runs SQL over the tables of a lakehouse, for people: it reads only,
// and its results may have types that table columns cannot. It is safe for
// concurrent use.
//
// A `timestamp` column is a TIMESTAMPTZ here, as Parquet readers see it, so
// that statistics of the files can be used; the session is in UTC.
type Tables struct {
	engine *Engine
	source TableSource
	spill  *os.File // directory of this process for queries that outgrow memory, locked
}

// OpenTables starts an engine over a source. Close it after all [Rows].
func OpenTables(source TableSource, o TablesOptions) (*Tables, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("open tables: %w", err)
	}
	if o.Threads <= 0 {
		o.Threads = runtime.GOMAXPROCS(0)
	}
	if o.Connections <= 0 {
		o.Connections = 4
	}
	spill, err := spillDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open tables: %w", err)
	}
	e, err := Open(Options{Threads: o.Threads, MemoryLimit: o.MemoryLimit, Connections: o.Connections,
		lenient: true, explain: true, dir: dir + "/", spill: spill.Name()})
	t := &Tables{engine: e, source: source, spill: spill}
	if err != nil {
		t.removeSpill()
		return nil, fmt.Errorf("open tables: %w", err)
	}
	return t, nil
}

// spillDir makes a directory for what queries write when they need more than
// their memory, and removes those of processes that died.
func spillDir(dir string) (*os.File, error) {
	old, err := filepath.Glob(filepath.Join(dir, spillPrefix+"*"))
	if err != nil {
		return nil, err
	}
	for _, path := range old {
		if f, err := os.Open(path); err == nil {
			if lockExclusive(f) == nil {
				os.RemoveAll(path)
			}
			f.Close()
		}
	}
	path, err := os.MkdirTemp(dir, spillPrefix)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return f, lockShared(f)
}

const spillPrefix = "spill-"

func (t *Tables) removeSpill() error {
	return errors.Join(os.RemoveAll(t.spill.Name()), t.spill.Close())
}

// Close waits for queries that run and gives everything back. More calls do nothing.
func (t *Tables) Close() error {
	if err := t.engine.Close(); err != nil {
		return err
	}
	if err := t.removeSpill(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("close tables: %w", err)
	}
	return nil
}

var showTables = regexp.MustCompile(`(?i)^show\s+(all\s+)?tables$`)

// Query runs one statement that reads: SELECT, WITH, FROM, VALUES, DESCRIBE,
// SUMMARIZE, SHOW TABLES, EXPLAIN. Only tables that it names are opened. ctx
// covers the reading of the rows too. Close the rows.
func (t *Tables) Query(ctx context.Context, sql string) (*Rows, error) {
	rows, err := t.query(ctx, sql)
	if err != nil {
		return nil, fmt.Errorf("query tables: %w", orContext(ctx, err))
	}
	return rows, nil
}

func (t *Tables) query(ctx context.Context, sql string) (*Rows, error) {
	sql = trimStatement(sql)
	inner, err := readingStatement(sql)
	if err != nil {
		return nil, err
	}
	if showTables.MatchString(sql) {
		if sql, err = t.listing(ctx); err != nil {
			return nil, err
		}
		inner = sql
	}
	c, err := t.engine.acquire(ctx, nil)
	if err != nil {
		return nil, err
	}
	r := &Rows{tables: t, conn: c, stop: c.watch(ctx)}
	c.ctx = ctx
	if err := r.start(ctx, sql, inner); err != nil {
		r.err = err
		r.Close()
		return nil, err
	}
	return r, nil
}

// listing is SQL that returns the names of all tables.
func (t *Tables) listing(ctx context.Context) (string, error) {
	names, err := t.source.Names(ctx)
	if err != nil {
		return "", fmt.Errorf("list tables: %w", err)
	}
	list := make([]string, len(names))
	for i, n := range names {
		list[i] = literal(n)
	}
	return "SELECT unnest([" + strings.Join(list, ", ") + "]::VARCHAR[]) AS name ORDER BY name", nil
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
	if inner != sql { // an EXPLAIN must not run what may not run without it
		p, err := r.conn.prepareOne(inner)
		if err != nil {
			return err
		}
		duckdb.DestroyPrepare(&p)
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

// find opens a table by its name, as SQL does: upper and lower case are alike.
func (t *Tables) find(ctx context.Context, name string) (*Source, error) {
	source, err := t.source.Open(ctx, name)
	if !errors.Is(err, fs.ErrNotExist) {
		return source, err
	}
	names, err := t.source.Names(ctx)
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	for _, n := range names {
		if n != name && strings.EqualFold(n, name) {
			return t.source.Open(ctx, n)
		}
	}
	there := "there are no tables yet"
	if len(names) > 0 {
		slices.Sort(names)
		there = "there are: " + strings.Join(names, ", ")
	}
	return nil, &Error{Class: "Catalog", Message: fmt.Sprintf("table %q does not exist; %s", name, there), Offset: -1, Name: name}
}

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

// tableNames returns the tables that a statement reads, CTEs left out.
func (c *conn) tableNames(sql string) ([]string, error) {
	for _, verb := range []string{"describe", "desc", "summarize", "show"} {
		if rest, ok := cutWord(sql, verb); ok {
			if sql = rest; !startsQuery(rest) {
				sql = "FROM " + rest
			}
		}
	}
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
func viewSQL(s *Source) (string, error) {
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
	for _, group := range groupFiles(s) {
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

func groupFiles(s *Source) [][]SourceFile {
	var groups [][]SourceFile
	at := map[string]int{}
	for _, f := range s.Files {
		var key strings.Builder
		for _, p := range s.PartitionBy {
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
