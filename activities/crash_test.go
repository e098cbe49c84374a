package activities_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/tidemill/tidemill/activities"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/objstore/faulty"
)

// mixed are rows that every stage has something to say about, now or with
// strictYAML.
func mixed() []string {
	return []string{row(1, 10, 1), row(2, 20, -1), `{"id":3,"x":1}`, row(4, 40, 9), row(5, 50, 9), `{"id":6,"x":9}`}
}

// dies runs a turn that is cut off at a fault point, as if the process had been
// killed there, and says whether it came to that point.
func (w *world) dies(yaml, point string) (died bool) {
	w.t.Helper()
	k := w.start(yaml, func(o *activities.Options) {
		o.Fault = func(p string) {
			if p == point {
				panic(point)
			}
		}
	})
	func() {
		defer func() {
			p := recover()
			if p != nil && p != point {
				panic(p)
			}
			died = p != nil
		}()
		_, _ = k.Turn(w.t.Context(), activities.TurnInput{Table: "t"})
	}()
	return died
}

// A turn that is cut off is finished by another worker, with whatever contract
// and model that one has: each row in exactly one table.
func TestCutOffAndRedone(t *testing.T) {
	for _, point := range []string{"between-hops", "after-quarantine-commit", "before-commit-scored", "after-commit-scored"} {
		for name, c := range map[string]struct {
			first, second string
			model         bool // another one the second time
		}{
			"same":     {contractYAML, contractYAML, false},
			"stricter": {contractYAML, strictYAML, false},
			"laxer":    {strictYAML, contractYAML, false},
			"model":    {contractYAML, contractYAML, true},
		} {
			t.Run(point+"/"+name, func(t *testing.T) {
				w := newWorld(t)
				w.champion(poison(t))
				w.land(mixed()...)
				if !w.dies(c.first, point) {
					t.Fatal("was not there")
				}
				w.land(row(7, 70, 9)) // must not become part of the range that is taken up
				if c.model {
					w.champion(healthy(t))
				}
				sum := w.drain(w.start(c.second))
				if point != "after-commit-scored" && sum.Rows != 7 {
					t.Errorf("%+v", sum)
				}
				scored, bad := w.exact(0)
				if len(scored)+len(bad) != 7 {
					t.Errorf("%d scored, %d in quarantine", len(scored), len(bad))
				}
			})
		}
	}
}

// The store dies at every single call of a turn, before and after it acts.
func TestCutOffAnywhere(t *testing.T) {
	calls := int64(0)
	for _, when := range []faulty.When{faulty.Before, faulty.After} {
		for at := int64(1); ; at++ {
			w := newWorld(t)
			w.champion(poison(t))
			w.land(row(1, 10, 9), row(2, 20, -9))
			w.drain(w.start(contractYAML))
			w.land(mixed()...)
			f := faulty.New(w.store, faulty.Options{CrashAt: at, CrashWhen: when, Match: func(op faulty.Op, _ string) bool { return op == faulty.Put || op == faulty.PutIfAbsent }})
			k := w.start(contractYAML, func(o *activities.Options) { o.Tables = &tables{store: f} })
			_, err := k.Turn(t.Context(), activities.TurnInput{Table: "t"})
			if !f.Crashed() {
				calls += at - 1
				break
			}
			if when == faulty.Before && err == nil {
				t.Errorf("call %d: no error", at)
			}
			w.drain(w.start(strictYAML))
			w.exact(0)
		}
	}
	if calls < 12 {
		t.Errorf("only %d places to die at", calls)
	}
}

// Calls that fail in passing and answers that are lost, all the time.
func TestUnsteadyStore(t *testing.T) {
	for seed := range uint64(10) {
		w := newWorld(t)
		w.champion(poison(t))
		for range 3 {
			w.land(mixed()...)
		}
		f := faulty.New(w.store, faulty.Options{Seed: seed, FailBefore: 0.1, FailAfter: 0.1, Conflict: 0.1})
		k := w.start(contractYAML, func(o *activities.Options) { o.Tables = &tables{store: f}; o.MaxRows = 6 })
		for try := 0; ; try++ {
			res, err := k.Turn(t.Context(), activities.TurnInput{Table: "t"})
			if err == nil && res.To == 3 {
				break
			}
			if err != nil && (!objstore.Retryable(err) || activities.Kind(err) != "") || try > 1000 {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		w.exact(0)
	}
}

// gate holds a worker at a fault point until it is opened.
type gate struct {
	point   string
	reached chan struct{}
	open    chan struct{}
	once    sync.Once
}

func newGate(point string) *gate {
	return &gate{point: point, reached: make(chan struct{}), open: make(chan struct{})}
}

func (g *gate) fault(p string) {
	if p == g.point {
		g.once.Do(func() {
			close(g.reached)
			<-g.open
		})
	}
}

// A zombie stands still in the middle of its turn; another worker, with another
// contract, does the range or dies while it does; then the zombie goes on.
func TestZombie(t *testing.T) {
	for _, point := range []string{"between-hops", "after-scored-put", "after-quarantine-commit", "before-commit-scored"} {
		for _, dies := range []string{"", "after-quarantine-commit", "before-commit-scored", "after-commit-scored"} {
			for name, c := range map[string][2]string{"stricter": {contractYAML, strictYAML}, "laxer": {strictYAML, contractYAML}} {
				t.Run(fmt.Sprintf("%s/%s/%s", point, dies, name), func(t *testing.T) {
					w := newWorld(t)
					w.champion(poison(t))
					w.drain(w.start(contractYAML))
					rows := mixed()
					if point != "after-quarantine-commit" && name == "stricter" {
						rows = []string{row(1, 10, 1), row(2, 20, 9)} // nothing for quarantine by the zombie's contract
					}
					w.land(rows...)
					g := newGate(point)
					zombie := w.start(c[0], func(o *activities.Options) { o.Fault = g.fault })
					done := make(chan error, 1)
					go func() {
						_, err := zombie.Turn(t.Context(), activities.TurnInput{Table: "t"})
						done <- err
					}()
					<-g.reached
					w.dies(c[1], dies)
					close(g.open)
					if err := <-done; err != nil {
						t.Errorf("the zombie: %v", err)
					}
					w.drain(w.start(c[1]))
					w.drain(zombie)
					w.exact(0)
				})
			}
		}
	}
}

// Two workers with different contracts race for the same versions.
func TestRace(t *testing.T) {
	w := newWorld(t)
	w.champion(poison(t))
	ks := []*worker{w.start(contractYAML), w.start(strictYAML)}
	for range 25 {
		w.land(mixed()...)
		w.land(mixed()...)
		var wg sync.WaitGroup
		for _, k := range ks {
			wg.Go(func() {
				for range 3 {
					res, err := k.Turn(t.Context(), activities.TurnInput{Table: "t", MaxRows: 6})
					if err != nil {
						t.Error(err)
					}
					if res.BacklogVersions == 0 {
						return
					}
				}
			})
		}
		wg.Wait()
	}
	w.drain(ks[0])
	w.exact(0)
	if n := len(ks[0].seen); n == 0 || len(ks[1].seen) == 0 {
		t.Errorf("there was no race: %d and %d turns", n, len(ks[1].seen))
	}
}

// A turn of a cancelled context does nothing that the next one would miss.
func TestCancelled(t *testing.T) {
	w := newWorld(t)
	w.champion(poison(t))
	w.land(mixed()...)
	var stop func()
	k := w.start(contractYAML, func(o *activities.Options) {
		o.Fault = func(p string) {
			if p == "after-quarantine-commit" && stop != nil {
				stop()
				stop = nil
			}
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	stop = cancel
	if _, err := k.Turn(ctx, activities.TurnInput{Table: "t"}); !errors.Is(err, ctx.Err()) {
		t.Errorf("cancelled: %v", err)
	}
	if sum := w.drain(k); sum.Rows != 6 || sum.Quarantined != 3 {
		t.Errorf("%+v", sum)
	}
	w.exact(0)
}
