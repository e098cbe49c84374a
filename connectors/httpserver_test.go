package connectors

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/tidemill/tidemill/internal/testserver"
	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
)

const typedContract = `table: events
columns:
  - {name: id, type: long, required: true}
  - {name: name, type: string}
  - {name: amount, type: "decimal(9,2)"}
  - {name: ok, type: boolean}
  - {name: at, type: timestamp}
key: [id]
`

// running is a connector that runs until its test ends.
type running struct {
	url  string
	log  *syncBuffer
	stop func() // asks it to end, and returns when it has
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// start runs a connector with an http_server at /events, and returns when it takes requests.
func start(t *testing.T, l *lake, conf string) *running {
	t.Helper()
	mux := NewMux()
	r := &running{log: &syncBuffer{}}
	e, c := linted(t, Options{Tables: l, Mux: mux, Logger: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))}, conf)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx, c, 20*time.Second) }()
	srv := httptest.NewServer(mux)
	r.url = srv.URL + "/events"
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		r.stop()
		srv.Close()
	})
	waitFor(t, "the connector to take requests", func() bool {
		select {
		case err := <-done:
			done <- err
			t.Fatalf("the connector ended: %v\n%s", err, r.log)
		default:
		}
		resp, err := http.Get(r.url)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusMethodNotAllowed
	})
	return r
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited a minute for %s", what)
		}
	}
}

// send posts a body; headers are "name: value" lines. It returns status and answer.
func (r *running) send(t *testing.T, body string, headers ...string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d %s", resp.StatusCode, strings.TrimSpace(string(text)))
}

const httpOut = "output:\n  lakehouse: {table: events, batching: {count: 1}}\n"

// TestHTTPForms: each form of body lands as the contract's types, and what does not fit goes
// to quarantine with 200.
func TestHTTPForms(t *testing.T) {
	store := mem.New()
	r := start(t, newLake(t, store, typedContract), "input:\n  http_server: {path: /events}\n"+httpOut)
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	_, _ = io.WriteString(w, "{\"id\":5}\n{\"id\":6}\n")
	_ = w.Close()
	for _, c := range []struct{ want, body, header string }{
		{`200 {"rows":2,"quarantined":0}`, "[{\"id\":1},{\"id\":2,\"ok\":true}]", "X: y"},
		{`200 {"rows":2,"quarantined":1}`, "id,name,amount,ok,at\n3,007,1.50,TRUE,2026-01-31\nx,,,,\n4,,,,1700000000\n", "Content-Type: text/csv"},
		{`200 {"rows":2,"quarantined":0}`, z.String(), "Content-Encoding: gzip"},
		{`400 the CSV is malformed: line 2 has 1 fields`, "id,name\n9\n", "Content-Type: text/csv"},
	} {
		if got := r.send(t, c.body, c.header); !strings.HasPrefix(got, c.want) {
			t.Errorf("%.40q: %s, want %s", c.body, got, c.want)
		}
	}
	r.stop()
	equal(t, "landed", rows(t, store, "events", "id", "name", "amount", "ok", "at"), []string{
		"1 (null) (null) (null) (null)", "2 (null) (null) true (null)", "3 007 1.5 true 2026-01-31 00:00:00Z",
		"4 (null) (null) (null) 2023-11-14 22:13:20Z", "5 (null) (null) (null) (null)", "6 (null) (null) (null) (null)",
	})
	equal(t, "quarantined", rows(t, store, "events_quarantine", "rule", "column", "raw"), []string{
		`wrong_type id {"id":"x","name":null,"amount":null,"ok":null,"at":null}`,
	})
}

// TestHTTPKeys: a request with a key adds its rows once, whether it travels
// whole, in blocks or row by row, in whatever form it comes again.
func TestHTTPKeys(t *testing.T) {
	var big strings.Builder
	for i := range 90_000 {
		fmt.Fprintf(&big, "{\"id\":%d,\"name\":\"%064d\"}\n", i, i)
	}
	const mapping = "pipeline: {processors: [{mapping: 'root = this.assign({\"name\": @http_server_verb})'}]}\n"
	for name, c := range map[string]struct {
		pipeline, body, longer string
		rows                   int
	}{
		"blocks":     {"", big.String(), big.String() + "{\"id\":90000}", 90_001},
		"row by row": {mapping, "{\"id\":1}\n\n{\"id\":2}\n", "{\"id\":1}\n\n{\"id\":2}\n{\"id\":3}\n", 3},
	} {
		t.Run(name, func(t *testing.T) {
			store := mem.New()
			l := newLake(t, store, eventsContract)
			r := start(t, l, "input:\n  http_server: {path: /events, timeout: 60s}\n"+c.pipeline+httpOut)
			for _, body := range []string{c.body, c.body, c.longer} {
				if got := r.send(t, body, "Idempotency-Key: k", "Content-Type: application/x-ndjson"); !strings.HasPrefix(got, "200 ") {
					t.Fatal(got)
				}
			}
			r.stop()
			got := rows(t, store, "events", "id")
			seen := map[string]bool{}
			for _, id := range got {
				seen[id] = true
			}
			if len(got) != c.rows || len(seen) != c.rows {
				t.Fatalf("%d rows with %d ids, want %d; %+v", len(got), len(seen), c.rows, l.sum)
			}
		})
	}
}

// TestHTTPStops: with a request in flight, a stopping connector refuses new ones, and answers
// that one when its rows are durable.
func TestHTTPStops(t *testing.T) {
	store := mem.New()
	l := newLake(t, store, eventsContract)
	if _, err := l.Landing(t.Context(), "events"); err != nil {
		t.Fatal(err)
	}
	reached, goOn := make(chan struct{}), make(chan struct{})
	l.landing.Fault = func(string) {
		close(reached)
		<-goOn
	}
	r := start(t, l, "input:\n  http_server: {path: /events, timeout: 60s}\n"+httpOut)
	answer := make(chan string, 1)
	go func() { answer <- r.send(t, `{"id":1}`) }()
	<-reached
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		r.stop()
	}()
	waitFor(t, "new requests to be refused", func() bool { return strings.HasPrefix(r.send(t, ""), "503 ") })
	close(goOn)
	if got := <-answer; got != `200 {"rows":1,"quarantined":0}` {
		t.Fatal(got)
	}
	<-stopped
	if got := r.send(t, `{"id":2}`); !strings.HasPrefix(got, "503 the connector that takes rows here does not run now") {
		t.Fatal(got)
	}
	equal(t, "ids", rows(t, store, "events", "id"), []string{"1"})
}

// TestHTTPOwnAddress: an address of its own, tokens, WebSocket, and nothing of a
// secret in what is logged, answered or stored.
func TestHTTPOwnAddress(t *testing.T) {
	const token = "planted-token-c0ffee"
	t.Setenv("TEST_WEBHOOK_TOKEN", token)
	store := mem.New()
	addr := testserver.Addr(testserver.FreePort(t))
	conf := fmt.Sprintf("input:\n  http_server: {address: %q, path: /events, auth: {tokens: [\"${TEST_WEBHOOK_TOKEN}\"]}}\npipeline: {processors: [{mapping: 'root = this.assign({\"name\": @.format_json().string()})'}]}\n", addr)
	l := newLake(t, store, eventsContract)
	e, err := New(Options{Tables: l})
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseConfig("connectors/in.yaml", []byte(conf+httpOut))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx, c, 20*time.Second) }()
	r := &running{url: "http://" + addr + "/events"}
	waitFor(t, "the address to answer", func() bool {
		resp, err := http.Post(r.url, "", nil)
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusUnauthorized
	})
	if got := r.send(t, `{"id":1}`, "Authorization: Bearer "+token); !strings.HasPrefix(got, "200 ") {
		t.Fatal(got)
	}
	ws, resp, err := websocket.DefaultDialer.Dial("ws://"+addr+"/events/ws", http.Header{"Authorization": {"Bearer " + token}})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	for i := range 3 {
		if err := ws.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, `{"id":%d}`, 10+i)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		_, data, err := ws.ReadMessage()
		if want := fmt.Sprintf(`{"n":%d,"ok":true,"rows":1,"quarantined":0}`, i+1); err != nil || string(data) != want {
			t.Fatalf("%s %v, want %s", data, err, want)
		}
	}
	cancel()
	if _, _, err := ws.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseGoingAway) {
		t.Errorf("the connection was closed with %v", err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	equal(t, "ids", rows(t, store, "events", "id"), []string{"1", "10", "11", "12"})
	if meta := strings.Join(rows(t, store, "events", "name"), " "); strings.Contains(meta, token) || !strings.Contains(meta, "http_server_verb") {
		t.Errorf("metadata is %s", meta)
	}
}

// TestHTTPRateLimit: a resource of the connector's own file limits requests.
func TestHTTPRateLimit(t *testing.T) {
	r := start(t, newLake(t, mem.New(), eventsContract), "rate_limit_resources: [{label: one, local: {count: 1, interval: 1h}}]\ninput:\n  http_server: {path: /events, rate_limit: one}\n"+httpOut)
	if got := r.send(t, `{"id":1}`); !strings.HasPrefix(got, "200 ") {
		t.Fatal(got)
	}
	if got := r.send(t, `{"id":2}`); !strings.HasPrefix(got, "429 too many requests") {
		t.Fatal(got)
	}
}

// TestHTTPConfigProblems: what is wrong is told before anything runs, all at once.
func TestHTTPConfigProblems(t *testing.T) {
	e, err := New(Options{Tables: newLake(t, mem.New(), eventsContract), Mux: NewMux()})
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseConfig("connectors/in.yaml", []byte("input:\n  http_server: {path: events, csv_delimiter: ab, rate_limit: none, auth: {tokens: ['']}}\n"+httpOut))
	if err != nil {
		t.Fatal(err)
	}
	err = e.Run(t.Context(), c, time.Second)
	for _, want := range []string{"connectors/in.yaml:2: input: ", "path: \"events\" must begin with a slash", "csv_delimiter: ", "rate_limit: there is no rate limit resource", "auth.tokens[0]: is empty"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in: %v", want, err)
		}
	}
}
