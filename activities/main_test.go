package activities_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/activities"
	"github.com/tidemill/tidemill/connectors/decode"
	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/internal/ortlib"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
	"github.com/tidemill/tidemill/lakehouse/quarantine"
	"github.com/tidemill/tidemill/models"
	"github.com/tidemill/tidemill/models/onnx"
	"github.com/tidemill/tidemill/query"
)

// engine is shared: what a query engine keeps between calls is nobody's business here.
var engine *query.Engine

// The test binary is the models' child process too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == onnx.WorkerArgument {
		os.Exit(onnx.WorkerMain(os.Stdin, os.Stdout))
	}
	var err error
	if engine, err = query.Open(query.Options{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := engine.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// The contract of most tests: the model answers -n (poison.onnx), its second
// version n. isolation is none but where a model is meant to crash.
const contractYAML = `table: t
columns:
  - {name: id, type: long, required: true}
  - {name: n, type: long}
  - {name: x, type: double, required: true}
  - {name: ts, type: timestamp}
key: [id]
event_time: ts
checks:
  - {name: positive, expr: "x > 0", on_fail: quarantine}
  - {name: small, expr: "x < 1000", on_fail: warn}
features: SELECT *, x * 2 AS twice FROM batch
score:
  model: m@champion
  inputs: [n]
  output: {score: y}
  isolation: none
`

// strictYAML turns more rows away, and adds a feature.
var strictYAML = replace(contractYAML,
	`expr: "x > 0"`, `expr: "x > 5"`,
	`x * 2 AS twice`, `x * 2 AS twice, x + 1 AS more`)

func replace(s string, pairs ...string) string {
	for i := 0; i < len(pairs); i += 2 {
		t := string(bytes.Replace([]byte(s), []byte(pairs[i]), []byte(pairs[i+1]), 1))
		if t == s {
			panic("nothing to replace: " + pairs[i])
		}
		s = t
	}
	return s
}

// crashing runs the model in a process of its own, which it may kill.
func crashing(yaml string) string { return replace(yaml, "isolation: none", "isolation: process") }

// poison divides by -1, which kills the process for the smallest int64.
func poison(t testing.TB) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "models", "testdata", "poison.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// healthy is poison divided by 1.
func healthy(t testing.TB) []byte {
	t.Helper()
	minusOne := binary.LittleEndian.AppendUint64(nil, ^uint64(0))
	out := bytes.Replace(poison(t), minusOne, binary.LittleEndian.AppendUint64(nil, 1), 1)
	if bytes.Equal(out, poison(t)) {
		t.Fatal("poison.onnx has no constant -1")
	}
	return out
}

// world is a store and what is in it; processes come and go.
type world struct {
	t      *testing.T
	store  objstore.Store
	reg    *models.Registry
	landed tables // as the connector has them open
	next   int64  // offset of the next row that lands
}

func newWorld(t *testing.T) *world {
	t.Helper()
	if _, err := ortlib.Find(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	s := mem.New()
	return &world{t: t, store: s, landed: tables{store: s}, reg: models.NewRegistry(modelStore{s}, "_models", models.RegistryOptions{})}
}

// champion registers a model and moves the alias.
func (w *world) champion(data []byte) models.Version {
	w.t.Helper()
	v, err := w.reg.Register(w.t.Context(), models.Candidate{Name: "m", Data: data}, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	expect := 0
	if have, err := w.reg.Resolve(w.t.Context(), "m@champion"); err == nil {
		expect = have.Version
	}
	if err := w.reg.SetAlias(w.t.Context(), "m", "champion", v.Version, expect); err != nil {
		w.t.Fatal(err)
	}
	return v
}

func parse(t testing.TB, yaml string) *contract.Table {
	t.Helper()
	c, err := contract.Parse("tables/t.yaml", []byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// land decodes rows as a connector does and appends them, one commit per call.
func (w *world) land(rows ...string) {
	w.t.Helper()
	w.landAs(contractYAML, rows...)
}

func (w *world) landAs(yaml string, rows ...string) {
	w.t.Helper()
	w.append(yaml, func(d *decode.Decoder) error {
		for _, r := range rows {
			if err := d.Message([]byte(r), decode.Position{Partition: "c/f/0", First: w.next}); err != nil {
				return err
			}
			w.next++
		}
		return nil
	})
}

func (w *world) append(yaml string, fill func(*decode.Decoder) error) {
	w.t.Helper()
	c := parse(w.t, yaml)
	var o decode.Options
	for _, d := range c.Derived() {
		o.Derived = append(o.Derived, decode.Derived(d))
	}
	plan, err := decode.NewPlan(c.ArrowSchema(), o)
	if err != nil {
		w.t.Fatal(err)
	}
	d := plan.NewDecoder(memory.DefaultAllocator)
	if err := fill(d); err != nil {
		w.t.Fatal(err)
	}
	rec, runs, bad := d.Flush()
	defer rec.Release()
	if len(bad) > 0 {
		w.t.Fatalf("does not decode: %+v", bad[0])
	}
	if _, err := w.landed.Create(w.t.Context(), "t", lakehouse.CreateOptions{Schema: plan.Schema(), PartitionBy: c.PartitionBy()}); err != nil {
		w.t.Fatal(err)
	}
	app := lakehouse.NewAppender(w.landed.open["t"], lakehouse.AppenderOptions{})
	done, err := app.Append(w.t.Context(), lakehouse.Append{Record: rec, Runs: runs})
	if err != nil {
		w.t.Fatal(err)
	}
	if done.Record != nil {
		done.Record.Release()
	}
	if err := app.Close(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// landBlock lands one message of many lines.
func (w *world) landBlock(block string) {
	w.t.Helper()
	w.append(contractYAML, func(d *decode.Decoder) error {
		return d.Message([]byte(block), decode.Position{Partition: "c/f/0", First: w.next, PerRow: true})
	})
	w.next += int64(strings.Count(block, "\n"))
}

// row is a landed row as JSON.
func row(id, n int64, x float64) string { return fmt.Sprintf(`{"id":%d,"n":%d,"x":%v}`, id, n, x) }

// worker is one process's activities.
type worker struct {
	*activities.Activities
	seen []activities.Scored
}

// start makes a worker of its own on the world's store, or on another view of it.
func (w *world) start(yaml string, change ...func(*activities.Options)) *worker {
	w.t.Helper()
	alloc := memory.NewCheckedAllocator(memory.NewGoAllocator())
	out := &worker{}
	var mu sync.Mutex
	o := activities.Options{
		Contracts: []*contract.Table{parse(w.t, yaml)}, Models: w.reg, Runtime: onnx.Runtime{Logger: slog.New(slog.DiscardHandler)}, Engine: engine,
		Tables: &tables{store: w.store}, Cache: lakehouse.NewRecordCache(64 << 20), Files: files{}, Allocator: alloc,
		Observe: func(s activities.Scored) {
			mu.Lock()
			defer mu.Unlock()
			out.seen = append(out.seen, s)
		},
	}
	for _, c := range change {
		c(&o)
	}
	out.Activities = activities.New(o)
	w.t.Cleanup(func() {
		if err := out.Close(); err != nil {
			w.t.Error(err)
		}
		o.Cache.Clear()
		alloc.AssertSize(w.t, 0)
	})
	return out
}

func (w *world) turn(k *worker) activities.TurnResult {
	w.t.Helper()
	res, err := k.Turn(w.t.Context(), activities.TurnInput{Table: "t"})
	if err != nil {
		w.t.Fatal(err)
	}
	if res.Rows != res.Scored+res.Quarantined+res.Recovering {
		w.t.Errorf("%d rows are not %d scored, %d quarantined and %d recovering", res.Rows, res.Scored, res.Quarantined, res.Recovering)
	}
	return res
}

// drain turns until nothing is left.
func (w *world) drain(k *worker) (sum activities.TurnResult) {
	w.t.Helper()
	for {
		res := w.turn(k)
		sum.Rows += res.Rows
		sum.Scored += res.Scored
		sum.Quarantined += res.Quarantined
		sum.Recovering += res.Recovering
		sum.To, sum.Recover = res.To, res.Recover
		if res.BacklogVersions == 0 {
			return sum
		}
	}
}

// tables opens tables as one process does.
type tables struct {
	store   objstore.Store
	options []lakehouse.Option
	mu      sync.Mutex
	open    map[string]*lakehouse.Table
}

func (t *tables) Open(ctx context.Context, name string) (*lakehouse.Table, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l, ok := t.open[name]; ok {
		return l, nil
	}
	l, err := lakehouse.Open(ctx, t.store, name, append(t.options, noWait)...)
	return t.keep(name, l, err)
}

func (t *tables) Create(ctx context.Context, name string, o lakehouse.CreateOptions) (*lakehouse.Table, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l, ok := t.open[name]; ok {
		return l, l.Evolve(ctx, o.Schema, o.PartitionBy)
	}
	l, err := lakehouse.Create(ctx, t.store, name, o, append(t.options, noWait)...)
	return t.keep(name, l, err)
}

func (t *tables) keep(name string, l *lakehouse.Table, err error) (*lakehouse.Table, error) {
	if err != nil {
		return nil, err
	}
	if t.open == nil {
		t.open = map[string]*lakehouse.Table{}
	}
	t.open[name] = l
	return l, nil
}

// noWait lets what is tried again be tried at once.
var noWait = lakehouse.WithWait(func(ctx context.Context, _ int) error { return ctx.Err() })

// files are the files of a project directory that has models/testdata in it.
type files struct{}

func (files) Read(_ context.Context, name string) ([]byte, error) {
	return os.ReadFile(filepath.Join("..", "models", "testdata", name))
}

func (files) Upload(_ context.Context, _ []byte, _ string) (string, error) {
	return "", errors.New("read only")
}

type modelStore struct{ objstore.Store }

func (m modelStore) Keys(ctx context.Context, prefix, startAfter string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for o, err := range m.List(ctx, prefix, startAfter) {
			if !yield(o.Key, err) {
				return
			}
		}
	}
}

// cells are a table's rows, as text by column.
type cells []map[string]string

func (w *world) read(name string) cells {
	w.t.Helper()
	table, err := lakehouse.Open(w.t.Context(), w.store, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		w.t.Fatal(err)
	}
	var out cells
	for f := range table.Snapshot().Files() {
		rec, err := table.ReadFile(w.t.Context(), f)
		if err != nil {
			w.t.Fatal(err)
		}
		for i := range int(rec.NumRows()) {
			r := map[string]string{"file": f.Path, "row": fmt.Sprint(i), "version": fmt.Sprint(f.Version)}
			for j, c := range rec.Columns() {
				r[rec.ColumnName(j)] = text(c, i)
			}
			out = append(out, r)
		}
		rec.Release()
	}
	slices.SortFunc(out, func(a, b map[string]string) int {
		var x, y int64
		fmt.Sscan(a["_offset"], &x)
		fmt.Sscan(b["_offset"], &y)
		return int(x - y)
	})
	return out
}

func text(c arrow.Array, i int) string {
	switch c := c.(type) {
	case *array.Binary:
		return string(c.Value(i))
	default:
		return c.ValueStr(i)
	}
}

// exact checks that every landed row is in exactly one of the two tables, or
// in an open part, and returns both tables.
func (w *world) exact(recovering int) (scored, bad cells) {
	w.t.Helper()
	where := map[string][]string{}
	scored, bad = w.read("t_scored"), w.read("t"+quarantine.Suffix)
	for _, r := range scored {
		where[r["_offset"]] = append(where[r["_offset"]], "scored")
	}
	for _, r := range bad {
		where[r["_offset"]] = append(where[r["_offset"]], "quarantine ("+r["rule"]+")")
	}
	missing := 0
	landed := w.read("t")
	for _, r := range landed {
		switch at := where[r["_offset"]]; len(at) {
		case 0:
			missing++
		case 1:
		default:
			w.t.Errorf("row %s is in %v", r["_offset"], at)
		}
		delete(where, r["_offset"])
	}
	if missing != recovering {
		w.t.Errorf("%d of %d landed rows are in no table, want %d that are being recovered", missing, len(landed), recovering)
	}
	if len(where) > 0 {
		w.t.Errorf("rows that never landed: %v", where)
	}
	return scored, bad
}

// explained checks that a scored row says where it comes from and who scored it.
func (w *world) explained(r map[string]string, c *contract.Table, v models.Version) {
	w.t.Helper()
	want := map[string]string{
		"_source": "c/f/0", "_contract": c.Version(), "_model": v.Name, "_model_version": fmt.Sprint(v.Version), "_model_sha256": v.SHA256,
	}
	for k, s := range want {
		if r[k] != s {
			w.t.Errorf("row %s: %s is %q, want %q", r["_offset"], k, r[k], s)
		}
	}
	for _, l := range w.read("t") {
		if l["_offset"] == r["_offset"] && l["version"] != r["_landed_version"] {
			w.t.Errorf("row %s says landed version %s, it landed with %s", r["_offset"], r["_landed_version"], l["version"])
		}
	}
}

// txn is the version of an application in the newest snapshot of a table, -1 for none.
func (w *world) txn(table, app string) int64 {
	w.t.Helper()
	l, err := lakehouse.Open(w.t.Context(), w.store, table)
	if err != nil {
		w.t.Fatal(err)
	}
	if v, ok := l.Snapshot().Txn(app); ok {
		return v
	}
	return -1
}

func (w *world) version(table string) int64 {
	w.t.Helper()
	l, err := lakehouse.Open(w.t.Context(), w.store, table)
	if err != nil {
		w.t.Fatal(err)
	}
	return l.Snapshot().Version()
}

// clock is a time that moves by hand.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}
