package sources

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tidemill/tidemill/internal/testserver"
	"github.com/tidemill/tidemill/lakehouse/objstore/faulty"
)

// Sources of one process, whose rows are numbered for its run: nothing is lost or doubled while the
// process lives, and what it had taken in is in at most once when it is killed.

// pipe is the standard input of a process, which numbered rows are written to.
type pipe struct {
	w    *os.File
	stop chan struct{}
	done chan struct{}

	mu   sync.Mutex
	sent map[int64]bool
}

// startPipe writes rows from a number on until it is ended, or nobody reads them any more.
func startPipe(t *testing.T, first int64) (in *os.File, p *pipe) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p = &pipe{w: w, stop: make(chan struct{}), done: make(chan struct{}), sent: map[int64]bool{}}
	t.Cleanup(func() { _ = w.Close(); <-p.done })
	go func() {
		defer close(p.done)
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for id := first; ; id++ {
			select {
			case <-p.stop:
				_ = w.Close()
				return
			case <-tick.C:
			}
			p.mu.Lock()
			p.sent[id] = true // or a part of it
			p.mu.Unlock()
			if _, err := w.Write(append(message{id}.lines(), '\n')); err != nil {
				return
			}
		}
	}()
	return r, p
}

// end closes the pipe behind the last row.
func (p *pipe) end() {
	close(p.stop)
	<-p.done
}

// solo is a process of its own with one connector.
type solo struct {
	*world
	name  string
	dir   string
	port  int
	store *faulty.Proxy
	m     *member
}

func (w *world) solo(t *testing.T, name, connector string) *solo {
	t.Helper()
	s := &solo{world: w, name: name, port: testserver.FreePort(t)}
	var err error
	if s.store, err = faulty.StartProxy(w.addr.S3, faulty.ProxyOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.store.Close)
	s.dir = w.project(t, name, s.store.Addr, map[string]string{name: connector})
	return s
}

// storeAway takes the store away until it has been asked for a few times.
func (s *solo) storeAway(t *testing.T, meanwhile func()) {
	t.Helper()
	s.store.Set(faulty.ProxyOptions{Fault: func(int64, *http.Request) faulty.Fault { return faulty.DropRequest }})
	if meanwhile != nil {
		meanwhile()
	}
	eventually(t, "ask for the store", func(context.Context) error {
		s.m.alive(t)
		if n := s.store.Count(); n < 3 {
			return fmt.Errorf("%d requests", n)
		}
		return nil
	})
	s.store.Set(faulty.ProxyOptions{})
}

// until waits until the tables have that many rows.
func (s *solo) until(t *testing.T, rows int64) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d rows of %s", rows, s.name), func(ctx context.Context) error {
		n, err := s.rows(ctx, s.name)
		if err == nil && n < rows {
			err = fmt.Errorf("%d\n%s", n, last(s.m.Output()))
		}
		return err
	})
}

// all are the rows of both tables once the second hop has done with the landed ones.
func (s *solo) all(t *testing.T) (l *ledger, n int64) {
	t.Helper()
	eventually(t, "score what has landed", func(ctx context.Context) (err error) {
		landed, err := s.landed(ctx, s.name)
		if err != nil {
			return err
		}
		if l, err = s.ledger(ctx, s.name); err != nil {
			return err
		}
		n = 0
		for _, k := range l.scored {
			n += int64(k)
		}
		if n < landed {
			return fmt.Errorf("%d of %d rows", n, landed)
		}
		for _, k := range l.refused {
			n += int64(k)
		}
		return nil
	})
	return l, n
}

func testStdin(t *testing.T, w *world) {
	yaml := func(count int) string {
		return fmt.Sprintf("input:\n  stdin: {}\noutput:\n  lakehouse:\n    table: stdin\n    max_row_bytes: %d\n    batching: {period: 150ms, count: %d}\n", maxRow, count)
	}
	s := w.solo(t, "stdin", yaml(100))
	start := func(first int64) *pipe {
		t.Helper()
		in, p := startPipe(t, first)
		s.m = w.member(t, s.dir, s.port, in)
		_ = in.Close()
		s.m.runs(t, 1, time.Time{})
		return p
	}

	// All of it lands, whatever the store does, and however often the connector is edited.
	whole := start(0)
	s.until(t, 20)
	s.storeAway(t, nil)
	for i := range 2 {
		began := time.Now()
		w.edit(t, s.dir, "stdin", yaml(101+i))
		s.m.runs(t, 1, began)
		_, rows := s.all(t)
		s.until(t, rows+20)
	}
	whole.end()
	eventually(t, "the end of the input", func(ctx context.Context) error {
		s.m.alive(t)
		st, err := s.m.status(ctx)
		if err == nil && (len(st.Connectors) != 1 || st.Connectors[0].State != "ended") {
			err = fmt.Errorf("%+v", st)
		}
		return err
	})
	l, rows := s.all(t)
	l.judge(t, "stdin to its end", true, whole.sent)
	s.m.Stop()

	// What is piped in again lands again, up to where the process is killed.
	killed := start(0)
	s.until(t, rows+20)
	s.m.Kill()
	<-killed.done

	// The process is told to stop, and its time is up before the store takes anything.
	const late = 1_000_000
	hurried := start(late)
	eventually(t, "rows of the last run", func(ctx context.Context) error {
		l, err := s.ledger(ctx, s.name)
		if err == nil && l.both()[late] == 0 {
			err = fmt.Errorf("none\n%s", last(s.m.Output()))
		}
		return err
	})
	s.storeAway(t, func() { _ = syscall.Kill(s.m.Pid(), syscall.SIGTERM) })
	s.m.Kill()
	<-hurried.done
	l, _ = s.all(t)
	for id, n := range l.both() {
		piped := 0
		for _, p := range []*pipe{whole, killed, hurried} {
			if p.sent[id] {
				piped++
			}
		}
		if n > piped {
			t.Errorf("stdin: %d was piped in %d times and is in %d times", id, piped, n)
		}
	}
}

func testGenerate(t *testing.T, w *world) {
	yaml := func(first int) string {
		return fmt.Sprintf(`input:
  generate:
    interval: 4ms
    mapping: |
      let id = %d + counter()
      root.id = if $id %% 50 == 7 { $id.string() } else { $id }
      root.pad = if $id %% 50 == 31 { range(0, %d).map_each("xxxx").join("") } else { "p" }
output:
  lakehouse:
    table: generate
    max_row_bytes: %d
    batching: {period: 150ms, count: 50}
`, first, maxRow, maxRow)
	}
	const run = 1_000_000 // numbers of a run
	s := w.solo(t, "generate", yaml(0))
	s.m = w.member(t, s.dir, s.port, nil)
	s.until(t, 50)
	s.storeAway(t, nil)
	_, rows := s.all(t)
	s.until(t, rows+20)
	for i := 1; i <= 2; i++ { // each edit begins anew
		began := time.Now()
		w.edit(t, s.dir, "generate", yaml(i*run))
		s.m.runs(t, 1, began)
		_, rows = s.all(t)
		s.until(t, rows+50)
	}
	_ = syscall.Kill(s.m.Pid(), syscall.SIGTERM)
	<-s.m.Done()
	w.edit(t, s.dir, "generate", yaml(3*run))
	s.m = w.member(t, s.dir, s.port, nil)
	_, rows = s.all(t)
	s.until(t, rows+50)
	s.m.Kill()
	l, _ := s.all(t)
	last := map[int64]int64{}
	for id, k := range l.both() {
		if k > 1 {
			t.Errorf("generate: %d is in %d times", id, k)
		}
		last[id/run] = max(last[id/run], id%run)
	}
	if len(last) != 4 {
		t.Errorf("generate: runs %v", last)
	}
	for i := range int64(3) { // the last one was killed
		for id := int64(1); id <= last[i]; id++ {
			if l.scored[i*run+id]+l.refused[i*run+id] == 0 {
				t.Errorf("generate: run %d lost %d of %d", i, id, last[i])
			}
		}
	}
	t.Logf("generate: runs made %v rows", last)
}
