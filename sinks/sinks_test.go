package sinks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
	"github.com/tidemill/tidemill/lakehouse/quarantine"
)

var scoredSchema = arrow.NewSchema([]arrow.Field{
	{Name: "id", Type: arrow.BinaryTypes.String},
	{Name: "score", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
	{Name: "_source", Type: arrow.BinaryTypes.String},
	{Name: "_offset", Type: arrow.PrimitiveTypes.Int64},
	{Name: "_contract", Type: arrow.BinaryTypes.String},
}, nil)

// world is a project's store, with one scored table.
type world struct {
	t      *testing.T
	store  objstore.Store
	scored *lakehouse.Table
	hidden atomic.Bool // whether sinks are told that there is no table yet
	next   int         // id of the next row
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, store: mem.New()}
	var err error
	if w.scored, err = lakehouse.Create(t.Context(), w.store, "t_scored", lakehouse.CreateOptions{Schema: scoredSchema}); err != nil {
		t.Fatal(err)
	}
	return w
}

// score commits rows in some files, and returns their ids.
func (w *world) score(perFile ...int) []string {
	w.t.Helper()
	var files []lakehouse.File
	var ids []string
	for _, n := range perFile {
		b := array.NewRecordBuilder(memory.DefaultAllocator, scoredSchema)
		for range n {
			id := fmt.Sprintf("r%05d", w.next)
			ids = append(ids, id)
			b.Field(0).(*array.StringBuilder).Append(id)
			b.Field(1).(*array.Float64Builder).Append(float64(w.next))
			b.Field(2).(*array.StringBuilder).Append("src")
			b.Field(3).(*array.Int64Builder).Append(int64(w.next))
			b.Field(4).(*array.StringBuilder).Append("sha256:c")
			w.next++
		}
		rec := b.NewRecord()
		fs, err := w.scored.WriteFiles(w.t.Context(), rec, nil)
		if err != nil {
			w.t.Fatal(err)
		}
		rec.Release()
		b.Release()
		files = append(files, fs...)
	}
	if _, err := w.scored.Commit(w.t.Context(), lakehouse.Commit{Adds: files, Operation: "SCORE"}); err != nil {
		w.t.Fatal(err)
	}
	return ids
}

func (w *world) options(sink string, out *system) Options {
	w.t.Helper()
	c, err := contract.Parse("t.yaml", []byte("table: t\ncolumns: [{name: id, type: string, required: true}]\nscore: {model: m@1, output: {score: s}}\nsinks: ["+sink+"]\n"))
	if err != nil {
		w.t.Fatal(err)
	}
	return Options{
		Contract: c, Sink: c.Sinks()[0], Store: w.store,
		Scored: func(ctx context.Context) (*lakehouse.Table, error) {
			if w.hidden.Load() {
				return nil, fs.ErrNotExist
			}
			return lakehouse.Open(ctx, w.store, "t_scored")
		},
		Quarantine: func(ctx context.Context) (*lakehouse.Table, error) {
			return lakehouse.Create(ctx, w.store, "t_quarantine", lakehouse.CreateOptions{Schema: quarantine.Schema()})
		},
		Open: func() (Output, error) { return out, nil },
	}
}

// start runs a sink until stop is called, or the test ends.
func start(t *testing.T, o Options) (r *Runner, stop func()) {
	t.Helper()
	r = New(o)
	if err := r.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Run(ctx)
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	return r, stop
}

func (w *world) quarantined() map[string]string { // key -> raw
	w.t.Helper()
	out := map[string]string{}
	q, err := lakehouse.Open(w.t.Context(), w.store, "t_quarantine")
	if errors.Is(err, fs.ErrNotExist) {
		return out
	}
	if err != nil {
		w.t.Fatal(err)
	}
	for f := range q.Snapshot().Files() {
		rec, err := q.ReadFile(w.t.Context(), f)
		if err != nil {
			w.t.Fatal(err)
		}
		for i := range int(rec.NumRows()) {
			key, _, _ := strings.Cut(rec.Column(4).(*array.String).Value(i), ": ")
			if rec.Column(1).(*array.String).Value(i) != "sink" || rec.Column(2).(*array.String).Value(i) != "s" || rec.Column(6).(*array.String).Value(i) != "src" {
				w.t.Errorf("quarantined row is not of the sink: %v", rec)
			}
			out[key] = string(rec.Column(5).(*array.Binary).Value(i))
		}
		rec.Release()
	}
	return out
}

// system is what rows go to.
type system struct {
	mu     sync.Mutex
	rows   map[string]string // id -> key
	keys   map[string]string // key -> id
	times  map[string]int    // id -> how often it came
	poison map[string]bool   // ids that it refuses
	down   bool              // it refuses all
	block  chan struct{}     // if not nil, sends wait until it is closed
	whole  bool              // it does not say which rows of a batch failed
	bad    []string          // what must not be
	note   chan struct{}     // something came
}

func newSystem() *system {
	return &system{rows: map[string]string{}, keys: map[string]string{}, times: map[string]int{}, poison: map[string]bool{}, note: make(chan struct{}, 1)}
}

func (s *system) Close(context.Context) error { return nil }

func (s *system) Send(ctx context.Context, messages []Message) error {
	s.mu.Lock()
	block := s.block
	s.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return errors.New("no connection")
	}
	var failed []int
	for i, m := range messages {
		var r struct{ ID string }
		if err := json.Unmarshal(m.JSON, &r); err != nil {
			s.bad = append(s.bad, err.Error())
		}
		if s.poison[r.ID] {
			failed = append(failed, i)
		}
	}
	if len(failed) > 0 && s.whole {
		return errors.New("some row is bad")
	}
	for i, m := range messages {
		if slices.Contains(failed, i) {
			continue
		}
		var r struct{ ID string }
		_ = json.Unmarshal(m.JSON, &r)
		if have, ok := s.rows[r.ID]; ok && have != m.Key {
			s.bad = append(s.bad, fmt.Sprintf("%s came as %s and as %s", r.ID, have, m.Key))
		}
		if have, ok := s.keys[m.Key]; ok && have != r.ID {
			s.bad = append(s.bad, fmt.Sprintf("%s is the key of %s and of %s", m.Key, have, r.ID))
		}
		s.rows[r.ID], s.keys[m.Key] = m.Key, r.ID
		s.times[r.ID]++
	}
	select {
	case s.note <- struct{}{}:
	default:
	}
	if len(failed) > 0 {
		return &PartialError{Failed: failed, Err: errors.New("bad row")}
	}
	return nil
}

func (s *system) set(f func(*system)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

// await waits until the system has exactly these rows.
func (s *system) await(t *testing.T, ids []string) {
	t.Helper()
	poll(t, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		have := slices.Sorted(maps.Keys(s.rows))
		if len(s.bad) > 0 {
			t.Fatal(s.bad)
		}
		if !slices.Equal(have, ids) {
			return fmt.Errorf("has %d rows, want %d", len(have), len(ids))
		}
		return nil
	})
}

func poll(t *testing.T, f func() error) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatal(err)
		case <-tick.C:
		}
	}
}

func TestSendsWhatIsNewAndGoesOnAfterARestart(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t), newSystem()
	w.score(3) // before the sink was there
	o := w.options("{name: s, batching: {count: 4}, output: {drop: {}}}", s)
	_, stop := start(t, o)
	ids := append(w.score(5, 6), w.score(1)...)
	s.await(t, ids)
	stop()
	ids = append(ids, w.score(7)...)
	_, stop = start(t, o)
	s.await(t, ids)
	stop()
	if slices.Max(slices.Collect(maps.Values(s.times))) > 1 {
		t.Errorf("rows came more than once: %v", s.times)
	}
	// The second file's first row is the sixth of the version that brought it.
	if s.rows["r00008"] != s.rows["r00007"][:strings.LastIndex(s.rows["r00007"], "/")]+"/5" {
		t.Errorf("keys are %s and %s", s.rows["r00007"], s.rows["r00008"])
	}
}

func TestBeginsWithTheTableOrWithItsHistory(t *testing.T) {
	t.Parallel()
	w, s, all := newWorld(t), newSystem(), newSystem()
	w.hidden.Store(true)
	start(t, w.options("{name: s, output: {drop: {}}}", s)) // before there is a table
	w.hidden.Store(false)
	ids := w.score(3)
	s.await(t, ids)
	start(t, w.options("{name: all, start: oldest, output: {drop: {}}}", all))
	all.await(t, ids)
}

func TestRowsThatAreWrittenAgainAreNotSentAgain(t *testing.T) {
	t.Parallel()
	w, s, late := newWorld(t), newSystem(), newSystem()
	o := w.options("{name: late, start: oldest, output: {drop: {}}}", late)
	start(t, w.options("{name: s, output: {drop: {}}}", s))
	var ids []string
	for range 4 {
		ids = append(ids, w.score(5)...)
	}
	s.await(t, ids)
	// A rescoring, and a compaction.
	var old []lakehouse.File
	for f := range w.scored.Snapshot().Files() {
		old = append(old, f)
	}
	rec, err := w.scored.ReadFile(t.Context(), old[0])
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Release()
	again, err := w.scored.WriteFiles(t.Context(), rec, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.scored.Commit(t.Context(), lakehouse.Commit{Removes: old[:1], Adds: again, Operation: "UPDATE"}); err != nil {
		t.Fatal(err)
	}
	out, err := w.scored.Compact(t.Context(), lakehouse.CompactOptions{
		MaintainOptions: lakehouse.MaintainOptions{Hold: lakehouse.NoHold}, MinAge: -1, MinFiles: 2, MemoryBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if out.FilesIn == 0 {
		t.Fatal("nothing was compacted")
	}
	ids = append(ids, w.score(2)...)
	s.await(t, ids)
	start(t, o) // reads the files as they were
	late.await(t, ids)
	s.mu.Lock()
	defer s.mu.Unlock()
	late.mu.Lock()
	defer late.mu.Unlock()
	for _, x := range []*system{s, late} {
		if slices.Max(slices.Collect(maps.Values(x.times))) > 1 {
			t.Errorf("rows came more than once: %v", x.times)
		}
	}
	if !maps.Equal(s.rows, late.rows) {
		t.Errorf("the keys differ: %v, %v", s.rows, late.rows)
	}
}

func TestRefusedRowsGoToQuarantineAndTheRestGoesOn(t *testing.T) {
	t.Parallel()
	for _, whole := range []bool{false, true} {
		t.Run(fmt.Sprintf("whole=%v", whole), func(t *testing.T) {
			w, s := newWorld(t), newSystem()
			s.whole = whole
			for _, id := range []string{"r00003", "r00020", "r00021", "r00039", "r00040"} {
				s.poison[id] = true
			}
			start(t, w.options("{name: s, batching: {count: 16}, output: {drop: {}}}", s))
			ids := append(w.score(40), w.score(1)...) // the last row comes by itself
			ids = slices.DeleteFunc(ids, func(id string) bool { return s.poison[id] })
			s.await(t, ids)
			poll(t, func() error {
				if n := len(w.quarantined()); n != 5 {
					return fmt.Errorf("%d rows are quarantined", n)
				}
				return nil
			})
			for key, raw := range w.quarantined() {
				var r struct{ ID string }
				if err := json.Unmarshal([]byte(raw), &r); err != nil || !s.poison[r.ID] || !strings.HasPrefix(key, "t_scored/") {
					t.Errorf("quarantined %s: %s", key, raw)
				}
			}
			s.await(t, append(ids, w.score(3)...))
		})
	}
}

func TestASinkThatIsDownCatchesUpAndLosesNothing(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t), newSystem()
	s.down = true
	downs := make(chan bool, 1000)
	o := w.options("{name: s, batching: {count: 4}, attempts: 1, output: {drop: {}}}", s)
	o.Observe.Down = func(down bool) {
		select {
		case downs <- down:
		default:
		}
	}
	start(t, o)
	var ids []string
	for range 20 {
		ids = append(ids, w.score(3)...)
	}
	for n := 0; n < 3; { // some rounds have failed
		if <-downs {
			n++
		}
	}
	s.set(func(s *system) { s.down = false })
	s.await(t, ids)
	if q := w.quarantined(); len(q) > 0 {
		t.Errorf("rows were quarantined though the sink was down: %v", q)
	}
}

func TestASlowSinkHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	w, fast, slow := newWorld(t), newSystem(), newSystem()
	slow.block = make(chan struct{})
	start(t, w.options("{name: fast, output: {drop: {}}}", fast))
	start(t, w.options("{name: slow, output: {drop: {}}}", slow))
	var ids []string
	for range 10 {
		ids = append(ids, w.score(10)...)
	}
	fast.await(t, ids)
	slow.await(t, nil)
	close(slow.block)
	slow.await(t, ids)
}

func TestALostCursorCostsDuplicatesOnly(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t), newSystem()
	w.score(2)
	o := w.options("{name: s, output: {drop: {}}}", s)
	_, stop := start(t, o)
	ids := w.score(5)
	s.await(t, ids)
	stop()
	for x, err := range w.store.List(t.Context(), "_tidemill/", "") {
		if err != nil {
			t.Fatal(err)
		}
		if err := w.store.Delete(t.Context(), x.Key); err != nil {
			t.Fatal(err)
		}
	}
	ids = append(ids, w.score(5)...) // while there is no cursor
	start(t, o)
	s.await(t, ids)
}

func TestOneProcessHasASinkAndAnotherTakesOver(t *testing.T) {
	t.Parallel()
	w, one, two := newWorld(t), newSystem(), newSystem()
	begin := time.Now()
	fast := func() time.Time { return begin.Add(10 * time.Since(begin)) } // so that leases end soon
	o := w.options("{name: s, output: {drop: {}}}", one)
	o.Now = fast
	dead := make(chan struct{})
	o.Store = &cut{Store: w.store, dead: dead} // the process loses its store
	start(t, o)
	ids := w.score(5)
	one.await(t, ids)
	p := w.options("{name: s, output: {drop: {}}}", two)
	p.Now = fast
	start(t, p)
	more := w.score(5)
	one.await(t, append(slices.Clone(ids), more...))
	two.await(t, nil)
	close(dead)
	rest := w.score(5)
	poll(t, func() error {
		two.mu.Lock()
		defer two.mu.Unlock()
		for _, id := range rest {
			if two.rows[id] == "" {
				return fmt.Errorf("%s has not come", id)
			}
		}
		return nil
	})
	one.mu.Lock()
	defer one.mu.Unlock()
	two.mu.Lock()
	defer two.mu.Unlock()
	for id, key := range two.rows {
		if one.rows[id] != "" && one.rows[id] != key {
			t.Errorf("%s came as %s and as %s", id, one.rows[id], key)
		}
	}
}

// cut is a store that a process loses the way to.
type cut struct {
	objstore.Store
	dead chan struct{}
}

func (c *cut) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	select {
	case <-c.dead:
		return objstore.Transient(errors.New("no way to the store"))
	default:
		return c.Store.PutIfAbsent(ctx, key, data)
	}
}

func (c *cut) Get(ctx context.Context, key string) ([]byte, error) {
	select {
	case <-c.dead:
		return nil, objstore.Transient(errors.New("no way to the store"))
	default:
		return c.Store.Get(ctx, key)
	}
}

func TestRowsThatAreGoneAreMissedAloud(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t), newSystem()
	o := w.options("{name: s, start: oldest, output: {drop: {}}}", s)
	w.score(4)
	for f := range w.scored.Snapshot().Files() {
		if err := w.store.Delete(t.Context(), "t_scored/"+f.Path); err != nil {
			t.Fatal(err)
		}
	}
	ids := w.score(3)
	missed := make(chan int64, 10)
	o.Observe.Missed = func(n int64) { missed <- n }
	start(t, o)
	s.await(t, ids)
	if n := <-missed; n != 4 {
		t.Errorf("%d rows are missed, want 4", n)
	}
}

func TestHoldKeepsWhatASinkHasNotSent(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t), newSystem()
	o := w.options("{name: s, output: {drop: {}}}", s)
	hold := func(now time.Time) int64 {
		t.Helper()
		if _, err := w.scored.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		v, err := Hold(t.Context(), w.store, w.scored, o.Contract, now)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	if v := hold(time.Now()); v != lakehouse.NoHold {
		t.Errorf("a sink that has not begun holds %d", v)
	}
	_, stop := start(t, o)
	s.await(t, w.score(5))
	stop()
	if v := hold(time.Now()); v != lakehouse.NoHold {
		t.Errorf("a sink that is done holds %d", v)
	}
	done := w.scored.Snapshot().Version()
	w.score(1)
	w.score(1)
	if v := hold(time.Now()); v != done {
		t.Errorf("holds %d, want %d", v, done)
	}
	if v := hold(time.Now().Add(HoldFor + time.Hour)); v != lakehouse.NoHold {
		t.Errorf("a sink that is away for too long holds %d", v)
	}
}

// half is a condition: ids with an even number; it fails for one row.
type half struct{ fails string }

func (half) Check(context.Context, *arrow.Schema) error { return nil }

func (h half) Rows(_ context.Context, rec arrow.Record) (out []int, err error) {
	for i := range int(rec.NumRows()) {
		id := rec.Column(0).(*array.String).Value(i)
		if id == h.fails {
			return nil, fmt.Errorf("%w: %s", ErrRow, id)
		}
		if (id[len(id)-1]-'0')%2 == 0 {
			out = append(out, i)
		}
	}
	return out, nil
}

func TestOnlyRowsThatMeetTheConditionAreSent(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t), newSystem()
	o := w.options("{name: s, where: x, columns: [score, id], batching: {count: 3, period: 50ms}, output: {drop: {}}}", s)
	o.Filter = half{"r00007"}
	start(t, o)
	var want []string
	for _, id := range append(w.score(10), w.score(10, 3)...) {
		if (id[len(id)-1]-'0')%2 == 0 {
			want = append(want, id)
		}
	}
	s.await(t, want)
	q := w.quarantined()
	if len(q) != 1 || !strings.Contains(fmt.Sprint(q), `{"score":7,"id":"r00007"}`) {
		t.Errorf("quarantined %v", q)
	}
}

func TestManyBatchesInFlight(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t), newSystem()
	for i := range 10 {
		s.poison[fmt.Sprintf("r%05d", 97*i)] = true
	}
	_, stop := start(t, w.options("{name: s, batching: {count: 7}, max_in_flight: 8, output: {drop: {}}}", s))
	var ids []string
	for range 20 {
		ids = append(ids, w.score(30, 20)...)
	}
	ids = slices.DeleteFunc(ids, func(id string) bool { return s.poison[id] })
	s.await(t, ids)
	poll(t, func() error {
		if n := len(w.quarantined()); n != 10 {
			return fmt.Errorf("%d rows are quarantined", n)
		}
		return nil
	})
	stop()
	have, err := head(t.Context(), w.store, keyPrefix("t", "s"), 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.scored.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if have.Version != w.scored.Snapshot().Version()+1 || have.Owner != "" {
		t.Errorf("the cursor is %+v, the table at %d", have, w.scored.Snapshot().Version())
	}
}

func TestIdleWhenThereIsNothingToSend(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t), newSystem()
	s.block = make(chan struct{})
	r, _ := start(t, w.options("{name: s, output: {drop: {}}}", s))
	ids := w.score(3)
	poll(t, func() error {
		if u := r.now.Load(); u == nil || u.scored.Snapshot().Version() < w.scored.Snapshot().Version() {
			return errors.New("it has not seen the rows")
		}
		return nil
	})
	if r.Idle() {
		t.Error("idle while rows are on their way")
	}
	close(s.block)
	s.await(t, ids)
	poll(t, func() error {
		if !r.Idle() {
			return errors.New("not idle though all is sent")
		}
		return nil
	})
}
