// Package faulty makes a store misbehave, on purpose and reproducibly: errors before or
// after the operation took place, lost answers, conflicts, slowness, and the death of
// the process at a chosen call. Store decorates any objstore.Store; Proxy does the same
// to real clients of a real server, on the wire. Both are for tests.
package faulty

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/tidemill/tidemill/lakehouse/objstore"
)

// Op is a method of objstore.Store.
type Op string

// The operations.
const (
	Get         Op = "get"
	Stat        Op = "stat"
	Put         Op = "put"
	PutIfAbsent Op = "put if absent"
	List        Op = "list"
	Delete      Op = "delete"
)

// When says on which side of an operation something happens.
type When string

// Before: the operation does not take place. After: it has, and its answer is lost.
const (
	Before When = "before"
	After  When = "after"
)

// Call is one call of a store.
type Call struct {
	N   int64 // counts the calls that match the options, from 1
	Op  Op
	Key string // the prefix, of a listing
}

var (
	// ErrInjected is the cause of an injected failure, which is always objstore.Retryable.
	ErrInjected = errors.New("injected failure")
	// ErrCrashed: the store plays dead, as if the process had ended. It is not retryable.
	ErrCrashed = errors.New("store is gone: injected crash")
)

// Options say how a store misbehaves. The zero value does not.
type Options struct {
	// Seed makes the random choices reproducible for a sequential caller.
	Seed uint64
	// Match restricts all of it to some calls; nil: every call.
	Match func(op Op, key string) bool
	// FailBefore and FailAfter are the probabilities of an error on that side.
	FailBefore, FailAfter float64
	// Conflict is the probability that a PutIfAbsent does nothing but return ErrConflict.
	Conflict float64
	// CrashAt lets the store crash at that call, on side CrashWhen (Before if empty): it
	// and every later call, matching or not, returns ErrCrashed.
	CrashAt   int64
	CrashWhen When
	// Hook, if set, is asked on both sides of each call; an error of its own is returned
	// instead of the answer. It may block, to hold a call where a test wants it.
	Hook func(ctx context.Context, c Call, w When) error
	// Latency is waited before each call; Sleep waits, and can be replaced.
	Latency func(c Call) time.Duration
	Sleep   func(ctx context.Context, d time.Duration) error
}

// Store is a faulty store. Make one with New.
type Store struct {
	store objstore.Store

	mu      sync.Mutex
	opts    Options      // guarded by mu
	rand    *rand.Rand   // guarded by mu
	matched int64        // guarded by mu
	calls   map[Op]int64 // guarded by mu
	crashed bool         // guarded by mu
}

var _ objstore.Store = (*Store)(nil)

// New decorates s.
func New(s objstore.Store, o Options) *Store {
	f := &Store{store: s, calls: map[Op]int64{}}
	f.Set(o)
	return f
}

// Set replaces the options, starts their counting and random choices anew, and revives
// a crashed store: Set(Options{}) heals it.
func (s *Store) Set(o Options) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opts, s.matched, s.crashed = o, 0, false
	s.rand = rand.New(rand.NewPCG(o.Seed, 0x7469646d696c6c))
}

// Calls is how many calls of op there were since New, whatever became of them.
func (s *Store) Calls(op Op) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[op]
}

// Matched is how many calls matched the options since they were set: a first run
// without faults tells how many crash points there are.
func (s *Store) Matched() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.matched
}

// Crash lets every call from now on return ErrCrashed, those under way included.
func (s *Store) Crash() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.crashed = true
}

// Crashed reports whether the store plays dead.
func (s *Store) Crashed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.crashed
}

// plan is what shall happen to one call, decided at its beginning so that the choices
// depend on the order of calls only.
type plan struct {
	call          Call
	opts          Options
	match         bool
	before, after error
	crashAfter    bool
	cut           float64 // where a listing ends whose answer is lost, of its length
}

func (s *Store) plan(op Op, key string) plan {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[op]++
	p := plan{call: Call{Op: op, Key: key}, opts: s.opts, match: s.opts.Match == nil || s.opts.Match(op, key)}
	if s.crashed {
		p.match, p.before = false, ErrCrashed
		return p
	}
	if !p.match {
		return p
	}
	s.matched++
	p.call.N = s.matched
	// Always as many numbers, so that one option does not shift another's choices.
	before, after, conflict := s.rand.Float64(), s.rand.Float64(), s.rand.Float64()
	p.cut = s.rand.Float64()
	switch {
	case p.call.N == s.opts.CrashAt && s.opts.CrashWhen != After:
		s.crashed = true
		p.before = ErrCrashed
	case p.call.N == s.opts.CrashAt:
		p.crashAfter = true
	case before < s.opts.FailBefore:
		p.before = objstore.Transient(ErrInjected)
	case op == PutIfAbsent && conflict < s.opts.Conflict:
		p.before = objstore.ErrConflict
	case after < s.opts.FailAfter:
		p.after = objstore.Transient(ErrInjected)
	}
	return p
}

// enter runs what comes before the operation; an error means that it must not happen.
func (s *Store) enter(ctx context.Context, p plan) error {
	if p.match && p.opts.Latency != nil {
		wait := p.opts.Sleep
		if wait == nil {
			wait = sleep
		}
		if err := wait(ctx, p.opts.Latency(p.call)); err != nil {
			return p.error(Before, err)
		}
	}
	if p.match && p.opts.Hook != nil {
		if err := p.opts.Hook(ctx, p.call, Before); err != nil {
			return p.error(Before, err)
		}
	}
	if p.before != nil {
		return p.error(Before, p.before)
	}
	return nil
}

// leave runs what comes after the operation, whose own result is err.
func (s *Store) leave(ctx context.Context, p plan, err error) error {
	if p.match && p.opts.Hook != nil {
		if herr := p.opts.Hook(ctx, p.call, After); herr != nil {
			return p.error(After, herr)
		}
	}
	if p.crashAfter {
		s.Crash()
	}
	if s.Crashed() {
		return p.error(After, ErrCrashed)
	}
	if p.after != nil {
		return p.error(After, p.after)
	}
	return err
}

func (p plan) error(w When, err error) error {
	return fmt.Errorf("%s %s (%s call %d): %w", p.call.Op, p.call.Key, w, p.call.N, err)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// do puts the faults of one call around f.
func (s *Store) do(ctx context.Context, op Op, key string, f func() error) error {
	p := s.plan(op, key)
	if err := s.enter(ctx, p); err != nil {
		return err
	}
	return s.leave(ctx, p, f())
}

// Get implements objstore.Store.
func (s *Store) Get(ctx context.Context, key string) (data []byte, err error) {
	err = s.do(ctx, Get, key, func() (e error) { data, e = s.store.Get(ctx, key); return e })
	if err != nil {
		return nil, err
	}
	return data, nil
}

// Stat implements objstore.Store.
func (s *Store) Stat(ctx context.Context, key string) (o objstore.Object, err error) {
	err = s.do(ctx, Stat, key, func() (e error) { o, e = s.store.Stat(ctx, key); return e })
	if err != nil {
		return objstore.Object{}, err
	}
	return o, nil
}

// Put implements objstore.Store.
func (s *Store) Put(ctx context.Context, key string, data []byte) error {
	return s.do(ctx, Put, key, func() error { return s.store.Put(ctx, key, data) })
}

// PutIfAbsent implements objstore.Store.
func (s *Store) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	return s.do(ctx, PutIfAbsent, key, func() error { return s.store.PutIfAbsent(ctx, key, data) })
}

// Delete implements objstore.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	return s.do(ctx, Delete, key, func() error { return s.store.Delete(ctx, key) })
}

// List implements objstore.Store. A failure after the call cuts the listing short.
func (s *Store) List(ctx context.Context, prefix, startAfter string) iter.Seq2[objstore.Object, error] {
	return func(yield func(objstore.Object, error) bool) {
		p := s.plan(List, prefix)
		if err := s.enter(ctx, p); err != nil {
			yield(objstore.Object{}, err)
			return
		}
		var all []objstore.Object
		var err error
		for o, lerr := range s.store.List(ctx, prefix, startAfter) {
			if lerr != nil {
				err = lerr
				break
			}
			all = append(all, o)
		}
		own := err
		if err = s.leave(ctx, p, err); err != nil && own == nil {
			all = all[:int(p.cut*float64(len(all)))]
		}
		for _, o := range all {
			if cerr := ctx.Err(); cerr != nil {
				err = p.error(After, cerr)
				break
			}
			if !yield(o, nil) {
				return
			}
		}
		if err != nil {
			yield(objstore.Object{}, err)
		}
	}
}
