package sources

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/tidemill/tidemill/internal/testserver"
	"github.com/tidemill/tidemill/lakehouse/objstore/faulty"
)

// source is one kind of source with its server.
type source struct {
	name  string // of the connector and the table, too
	once  bool   // exactly once; else nothing may be lost
	input string // YAML below `input:`, indented by two; reads through the proxy
	// proxy is between the product and the source's server, or between clients and the
	// product. Nil: there is no connection.
	proxy *testserver.Forward
	lanes int           // messages that are sent side by side; 0: one
	rows  int           // of a message; 0: one
	every time.Duration // between a lane's messages; 0: 15 ms
	// send sends one message and returns when the server has it for good. After an error it
	// may have it or not. It is called by as many goroutines as there are lanes.
	send func(ctx context.Context, m message) error
	// kill and start are the server's. Nil: it is the product itself, or there is none.
	kill  func()
	start func(t *testing.T)
	// rewind makes what was sent come again, while no process reads. May be nil.
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

// eventually tries until it succeeds, and fails the test when it does not in time.
func eventually(t *testing.T, what string, try func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var err error // the last that is not of the deadline
	for {
		now := try(ctx)
		if now == nil {
			return
		}
		if ctx.Err() == nil {
			err = now
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not in time: %v", what, err)
		case <-tick.C:
		}
	}
}

// points are the steps between a row's arrival and its ack at which a process kills itself.
var points = []string{"after-data-put", "before-commit", "after-commit", "before-ack"}

// cast is sources that go through the scenario together: two processes have a connector
// for each of them.
type cast struct {
	*world
	r     *rand.Rand
	dir   string // of the project that both processes run
	edits int
	store *faulty.Proxy // between the processes and the store
	ports [2]int        // of the processes' own HTTP servers
	feeds []*feeder
	a, b  *member
}

// scenario lets everything happen to sources and judges what is in their tables.
func (w *world) scenario(t *testing.T, of func(t *testing.T, at [2]string) []source) {
	t.Helper()
	c := &cast{world: w, r: newRand(t), ports: [2]int{testserver.FreePort(t), testserver.FreePort(t)}}
	all := of(t, [2]string{testserver.Addr(c.ports[0]), testserver.Addr(c.ports[1])})
	began := time.Now()
	var err error
	if c.store, err = faulty.StartProxy(w.addr.S3, faulty.ProxyOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.store.Close)
	c.dir = w.project(t, "cast", c.store.Addr, c.connectors(all))
	for _, s := range all {
		c.feeds = append(c.feeds, startFeeder(t, s))
	}

	// Between the commit and the ack, with nobody else, and somewhere on the way, beside another.
	c.start(t, &c.a, fmt.Sprintf("before-ack:%d", 1+c.r.IntN(4)))
	c.a.dies(t)
	c.start(t, &c.a, fmt.Sprintf("%s:%d", points[c.r.IntN(len(points))], 1+c.r.IntN(6)))
	c.start(t, &c.b, "")
	c.a.dies(t)
	c.more(t, 20+c.r.IntN(60))
	c.start(t, &c.a, "")
	c.lands(t)

	c.cut(t)
	c.lands(t)

	c.restartServers(t)
	c.lands(t)
	c.hooks(stuck)

	c.storeAway(t)
	c.lands(t)

	c.edit(t)
	c.lands(t)

	c.b.terminate(time.Duration(c.r.IntN(120)) * time.Millisecond)
	c.more(t, 20+c.r.IntN(60))
	c.a.Kill() // and then nobody reads
	for _, f := range c.feeds {
		if f.rewind != nil {
			f.rewind(t)
		}
	}
	c.start(t, &c.a, "")
	c.start(t, &c.b, "")
	c.lands(t)
	for _, f := range c.feeds {
		f.stop()
	}
	c.hooksMet(t)
	c.hooks(open)
	for _, f := range c.feeds {
		c.settle(t, f)
	}
	t.Logf("%d sources in %.1f s", len(all), time.Since(began).Seconds())
}

// connectors are the files of all sources, a little different after each edit.
func (c *cast) connectors(all []source) map[string]string {
	out := map[string]string{}
	for _, s := range all {
		out[s.name] = fmt.Sprintf("input:\n%soutput:\n  lakehouse:\n    table: %s\n    max_row_bytes: %d\n    batching: {period: 250ms, count: %d}\n", s.input, s.name, maxRow, 300-c.edits)
	}
	return out
}

// start starts one of the two processes, and waits until all connectors have begun to read.
// fault is a point where it kills itself.
func (c *cast) start(t *testing.T, m **member, fault string) {
	t.Helper()
	name, port := "a", c.ports[0]
	if m == &c.b {
		name, port = "b", c.ports[1]
	}
	*m = c.member(t, c.dir, port, nil, "MEMBER="+name, "TIDEMILL_FAULT="+fault)
	if fault == "" {
		(*m).runs(t, len(c.feeds), time.Time{})
	}
}

// alive fails the test when a process has ended of its own accord.
func (c *cast) alive(t *testing.T) {
	t.Helper()
	c.a.alive(t)
	c.b.alive(t)
}

// more waits until each feeder has sent that many more.
func (c *cast) more(t *testing.T, n int) {
	t.Helper()
	want := map[*feeder]int{}
	for _, f := range c.feeds {
		want[f] = f.count() + n
	}
	eventually(t, fmt.Sprintf("send %d rows more", n), func(context.Context) error {
		for f, n := range want {
			if have := f.count(); have < n {
				return fmt.Errorf("%s: %d of %d", f.name, have, n)
			}
		}
		return nil
	})
}

// pause lets some messages be sent, or not, while a connection is cut.
func (c *cast) pause(t *testing.T) {
	t.Helper()
	timer := time.NewTimer(time.Duration(100+c.r.IntN(400)) * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}

// lands waits until rows of each source that are sent from now on have come through.
func (c *cast) lands(t *testing.T) {
	t.Helper()
	first := map[*feeder]int64{}
	eventually(t, "the tables", func(ctx context.Context) (err error) {
		c.alive(t)
		for _, f := range c.feeds {
			if first[f], err = c.rows(ctx, f.name); err != nil {
				return err
			}
		}
		return nil
	})
	c.more(t, 30)
	eventually(t, "new rows", func(ctx context.Context) error {
		c.alive(t)
		for _, f := range c.feeds {
			n, err := c.rows(ctx, f.name)
			if err == nil && n < first[f]+10 {
				err = fmt.Errorf("%s: %d rows, were %d\n%s", f.name, n, first[f], last(c.a.Output()))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// cut takes the connections to all sources away for a while.
func (c *cast) cut(t *testing.T) {
	t.Helper()
	for _, f := range c.feeds {
		if f.proxy != nil {
			f.proxy.Cut()
		}
	}
	c.pause(t)
	for _, f := range c.feeds {
		if f.proxy != nil {
			f.proxy.Mend()
		}
	}
}

func (c *cast) restartServers(t *testing.T) {
	t.Helper()
	for _, f := range c.feeds {
		if f.kill != nil {
			f.kill()
		}
	}
	for _, f := range c.feeds {
		if f.start != nil {
			f.start(t)
		}
	}
}

// storeAway takes the store away from both processes, and gives it back slow and failing,
// with answers that get lost, before all is well again.
func (c *cast) storeAway(t *testing.T) {
	t.Helper()
	asked := func(n int64) {
		t.Helper()
		eventually(t, fmt.Sprintf("%d requests to the store", n), func(context.Context) error {
			c.alive(t)
			if have := c.store.Count(); have < n {
				return fmt.Errorf("%d", have)
			}
			return nil
		})
	}
	c.store.Set(faulty.ProxyOptions{Fault: func(int64, *http.Request) faulty.Fault { return faulty.DropRequest }})
	c.pause(t)
	asked(4)
	c.store.Set(faulty.ProxyOptions{
		Fault:   faulty.Random(c.r.Uint64(), faulty.Rates{DropRequest: 0.05, DropAnswer: 0.1, Unavailable: 0.05, Internal: 0.05, Conflict: 0.05}),
		Latency: func(int64, *http.Request) time.Duration { return 150 * time.Millisecond },
	})
	asked(40)
	c.store.Set(faulty.ProxyOptions{})
}

// edit changes the file of each connector, while its rows come in, and waits until both
// processes run what is in it.
func (c *cast) edit(t *testing.T) {
	t.Helper()
	began := time.Now()
	c.edits++
	all := make([]source, 0, len(c.feeds))
	for _, f := range c.feeds {
		all = append(all, f.source)
	}
	for name, text := range c.connectors(all) {
		c.world.edit(t, c.dir, name, text)
	}
	c.a.runs(t, len(c.feeds), began)
	c.b.runs(t, len(c.feeds), began)
}

// hooks turns what the sinks of all tables send to.
func (c *cast) hooks(m mode) {
	for _, f := range c.feeds {
		c.world.hooks[f.name].turn(m)
	}
}

// hooksMet waits until each sink has found its receiver gone and then slow.
func (c *cast) hooksMet(t *testing.T) {
	t.Helper()
	eventually(t, "the sinks", func(context.Context) error {
		for _, f := range c.feeds {
			if err := c.world.hooks[f.name].met(); err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
		}
		return nil
	})
}

// settle waits until everything that was sent is acked, in the tables, and sent on, and judges.
func (c *cast) settle(t *testing.T, f *feeder) {
	t.Helper()
	var l *ledger
	eventually(t, "all rows of "+f.name, func(ctx context.Context) error {
		c.alive(t)
		if f.left != nil {
			if n, err := f.left(ctx); err != nil || n != 0 {
				return fmt.Errorf("%d messages are not acked: %w", n, err)
			}
		}
		n, err := c.rows(ctx, f.name)
		if err == nil && n < int64(f.count()) {
			err = fmt.Errorf("%d of %d rows\n%s", n, f.count(), last(c.a.Output()))
		}
		if err != nil {
			return err
		}
		l, err = c.ledger(ctx, f.name)
		if err == nil && len(l.missing(f.sent)) > 0 {
			err = errors.New("lost: " + some(l.missing(f.sent)))
		}
		return err
	})
	l.judge(t, f.name, f.once, f.sent)
	h := c.world.hooks[f.name]
	eventually(t, "what the sink of "+f.name+" sends on", func(context.Context) error {
		if ids := h.missing(l.scored); len(ids) > 0 {
			return errors.New(some(ids))
		}
		return nil
	})
	if ids := h.wrong(l.scored); len(ids) > 0 || len(h.bad) > 0 {
		t.Errorf("%s: sent on wrongly: %s %q", f.name, some(ids), h.bad)
	}
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
func (l *ledger) judge(t *testing.T, name string, once bool, sent map[int64]bool) {
	t.Helper()
	wrong := map[string][]int64{}
	for id, n := range maps.All(l.scored) {
		if poison(id) || oversized(id) {
			wrong["scored and should not be"] = append(wrong["scored and should not be"], id)
		}
		if once && n+l.refused[id] > 1 {
			wrong["doubled"] = append(wrong["doubled"], id)
		}
	}
	for id, n := range l.refused {
		if !poison(id) && !oversized(id) {
			wrong["refused and should not be"] = append(wrong["refused and should not be"], id)
		}
		if once && n > 1 {
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
			t.Errorf("%s: %s: %s", name, what, some(list))
		}
	}
	if len(l.strange) > 0 {
		t.Errorf("%s: rows of nobody: %q", name, l.strange[0])
	}
	t.Logf("%s: sent %d, scored %d, refused %d", name, len(sent), len(l.scored), len(l.refused))
}

// last is the end of a process' log.
func last(log string) string { return log[max(0, len(log)-3000):] }

func some(ids []int64) string {
	slices.Sort(ids)
	return fmt.Sprintf("%d: %v", len(ids), ids[:min(len(ids), 12)])
}
