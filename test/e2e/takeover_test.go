package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/tidemill/tidemill/internal/testserver"
	"github.com/tidemill/tidemill/test/product"
)

// letters is a webhook that knows which process each row came from.
type letters struct {
	mu   sync.Mutex
	keys map[int]string          // by n
	from map[int]map[string]bool // processes, by n
	bad  []string
	hit  func(sender string) // asked before each row is answered; may be nil
}

func (l *letters) ServeHTTP(_ http.ResponseWriter, req *http.Request) {
	var row struct{ N *int }
	err := json.NewDecoder(req.Body).Decode(&row)
	l.mu.Lock()
	defer l.mu.Unlock()
	key, sender := req.Header.Get("Idempotency-Key"), req.Header.Get("X-Sender")
	if err != nil || row.N == nil || key == "" {
		l.bad = append(l.bad, fmt.Sprintf("%v %+v %q", err, row, key))
		return
	}
	if have, ok := l.keys[*row.N]; ok && have != key {
		l.bad = append(l.bad, fmt.Sprintf("%d came as %s and as %s", *row.N, have, key))
	}
	l.keys[*row.N] = key
	if l.from[*row.N] == nil {
		l.from[*row.N] = map[string]bool{}
	}
	l.from[*row.N][sender] = true
	if l.hit != nil {
		l.hit(sender)
	}
}

// all says whether all rows below n have come.
func (l *letters) all(n int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.bad) > 0 {
		return errors.New(l.bad[0])
	}
	if len(l.keys) < n {
		return fmt.Errorf("%d of %d rows have come", len(l.keys), n)
	}
	return nil
}

// by says how many rows came from a process, and how many of those from another as well.
func (l *letters) by(sender string, from, to int) (rows, shared int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for n := from; n < to; n++ {
		if l.from[n][sender] {
			rows++
			if len(l.from[n]) > 1 {
				shared++
			}
		}
	}
	return rows, shared
}

// worker is one of the processes of a project.
type worker struct {
	*product.Server
	name, url string
}

// TestAnotherProcessTakesASinkOver: of two processes one has the sink. When that one is
// killed, or stands still for a while, in the middle of a batch, the other goes on: each
// row arrives, with one key. The one that wakes up sees that it has lost the sink.
func TestAnotherProcessTakesASinkOver(t *testing.T) {
	for name, sig := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "asleep": syscall.SIGSTOP} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := &letters{keys: map[int]string{}, from: map[int]map[string]bool{}}
			hook := httptest.NewServer(l)
			t.Cleanup(hook.Close)
			d := dev(t)
			var ws [2]worker
			for i := range ws {
				ws[i] = startWorker(t, d, "takeover-"+name, string(rune('a'+i)), hook.URL)
			}
			holder, other := holding(t, ws)

			// The tenth row that it sends is the last for now: it is taken, and nobody knows.
			const rows = 200
			seen := 0
			l.mu.Lock()
			l.hit = func(sender string) {
				if seen++; seen == 10 && sender == holder.name {
					if err := syscall.Kill(holder.Pid(), sig); err != nil {
						l.bad = append(l.bad, err.Error())
					}
				}
			}
			l.mu.Unlock()
			t.Cleanup(func() { _ = syscall.Kill(holder.Pid(), syscall.SIGCONT) })
			other.post(t, 0, rows)
			other.Until(t, func() error { return l.all(rows) })
			if n, shared := l.by(holder.name, 0, rows); n == 0 || shared == 0 {
				t.Errorf("%d rows came from the process that was stopped, %d of them again from the other: nothing was under way", n, shared)
			}
			if x := other.sink(t); !x.Here {
				t.Errorf("the other process does not have the sink: %+v", x)
			}
			if sig == syscall.SIGSTOP {
				if err := syscall.Kill(holder.Pid(), syscall.SIGCONT); err != nil {
					t.Fatal(err)
				}
				holder.Until(t, func() error {
					if !strings.Contains(holder.Output(), "another process sends for the sink now") {
						return errors.New("it has not seen that the sink is another's")
					}
					return nil
				})
				holder.post(t, rows, 2*rows)
				other.Until(t, func() error { return l.all(2 * rows) })
				if n, _ := l.by(holder.name, rows, 2*rows); n > 0 {
					t.Errorf("%d rows came from the process that has lost the sink", n)
				}
				if x := holder.sink(t); x.Here || x.Process == "" {
					t.Errorf("the process that has lost the sink says %+v", x)
				}
				if code := holder.Stop(); code != 0 {
					t.Errorf("exit code %d\n%s", code, holder.Output())
				}
			}
			oneAfterTheOther(t, d, "takeover-"+name)
			if code := other.Stop(); code != 0 {
				t.Errorf("exit code %d\n%s", code, other.Output())
			}
		})
	}
}

func startWorker(t *testing.T, d *devServer, project, name, hook string) worker {
	t.Helper()
	addr := testserver.Addr(testserver.FreePort(t))
	dir := d.ownAt(t, addr, project, fmt.Sprintf("temporal: {address: %q}\nmaintenance: {every: off}\n", d.Temporal))
	err := product.Project{
		"connectors/letters.yaml": httpConnector("letters"),
		"tables/letters.yaml": `table: letters
columns: [{name: n, type: long, required: true}]
sinks:
  - name: hook
    batching: {count: 40}
    output:
      http_client:
        url: ` + hook + `
        verb: POST
        headers: {Idempotency-Key: "${! meta(\"tidemill_key\") }", X-Sender: "${E2E_SENDER}"}
        retries: 0
`,
	}.WriteTo(dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := binary(t, "E2E_SENDER="+name).Start("run", dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Signal(syscall.SIGKILL) })
	w := worker{Server: s, name: name, url: "http://" + addr}
	s.Until(t, func() error {
		resp, err := http.Get(w.url + "/tidemill/status")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		var st struct{ Projects []projectStatus }
		if err := json.NewDecoder(resp.Body).Decode(&st); err != nil || len(st.Projects) == 0 {
			return fmt.Errorf("it does not run yet: %w", err)
		}
		return nil
	})
	return w
}

// holding waits until one of two processes has the sink, and returns it first.
func holding(t *testing.T, ws [2]worker) (holder, other worker) {
	t.Helper()
	ws[0].Until(t, func() error {
		for i, w := range ws {
			if w.sink(t).Here {
				holder, other = w, ws[1-i]
				return nil
			}
		}
		return errors.New("no process has the sink")
	})
	return holder, other
}

func (w worker) sink(t *testing.T) sinkStatus {
	t.Helper()
	var s struct{ Projects []projectStatus }
	decode(t, get(t, w.url+"/tidemill/status"), &s)
	return s.Projects[0].Tables[0].Sinks[0]
}

// post hands rows to a process, all at once.
func (w worker) post(t *testing.T, from, to int) {
	t.Helper()
	var b strings.Builder
	for n := from; n < to; n++ {
		fmt.Fprintf(&b, "{\"n\":%d}\n", n)
	}
	w.Until(t, func() error {
		code, err := product.Post(t.Context(), w.url+"/letters", fmt.Sprint(from), []byte(b.String()))
		if err == nil && code != http.StatusOK {
			err = fmt.Errorf("status %d", code)
		}
		return err
	})
}

// oneAfterTheOther reads the cursor's objects: nobody has written after another had taken over.
func oneAfterTheOther(t *testing.T, d *devServer, bucket string) {
	t.Helper()
	var owners []string
	cursor := objects(t, d.dir, d.S3, bucket, "")
	for _, key := range slices.Sorted(maps.Keys(cursor)) {
		if !strings.Contains(key, "_tidemill/sinks/letters/hook/") {
			continue
		}
		var c struct{ Owner string }
		decode(t, string(cursor[key]), &c)
		if c.Owner != "" && (len(owners) == 0 || owners[len(owners)-1] != c.Owner) {
			owners = append(owners, c.Owner)
		}
	}
	if len(owners) != 2 || owners[0] == owners[1] {
		t.Errorf("the sink was %d times taken over: %v", len(owners)-1, owners)
	}
}
