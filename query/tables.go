package query

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemill/tidemill/internal/predicate"
)

// TableSource finds the tables that SQL names. It is implemented on snapshots
// of the lakehouse; methods may be called at the same time.
type TableSource interface {
	// Names lists the tables there are.
	Names(ctx context.Context) ([]string, error)
	// Open returns a version of a table, or fs.ErrNotExist if there is no such
	// table. It touches no data file.
	Open(ctx context.Context, ref Ref) (*Source, error)
}

// Source is one version of a table.
type Source struct {
	Version     int64
	Schema      *arrow.Schema // the table's columns in order, partition columns among them
	PartitionBy []string
	// Fetch brings files of the table to local disk: those that may hold rows
	// that are needed. An error that is fs.ErrNotExist, for a version that was
	// the newest, makes the query open the table once more.
	Fetch func(ctx context.Context, need Need) (*Fetched, error)
}

// Need says which rows of a table a query needs.
type Need struct {
	Where *predicate.Node // rows of which this is not true are not needed; nil: all are
	Plan  bool            // the query is only explained: a file or none will do to plan with
}

// Fetched is a table's files on local disk.
type Fetched struct {
	Files []SourceFile
	Stats ReadStats
	Close func() // called once when the query is done with the files; may be nil
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
		return nil, fmt.Errorf("open tables: %w", errors.Join(err, t.removeSpill()))
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
// SUMMARIZE, SHOW TABLES, EXPLAIN. Only tables that it names are opened, and of
// those only the files that may hold rows it needs. ctx covers the reading of the
// rows too. Close the rows.
//
// A table's name may be followed by the version that is meant ([Ref], rewrite in
// travel.go), and be a path: delta_scan('s3://…'), or any name with "://" in it.
func (t *Tables) Query(ctx context.Context, sql string) (*Rows, error) {
	rows, err := t.query(ctx, sql)
	if err != nil {
		return nil, fmt.Errorf("query tables: %w", orContext(ctx, err))
	}
	return rows, nil
}

func (t *Tables) query(ctx context.Context, user string) (*Rows, error) {
	re, err := rewrite(user)
	if err != nil {
		return nil, err
	}
	sql := trimStatement(re.sql)
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
	r := &Rows{tables: t, conn: c, stop: c.watch(ctx), refs: re.refs}
	c.ctx = ctx
	if err := r.start(ctx, sql, inner); err != nil {
		r.err = err
		r.Close()
		if e := asError(err); e != nil && e.Offset >= 0 && !e.inUsersText {
			e.Offset = re.position(e.Offset + max(strings.Index(re.sql, sql), 0))
		}
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

// find opens a table by its name, as SQL does: upper and lower case are alike.
func (t *Tables) find(ctx context.Context, ref Ref) (*Source, error) {
	source, err := t.source.Open(ctx, ref)
	if !errors.Is(err, fs.ErrNotExist) {
		return source, err
	}
	if ref.Path {
		return nil, &Error{Class: "Catalog", Message: fmt.Sprintf("there is no table at %s: %v", ref.Name, err), Offset: -1, Name: ref.Name}
	}
	names, err := t.source.Names(ctx)
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	for _, n := range names {
		if n != ref.Name && strings.EqualFold(n, ref.Name) {
			ref.Name = n
			return t.source.Open(ctx, ref)
		}
	}
	there := "there are no tables yet"
	if len(names) > 0 {
		slices.Sort(names)
		there = "there are: " + strings.Join(names, ", ")
	}
	return nil, &Error{Class: "Catalog", Message: fmt.Sprintf("table %q does not exist; %s", ref.Name, there), Offset: -1, Name: ref.Name}
}
