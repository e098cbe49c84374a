package lakehouse

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/objstore/faulty"
	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
)

// kind is what goes wrong with one call to the store.
type kind string

const (
	fine         kind = ""
	failed       kind = "failed"        // 500, 503, a connection that is refused: not done, may pass
	lost         kind = "lost"          // done, the answer is lost
	conflicting  kind = "conflict"      // 409: not done
	again412     kind = "412"           // done, and a repetition of the request is what is answered
	delayed      kind = "late"          // the answer is a timeout, and it is done some calls later, if it still can
	denied       kind = "denied"        // 403: not done, will not pass
	crashBefore  kind = "crash"         // the process ends, not done
	crashAfter   kind = "crash-after"   // the process ends, done
	crashLate    kind = "crash-late"    // the process ends, and it is done some calls later
	cancelBefore kind = "cancel"        // the caller gives up, not done
	cancelAfter  kind = "cancel-after"  // the caller gives up, done
	meets        kind = "meets-another" // right before it, another process does something
)

var kinds = []kind{failed, lost, conflicting, again412, delayed, denied, crashBefore, crashAfter, crashLate, cancelBefore, cancelAfter, meets}

// fault says what goes wrong during a step: at one call, or at some by their hash.
type fault struct {
	Call  string `json:"call,omitempty"` // as callName names it; empty: by hash
	Kind  kind   `json:"kind,omitempty"`
	Seed  uint64 `json:"seed,omitempty"`
	Rate  uint64 `json:"rate,omitempty"`  // per mille of the calls
	Other *step  `json:"other,omitempty"` // what the other process does, once
}

// of decides about a call by its name, not by when it comes: calls that are made side by
// side come in any order.
func (f *fault) of(name string) kind {
	switch {
	case f == nil:
		return fine
	case f.Call == name:
		return f.Kind
	case f.Call != "":
		return fine
	}
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%d %s", f.Seed, name)
	x := h.Sum64() * 0x9e3779b97f4a7c15
	if (x>>20)%1000 >= f.Rate {
		return fine
	}
	return kinds[(x>>40)%uint64(len(kinds))]
}

// world is one table, the processes at work on it, and what is known to be true of it.
type world struct {
	ctx    context.Context
	store  *mem.Store
	now    atomic.Int64 // ns
	actors []*actor
	model

	follower  bool           // somebody follows the table
	cursor    int64          // the last version that they have read
	followed  map[string]int // how often they saw which row
	following bool

	mu      sync.Mutex
	calls   int        // guarded by mu: those that are made one at a time
	waiting []delivery // guarded by mu
}

// delivery is a request that is still on its way.
type delivery struct {
	due int
	do  func()
}

// actor is a process: a Table, an Appender, a clock of its own, and its own way to the store.
type actor struct {
	w    *world
	id   int
	skew time.Duration

	tbl    *Table
	app    *Appender
	path   *faulty.Store
	looked []*Snapshot // guarded by w.mu: older versions that it has asked for
	busy   bool        // it is doing something: a step inside a step is another's

	mu       sync.Mutex
	fault    *fault         // guarded by mu: of the step under way
	seen     map[string]int // guarded by mu: names of calls in this step
	trace    []string       // guarded by mu: the calls' full names
	fate     map[int64]kind // guarded by mu: by number of the call
	cancel   func()         // guarded by mu
	met      bool           // guarded by mu: fault.Other was done
	onCommit func()         // guarded by mu: called at the next commit's PUT
	problem  error          // guarded by mu: of the step inside the step

}

func newWorld(ctx context.Context, processes int) *world {
	w := &world{ctx: ctx, store: mem.New(), model: newModel(), followed: map[string]int{}}
	w.now.Store(time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).UnixNano())
	w.store.Now = func() time.Time { return w.at(0) }
	w.model.clock = w.store.Now
	for id := range processes {
		w.actors = append(w.actors, &actor{w: w, id: id, skew: time.Duration(id%3-1) * 90 * time.Second})
	}
	return w
}

func (w *world) at(skew time.Duration) time.Time {
	return time.Unix(0, w.now.Load()).UTC().Add(skew)
}

// begin makes ready for a step.
func (a *actor) begin(f *fault) context.Context {
	ctx, cancel := context.WithCancel(a.w.ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fault, a.seen, a.trace, a.cancel, a.met = f, map[string]int{}, nil, cancel, false
	return ctx
}

// end waits until nothing of the step is under way, and buries a process that died.
func (a *actor) end() {
	if a.app != nil {
		a.app.mu.Lock()
		var idle chan struct{}
		if a.app.running {
			if a.app.idle == nil {
				a.app.idle = make(chan struct{})
			}
			idle = a.app.idle
		}
		a.app.mu.Unlock()
		if idle != nil {
			<-idle
		}
	}
	a.mu.Lock()
	a.fault = nil
	a.cancel()
	a.mu.Unlock()
	if a.path != nil && a.path.Crashed() {
		a.leave()
	}
}

// leave abandons what the process has in memory.
func (a *actor) leave() { a.tbl, a.app, a.path = nil, nil, nil }

// open makes sure that the process has the table open.
func (a *actor) open(ctx context.Context) error {
	if a.tbl != nil {
		return nil
	}
	a.mu.Lock()
	a.fate = map[int64]kind{}
	a.mu.Unlock()
	a.path = faulty.New(&slowPath{a.w.store, a.w}, faulty.Options{Hook: a.hook})
	tbl, err := Open(ctx, &slowPath{a.path, a.w}, root, a.options()...)
	if err != nil {
		return err
	}
	a.tbl = tbl
	a.app = NewAppender(tbl, AppenderOptions{KeyWindow: keyWindow})
	return nil
}

const (
	root      = "tables/t"
	keyWindow = 10_000 * time.Hour
)

func (a *actor) options() []Option {
	return []Option{WithoutCheckpoints(), WithWait(noWait), WithClock(func() time.Time { return a.w.at(a.skew) })}
}

var random = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

// callName names a call so that it has the same name when the scenario runs again.
func (a *actor) callName(c faulty.Call) string {
	name := fmt.Sprintf("%s %s", c.Op, random.ReplaceAllString(strings.TrimPrefix(c.Key, root+"/"), "*"))
	n := a.seen[name]
	a.seen[name]++
	return fmt.Sprintf("%s #%d", name, n)
}

// oneAtATime says whether calls like this are never made side by side by one process.
func oneAtATime(c faulty.Call) bool {
	return c.Op == faulty.Put || c.Op == faulty.PutIfAbsent || c.Op == faulty.List
}

// hook is on both sides of each call of the process.
func (a *actor) hook(ctx context.Context, c faulty.Call, when faulty.When) error {
	if when == faulty.After {
		return a.after(ctx, c)
	}
	if oneAtATime(c) {
		a.w.deliver(false)
	}
	a.mu.Lock()
	name := a.callName(c)
	k := a.fault.of(name)
	if k == conflicting && c.Op != faulty.PutIfAbsent {
		k = failed
	}
	if k == meets && (a.met || a.fault.Other == nil) {
		k = fine
	}
	a.fate[c.N] = k
	a.trace = append(a.trace, name)
	other := (*step)(nil)
	if k == meets {
		a.met, other = true, a.fault.Other
	}
	cancel, onCommit := a.cancel, a.onCommit
	if c.Op == faulty.PutIfAbsent {
		a.onCommit = nil
	}
	a.mu.Unlock()
	if onCommit != nil && c.Op == faulty.PutIfAbsent {
		onCommit()
	}
	switch k {
	case failed:
		return objstore.Transient(faulty.ErrInjected)
	case conflicting:
		return objstore.ErrConflict
	case denied:
		return errForbidden
	case delayed:
		return errLate
	case crashBefore, crashLate:
		a.path.Crash()
		if k == crashLate {
			return fmt.Errorf("%w: %w", faulty.ErrCrashed, errLate)
		}
		return faulty.ErrCrashed
	case cancelBefore:
		cancel()
		return ctx.Err()
	case meets:
		if err := a.w.do(*other); err != nil {
			a.mu.Lock()
			a.problem = err
			a.mu.Unlock()
		}
	}
	return nil
}

func (a *actor) after(ctx context.Context, c faulty.Call) error {
	a.mu.Lock()
	k, cancel := a.fate[c.N], a.cancel
	a.mu.Unlock()
	switch {
	case k == again412 && c.Op == faulty.PutIfAbsent:
		return fs.ErrExist
	case k == lost, k == again412:
		return objstore.Transient(faulty.ErrInjected)
	case k == crashAfter:
		a.path.Crash()
		return faulty.ErrCrashed
	case k == cancelAfter:
		cancel()
		return ctx.Err()
	}
	return nil
}

// errLate is what the hook says of a request that is on its way.
var errLate = objstore.Transient(errors.New("timeout"))

// slowPath keeps requests that the hook says are late, to do them later.
type slowPath struct {
	objstore.Store
	w *world
}

func (s *slowPath) keep(err error, do func()) error {
	if errors.Is(err, errLate) {
		s.w.mu.Lock()
		s.w.waiting = append(s.w.waiting, delivery{s.w.calls + 1 + len(s.w.waiting)*3%7, do})
		s.w.mu.Unlock()
	}
	return err
}

func (s *slowPath) Put(ctx context.Context, key string, data []byte) error {
	data = slices.Clone(data)
	return s.keep(s.Store.Put(ctx, key, data), func() { _ = s.w.store.Put(s.w.ctx, key, data) })
}

func (s *slowPath) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	data = slices.Clone(data)
	return s.keep(s.Store.PutIfAbsent(ctx, key, data), func() { _ = s.w.store.PutIfAbsent(s.w.ctx, key, data) })
}

func (s *slowPath) Delete(ctx context.Context, key string) error {
	return s.keep(s.Store.Delete(ctx, key), func() { _ = s.w.store.Delete(s.w.ctx, key) })
}

// deliver lets late requests arrive that are due, or all.
func (w *world) deliver(all bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls++
	w.waiting = slices.DeleteFunc(w.waiting, func(d delivery) bool {
		if !all && d.due > w.calls {
			return false
		}
		d.do()
		return true
	})
}
