package pgchanges

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/internal/secret"
	"github.com/tidemill/tidemill/internal/testserver"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
)

// TestPostgres runs all that needs a server on one.
func TestPostgres(t *testing.T) {
	p := testserver.StartPostgres(t)
	for _, c := range []struct {
		name string
		test func(*testing.T, *testserver.Postgres)
	}{
		{"Replay", testReplay},
		{"SnapshotCutEverywhere", testSnapshotCutEverywhere},
		{"PagesInPieces", testPagesInPieces},
		{"RowsDropped", testRowsDropped},
		{"PageOfAnother", testPageOfAnother},
		{"PageComesLate", testPageComesLate},
		{"Types", testTypes},
		{"OldAndUnchanged", testOldAndUnchanged},
		{"InTheWay", testInTheWay},
		{"SlotIsGone", testSlotIsGone},
		{"LargeTransaction", testLargeTransaction},
		{"ServerDies", testServerDies}, // last: the server that it starts goes with it
	} {
		t.Run(c.name, func(t *testing.T) {
			dropSlots(t, p)
			c.test(t, p)
		})
	}
}

// lake stands in for the table: what has landed, and what its log says of it.
type lake struct {
	mu      sync.Mutex
	in      batch.Claims
	cursors map[string]map[int64]string
	lines   []string
	pages   objstore.Store
}

func newLake() *lake {
	return &lake{in: batch.Claims{}, cursors: map[string]map[int64]string{}, pages: mem.New()}
}

// commit lands a batch as one commit; what is in is left out.
func (l *lake) commit(b Batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range b.Rows {
		last := r.Offset + int64(r.Rows) - 1
		for i, line := range strings.Split(string(r.Data), "\n") {
			if !l.in[r.Partition].Contains(r.Offset + int64(i)) {
				l.lines = append(l.lines, line)
			}
		}
		l.in[r.Partition] = l.in[r.Partition].Add(batch.Interval{First: r.Offset - r.Void, Last: last})
		if r.Cursor != "" {
			if l.cursors[r.Partition] == nil {
				l.cursors[r.Partition] = map[int64]string{}
			}
			l.cursors[r.Partition][last] = r.Cursor
		}
	}
}

func (l *lake) at(_ context.Context, partition string) (Standing, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Standing{In: slices.Clone(l.in[partition]), Offset: -1}
	if v, ok := s.In.Find(0); ok {
		for offset, text := range l.cursors[partition] {
			if offset <= v.Last && offset > s.Offset {
				s.Found, s.Offset, s.Cursor = true, offset, text
			}
		}
	}
	return s, nil
}

// event is a line as it landed.
type event struct {
	ID    int64  `json:"id"`
	Rev   int64  `json:"rev"`
	Op    Op     `json:"cdc_op"`
	LSN   uint64 `json:"cdc_lsn"`
	Index int64  `json:"cdc_index"`
	Old   *struct {
		ID int64 `json:"id"`
	} `json:"cdc_old"`
	line string
}

func (l *lake) events(t *testing.T) []event {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]event, len(l.lines))
	for i, line := range l.lines {
		if err := json.Unmarshal([]byte(line), &out[i]); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		out[i].line = line
	}
	slices.SortStableFunc(out, func(a, b event) int { return cmp.Or(cmp.Compare(a.LSN, b.LSN), cmp.Compare(a.Index, b.Index)) })
	return out
}

// writer changes a table and remembers each row's history: its revisions, negative for deletes.
type writer struct {
	t    *testing.T
	conn *pgx.Conn
	r    *rand.Rand
	next int64 // id
	rev  int64
	live []int64
	past map[int64][]int64
}

func newWriter(t *testing.T, p *testserver.Postgres, seed uint64) *writer {
	return &writer{t: t, conn: p.Connect(t), r: rand.New(rand.NewPCG(seed, 1)), past: map[int64][]int64{}}
}

func (w *writer) insert(n int) string {
	var values []string
	for range n {
		w.next++
		w.rev++
		values = append(values, fmt.Sprintf("(%d,%d)", w.next, w.rev))
		w.live = append(w.live, w.next)
		w.past[w.next] = append(w.past[w.next], w.rev)
	}
	return "INSERT INTO orders VALUES " + strings.Join(values, ",")
}

func (w *writer) pick() int { return w.r.IntN(len(w.live)) }

// step is one transaction.
func (w *writer) step() {
	var sql []string
	for range 1 + w.r.IntN(4) {
		switch k := w.r.IntN(8); {
		case k < 3 || len(w.live) < 5:
			sql = append(sql, w.insert(1+w.r.IntN(5)))
		case k < 6:
			i := w.pick()
			w.rev++
			w.past[w.live[i]] = append(w.past[w.live[i]], w.rev)
			sql = append(sql, fmt.Sprintf("UPDATE orders SET rev = %d WHERE id = %d", w.rev, w.live[i]))
		default:
			i := w.pick()
			w.rev++
			w.past[w.live[i]] = append(w.past[w.live[i]], -w.rev)
			sql = append(sql, fmt.Sprintf("DELETE FROM orders WHERE id = %d", w.live[i]))
			w.live = slices.Delete(w.live, i, i+1)
		}
	}
	w.do(sql...)
}

func (w *writer) do(sql ...string) {
	w.t.Helper()
	all := "BEGIN;" + strings.Join(sql, ";") + ";COMMIT"
	if _, err := w.conn.PgConn().Exec(context.Background(), all).ReadAll(); err != nil {
		w.t.Error(all, err)
	}
}

// check wants of each row all its changes since the slot began, once and in their order, and
// before them the row as it was then; which may be missing only if it has changed since.
func (w *writer) check(l *lake) {
	w.t.Helper()
	seen := map[int64][]event{}
	began := w.rev // the last revision that is not among the changes
	for _, e := range l.events(w.t) {
		if e.ID == 0 {
			continue // the marker
		}
		seen[e.ID] = append(seen[e.ID], e)
		if e.Op == OpInsert || e.Op == OpUpdate {
			began = min(began, e.Rev-1)
		}
	}
	for id, past := range w.past { // a delete does not say its revision
		for _, e := range seen[id] {
			if i := slices.IndexFunc(past, func(rev int64) bool { return rev < 0 }); e.Op == OpDelete && i >= 0 {
				began = min(began, -past[i]-1)
			}
		}
	}
	for id, past := range w.past {
		var want []string
		before, there := int64(-1), false
		for _, rev := range past {
			switch {
			case max(rev, -rev) <= began:
				before, there = rev, rev > 0
			case rev < 0:
				want = append(want, "delete")
			case len(want) == 0 && !there || len(want) > 0 && want[len(want)-1] == "delete":
				want = append(want, fmt.Sprint("insert ", rev))
			default:
				want = append(want, fmt.Sprint("update ", rev))
			}
		}
		var got []string
		for _, e := range seen[id] {
			if e.Op == OpDelete {
				got = append(got, "delete")
			} else {
				got = append(got, fmt.Sprint(e.Op, " ", e.Rev))
			}
		}
		first := fmt.Sprint("snapshot ", before)
		if there && (len(want) == 0 || len(got) > 0 && got[0] == first) {
			want = append([]string{first}, want...)
		}
		if !slices.Equal(got, want) {
			w.t.Errorf("row %d has events %v, want %v; its history is %v, the slot began after %d", id, got, want, past, began)
		}
		delete(seen, id)
	}
	for id, got := range seen {
		w.t.Errorf("row %d has events %v and was never there", id, got)
	}
}

// anewTable makes the table anew, and nothing is left of an earlier one's slot.
func anewTable(t *testing.T, p *testserver.Postgres) {
	t.Helper()
	p.Exec(t, "DROP TABLE IF EXISTS orders CASCADE", "DROP PUBLICATION IF EXISTS orders", "CREATE TABLE orders (id int8 PRIMARY KEY, rev int8)")
	dropSlots(t, p)
}

func dropSlots(t *testing.T, p *testserver.Postgres) {
	t.Helper()
	conn := p.Connect(t)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 1000 { // the server may not have noticed yet that the last reader is gone
		_, err := conn.Exec(t.Context(), "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
		if err == nil {
			return
		}
		<-tick.C
	}
	t.Fatal("the slot cannot be dropped")
}

func config(p *testserver.Postgres, l *lake) Config {
	return Config{DSN: secret.New(p.DSN), Slot: "orders", Tables: []string{"orders"}, Snapshot: true, Lines: true, At: l.at, Pages: func(context.Context) (objstore.Store, error) { return l.pages, nil }}
}

// open tries until the slot is free: the server may not have noticed yet that its last
// reader is gone.
func open(t *testing.T, c Config) *Source {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 3000 {
		s, err := Open(t.Context(), c)
		if err == nil {
			return s
		}
		if !strings.Contains(err.Error(), "in use") && !strings.Contains(err.Error(), "is active") && !strings.Contains(err.Error(), "connect") {
			t.Fatal(err)
		}
		<-tick.C
	}
	t.Fatal("the slot does not become free")
	return nil
}

// drain reads until the marker row has landed.
func drain(t *testing.T, p *testserver.Postgres, c Config, l *lake) {
	t.Helper()
	s := open(t, c)
	defer s.Close()
	p.Exec(t, "INSERT INTO orders VALUES (0, 0)") // the slot is there, so it comes as a change
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		b, err := s.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		l.commit(b)
		b.Ack()
		for _, r := range b.Rows {
			if bytes.Contains(r.Data, []byte(`{"id":0,`)) {
				return
			}
		}
	}
}

// live is one process's life: it reads some batches, of which some land, in any order, and
// some are acked, and dies.
func live(t *testing.T, c Config, l *lake, r *rand.Rand) {
	s := open(t, c)
	defer s.Close()
	var flying []Batch
	for range 1 + r.IntN(6) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		b, err := s.Next(ctx)
		cancel()
		if err != nil {
			if ctx.Err() == nil {
				t.Error(err)
			}
			break
		}
		flying = append(flying, b)
		r.Shuffle(len(flying), func(i, j int) { flying[i], flying[j] = flying[j], flying[i] })
		for len(flying) > 0 && (b.Page || r.IntN(3) > 0) { // only one page is on its way
			if b.Page && r.IntN(4) == 0 {
				return
			}
			last := flying[len(flying)-1]
			flying = flying[:len(flying)-1]
			l.commit(last)
			if !b.Page && r.IntN(4) == 0 {
				continue // and it dies before it can tell
			}
			last.Ack()
		}
	}
}

// testReplay: while a writer goes on, processes read and die at any moment, in the
// snapshot and after it. Every change is there once.
func testReplay(t *testing.T, p *testserver.Postgres) {
	for seed := range uint64(4) {
		anewTable(t, p)
		w, l := newWriter(t, p, seed), newLake()
		w.do(w.insert(40))
		c := config(p, l)
		c.PageRows, c.BatchRows = 7, 5
		r := rand.New(rand.NewPCG(seed, 2))
		for range 25 {
			var wg sync.WaitGroup
			wg.Go(func() {
				for range 20 {
					w.step()
				}
			})
			live(t, c, l, r)
			wg.Wait()
		}
		drain(t, p, c, l)
		w.check(l)
		if n := len(l.in); n != 2 {
			t.Errorf("seed %d: %d partitions: %v", seed, n, l.in)
		}
		for part, in := range l.in {
			if len(in) > 40 {
				t.Errorf("seed %d: %s is %d intervals", seed, part, len(in))
			}
		}
		if t.Failed() {
			t.Fatalf("seed %d, %d changes", seed, w.rev)
		}
		t.Logf("seed %d: %d changes, %d events", seed, w.rev, len(l.lines))
	}
}

// testSnapshotCutEverywhere: the process dies before and after each page has landed, and the
// rows change in between.
func testSnapshotCutEverywhere(t *testing.T, p *testserver.Postgres) {
	const pages = 6
	for cut := range pages {
		for _, landed := range []bool{false, true} {
			anewTable(t, p)
			w, l := newWriter(t, p, uint64(cut)), newLake()
			w.do(w.insert(pages*5 - 2))
			c := config(p, l)
			c.PageRows = 5
			s := open(t, c)
			for n := 0; ; n++ {
				b, err := s.Next(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if n < cut || landed {
					l.commit(b)
				}
				w.step()
				if n == cut {
					break
				}
				b.Ack()
			}
			s.Close()
			for range 5 {
				w.step()
			}
			drain(t, p, c, l)
			w.check(l)
			if left := l.staged(t); len(left) > 0 {
				t.Errorf("%v are left", left)
			}
			if t.Failed() {
				t.Fatalf("cut at page %d, landed %v", cut, landed)
			}
		}
	}
}

// testServerDies: the server is killed, and comes back, while a process reads and
// another writes.
func testServerDies(t *testing.T, p *testserver.Postgres) {
	anewTable(t, p)
	w, l := newWriter(t, p, 1), newLake()
	w.do(w.insert(40))
	c := config(p, l)
	for range 3 {
		s := open(t, c)
		for range 20 {
			w.step()
		}
		b, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		l.commit(b)
		b.Ack()
		p.Kill()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		for err == nil { // what was read before is handed out still
			_, err = s.Next(ctx)
		}
		if ctx.Err() != nil {
			t.Fatal("the source does not see that its server is gone")
		}
		cancel()
		s.Close()
		if _, err := Open(t.Context(), c); err == nil {
			t.Error("there is no server, and it opens")
		}
		p.Restart(t)
		w.conn = p.Connect(t)
	}
	w.step()
	drain(t, p, c, l)
	w.check(l)
}

// testPagesInPieces: rows that are messages of their own land in pieces, and the process dies
// between two of them, while rows change. The page that was on its way comes again as it was, in
// lines or row by row, and each row lands once. What is kept of pages goes in the end.
func testPagesInPieces(t *testing.T, p *testserver.Postgres) {
	for seed := range uint64(6) {
		anewTable(t, p)
		w, l := newWriter(t, p, seed), newLake()
		w.do(w.insert(90))
		c := config(p, l)
		c.PageRows = 10
		r := rand.New(rand.NewPCG(seed, 2))
		pieces := 0
		for range 14 {
			c.Lines = r.IntN(3) == 0 // somebody edits the connector's processors
			s := open(t, c)
			l.take(t, s, r.IntN(3))
			w.step()
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			if b, err := s.Next(ctx); err == nil && b.Page {
				r.Shuffle(len(b.Rows), func(i, j int) { b.Rows[i], b.Rows[j] = b.Rows[j], b.Rows[i] })
				b.Rows = b.Rows[:r.IntN(len(b.Rows)+1)]
				pieces += len(b.Rows)
				l.commit(b)
			}
			cancel()
			s.Close()
			w.step()
		}
		drain(t, p, c, l)
		w.check(l)
		began := map[uint64]bool{}
		for _, e := range l.events(t) {
			if e.Op == OpSnapshot {
				began[e.LSN] = true
			}
		}
		if len(began) != 1 || pieces == 0 {
			t.Errorf("seed %d: %d snapshots, %d rows of cut pages", seed, len(began), pieces)
		}
		if left := l.staged(t); len(left) > 0 {
			t.Errorf("seed %d: %v are left", seed, left)
		}
		if t.Failed() {
			t.FailNow()
		}
	}
}

// take lands so many pages, or those that there are and one batch of changes.
func (l *lake) take(t *testing.T, s *Source, pages int) {
	t.Helper()
	for range pages {
		b, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		l.commit(b)
		b.Ack()
		if !b.Page {
			return
		}
	}
}

// staged returns the keys of what is kept of pages.
func (l *lake) staged(t *testing.T) (out []string) {
	t.Helper()
	for o, err := range l.pages.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, o.Key)
	}
	return out
}

// faulty is a store in which something happens before a page is put.
type faulty struct {
	objstore.Store
	before func() error
}

func (f *faulty) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	if err := f.before(); err != nil {
		return err
	}
	return f.Store.PutIfAbsent(ctx, key, data)
}

// with has a process use a store of its own.
func with(c Config, s objstore.Store) Config {
	c.Pages = func(context.Context) (objstore.Store, error) { return s, nil }
	return c
}

// testRowsDropped: processors drop the last rows of pages, or all, so that their marks do not come into
// the table's log, and the process dies now and then. What landed does not come again.
func testRowsDropped(t *testing.T, p *testserver.Postgres) {
	const pages = 4
	for _, c := range []struct{ keep, until int }{{0, pages}, {3, pages}, {3, 2}} { // rows of a page; pages of which not all are kept
		t.Run(fmt.Sprintf("%d rows of %d pages", c.keep, c.until), func(t *testing.T) {
			anewTable(t, p)
			w, l := newWriter(t, p, 1), newLake()
			w.do(w.insert(10 * pages))
			conf := config(p, l)
			conf.PageRows, conf.Lines = 10, false
			next := 0
			// read reads until n pages more have been put, and dies when it would put another, or before the last one is acked.
			read := func(n int, ack bool) {
				left := n
				s := open(t, with(conf, &faulty{l.pages, func() error {
					if left--; left < 0 {
						return errors.New("the process is dead")
					}
					return nil
				}}))
				defer s.Close()
				for {
					b, err := s.Next(t.Context())
					if err != nil || !b.Page {
						return
					}
					last := b.Rows[len(b.Rows)-1]
					next = int(last.Offset+1) / 10
					if next <= c.until {
						b.Rows = b.Rows[:c.keep]
					}
					l.commit(b)
					if left == 0 && !ack {
						return
					}
					b.Ack()
					if next == pages { // the end is noted before changes come
						p.Exec(t, "INSERT INTO orders SELECT least(min(id), 0) - 1, 0 FROM orders")
					}
				}
			}
			read(1, true)
			read(1, false)
			read(0, true)
			read(1, false)
			read(pages-3, true)
			if next != pages {
				t.Fatalf("%d pages were read", next)
			}
			kept := 1
			if c.until < pages {
				kept = 0
			}
			if left := l.staged(t); len(left) != kept {
				t.Errorf("%v are kept", left)
			}
			s := open(t, conf)
			defer s.Close()
			if b, err := s.Next(t.Context()); err != nil || b.Page {
				t.Errorf("no change comes, but a page %v, or %v", b.Page, err)
			}
			var landed, want []int64
			for _, e := range l.events(t) {
				landed = append(landed, e.ID)
			}
			slices.Sort(landed)
			for id := range 10 * pages {
				if id%10 < c.keep || id/10 >= c.until {
					want = append(want, int64(id+1))
				}
			}
			if !slices.Equal(landed, want) {
				t.Errorf("landed %v, want %v", landed, want)
			}
		})
	}
}

// testPageOfAnother: a process that has read a page stands still before it keeps it, is taken
// for dead, and wakes up when the one that took over is behind that page, or has gone to the end.
// It hands out nothing any more.
func testPageOfAnother(t *testing.T, p *testserver.Postgres) {
	for _, pages := range []int{1, 2, 10} {
		anewTable(t, p)
		w, l := newWriter(t, p, uint64(pages)), newLake()
		w.do(w.insert(40))
		c := config(p, l)
		c.PageRows = 10
		asleep, awake := make(chan struct{}), make(chan struct{})
		puts := 0
		a := open(t, with(c, &faulty{l.pages, func() error {
			if puts++; puts == 2 {
				close(asleep)
				<-awake
			}
			return nil
		}}))
		l.take(t, a, 1)
		<-asleep
		p.Exec(t, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tidemill'")
		for range 3 {
			w.step()
		}
		second := open(t, c)
		l.take(t, second, pages)
		close(awake)
		if b, err := a.Next(t.Context()); err == nil {
			t.Errorf("after %d pages of the other it hands out %d messages", pages, len(b.Rows))
		}
		a.Close()
		second.Close()
		drain(t, p, c, l)
		w.check(l)
	}
}

// testPageComesLate: the process that is taken for dead wakes up between the other's look for
// pages and its first one, and keeps its own page there, which is larger. Then that is the page,
// and what the other has read ahead behind its own is not used.
func testPageComesLate(t *testing.T, p *testserver.Postgres) {
	anewTable(t, p)
	w, l := newWriter(t, p, 1), newLake()
	w.do(w.insert(40))
	c := config(p, l)
	c.PageRows = 10
	asleep, awake := make(chan struct{}), make(chan struct{})
	puts := 0
	first := open(t, with(c, &faulty{l.pages, func() error {
		if puts++; puts == 2 {
			close(asleep)
			<-awake
		}
		return nil
	}}))
	defer first.Close()
	l.take(t, first, 1)
	<-asleep
	p.Exec(t, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tidemill'")
	c.PageRows = 4
	late := sync.OnceFunc(func() {
		close(awake)
		if _, err := first.Next(t.Context()); err == nil {
			t.Error("it hands out its page")
		}
	})
	second := open(t, with(c, &faulty{l.pages, func() error { late(); return nil }}))
	l.take(t, second, 1)
	if n := len(l.events(t)); n != 20 {
		t.Errorf("%d rows after the page of the first process, want 20", n)
	}
	l.take(t, second, 3)
	second.Close()
	drain(t, p, c, l)
	w.check(l)
}
