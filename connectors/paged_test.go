package connectors

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
	"github.com/tidemill/tidemill/lakehouse/quarantine"
)

// crashes runs a connector again and again on one store. Each run but the last stands still
// for good at a fault point, as a process that was killed there does, and is left
// there; it comes back to life at the end, when others have done its work. more is
// called before each run, done says when the last one may end.
func crashes(t *testing.T, store objstore.Store, conf string, more func(run int), done func() bool) {
	t.Helper()
	r := rand.New(rand.NewPCG(11, 7))
	dead := make(chan struct{})
	var left sync.WaitGroup
	defer left.Wait()
	defer close(dead)
	points := []string{"after-data-put", "before-commit", "after-commit", "before-ack"}
	for run := range 3 * len(points) {
		more(run)
		point, pass := points[run%len(points)], 1+r.IntN(3)
		died := make(chan struct{})
		var mu sync.Mutex
		l := newLake(t, store, eventsContract)
		l.fault = func(at string) {
			mu.Lock()
			select {
			case <-died:
				mu.Unlock()
				<-dead
				return
			default:
			}
			if at == point {
				if pass--; pass == 0 {
					close(died)
					mu.Unlock()
					<-dead
					return
				}
			}
			mu.Unlock()
		}
		stop := background(t, l, conf, &left)
		waitFor(t, fmt.Sprintf("death %d at %s, or the end", run, point), func() bool {
			select {
			case <-died:
				return true
			default:
				return done()
			}
		})
		stop()
	}
	more(-1)
	stop := background(t, newLake(t, store, eventsContract), conf, &left)
	waitFor(t, "all rows", done)
	stop()
}

// background runs a connector until stop is called, which does not wait.
func background(t *testing.T, l *lake, conf string, left *sync.WaitGroup) (stop func()) {
	t.Helper()
	e, c := linted(t, Options{Tables: l}, conf)
	ctx, cancel := context.WithCancel(context.Background())
	left.Go(func() {
		if err := e.Run(ctx, c, 0); err != nil && ctx.Err() == nil {
			t.Error(err)
		}
	})
	return cancel
}

// count is how many rows a table has; 0 when there is none yet.
func countRows(t *testing.T, store objstore.Store, table string) int {
	t.Helper()
	tab, err := lakehouse.Open(t.Context(), store, table)
	if err != nil {
		return 0
	}
	n := int64(0)
	for f := range tab.Snapshot().Files() {
		n += f.Rows
	}
	return int(n)
}

// onceEach fails unless ids 0 to n-1 are in the landed table, and as bad rows in quarantine, each once.
func onceEach(t *testing.T, store objstore.Store, n int, bad func(id int) bool) {
	t.Helper()
	var landed, turned []string
	for id := range n {
		if bad(id) {
			turned = append(turned, fmt.Sprintf(`{"id":"bad %d"}`, id))
		} else {
			landed = append(landed, strconv.Itoa(id))
		}
	}
	slices.Sort(landed)
	slices.Sort(turned)
	equal(t, "landed", rows(t, store, "events", "id"), landed)
	equal(t, "quarantined", rows(t, store, "events"+quarantine.Suffix, "raw"), turned)
}

func badID(id int) bool { return id%11 == 3 }

// orders is an API of a growing list in pages of five, which fails every third time.
type orders struct {
	mu       sync.Mutex
	rows     int
	requests int
}

func (o *orders) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.requests++
	after, err := strconv.Atoi(r.URL.Query().Get("after"))
	if err != nil || r.Header.Get("Authorization") != "Bearer planted-key" {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	switch o.requests % 9 {
	case 2:
		w.Header().Set("Retry-After", "0")
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	case 5, 8:
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write([]byte(`{"orders": [{"id":`))
		panic(http.ErrAbortHandler)
	}
	var items []any
	for id := after; id < min(after+5, o.rows); id++ {
		if badID(id) {
			items = append(items, map[string]any{"id": fmt.Sprintf("bad %d", id)})
		} else {
			items = append(items, map[string]any{"id": id})
		}
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"orders": items, "last": after + len(items)}) //nolint:errchkjson // maps of numbers and texts
}

func (o *orders) add(n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.rows += n
}

// TestHTTPPollCrashes: an API that fails, read by processes that die at every step: every row
// is in once, in whatever pieces it travelled.
func TestHTTPPollCrashes(t *testing.T) {
	const last = "root = if this.last > 0 { this.last }"
	for name, pipeline := range map[string]string{
		"pages": "", "row by row": "pipeline: {threads: 1, processors: [{mapping: root = this}]}\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("TEST_POLL_KEY", "planted-key")
			api := &orders{}
			srv := httptest.NewServer(api)
			defer srv.Close()
			store := mem.New()
			conf := fmt.Sprintf("input:\n  http_poll: {url: %q, headers: {Authorization: 'Bearer ${TEST_POLL_KEY}'}, rows: orders, next: %q, cursor_param: after, start: '0', interval: 2ms, retry_min: 1ms, retry_max: 5ms}\n%soutput:\n  lakehouse: {table: events, max_in_flight: 2, batching: {count: 4, period: 5ms}}\n", srv.URL+"/orders", last, pipeline)
			total := 0
			crashes(t, store, conf, func(int) {
				api.add(23)
				total += 23
			}, func() bool { return countRows(t, store, "events")+countRows(t, store, "events_quarantine") >= total })
			onceEach(t, store, total, badID)
		})
	}
}

// TestHTTPPollGoesOn: a new process asks for nothing that is in but the page it ended with.
func TestHTTPPollGoesOn(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	api := &orders{rows: 50}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.URL.Query().Get("after"))
		mu.Unlock()
		api.ServeHTTP(w, r)
	}))
	defer srv.Close()
	store := mem.New()
	conf := fmt.Sprintf("input:\n  http_poll: {url: %q, headers: {Authorization: Bearer planted-key}, rows: orders, next: 'root = this.last', cursor_param: after, start: '0', interval: 2ms, retry_min: 1ms, retry_max: 5ms}\noutput:\n  lakehouse: {table: events, batching: {count: 1}}\n", srv.URL)
	for i := range 2 {
		var left sync.WaitGroup
		stop := background(t, newLake(t, store, eventsContract), conf, &left)
		waitFor(t, "all rows", func() bool {
			return countRows(t, store, "events")+countRows(t, store, "events_quarantine") >= 50*(i+1)
		})
		stop()
		left.Wait()
		mu.Lock()
		if i == 1 && asked[0] != "50" && asked[0] != "45" {
			t.Errorf("the second process began after %s", asked[0])
		}
		asked = nil
		mu.Unlock()
		api.add(50)
	}
	onceEach(t, store, 100, badID)
}

// TestHTTPPollRepeats: without a next page every response is new rows.
func TestHTTPPollRepeats(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"id": 7}`))
	}))
	defer srv.Close()
	store := mem.New()
	var left sync.WaitGroup
	stop := background(t, newLake(t, store, eventsContract), fmt.Sprintf("input:\n  http_poll: {url: %q, interval: 1ms}\noutput:\n  lakehouse: {table: events, batching: {count: 1}}\n", srv.URL), &left)
	waitFor(t, "three rows", func() bool { return countRows(t, store, "events") >= 3 })
	stop()
	left.Wait()
	if got := rows(t, store, "events", "_source")[0]; !strings.HasPrefix(got, "~in/http_poll/") {
		t.Fatalf("a reading came from %s", got)
	}
}

// TestHTTPPollProblems: what is wrong is told before anything is asked for, without secrets.
func TestHTTPPollProblems(t *testing.T) {
	e, err := New(Options{Tables: newLake(t, mem.New(), eventsContract)})
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseConfig("connectors/in.yaml", []byte("input:\n  http_poll: {url: 'ftp://u:planted@a', retry_min: 0s}\noutput:\n  lakehouse: {table: events}\n"))
	if err != nil {
		t.Fatal(err)
	}
	err = e.Run(t.Context(), c, time.Second)
	for _, want := range []string{"connectors/in.yaml:2: input: ", "url: must be an http or https address", "retry_min: "} {
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "planted") {
			t.Errorf("no %q in: %v", want, err)
		}
	}
}

// TestSourcesLint: combinations of fields that cannot work are told by lint, with their line.
func TestSourcesLint(t *testing.T) {
	e, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	for conf, want := range map[string]string{
		"sql_poll: {driver: pgx, dsn: x, cursor: [id]}":                                                    "name a table",
		"sql_poll: {driver: pgx, dsn: x, table: a, query: b, cursor: [id]}":                                "not both",
		"sql_poll: {driver: pgx, dsn: x, table: a, cursor: []}":                                            "cursor names no column",
		"sql_poll: {driver: pgx, dsn: x, table: a}":                                                        "cursor names no column",
		"sql_poll: {driver: db2, dsn: x, table: a, cursor: [id]}":                                          "db2",
		"sql_poll: {driver: pgx, dsn: x, table: a, cursor: [a, b]}":                                        "",
		"http_poll: {url: 'http://a', next: 'root = this.', cursor_param: x}":                              "correct the mapping",
		"http_poll: {url: 'http://a', next: 'root = this.x', follow_link: true}":                           "remove one of them",
		"http_poll: {url: 'http://a', cursor_param: x}":                                                    "needs next",
		"http_poll: {url: 'http://a', start: x}":                                                           "start needs cursor_param",
		"http_poll: {url: 'http://a'}":                                                                     "",
		"http_poll: {url: 'http://a', follow_link: true}":                                                  "",
		"broker: {inputs: [{http_poll: {url: 'http://a/x?r=eu'}}, {http_poll: {url: 'http://a/x?r=us'}}]}": "a connector of its own",
		"broker: {inputs: [{sql_poll: {driver: pgx, dsn: x, query: a, cursor: [id]}}, {sql_poll: {driver: pgx, dsn: y, query: b, cursor: [id]}}]}": "a connector of its own",
		"broker: {inputs: [{sql_poll: {driver: pgx, dsn: x, table: a, cursor: [id]}}, {sql_poll: {driver: pgx, dsn: x, table: b, cursor: [id]}}]}": "",
		"http_server: {auth: {hmac: {secrets: [x]}}}":   "no header",
		"http_server: {auth: {hmac: {header: x}}}":      "no secrets",
		"http_server: {sync_response: {status: '200'}}": "sync_response",
		"http_server: {}": "",
		"http_server: {auth: {tokens: [x], hmac: {header: x, secrets: [x], signed: '{body}'}}}": "",
	} {
		c, err := ParseConfig("connectors/in.yaml", []byte("input:\n  "+conf+"\noutput: {lakehouse: {table: t}}\n"))
		if err != nil {
			t.Fatal(err)
		}
		ps := e.Lint(c, []string{"t"})
		if want == "" && len(ps) > 0 || want != "" && (len(ps) != 1 || ps[0].Line != 2 || !strings.Contains(ps[0].Message, want)) {
			t.Errorf("%s: %v, want %q", conf, ps, want)
		}
	}
}
