package sources

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/tidemill/tidemill/internal/secret"
	"github.com/tidemill/tidemill/internal/testserver"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/objstore/s3"
	"github.com/tidemill/tidemill/lakehouse/quarantine"
	"github.com/tidemill/tidemill/test/product"
)

// world is what all sources share: the product with its embedded store and Temporal,
// which does the second hop. It is never killed; package chaos does that.
type world struct {
	bin    product.Binary
	infra  *product.Server
	addr   product.Addresses
	store  objstore.Store
	access string
	secret string
	hooks  hooks  // of the tables' sinks
	hookAt string // their URL

	mu   sync.Mutex
	open map[string]*lakehouse.Table // guarded by mu: for [world.rows]
}

const contractYAML = `table: %s
columns:
  - {name: id, type: long, required: true}
  - {name: pad, type: string}
key: [id]
`

// deduped are the tables of sources that need it to be exactly once.
var deduped = map[string]string{
	"rabbitmq": "dedupe: {window: 1h}\n", "mqtt": "dedupe: {window: 1h}\n", "http_dedupe": "dedupe: {window: 1h}\n",
	"rabbitmq_ids": "dedupe: {window: 1h, by: message_id}\n",
}

// contracts are the tables' files.
func (w *world) contracts(tables []string) product.Project {
	p := product.Project{}
	for _, t := range tables {
		text := fmt.Sprintf(contractYAML, t) + fmt.Sprintf(sinkYAML, w.hookAt, t) + deduped[t]
		if t == changesTable {
			text = changesYAML
		}
		p["tables/"+t+".yaml"] = text
	}
	return p
}

func newWorld(t *testing.T, tables ...string) *world {
	t.Helper()
	if testing.Short() {
		t.Skip("takes a minute")
	}
	w := &world{bin: product.Binary{Path: testserver.Tidemill(t)}, hooks: hooks{}, open: map[string]*lakehouse.Table{}}
	for _, name := range tables {
		w.hooks[name] = newHook()
	}
	at := httptest.NewServer(w.hooks)
	t.Cleanup(at.Close)
	w.hookAt = at.URL
	p := w.contracts(tables)
	p["tidemill.yaml"] = "project: sources\n"
	dir := p.Write(t, "infra")
	var err error
	if w.infra, w.addr, err = w.bin.Dev(dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.infra.Stop() })
	data, err := os.ReadFile(filepath.Join(dir, ".tidemill", "addresses.json"))
	if err != nil {
		t.Fatal(err)
	}
	var keys struct {
		Access string `json:"access_key"`
		Secret string `json:"secret_key"`
	}
	if err := json.Unmarshal(data, &keys); err != nil {
		t.Fatal(err)
	}
	w.access, w.secret = keys.Access, keys.Secret
	s, err := s3.New(t.Context(), s3.Config{Endpoint: w.addr.S3, Bucket: "tidemill", AccessKey: w.access, SecretKey: secret.New(w.secret)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	w.store = objstore.WithPrefix(objstore.Retry(s, objstore.RetryPolicy{}), "sources")
	return w
}

// project writes a project with some connectors and their tables, which have the same names. Its
// processes do the first hop and reach the store at an address.
func (w *world) project(t *testing.T, name, store string, connectors map[string]string) string {
	t.Helper()
	p := w.contracts(slices.Collect(maps.Keys(connectors)))
	p["tidemill.yaml"] = fmt.Sprintf(`project: sources
store: {endpoint: "http://%s", bucket: tidemill, access_key: %q, secret_key: "${STORE_SECRET}"}
temporal: {address: %q}
http: {address: "127.0.0.1:${PORT}"}
`, store, w.access, w.addr.Temporal)
	for name, text := range connectors {
		p["connectors/"+name+".yaml"] = text
	}
	return p.Write(t, name)
}

// edit replaces a connector's file, as editors do.
func (w *world) edit(t *testing.T, dir, connector, text string) {
	t.Helper()
	path := filepath.Join(dir, "connectors", connector+".yaml")
	if err := os.WriteFile(path+".tmp", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		t.Fatal(err)
	}
}

// member is one process of the product that reads sources.
type member struct {
	*testserver.Process
	http string
}

// member starts one. in is its standard input, and may be nil.
func (w *world) member(t *testing.T, dir string, port int, in *os.File, env ...string) *member {
	t.Helper()
	cmd := exec.Command(w.bin.Path, "run", dir, "--roles", "connect", "--log-format", "json")
	cmd.Env = append(os.Environ(), append(env, "STORE_SECRET="+w.secret, "PORT="+strconv.Itoa(port))...)
	if in != nil {
		cmd.Stdin = in
	}
	return &member{testserver.Start(t, cmd), "http://" + testserver.Addr(port)}
}

// status is what a process says of its connectors.
type status struct {
	Refused    *json.RawMessage
	Connectors []struct {
		Name, State string
		Since       time.Time
	}
}

func (m *member) status(ctx context.Context) (s status, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.http+"/tidemill/status", nil)
	if err != nil {
		return s, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	var all struct{ Projects []status }
	if err := json.NewDecoder(resp.Body).Decode(&all); err != nil || len(all.Projects) != 1 {
		return s, fmt.Errorf("%d projects: %w", len(all.Projects), err)
	}
	return all.Projects[0], nil
}

// runs waits until n connectors run that have been started after a moment.
func (m *member) runs(t *testing.T, n int, after time.Time) {
	t.Helper()
	eventually(t, "start the connectors", func(ctx context.Context) error {
		m.alive(t)
		s, err := m.status(ctx)
		if err != nil {
			return err
		}
		if s.Refused != nil {
			return fmt.Errorf("refused: %s", *s.Refused)
		}
		for _, c := range s.Connectors {
			if c.State != "running" || c.Since.Before(after) {
				return fmt.Errorf("%s is %s, since %s\n%s", c.Name, c.State, c.Since, last(m.Output()))
			}
		}
		if len(s.Connectors) != n {
			return fmt.Errorf("%d of %d connectors", len(s.Connectors), n)
		}
		return nil
	})
}

// dies waits for a process to kill itself.
func (m *member) dies(t *testing.T) {
	t.Helper()
	limit := time.NewTimer(2 * time.Minute)
	defer limit.Stop()
	select {
	case <-m.Done():
	case <-limit.C:
		t.Fatalf("the process lives on\n%s", last(m.Output()))
	}
	if s, ok := m.State().Sys().(syscall.WaitStatus); !ok || s.Signal() != syscall.SIGKILL {
		t.Fatalf("the process ended by itself: %s\n%s", m.State(), m.Output())
	}
}

// alive fails the test when the process has ended of its own accord.
func (m *member) alive(t *testing.T) {
	t.Helper()
	if s := m.State(); s != nil {
		t.Fatalf("the process ended by itself: %s\n%s", s, m.Output())
	}
}

// terminate is what a service manager does to a process that takes too long to stop.
func (m *member) terminate(grace time.Duration) {
	_ = syscall.Kill(m.Pid(), syscall.SIGTERM)
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-m.Done():
	case <-t.C:
		m.Kill()
	}
}

// ledger is how often each row is in the tables.
type ledger struct {
	scored, refused map[int64]int
	strange         []string // rows of quarantine without a number
}

// rows counts those that have come out of the second hop.
func (w *world) rows(ctx context.Context, table string) (n int64, err error) {
	for _, name := range []string{table + "_scored", table + quarantine.Suffix} {
		w.mu.Lock()
		t := w.open[name]
		w.mu.Unlock()
		if t == nil {
			if t, err = lakehouse.Open(ctx, w.store, name); err != nil {
				return 0, err
			}
			w.mu.Lock()
			w.open[name] = t
			w.mu.Unlock()
		}
		s, err := t.Refresh(ctx)
		if err != nil {
			return 0, err
		}
		n += s.NumRows()
	}
	return n, nil
}

// landed counts the rows that have come out of the first hop, but for those in quarantine.
func (w *world) landed(ctx context.Context, table string) (int64, error) {
	t, err := lakehouse.Open(ctx, w.store, table)
	if err != nil {
		return 0, err
	}
	return t.Snapshot().NumRows(), nil
}

func (w *world) ledger(ctx context.Context, table string) (*ledger, error) {
	l := &ledger{scored: map[int64]int{}, refused: map[int64]int{}}
	for name, read := range map[string]func(arrow.Record){table + "_scored": l.readScored, table + quarantine.Suffix: l.readQuarantine} {
		t, err := lakehouse.Open(ctx, w.store, name)
		if err != nil {
			return nil, err
		}
		for f := range t.Snapshot().Files() {
			rec, err := t.ReadFile(ctx, f)
			if err != nil {
				return nil, err
			}
			read(rec)
			rec.Release()
		}
	}
	return l, nil
}

// both says how often each row is in either table.
func (l *ledger) both() map[int64]int {
	out := maps.Clone(l.scored)
	for id, n := range l.refused {
		out[id] += n
	}
	return out
}

func column[T arrow.Array](rec arrow.Record, name string) T {
	return rec.Column(rec.Schema().FieldIndices(name)[0]).(T)
}

func (l *ledger) readScored(rec arrow.Record) {
	for i := range int(rec.NumRows()) {
		l.scored[column[*array.Int64](rec, "id").Value(i)]++
	}
}

var idIn = regexp.MustCompile(`"id": ?"?(\d+)`)

func (l *ledger) readQuarantine(rec arrow.Record) {
	for i := range int(rec.NumRows()) {
		raw := column[*array.Binary](rec, "raw").Value(i)
		m := idIn.FindSubmatch(raw)
		if m == nil {
			l.strange = append(l.strange, string(raw))
			continue
		}
		id, err := strconv.ParseInt(string(m[1]), 10, 64)
		if err != nil {
			l.strange = append(l.strange, string(raw))
			continue
		}
		l.refused[id]++
	}
}
