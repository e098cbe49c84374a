package sources

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
)

// sinkYAML is the sink that each table here has: every tenth row goes to a hook.
const sinkYAML = `sinks:
  - name: hook
    where: "id %% 10 = 0"
    columns: [id]
    max_in_flight: 4
    batching: {count: 50}
    output:
      http_client:
        url: %s/%s
        verb: POST
        timeout: 2m
        headers: {Idempotency-Key: "${! meta(\"tidemill_key\") }"}
        retries: 0
`

func forHook(id int64) bool { return id%10 == 0 }

// mode is what a hook does with requests.
type mode int

const (
	away  mode = iota // break them off
	stuck             // hold them until it does something else
	open              // take them
)

// hook is where a table's sink sends to.
type hook struct {
	mu          sync.Mutex
	mode        mode
	changed     chan struct{}             // guarded by mu: closed when the mode is another one
	keys        map[int64]map[string]bool // by row
	broken, had int                       // requests that were broken off, and held
	bad         []string
}

// hooks serves those of all tables, by their names.
type hooks map[string]*hook

func (h hooks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h[strings.TrimPrefix(r.URL.Path, "/")].ServeHTTP(w, r)
}

func newHook() *hook {
	return &hook{changed: make(chan struct{}), keys: map[int64]map[string]bool{}}
}

func (h *hook) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	var row struct{ ID int64 }
	err := json.NewDecoder(r.Body).Decode(&row)
	key := r.Header.Get("Idempotency-Key")
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil || key == "" {
		h.bad = append(h.bad, fmt.Sprintf("%+v %q %v", row, key, err))
	}
	for h.mode == stuck {
		h.had++
		changed := h.changed
		h.mu.Unlock()
		select {
		case <-changed:
		case <-r.Context().Done():
		}
		h.mu.Lock()
		if r.Context().Err() != nil {
			return
		}
	}
	if h.mode == away {
		h.broken++
		panic(http.ErrAbortHandler)
	}
	if h.keys[row.ID] == nil {
		h.keys[row.ID] = map[string]bool{}
	}
	h.keys[row.ID][key] = true
}

func (h *hook) turn(m mode) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mode = m
	close(h.changed)
	h.changed = make(chan struct{})
}

// met says whether the sink has met a hook that is away, and one that is stuck.
func (h *hook) met() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.broken == 0 || h.had == 0 {
		return fmt.Errorf("the sink's requests: %d were broken off, %d held", h.broken, h.had)
	}
	return nil
}

// missing are the scored rows that have not come.
func (h *hook) missing(scored map[int64]int) (out []int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id := range scored {
		if forHook(id) && len(h.keys[id]) == 0 {
			out = append(out, id)
		}
	}
	return out
}

// wrong are the rows that came and are not scored, or that have more keys than they are
// in the table: a row that is sent again has the key that it had.
func (h *hook) wrong(scored map[int64]int) (out []int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, keys := range h.keys {
		if !forHook(id) || len(keys) > scored[id] {
			out = append(out, id)
		}
	}
	return out
}
