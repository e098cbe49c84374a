package dedupe

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/tidemill/tidemill/internal/testserver"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/objstore/s3"
)

// patience bounds every wait: what takes longer is broken.
const patience = 90 * time.Second

const contractYAML = `table: events
columns:
  - {name: id, type: string, required: true}
  - {name: n, type: long}
`

// project is a project on a store of its own.
type project struct {
	name     string
	dir, bin string
	minio    *testserver.MinIO
	store    objstore.Store
}

// newProject makes a project with one connector. dedupe are the contract's lines for it.
func newProject(t *testing.T, dedupe, input string) *project {
	t.Helper()
	p := &project{name: strings.ReplaceAll(strings.ToLower(t.Name()), "/", "-"), dir: t.TempDir(), bin: testserver.Tidemill(t), minio: testserver.StartMinIO(t)}
	files := map[string]string{
		"tidemill.yaml": fmt.Sprintf("project: %s\nhttp: {address: \"${DEDUPE_HTTP}\"}\ntemporal: {address: %q}\nstore: {endpoint: \"http://%s\", bucket: dedupe, access_key: %s, secret_key: \"${DEDUPE_SECRET}\"}\n",
			p.name, temporal(t), p.minio.Addr, p.minio.AccessKey),
		"tables/events.yaml": contractYAML + dedupe,
		"connectors/in.yaml": input + "output:\n  lakehouse:\n    table: events\n    max_row_bytes: 10000\n    batching: {period: 20ms, count: 200}\n",
	}
	for name, text := range files {
		path := filepath.Join(p.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	store, err := s3.New(t.Context(), s3.Config{Endpoint: p.minio.Addr, Bucket: "dedupe", AccessKey: p.minio.AccessKey, SecretKey: p.minio.SecretKey, CreateBucket: true})
	if err != nil {
		t.Fatal(err)
	}
	p.store = objstore.WithPrefix(store, p.name)
	return p
}

// run starts the product. fault, if any, is a point where it kills itself.
func (p *project) run(t *testing.T, fault string) *testserver.Process {
	t.Helper()
	cmd := exec.Command(p.bin, "run", p.dir, "--roles", "connect")
	cmd.Env = append(os.Environ(), "DEDUPE_SECRET="+p.minio.SecretKey.Reveal(), "DEDUPE_HTTP="+testserver.Addr(testserver.FreePort(t)), "TIDEMILL_FAULT="+fault)
	return testserver.Start(t, cmd)
}

// dies waits for a process to kill itself.
func dies(t *testing.T, p *testserver.Process) {
	t.Helper()
	select {
	case <-p.Done():
	case <-time.After(patience):
		t.Fatalf("the process lives on\n%s", p.Output())
	}
	if s, ok := p.State().Sys().(syscall.WaitStatus); !ok || s.Signal() != syscall.SIGKILL {
		t.Fatalf("the process ended by itself: %s\n%s", p.State(), p.Output())
	}
}

// column returns how often each value of a column is in a table.
func (p *project) column(t *testing.T, table, column string) map[string]int {
	t.Helper()
	out := map[string]int{}
	tbl, err := lakehouse.Open(t.Context(), p.store, table)
	if err != nil {
		return out // not there yet
	}
	for rec, err := range tbl.Scan(t.Context(), tbl.Snapshot(), slices.Collect(tbl.Snapshot().Files()), column) {
		if err != nil {
			t.Fatal(err)
		}
		for i := range int(rec.NumRows()) {
			if b, ok := rec.Column(0).(*array.Binary); ok {
				out[string(b.Value(i))]++
			} else {
				out[rec.Column(0).ValueStr(i)]++
			}
		}
		rec.Release()
	}
	return out
}

// eventually is [testserver.Eventually], with what the process said.
func eventually(t *testing.T, what string, p *testserver.Process, try func(context.Context) error) {
	t.Helper()
	testserver.Eventually(t, what, patience, func(ctx context.Context) error {
		if err := try(ctx); err != nil {
			return fmt.Errorf("%w\n%s", err, p.Output())
		}
		return nil
	})
}

// once fails the test unless a table's column has the values that were sent, once each.
// It waits until all are there.
func (p *project) once(t *testing.T, proc *testserver.Process, table, column string, sent []string) {
	t.Helper()
	var got map[string]int
	eventually(t, "all rows in "+table, proc, func(context.Context) error {
		got = p.column(t, table, column)
		for _, id := range sent {
			if got[id] == 0 {
				return fmt.Errorf("%d of %d are in; %.40q is not", len(got), len(sent), id)
			}
		}
		return nil
	})
	var doubled []string
	for id, n := range got {
		if n != 1 {
			doubled = append(doubled, fmt.Sprintf("%.40q %d times", id, n))
		}
	}
	if len(doubled) > 0 || len(got) != len(sent) {
		t.Errorf("%s has %d of %d rows; %d more than once: %s", table, len(got), len(sent), len(doubled), strings.Join(doubled[:min(len(doubled), 5)], ", "))
	}
}
