package sources

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemill/tidemill/internal/testserver"
)

// source is one kind of source with its server.
type source struct {
	name  string // of the table, too
	once  bool   // exactly once; else nothing may be lost
	input string // YAML below `input:`, indented by two; reads through the proxy
	// send sends one message and returns when the server has it for good. After an error it
	// may have it or not.
	send func(ctx context.Context, body []byte) error
	// kill and start are the server's.
	kill  func()
	start func(t *testing.T)
	// rewind makes everything come again, while no process reads. May be nil.
	rewind func(t *testing.T)
	// left is how many messages are not acked. May be nil.
	left func(ctx context.Context) (int64, error)
}

// seedVar makes a run's random moments repeatable: they are in the test's log.
const seedVar = "TIDEMILL_CHAOS_SEED"

func newRand(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if s := os.Getenv(seedVar); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("$%s: %v", seedVar, err)
		}
	}
	t.Logf("random moments of $%s=%d", seedVar, seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// maxRow is what connectors here take of a row.
const maxRow = 4000

// body is the message of a number. Some are poison, some too large.
func body(id int64) []byte {
	switch {
	case poison(id):
		return fmt.Appendf(nil, `{"id": %d, "pad": "`, id)
	case oversized(id):
		return fmt.Appendf(nil, `{"id": %d, "pad": %q}`, id, strings.Repeat("x", 3*maxRow))
	}
	return fmt.Appendf(nil, `{"id": %d, "pad": "p"}`, id)
}

func poison(id int64) bool    { return id%50 == 7 }
func oversized(id int64) bool { return id%50 == 31 }

// feeder sends numbered messages until it is stopped.
type feeder struct {
	stop context.CancelFunc
	done chan struct{}

	mu   sync.Mutex
	sent map[int64]bool // false: perhaps
}

// startFeeder sends a message every few ms, each number once.
func startFeeder(t *testing.T, s source) *feeder {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	f := &feeder{stop: cancel, done: make(chan struct{}), sent: map[int64]bool{}}
	go func() {
		defer close(f.done)
		tick := time.NewTicker(4 * time.Millisecond)
		defer tick.Stop()
		for id := int64(1); ; id++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			sending, end := context.WithTimeout(context.Background(), 15*time.Second)
			err := s.send(sending, body(id))
			end()
			f.mu.Lock()
			f.sent[id] = err == nil
			f.mu.Unlock()
		}
	}()
	t.Cleanup(func() { cancel(); <-f.done })
	return f
}

func (f *feeder) count() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, ok := range f.sent {
		if ok {
			n++
		}
	}
	return n
}

// more waits until the feeder has sent that many more.
func (f *feeder) more(t *testing.T, n int) {
	t.Helper()
	want := f.count() + n
	eventually(t, fmt.Sprintf("send %d messages more", n), func(context.Context) error {
		if have := f.count(); have < want {
			return fmt.Errorf("%d of %d", have, want)
		}
		return nil
	})
}

// eventually is [testserver.Eventually] with the time that a source may take.
func eventually(t *testing.T, what string, try func(context.Context) error) {
	t.Helper()
	testserver.Eventually(t, what, 2*time.Minute, try)
}

// scenario lets everything happen to a source and judges what is in its tables.
func (w *world) scenario(t *testing.T, s source, p *testserver.Forward) {
	t.Helper()
	began := time.Now()
	r := newRand(t)
	dir := w.project(t, s.name, fmt.Sprintf("input:\n%soutput:\n  lakehouse:\n    table: %s\n    max_row_bytes: %d\n    batching: {period: 40ms, count: 300}\n", s.input, s.name, maxRow))
	start := func(name string) *member {
		m := w.member(t, dir, name)
		m.atWork(t)
		return m
	}
	feed := startFeeder(t, s)
	a, b := start("a"), start("b")
	w.lands(t, s, feed, a, b)

	a.Kill() // with the other one alive
	feed.more(t, 20+r.IntN(150))
	a = start("a")
	w.lands(t, s, feed, a, b)

	p.Cut()
	feed.pause(t, r)
	p.Mend()
	w.lands(t, s, feed, a, b)

	s.kill()
	s.start(t)
	w.lands(t, s, feed, a, b)

	b.terminate(time.Duration(r.IntN(120)) * time.Millisecond)
	feed.more(t, 20+r.IntN(150))
	a.Kill() // and then nobody reads
	if s.rewind != nil {
		s.rewind(t)
	}
	a, b = start("a"), start("b")
	w.lands(t, s, feed, a, b)
	feed.stop()
	<-feed.done
	w.settle(t, s, feed, a, b)
	t.Logf("%s: %d messages in %.1f s", s.name, len(feed.sent), time.Since(began).Seconds())
}

// pause lets some messages be sent, or not, while a connection is cut.
func (f *feeder) pause(t *testing.T, r *rand.Rand) {
	t.Helper()
	timer := time.NewTimer(time.Duration(100+r.IntN(400)) * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}

// lands waits until rows sent from now on have come through.
func (w *world) lands(t *testing.T, s source, f *feeder, members ...*member) {
	t.Helper()
	ready := func(ctx context.Context) (int64, error) {
		for _, m := range members {
			m.alive(t)
		}
		return w.rows(ctx, s.name)
	}
	var first int64
	eventually(t, "the tables of "+s.name, func(ctx context.Context) (err error) {
		first, err = ready(ctx)
		return err
	})
	f.more(t, 30)
	eventually(t, "new rows of "+s.name, func(ctx context.Context) error {
		n, err := ready(ctx)
		if err == nil && n < first+10 {
			err = fmt.Errorf("%d rows, were %d\n%s", n, first, last(members[0].Output()))
		}
		return err
	})
}

// settle waits until everything that was sent is acked and in the tables.
func (w *world) settle(t *testing.T, s source, f *feeder, members ...*member) {
	t.Helper()
	var l *ledger
	eventually(t, "all rows of "+s.name, func(ctx context.Context) error {
		for _, m := range members {
			m.alive(t)
		}
		if s.left != nil {
			if n, err := s.left(ctx); err != nil || n != 0 {
				return fmt.Errorf("%d messages are not acked: %w", n, err)
			}
		}
		n, err := w.rows(ctx, s.name)
		if err == nil && n < int64(f.count()) {
			err = fmt.Errorf("%d of %d rows\n%s", n, f.count(), last(members[0].Output()))
		}
		if err != nil {
			return err
		}
		l, err = w.ledger(ctx, s.name)
		if err == nil && len(l.missing(f.sent)) > 0 {
			err = errors.New("lost: " + some(l.missing(f.sent)))
		}
		return err
	})
	l.judge(t, s, f.sent)
}

func (l *ledger) missing(sent map[int64]bool) (out []int64) {
	for id, surely := range sent {
		if surely && l.scored[id]+l.refused[id] == 0 {
			out = append(out, id)
		}
	}
	return out
}

// judge compares the numbers in the tables with those that were sent.
func (l *ledger) judge(t *testing.T, s source, sent map[int64]bool) {
	t.Helper()
	wrong := map[string][]int64{}
	for id, n := range maps.All(l.scored) {
		if poison(id) || oversized(id) {
			wrong["scored and should not be"] = append(wrong["scored and should not be"], id)
		}
		if s.once && n+l.refused[id] > 1 {
			wrong["doubled"] = append(wrong["doubled"], id)
		}
	}
	for id, n := range l.refused {
		if !poison(id) && !oversized(id) {
			wrong["refused and should not be"] = append(wrong["refused and should not be"], id)
		}
		if s.once && n > 1 {
			wrong["doubled in quarantine"] = append(wrong["doubled in quarantine"], id)
		}
	}
	for _, in := range []map[int64]int{l.scored, l.refused} {
		for id := range in {
			if _, ok := sent[id]; !ok {
				wrong["never sent"] = append(wrong["never sent"], id)
			}
		}
	}
	wrong["lost"] = l.missing(sent)
	for what, list := range wrong {
		if len(list) > 0 {
			t.Errorf("%s: %s: %s", s.name, what, some(list))
		}
	}
	if len(l.strange) > 0 {
		t.Errorf("%s: rows of nobody: %q", s.name, l.strange[0])
	}
	t.Logf("%s: sent %d, scored %d, refused %d", s.name, len(sent), len(l.scored), len(l.refused))
}

// last is the end of a process' log.
func last(log string) string { return log[max(0, len(log)-3000):] }

func some(ids []int64) string {
	slices.Sort(ids)
	return fmt.Sprintf("%d: %v", len(ids), ids[:min(len(ids), 12)])
}
