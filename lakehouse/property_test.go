package lakehouse

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/lakehouse/objstore"
)

// The property: whatever some processes do to one table, in whatever order, whatever the
// store does to their requests, and wherever they die, every version of the table is
// what the steps that were begun explain, every row is in once, what a caller was told
// is true, and all who look see the same.
//
//	go test ./lakehouse -run TestPropertyRandom -property.for 10m   # random scenarios, for so long
//	go test ./lakehouse -run TestPropertyEveryCall -property.for 0  # each fault at each call
//	go test ./lakehouse -run TestProperty -property.seed 4711  # one of them
//
// A scenario that breaks it is made as short as it gets and printed as JSON. Put into
// testdata/property it is run again for ever.
var (
	propertyFor  = flag.Duration("property.for", 5*time.Second, "how long each of the property's tests runs; 0: TestPropertyEveryCall runs all, TestPropertyRandom none")
	propertySeed = flag.Uint64("property.seed", 0, "run the random scenario of this seed only")
)

// run plays a scenario. It returns the calls of each step, and the promise that was
// broken, with the step's index. Until step quiet the table is only looked at, not opened.
func (sc scenario) run(ctx context.Context, quiet int) (traces [][]string, at int, err error) {
	w := newWorld(ctx, sc.Processes)
	w.follower = sc.Follower
	o := CreateOptions{Schema: lived(), Configuration: map[string]string{
		"delta.logRetentionDuration": "interval 1 hours", "delta.deletedFileRetentionDuration": "interval 1 hours",
	}}
	if sc.Partitioned {
		o.PartitionBy = []string{"country"}
	}
	if _, err := Create(ctx, w.store, root, o, w.actors[0].options()...); err != nil {
		return nil, -1, err
	}
	below := objstore.WithPrefix(w.store, root)
	if err := w.observe(ctx, below); err != nil {
		return nil, -1, err
	}
	for i, s := range sc.Steps {
		err := w.do(s)
		if err == nil {
			err = w.observe(ctx, below)
		}
		if err == nil && i >= quiet {
			err = w.check()
		}
		a := w.actors[s.By%len(w.actors)]
		traces = append(traces, a.trace)
		if err != nil {
			return traces, i, err
		}
	}
	if err := w.finish(below); err != nil {
		return traces, len(sc.Steps), err
	}
	for _, op := range sc.Has {
		if !slices.ContainsFunc(w.states, func(s *state) bool { return s.operation == op }) {
			return traces, len(sc.Steps), fmt.Errorf("no version has operation %s", op)
		}
	}
	return traces, 0, nil
}

// check compares what anybody would see with the model: one who opens the table, and
// the processes, each at its own version.
func (w *world) check() error {
	tbl, err := Open(w.ctx, w.store, root, w.actors[0].options()...)
	if err != nil {
		return err
	}
	s := tbl.Snapshot()
	if s.version != int64(len(w.states))-1 {
		return fmt.Errorf("opened anew the table has version %d, it is at %d", s.version, len(w.states)-1)
	}
	if err := w.same(s); err != nil {
		return fmt.Errorf("opened anew: %w", err)
	}
	if err := w.positions(NewAppender(tbl, AppenderOptions{KeyWindow: keyWindow}), true); err != nil {
		return fmt.Errorf("opened anew: %w", err)
	}
	for _, a := range w.actors {
		for _, s := range a.looked {
			if err := w.same(s); err != nil {
				return fmt.Errorf("process %d looked back: %w", a.id, err)
			}
		}
		a.looked = nil
		if a.tbl == nil {
			continue
		}
		err := w.same(a.tbl.Snapshot())
		if err == nil {
			err = w.positions(a.app, false)
		}
		if err != nil {
			return fmt.Errorf("process %d: %w", a.id, err)
		}
	}
	return nil
}

// positions wants an appender to know of no offset that is not in, and if it is new, of all that are.
func (w *world) positions(a *Appender, all bool) error {
	known := map[string]batch.Intervals{}
	of := func(part string) batch.Intervals {
		if _, ok := known[part]; !ok {
			known[part] = a.Claims(part)
		}
		return known[part]
	}
	for _, part := range parts {
		for _, v := range of(part) {
			for off := v.First; off <= v.Last; off++ {
				if _, ok := w.landed[fmt.Sprintf("%s/%d/0", part, off)]; !ok && !dropped(part, off) {
					return fmt.Errorf("the appender takes %s/%d to be in", part, off)
				}
			}
		}
	}
	if !all {
		return nil
	}
	for id := range w.landed {
		if part, off := offsetOf(id); !of(part).Contains(off) {
			return fmt.Errorf("row %s is in, and the appender does not know it", id)
		}
	}
	return nil
}

// finish lets everything come to rest and reads the table as a user would.
func (w *world) finish(below objstore.Store) error {
	w.deliver(true)
	if err := w.observe(w.ctx, below); err != nil {
		return err
	}
	for _, a := range w.actors {
		if a.tbl == nil {
			continue
		}
		a.begin(nil)
		s, err := a.tbl.Refresh(w.ctx)
		a.end()
		if err == nil && s.version != int64(len(w.states))-1 {
			err = fmt.Errorf("refreshed to version %d of %d", s.version, len(w.states)-1)
		}
		if err != nil {
			return fmt.Errorf("process %d at the end: %w", a.id, err)
		}
	}
	if err := w.check(); err != nil {
		return err
	}
	if err := w.readAll(); err != nil || !w.follower {
		return err
	}
	tbl, err := Open(w.ctx, w.store, root, w.actors[0].options()...)
	if err == nil {
		err = w.follow(w.ctx, tbl)
	}
	if err == nil {
		err = w.followedAll()
	}
	return err
}

// readAll reads the rows through the table, and what the log says of its versions.
func (w *world) readAll() error {
	tbl, err := Open(w.ctx, w.store, root)
	if err != nil {
		return err
	}
	n := 0
	for f := range tbl.Snapshot().Files() {
		rec, err := tbl.ReadFile(w.ctx, f)
		if err != nil {
			return err
		}
		n += int(rec.NumRows())
		rec.Release()
	}
	if want := len(w.last().where); n != want {
		return fmt.Errorf("%d rows are read, there are %d", n, want)
	}
	return nil
}

// broken fails a test with a scenario that can be kept.
func broken(t *testing.T, sc scenario, what string, err error) {
	t.Helper()
	small := shrink(t.Context(), sc)
	small.Others, small.Has = nil, nil
	_, at, again := small.run(t.Context(), 0)
	if again == nil {
		small, at, again = sc, -1, err
	}
	small.Comment = what
	t.Errorf("%s: %v\n\nas short as it gets it breaks at step %d: %v\nkeep it in testdata/property:\n%s", what, err, at, again, small)
}

// TestPropertyRegressions plays every scenario that ever broke the property.
func TestPropertyRegressions(t *testing.T) {
	names, err := filepath.Glob("testdata/property/*.json")
	if err != nil || len(names) == 0 {
		t.Fatal("no scenarios", err)
	}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Parallel()
			sc := load(t, name)
			if _, at, err := sc.run(t.Context(), 0); err != nil {
				t.Errorf("step %d: %v", at, err)
			}
		})
	}
}

func load(t *testing.T, name string) scenario {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var sc scenario
	if err := json.Unmarshal(data, &sc); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return sc
}

// TestPropertyEveryCall plays the scenarios testdata/property/every-*.json once without
// faults, and then again with each kind of fault at each call to the store, in random
// order for as long as it may take.
func TestPropertyEveryCall(t *testing.T) {
	names, err := filepath.Glob("testdata/property/every-*.json")
	if err != nil || len(names) == 0 {
		t.Fatal("no scenarios", err)
	}
	seed := rand.Uint64()
	t.Logf("order by seed %d", seed)
	budget := time.Now().Add(*propertyFor)
	var all []scenario
	var quiet []int // before these steps all is as without a fault
	for _, name := range names {
		sc := load(t, name)
		traces, at, err := sc.run(t.Context(), 0)
		if err != nil {
			t.Fatalf("%s without a fault: step %d: %v", name, at, err)
		}
		for i, calls := range traces {
			for _, bad := range sc.faults(i, calls) {
				all, quiet = append(all, bad), append(quiet, i)
			}
		}
	}
	order := seeded(seed).Perm(len(all))
	next := make(chan int)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for i := range next {
				if _, at, err := all[i].run(t.Context(), quiet[i]); err != nil && !t.Failed() {
					broken(t, all[i], fmt.Sprintf("%s, seen at step %d", all[i].Comment, at), err)
				}
			}
		})
	}
	done := 0
	for ; done < len(order) && !t.Failed() && (*propertyFor <= 0 || time.Now().Before(budget)); done++ {
		next <- order[done]
	}
	close(next)
	wg.Wait()
	t.Logf("%d of %d runs; -property.for 0 makes all of them", done, len(all))
}

// TestPropertyRandom plays random scenarios, each from its seed.
func TestPropertyRandom(t *testing.T) {
	if *propertySeed > 0 {
		sc := generate(*propertySeed)
		if _, at, err := sc.run(t.Context(), 0); err != nil {
			broken(t, sc, fmt.Sprintf("seed %d, step %d", *propertySeed, at), err)
		}
		return
	}
	first := rand.Uint64N(1 << 40)
	t.Logf("seeds from %d on", first)
	ctx, cancel := context.WithTimeoutCause(t.Context(), *propertyFor, errEnough)
	defer cancel()
	var mu sync.Mutex
	n := uint64(0)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for ctx.Err() == nil && !t.Failed() {
				mu.Lock()
				seed := first + n
				n++
				mu.Unlock()
				sc := generate(seed)
				if _, at, err := sc.run(t.Context(), 0); err != nil {
					broken(t, sc, fmt.Sprintf("seed %d, step %d", seed, at), err)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d scenarios", n)
}

var errEnough = errors.New("enough")
