package query

import (
	"context"
	"fmt"
	"runtime"
	"strconv"
	"sync"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/memory"
	duckdb "github.com/duckdb/duckdb-go-bindings"
)

// Options of an [Engine]. The zero value is good for micro-batches.
type Options struct {
	// Threads that DuckDB may use in all. With 1, the default, each query runs
	// on the thread that called Run and queries run beside each other, which is
	// fastest for batches of some ten thousand rows.
	Threads int
	// Connections is how many queries may run at once; more callers wait.
	// Default: GOMAXPROCS.
	Connections int
	// MemoryLimit bounds what DuckDB allocates for all queries together, in
	// bytes. A query that needs more fails; an Engine writes nothing to disk. Default: 1 GiB.
	MemoryLimit int64
	// Allocator of the results. Default: Go memory.
	Allocator memory.Allocator

	lenient bool   // results may have types that no table column has
	explain bool   // EXPLAIN may run
	dir     string // the one directory that SQL may read, "" for none
	spill   string // where queries that need more memory write, "" for nowhere
}

func (o Options) withDefaults() Options {
	if o.Threads <= 0 {
		o.Threads = 1
	}
	if o.Connections <= 0 {
		o.Connections = runtime.GOMAXPROCS(0)
	}
	if o.MemoryLimit <= 0 {
		o.MemoryLimit = 1 << 30
	}
	if o.Allocator == nil {
		o.Allocator = memory.DefaultAllocator
	}
	return o
}

// Engine runs SQL over records in memory. It is safe for concurrent use.
type Engine struct {
	o     Options
	db    duckdb.Database
	slots chan struct{} // one token per query that may run
	byID  sync.Map      // connection id -> *conn, for the callbacks of the table function

	mu     sync.Mutex
	idle   []*conn // least recently used first; guarded by mu
	broken bool    // the database refuses work and must be opened again; guarded by mu
	closed bool    // guarded by mu
	inUse  int     // connections handed out; guarded by mu
}

// idlePerSlot bounds idle connections: about as many tables with their own
// views as one process works on at a time, per concurrent query.
const idlePerSlot = 16

// Open starts an engine. Close it to give DuckDB's memory back.
func Open(o Options) (*Engine, error) {
	e := &Engine{o: o.withDefaults()}
	if err := checkVectorSize(); err != nil {
		return nil, fmt.Errorf("open query engine: %w", err)
	}
	if err := e.openDatabase(); err != nil {
		return nil, fmt.Errorf("open query engine: %w", err)
	}
	e.slots = make(chan struct{}, e.o.Connections)
	return e, nil
}

// openDatabase opens the database and shuts it off from the machine. The lock
// comes last: from then on no statement can change a setting.
func (e *Engine) openDatabase() error {
	var config duckdb.Config
	if duckdb.CreateConfig(&config) == duckdb.StateError {
		return fmt.Errorf("create DuckDB configuration")
	}
	defer duckdb.DestroyConfig(&config)
	for _, kv := range [][2]string{
		{"threads", strconv.Itoa(e.o.Threads)},
		{"memory_limit", strconv.FormatInt(e.o.MemoryLimit, 10) + "B"},
		{"temp_directory", e.o.spill},
		{"autoinstall_known_extensions", "false"},
		{"autoload_known_extensions", "false"},
		{"allow_community_extensions", "false"},
	} {
		if duckdb.SetConfig(config, kv[0], kv[1]) == duckdb.StateError {
			return fmt.Errorf("set %s = %q", kv[0], kv[1])
		}
	}
	var message string
	if duckdb.OpenExt("", &e.db, config, &message) == duckdb.StateError {
		return fmt.Errorf("open DuckDB: %s", message)
	}
	if err := e.prepareDatabase(); err != nil {
		duckdb.Close(&e.db)
		return err
	}
	return nil
}

func (e *Engine) prepareDatabase() error {
	c, err := e.connect("", nil)
	if err != nil {
		return err
	}
	defer c.close()
	if err := registerScan(c.c, e); err != nil {
		return err
	}
	settings := []string{"SET GLOBAL TimeZone = 'UTC'", "SET GLOBAL errors_as_json = true"}
	if e.o.dir != "" {
		settings = append(settings, "SET GLOBAL allowed_directories = ["+literal(e.o.dir)+"]")
	}
	for _, s := range append(settings, "SET GLOBAL enable_external_access = false", "SET GLOBAL lock_configuration = true") {
		if err := c.exec(s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

// Close waits for queries that run and gives everything back. More calls do nothing.
func (e *Engine) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil
	}
	e.closed = true
	e.mu.Unlock()
	for range cap(e.slots) { // every token taken: nothing runs any more
		e.slots <- struct{}{}
	}
	e.mu.Lock()
	e.closeIdle()
	duckdb.Close(&e.db)
	for range cap(e.slots) {
		<-e.slots
	}
	return nil
}

// closeIdle closes the idle connections; e.mu is held.
func (e *Engine) closeIdle() {
	for _, c := range e.idle {
		c.close()
	}
	e.idle = nil
}

// Run runs one SELECT over views, which exist for this call only, and returns
// its result: one record, possibly of no rows, with contract types (see the
// package comment). The caller releases it; it shares no memory with the
// views, whose records are only read. A view needs at least one record, as its
// schema; a record of no rows will do.
//
// When ctx ends, the query is interrupted and Run returns the context's error.
// What DuckDB objects to comes back as an [*Error].
func (e *Engine) Run(ctx context.Context, sql string, views map[string][]arrow.Record) ([]arrow.Record, error) {
	schemas := make(map[string]*arrow.Schema, len(views))
	for name, recs := range views {
		if len(recs) == 0 {
			return nil, fmt.Errorf("run query: view %q has no record to take the schema from", name)
		}
		for _, r := range recs {
			if r.Schema() != recs[0].Schema() && !r.Schema().Equal(recs[0].Schema()) {
				return nil, fmt.Errorf("run query: records of view %q differ in schema", name)
			}
		}
		schemas[name] = recs[0].Schema()
	}
	c, err := e.acquire(ctx, schemas)
	if err != nil {
		return nil, fmt.Errorf("run query: %w", err)
	}
	rec, err := c.run(ctx, sql, views)
	e.giveBack(c, err)
	if err != nil {
		return nil, fmt.Errorf("run query: %w", err)
	}
	return []arrow.Record{rec}, nil
}

// Describe returns the schema that Run would return for views of these
// schemas, without running anything. All fields are nullable.
func (e *Engine) Describe(ctx context.Context, sql string, views map[string]*arrow.Schema) (*arrow.Schema, error) {
	c, err := e.acquire(ctx, views)
	if err != nil {
		return nil, fmt.Errorf("describe query: %w", err)
	}
	s, err := c.prepare(sql)
	e.giveBack(c, err)
	if err != nil {
		return nil, fmt.Errorf("describe query: %w", err)
	}
	return s.schema, nil
}

// acquire waits for a slot and returns a connection that has exactly the given views.
func (e *Engine) acquire(ctx context.Context, views map[string]*arrow.Schema) (*conn, error) {
	key, err := viewsKey(views)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case e.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	c, err := e.take(key, views)
	if err != nil {
		<-e.slots
	}
	return c, err
}

func (e *Engine) take(key string, views map[string]*arrow.Schema) (*conn, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, ErrClosed
	}
	if e.broken && e.inUse == 0 {
		e.closeIdle()
		duckdb.Close(&e.db)
		if err := e.openDatabase(); err != nil {
			return nil, err
		}
		e.broken = false
	}
	for i := len(e.idle) - 1; i >= 0; i-- {
		if c := e.idle[i]; c.key == key {
			e.idle = append(e.idle[:i], e.idle[i+1:]...)
			e.inUse++
			return c, nil
		}
	}
	c, err := e.connect(key, views)
	if err == nil {
		e.inUse++
	}
	return c, err
}

// giveBack returns a connection and its slot. After an error of the library's
// own the whole database is opened anew once nothing uses it.
func (e *Engine) giveBack(c *conn, err error) {
	e.mu.Lock()
	e.inUse--
	if x := asError(err); x != nil && x.fatal() {
		e.broken = true
		c.close()
	} else if e.idle = append(e.idle, c); len(e.idle) > idlePerSlot*e.o.Connections {
		e.idle[0].close()
		e.idle = e.idle[1:]
	}
	e.mu.Unlock()
	<-e.slots
}

func (c *conn) run(ctx context.Context, sql string, views map[string][]arrow.Record) (arrow.Record, error) {
	stop := c.watch(ctx)
	defer stop()
	s, err := c.prepare(sql)
	if err != nil {
		return nil, orContext(ctx, err)
	}
	c.ctx, c.input = ctx, newInput(views)
	rec, err := c.collect(s)
	c.input.release()
	c.ctx, c.input = context.Background(), nil
	return rec, orContext(ctx, err)
}

// collect executes a statement and gathers its chunks.
func (c *conn) collect(s *statement) (arrow.Record, error) {
	var res duckdb.Result
	defer duckdb.DestroyResult(&res)
	if duckdb.ExecutePrepared(s.prepared, &res) == duckdb.StateError {
		return nil, parseError(duckdb.ResultError(&res))
	}
	out := newCollector(c.engine.o.Allocator, s.schema)
	defer out.release()
	for {
		chunk := duckdb.FetchChunk(res)
		if chunk.Ptr == nil {
			break
		}
		err := out.add(chunk)
		duckdb.DestroyDataChunk(&chunk)
		if err != nil {
			return nil, err
		}
	}
	if text := duckdb.ResultError(&res); text != "" {
		return nil, parseError(text)
	}
	return out.record(), nil
}

// orContext prefers the context's error to what DuckDB made of an interrupt.
func orContext(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}
