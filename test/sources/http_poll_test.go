package sources

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemill/tidemill/internal/testserver"
)

// pages is an API that has a list by pages and fails all the time, as it may by its contract:
// it refuses, breaks off in the middle, answers what is no page, and answers without being
// asked for what it had. A page that is asked for again begins with the rows that it had.
type pages struct {
	addr string
	srv  *http.Server

	mu   sync.Mutex
	rows []string // guarded by mu
	n    int      // requests; guarded by mu
}

// size of the page behind a cursor.
func (p *pages) size(cursor int) int { return 3 + cursor*7%29 }

func (p *pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.n++
	n, rows := p.n, p.rows
	p.mu.Unlock()
	cursor, err := strconv.Atoi(r.URL.Query().Get("cursor"))
	if err != nil || cursor > len(rows) {
		http.Error(w, "no such page", http.StatusBadRequest)
		return
	}
	next := "null"
	if end := cursor + p.size(cursor); end <= len(rows) {
		rows, next = rows[:end], strconv.Itoa(end)
	}
	body := fmt.Sprintf(`{"next":%s,"items":[%s]}`, next, strings.Join(rows[cursor:], ","))
	switch n % 12 {
	case 2:
		w.Header().Set("Retry-After", "0")
		w.WriteHeader(http.StatusTooManyRequests)
	case 4:
		w.WriteHeader(http.StatusBadGateway)
	case 6: // and says so
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write([]byte(body[:len(body)/2]))
		panic(http.ErrAbortHandler)
	case 8: // and does not
		_, _ = w.Write([]byte(body[:len(body)/2]))
	case 10:
		_, _ = w.Write([]byte(`{"error":"come back later"}`))
	default:
		_, _ = w.Write([]byte(body))
	}
}

func (p *pages) start(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	p.addr = l.Addr().String()
	p.srv = &http.Server{Handler: p} //nolint:gosec // its clients are ours
	go func(s *http.Server) { _ = s.Serve(l) }(p.srv)
}

func httpPollSource(t *testing.T) source {
	t.Helper()
	p := testserver.StartForward(t)
	api := &pages{addr: "127.0.0.1:0"}
	api.start(t)
	t.Cleanup(func() { _ = api.srv.Close() })
	p.Aim(api.addr)
	return source{
		name: "http_poll", once: true, proxy: p, lanes: 3, every: 50 * time.Millisecond, // numbers come out of order
		input: fmt.Sprintf("  http_poll:\n    url: http://%s/events\n    rows: items\n    next: root = this.next\n    cursor_param: cursor\n    start: \"0\"\n    interval: 30ms\n    retry_min: 20ms\n    retry_max: 500ms\n", p.Addr),
		send: func(_ context.Context, m message) error {
			api.mu.Lock()
			defer api.mu.Unlock()
			api.rows = append(api.rows, typed(m[0]))
			return nil
		},
		kill: func() { _ = api.srv.Close() }, start: api.start,
	}
}
