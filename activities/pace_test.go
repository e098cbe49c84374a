package activities

import (
	"context"
	"errors"
	"testing"
	"time"
)

// While rows come in, a rest follows the work, and ends as soon as none do.
func TestPace(t *testing.T) {
	for _, c := range []struct {
		worked time.Duration
		rest   int // times the work
		busy   int // looks that find rows coming in
		want   time.Duration
	}{
		{time.Second, restOnMany, 0, 0},
		{time.Second, restOnMany, 1000, time.Second},
		{time.Second, restOnOne, 1000, 3 * time.Second},
		{time.Second, restOnMany, 3, 3 * restStep},
		{restStep / 2, restOnMany, 1000, restStep / 2},
		{0, restOnMany, 1000, 0},
	} {
		rested, looks := time.Duration(0), 0
		p := &pacer{rest: c.rest, busy: func() bool { looks++; return looks <= c.busy }, wait: func(_ context.Context, d time.Duration) error {
			rested += d
			return nil
		}}
		if err := p.pace(t.Context(), c.worked); err != nil || rested != c.want {
			t.Errorf("%+v: rested %v, %v", c, rested, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	p := newPacer(func() bool { cancel(); return true })
	if err := p.pace(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled at rest: %v", err)
	}
	p = newPacer(func() bool { return false })
	if err := p.pace(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled while idle: %v", err)
	}
}

// A worker is busy with a range, and for a moment after it.
func TestLoad(t *testing.T) {
	now := time.Unix(1000, 0)
	l := &load{now: func() time.Time { return now }}
	if l.busy() {
		t.Error("busy before it began")
	}
	end, other := l.begin(), l.begin()
	other()
	now = now.Add(time.Hour)
	if !l.busy() {
		t.Error("idle in the middle of a range")
	}
	end()
	now = now.Add(quietAfter - 1)
	if !l.busy() {
		t.Error("idle at once")
	}
	now = now.Add(1)
	if l.busy() {
		t.Error("busy for ever")
	}
}
