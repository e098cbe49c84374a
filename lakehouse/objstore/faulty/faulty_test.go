package faulty_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"testing"
	"time"

	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/objstore/faulty"
	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
	"github.com/tidemill/tidemill/lakehouse/objstore/storetest"
)

func TestConformance(t *testing.T) {
	storetest.Run(t, func(*testing.T) objstore.Store { return faulty.New(mem.New(), faulty.Options{}) })
}

func TestAnswerLost(t *testing.T) {
	inner := mem.New()
	s := faulty.New(inner, faulty.Options{FailAfter: 1})
	err := s.PutIfAbsent(t.Context(), "k", []byte("v"))
	if !errors.Is(err, faulty.ErrInjected) || !objstore.Retryable(err) || errors.Is(err, fs.ErrExist) {
		t.Fatalf("got %v", err)
	}
	if got, err := inner.Get(t.Context(), "k"); err != nil || string(got) != "v" {
		t.Fatalf("the write did not take place: %v", err)
	}
	if _, err := s.Get(t.Context(), "k"); !errors.Is(err, faulty.ErrInjected) {
		t.Fatalf("got %v", err)
	}
}

func TestFailBeforeAndConflict(t *testing.T) {
	inner := mem.New()
	s := faulty.New(inner, faulty.Options{FailBefore: 1})
	if err := s.Put(t.Context(), "k", nil); !objstore.Retryable(err) {
		t.Fatalf("got %v", err)
	}
	s.Set(faulty.Options{Conflict: 1})
	if err := s.PutIfAbsent(t.Context(), "k", nil); !errors.Is(err, objstore.ErrConflict) || !objstore.Retryable(err) {
		t.Fatalf("got %v", err)
	}
	if keys := storetest.Keys(t, inner, "", ""); len(keys) != 0 {
		t.Fatalf("the store has %q", keys)
	}
	s.Set(faulty.Options{})
	if err := s.PutIfAbsent(t.Context(), "k", nil); err != nil {
		t.Fatal(err)
	}
	if n := s.Calls(faulty.PutIfAbsent); n != 2 {
		t.Errorf("%d calls, want 2", n)
	}
}

func TestCrashPoints(t *testing.T) {
	puts := func(op faulty.Op, _ string) bool { return op == faulty.Put }
	for _, when := range []faulty.When{faulty.Before, faulty.After} {
		inner := mem.New()
		s := faulty.New(inner, faulty.Options{Match: puts, CrashAt: 3, CrashWhen: when})
		var got []error
		for i := range 5 {
			_, _ = s.Get(t.Context(), "x") // does not count
			got = append(got, s.Put(t.Context(), fmt.Sprint(i), nil))
		}
		for i, err := range got {
			if crashed := i >= 2; errors.Is(err, faulty.ErrCrashed) != crashed || objstore.Retryable(err) {
				t.Errorf("%s: put %d gives %v", when, i+1, err)
			}
		}
		want := []string{"0", "1"}
		if when == faulty.After {
			want = append(want, "2")
		}
		if keys := storetest.Keys(t, inner, "", ""); !slices.Equal(keys, want) {
			t.Errorf("%s: the store has %q, want %q", when, keys, want)
		}
		if _, err := s.Get(t.Context(), "0"); !errors.Is(err, faulty.ErrCrashed) {
			t.Errorf("%s: a dead store answers: %v", when, err)
		}
	}
}

func TestSeeded(t *testing.T) {
	run := func(seed uint64) (out []bool) {
		s := faulty.New(mem.New(), faulty.Options{Seed: seed, FailBefore: 0.5})
		for range 64 {
			out = append(out, s.Put(t.Context(), "k", nil) == nil)
		}
		return out
	}
	if !slices.Equal(run(1), run(1)) {
		t.Error("one seed, two outcomes")
	}
	if slices.Equal(run(1), run(2)) {
		t.Error("two seeds, one outcome")
	}
}

func TestHookAndLatency(t *testing.T) {
	var seen []string
	var slept time.Duration
	own := errors.New("own")
	s := faulty.New(mem.New(), faulty.Options{
		Hook: func(_ context.Context, c faulty.Call, w faulty.When) error {
			seen = append(seen, fmt.Sprintf("%d %s %s", c.N, w, c.Key))
			if c.N == 2 && w == faulty.After {
				return own
			}
			return nil
		},
		Latency: func(faulty.Call) time.Duration { return time.Hour },
		Sleep:   func(_ context.Context, d time.Duration) error { slept += d; return nil },
	})
	if err := s.Put(t.Context(), "a", nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), "b", nil); !errors.Is(err, own) {
		t.Fatalf("got %v", err)
	}
	want := []string{"1 before a", "1 after a", "2 before b", "2 after b"}
	if !slices.Equal(seen, want) || slept != 2*time.Hour {
		t.Errorf("saw %q, slept %v", seen, slept)
	}
}

// TestRetry: objstore.Retry gets through what is transient, resumes listings where they
// broke, and keeps its hands off conditional writes.
func TestRetry(t *testing.T) {
	inner := mem.New()
	f := faulty.New(inner, faulty.Options{})
	pauses := 0
	s := objstore.Retry(f, objstore.RetryPolicy{Attempts: 50, Sleep: func(ctx context.Context, _ time.Duration) error {
		pauses++
		return ctx.Err()
	}})
	var want []string
	for i := range 200 {
		key := fmt.Sprintf("k%04d", i)
		want = append(want, key)
		if err := s.Put(t.Context(), key, []byte(key)); err != nil {
			t.Fatal(err)
		}
	}
	for seed := range uint64(20) {
		f.Set(faulty.Options{Seed: seed, FailBefore: 0.3, FailAfter: 0.3})
		if got := storetest.Keys(t, s, "k", ""); !slices.Equal(got, want) {
			t.Fatalf("seed %d: listed %d objects, want %d", seed, len(got), len(want))
		}
		if got, err := s.Get(t.Context(), want[seed]); err != nil || string(got) != want[seed] {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if err := s.Delete(t.Context(), "absent"); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
	if pauses == 0 {
		t.Error("nothing was retried")
	}

	f.Set(faulty.Options{FailBefore: 1})
	before := f.Calls(faulty.PutIfAbsent)
	if err := s.PutIfAbsent(t.Context(), "new", nil); !errors.Is(err, faulty.ErrInjected) {
		t.Fatalf("got %v", err)
	}
	if n := f.Calls(faulty.PutIfAbsent) - before; n != 1 {
		t.Errorf("a conditional write was tried %d times", n)
	}
	before = f.Calls(faulty.Stat)
	if _, err := s.Stat(t.Context(), "k0000"); !errors.Is(err, faulty.ErrInjected) {
		t.Fatalf("got %v", err)
	}
	if n := f.Calls(faulty.Stat) - before; n != 50 {
		t.Errorf("tried %d times, want 50", n)
	}
	f.Crash()
	before = f.Calls(faulty.Get)
	if _, err := s.Get(t.Context(), "k0000"); !errors.Is(err, faulty.ErrCrashed) || f.Calls(faulty.Get)-before != 1 {
		t.Errorf("a permanent error was retried: %v", err)
	}
	f.Set(faulty.Options{FailBefore: 1})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	before = f.Calls(faulty.Get)
	if _, err := s.Get(ctx, "k0000"); err == nil || f.Calls(faulty.Get)-before != 1 {
		t.Errorf("retried for a caller that is gone: %v", err)
	}
}

// blind is a store that ignores conditions.
type blind struct{ objstore.Store }

func (b blind) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	return b.Put(ctx, key, data)
}

func TestProbe(t *testing.T) {
	inner := mem.New()
	err := objstore.Probe(t.Context(), blind{inner}, "p")
	if !errors.Is(err, objstore.ErrNoConditionalPut) {
		t.Errorf("got %v", err)
	}
	// Trouble on the way is no verdict on the store, and is got over.
	f := faulty.New(inner, faulty.Options{Seed: 3, FailAfter: 0.3, Match: func(op faulty.Op, _ string) bool { return op == faulty.PutIfAbsent }})
	if err := objstore.Probe(t.Context(), f, "p"); err != nil {
		t.Errorf("got %v", err)
	}
	if keys := storetest.Keys(t, inner, "", ""); len(keys) != 0 {
		t.Errorf("left behind: %q", keys)
	}
}
