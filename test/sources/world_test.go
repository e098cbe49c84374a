package sources

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
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
	tables []string
	infra  *product.Server
	addr   product.Addresses
	store  objstore.Store
	access string
	secret string
}

const contractYAML = `table: %s
columns:
  - {name: id, type: long, required: true}
  - {name: pad, type: string}
key: [id]
`

// contracts are the tables' files.
func contracts(tables []string) product.Project {
	p := product.Project{}
	for _, t := range tables {
		p["tables/"+t+".yaml"] = fmt.Sprintf(contractYAML, t)
		if t == changesTable {
			p["tables/"+t+".yaml"] = changesYAML
		}
	}
	return p
}

func newWorld(t *testing.T, tables ...string) *world {
	t.Helper()
	if testing.Short() {
		t.Skip("takes a minute")
	}
	w := &world{bin: product.Binary{Path: testserver.Tidemill(t)}, tables: tables}
	p := contracts(tables)
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

// project writes a project with one connector, whose processes do the first hop.
func (w *world) project(t *testing.T, name, connector string) string {
	t.Helper()
	p := contracts(w.tables)
	p["tidemill.yaml"] = fmt.Sprintf(`project: sources
store: {endpoint: "http://%s", bucket: tidemill, access_key: %q, secret_key: "${STORE_SECRET}"}
temporal: {address: %q}
http: {address: "127.0.0.1:${PORT}"}
`, w.addr.S3, w.access, w.addr.Temporal)
	p["connectors/"+name+".yaml"] = connector
	return p.Write(t, name)
}

// member is one process of the product that reads a source.
type member struct{ *testserver.Process }

func (w *world) member(t *testing.T, dir, name string) *member {
	t.Helper()
	cmd := exec.Command(w.bin.Path, "run", dir, "--roles", "connect", "--log-format", "json")
	cmd.Env = append(os.Environ(), "MEMBER="+name, "STORE_SECRET="+w.secret, "PORT="+strconv.Itoa(testserver.FreePort(t)))
	return &member{testserver.Start(t, cmd)}
}

// atWork waits until the connector has been started.
func (m *member) atWork(t *testing.T) {
	t.Helper()
	m.WaitReady(t, func() error {
		if !strings.Contains(m.Output(), "connector started") {
			return errors.New("no connector has been started")
		}
		return nil
	})
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
		t, err := lakehouse.Open(ctx, w.store, name)
		if err != nil {
			return 0, err
		}
		n += t.Snapshot().NumRows()
	}
	return n, nil
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
