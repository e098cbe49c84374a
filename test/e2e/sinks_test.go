package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/tidemill/tidemill/test/product"
)

// receiver is a webhook that remembers what it was sent.
type receiver struct {
	mu   sync.Mutex
	keys map[int]string // by n
	sent int            // requests taken
	bad  []string
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var row struct {
		N     int
		Twice *int
	}
	err := json.NewDecoder(req.Body).Decode(&row)
	r.mu.Lock()
	defer r.mu.Unlock()
	key := req.Header.Get("Idempotency-Key")
	switch have, ok := r.keys[row.N]; {
	case err != nil || row.Twice == nil || !strings.HasPrefix(key, "orders_scored/"):
		r.bad = append(r.bad, fmt.Sprintf("%v %+v %q", err, row, key))
	case ok && have != key:
		r.bad = append(r.bad, fmt.Sprintf("%d came as %s and as %s", row.N, have, key))
	}
	r.keys[row.N] = key
	r.sent++
	if row.N%50 == 7 {
		delete(r.keys, row.N)
		http.Error(w, "not this one", http.StatusUnprocessableEntity)
	}
}

// has says whether all rows below n have come that are to come.
func (r *receiver) has(n int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.bad) > 0 {
		return errors.New(r.bad[0])
	}
	for i := range n {
		if _, ok := r.keys[i]; ok != (i%50 != 7) {
			return fmt.Errorf("row %d: %v", i, ok)
		}
	}
	return nil
}

// TestSinksSurviveKills kills the product after a sink has taken rows, and before it has
// noted that: they come again, with the keys they had, and none is lost. Rows that the
// receiver refuses are in quarantine in the end.
func TestSinksSurviveKills(t *testing.T) {
	t.Parallel()
	r := &receiver{keys: map[int]string{}}
	hook := httptest.NewServer(r)
	t.Cleanup(hook.Close)
	p := product.Project{
		"tidemill.yaml":          "project: orders\n",
		"connectors/orders.yaml": httpConnector("orders"),
		"tables/orders.yaml": `table: orders
columns:
  - {name: n, type: long, required: true}
features: SELECT *, n * 2 AS twice FROM batch
sinks:
  - name: hook
    where: twice >= 0
    columns: [n, twice]
    batching: {count: 20}
    max_in_flight: 4
    output:
      http_client:
        url: ` + hook.URL + `
        verb: POST
        headers: {Idempotency-Key: "${! meta(\"tidemill_key\") }"}
        retries: 0
`,
	}
	dir := p.Write(t, "orders")
	const rows = 400
	next := 0
	post := func(s product.Addresses, n int) {
		t.Helper()
		var b strings.Builder
		for range n {
			fmt.Fprintf(&b, "{\"n\":%d}\n", next)
			next++
		}
		if status, err := product.Post(t.Context(), s.HTTP+"/orders", "", []byte(b.String())); err != nil || status != http.StatusOK {
			t.Fatalf("status %d, %v", status, err)
		}
	}
	// The second batch that is taken is the process's last.
	server, at, err := binary(t, "TIDEMILL_FAULT=sink-sent:2").Dev(dir)
	if err != nil {
		t.Fatal(err)
	}
	post(at, rows/2)
	<-server.Done()
	r.mu.Lock()
	before := r.sent
	r.mu.Unlock()
	if before == 0 {
		t.Fatal("nothing was sent before the process died")
	}
	b := binary(t)
	server, at, err = b.Dev(dir)
	if err != nil {
		t.Fatal(err)
	}
	post(at, rows/2)
	server.Until(t, func() error { return r.has(rows) })
	server.Until(t, func() error {
		got := product.Query[struct{ N int }](t, b, dir, "SELECT DISTINCT (decode(raw)::JSON->>'n')::INT AS N FROM orders_quarantine WHERE class = 'sink' AND rule = 'hook'")
		if len(got) != rows/50 {
			return fmt.Errorf("%d rows are in quarantine, want %d", len(got), rows/50)
		}
		return nil
	})
	if code := server.Signal(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d\n%s", code, server.Output())
	}
	t.Logf("%d rows, %d requests", rows, r.sent)
}
