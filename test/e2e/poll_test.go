package e2e

import (
	"database/sql"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"github.com/tidemill/tidemill/test/product"
)

// TestPolledSourcesSurviveKills reads an HTTP API and a SQL table that grow, with a process
// that is killed at steps of a commit: each next one goes on where the table's log says,
// and every row is scored once.
func TestPolledSourcesSurviveKills(t *testing.T) {
	var rows atomic.Int64
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		after, _ := strconv.Atoi(r.URL.Query().Get("after"))
		if r.Header.Get("X-Key") != sentinel {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		var items []string
		for id := after; id < min(after+20, int(rows.Load())); id++ {
			items = append(items, fmt.Sprintf(`{"id":%d,"amount":1}`, id))
		}
		_, _ = fmt.Fprintf(w, `{"items":[%s],"last":%d}`, strings.Join(items, ","), after+len(items))
	}))
	defer api.Close()
	dsn := "file:" + filepath.Join(t.TempDir(), "source.db") + "?_pragma=journal_mode(WAL)&_pragma=busy_timeout(10000)"
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), "CREATE TABLE source (id INTEGER PRIMARY KEY, amount REAL)"); err != nil {
		t.Fatal(err)
	}
	const base = 1_000_000 // of the ids from the table
	add := func(n int64) {
		t.Helper()
		for range n {
			if _, err := db.ExecContext(t.Context(), "INSERT INTO source SELECT coalesce(max(id), ?) + 1, 1.5 FROM source", base-1); err != nil {
				t.Fatal(err)
			}
		}
		rows.Add(n)
	}
	const out = "output:\n  lakehouse: {table: things, batching: {period: 10ms}}\n"
	dir := product.Project{
		"tidemill.yaml":       "maintenance: {every: off}\n",
		"tables/things.yaml":  "table: things\ncolumns:\n  - {name: id, type: long, required: true}\n  - {name: amount, type: double}\n",
		"connectors/api.yaml": fmt.Sprintf("input:\n  http_poll: {url: %q, headers: {X-Key: \"${E2E_POLL_KEY}\"}, rows: items, next: 'root = this.last', cursor_param: after, start: '0', interval: 20ms}\n", api.URL) + out,
		"connectors/db.yaml":  "input:\n  sql_poll: {driver: sqlite, dsn: \"${E2E_DSN}\", table: source, cursor: [id], batch: 20, interval: 20ms}\n" + out,
	}.Write(t, "polled")
	for _, fault := range []string{"after-data-put:2", "after-commit:1"} {
		add(100)
		b := binary(t, "E2E_POLL_KEY="+sentinel, "E2E_DSN="+dsn, "TIDEMILL_FAULT="+fault)
		s, err := b.Start("dev", dir, "--free-ports")
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-s.Done():
		case <-time.After(90 * time.Second):
			s.Stop()
			t.Fatalf("it was not killed at %s:\n%s", fault, s.Output())
		}
		if code := s.Signal(syscall.SIGKILL); code != -1 {
			t.Fatalf("it ended with code %d before it came to %s:\n%s", code, fault, s.Output())
		}
	}
	add(100)
	b := binary(t, "E2E_POLL_KEY="+sentinel, "E2E_DSN="+dsn)
	s, _, err := b.Dev(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Stop() })
	type counts struct{ N, Ids, Low, High int64 }
	count := func() counts {
		return product.Query[counts](t, b, dir, fmt.Sprintf("SELECT count(*) AS n, count(DISTINCT id) AS ids, count(*) FILTER (id < %[1]d) AS low, count(*) FILTER (id >= %[1]d) AS high FROM things_scored", base))[0]
	}
	s.Until(t, func() error {
		if n := count().N; n < 600 {
			return fmt.Errorf("%d of 600 rows are scored", n)
		}
		return nil
	})
	if got, want := count(), (counts{600, 600, 300, 300}); got != want {
		t.Errorf("scored %+v, want %+v", got, want)
	}
	if code := s.Stop(); code != 0 {
		t.Errorf("exit code %d after SIGTERM", code)
	}
	if strings.Contains(s.Output(), sentinel) {
		t.Error("the API's key is in the log")
	}
}
