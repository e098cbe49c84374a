package sinks

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// statusIs waits for a status.
func statusIs(t *testing.T, ask func() (Status, error), want string, is func(Status) bool) Status {
	t.Helper()
	var s Status
	poll(t, func() error {
		var err error
		if s, err = ask(); err != nil || !is(s) {
			return fmt.Errorf("the status is not that of a sink %s: %+v, %w", want, s, err)
		}
		return nil
	})
	return s
}

// TestStatus: what a sink's process knows of it, what others read, and what goes on when
// another process has it.
func TestStatus(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t), newSystem()
	s.down = true
	s.poison["r00004"] = true
	o := w.options("{name: s, batching: {count: 4}, attempts: 1, output: {drop: {}}}", s)
	o.Process, o.Generation = "one/1", 3
	said := time.Now()
	o.LastError = func() (string, time.Time) { return "no way to http://u:hush@host", said }
	r, stop := start(t, o)
	own := func() (Status, error) { return r.Status(t.Context()) }
	read := func() (Status, error) {
		if _, err := w.scored.Refresh(t.Context()); err != nil {
			return Status{}, err
		}
		return ReadStatus(t.Context(), w.store, w.scored, "t", "s")
	}
	statusIs(t, own, "that is at work", func(Status) bool { return r.now.Load() != nil }) // and its mark in the log
	if _, err := w.scored.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := w.scored.Snapshot().Version()
	ids := append(w.score(3, 4), w.score(5)...)
	for who, ask := range map[string]func() (Status, error){"its process": own, "another": read} {
		got := statusIs(t, ask, "that is down", func(s Status) bool { return s.Down && s.Rows == 12 })
		if !got.Held || got.Here != (who == "its process") || got.Version != before || got.Versions != 2 || got.Sent != 0 || got.Process != "one/1" || got.Generation != 3 ||
			!strings.Contains(got.Error, "no way to http://") || strings.Contains(got.Error, "hush") || !got.ErrorAt.Equal(said) || time.Since(got.Seen) > time.Minute {
			t.Errorf("to %s: %+v", who, got)
		}
	}
	s.set(func(s *system) { s.down = false })
	s.await(t, append(ids[:4:4], ids[5:]...))
	got := statusIs(t, own, "that is done", func(s Status) bool { return s.Versions == 0 && !s.Down })
	if got.Sent != 11 || got.Refused != 1 || got.Rows != 0 || got.Version != w.scored.Snapshot().Version() {
		t.Errorf("%+v", got)
	}

	// A sink that is not held tells what was last known, and how far it is behind.
	stop()
	w.score(6)
	got = statusIs(t, read, "without a process", func(s Status) bool { return !s.Held })
	if got.Sent != 11 || got.Rows != 6 || got.Versions != 1 || got.Process != "one/1" {
		t.Errorf("%+v", got)
	}
	o.Process, o.Generation, o.LastError = "two/2", 1, func() (string, time.Time) { return "older", said.Add(-time.Hour) }
	r, _ = start(t, o)
	got = statusIs(t, own, "that another has", func(s Status) bool { return s.Sent == 17 })
	if got.Process != "two/2" || got.Generation != 1 || got.Refused != 1 || !strings.Contains(got.Error, "no way") {
		t.Errorf("%+v", got)
	}
}

// TestStatusFarBehind: nobody reads a day of commits for one number.
func TestStatusFarBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for range rowsWithin + 1 {
		w.score(1)
	}
	last := w.scored.Snapshot().Version()
	for at, want := range map[Position][2]int64{
		{Version: last - rowsWithin}:             {rowsWithin + 1, -1},
		{Version: last - rowsWithin + 1}:         {rowsWithin, rowsWithin},
		{Version: last - rowsWithin + 1, Row: 1}: {rowsWithin, rowsWithin - 1},
		{Version: last + 1}:                      {0, 0},
	} {
		if versions, rows, err := behind(t.Context(), w.scored, at); err != nil || [2]int64{versions, rows} != want {
			t.Errorf("at %+v: %d versions and %d rows behind, %v; want %v", at, versions, rows, err, want)
		}
	}
}

// TestStatusWithoutItsStore: the process that has a sink knows how far it is all the same.
func TestStatusWithoutItsStore(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t), newSystem()
	o := w.options("{name: s, output: {drop: {}}}", s)
	dead := make(chan struct{})
	store := &cut{Store: w.store, dead: dead}
	o.Store = store
	r, _ := start(t, o)
	s.await(t, w.score(5))
	statusIs(t, func() (Status, error) { return r.Status(t.Context()) }, "that is done", func(s Status) bool { return s.Versions == 0 })
	close(dead)
	if got, err := r.Status(t.Context()); err != nil || got.Sent != 5 || !got.Here {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := ReadStatus(t.Context(), store, w.scored, "t", "s"); err == nil {
		t.Error("a status without a cursor")
	}
}

// silence is a system that never answers.
type silence struct{ asked atomic.Int64 }

func (s *silence) Close(context.Context) error { return nil }

func (s *silence) Send(ctx context.Context, _ []Message) error {
	s.asked.Add(1)
	<-ctx.Done()
	return ctx.Err()
}

// TestASinkThatDoesNotAnswerIsDownSoon: each question costs the sink's whole timeout, so few
// are asked before it is said.
func TestASinkThatDoesNotAnswerIsDownSoon(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t), &silence{}
	o := w.options("{name: s, timeout: 1s, output: {drop: {}}}", nil)
	o.Open = func() (Output, error) { return s, nil }
	asked := make(chan int64, 100)
	o.Observe.Down = func(down bool) {
		if down {
			select {
			case asked <- s.asked.Load():
			default:
			}
		}
	}
	r, _ := start(t, o)
	w.score(40)
	if n := <-asked; n != 1+silent {
		t.Errorf("down after %d questions, want %d", n, 1+silent)
	}
	got := statusIs(t, func() (Status, error) { return r.Status(t.Context()) }, "that is down", func(s Status) bool { return s.Down })
	if got.Rows != 40 {
		t.Errorf("%+v", got)
	}
}
