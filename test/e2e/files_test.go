package e2e

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/internal/secret"
	"github.com/tidemill/tidemill/internal/testserver"
	"github.com/tidemill/tidemill/lakehouse/objstore/s3"
	"github.com/tidemill/tidemill/test/product"
)

// tree is what the files inputs of TestFilesDie read, and what of it must land.
type tree struct {
	dir    string
	bucket *s3.Store
	next   int
	want   map[int]bool
	half   []byte // that a.log has to get
}

// rows makes numbered rows, each written by form.
func (f *tree) rows(n int, form string) []byte {
	var b bytes.Buffer
	for range n {
		fmt.Fprintf(&b, form+"\n", f.next, f.next)
		f.want[f.next] = true
		f.next++
	}
	return b.Bytes()
}

const (
	jsonRow = `{"id":%d,"name":"row %d"}`
	csvRow  = `%d,"row %d"`
)

// grow adds to the tree: two logs grow, the first one by half a line that the next call
// completes, and there are new files and objects.
func (f *tree) grow(t *testing.T, round int) {
	t.Helper()
	rows := f.rows(4000, jsonRow)
	for name, text := range map[string][]byte{"a.log": rows[:len(rows)/2], "b.log": f.rows(4000, jsonRow)} {
		if name == "a.log" {
			text = append(f.half, text...)
			f.half = rows[len(rows)/2:]
		}
		log, err := os.OpenFile(filepath.Join(f.dir, "in", name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := log.Write(text); err != nil {
			t.Fatal(err)
		}
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
	}
	csv := append([]byte("id,name\n"), f.rows(2000, csvRow)...)
	if err := os.WriteFile(filepath.Join(f.dir, "in", "csv", fmt.Sprintf("%d.csv", round)), csv, 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		var z bytes.Buffer
		w := gzip.NewWriter(&z)
		_, _ = w.Write(f.rows(2000, jsonRow))
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if err := f.bucket.Put(t.Context(), fmt.Sprintf("prefix/%d/%d.ndjson.gz", round, i), z.Bytes()); err != nil {
			t.Fatal(err)
		}
	}
}

// finish writes what a.log has to get still.
func (f *tree) finish(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(f.dir, "in", "a.log"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := log.Write(f.half); err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestFilesDie kills the product at each step of landing, in the middle of files and S3
// objects, while more of them come. Each row is in once, and the last process also reads a
// bucket of the project's own store, for which it needs no settings.
func TestFilesDie(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	m := testserver.StartMinIO(t)
	f := &tree{want: map[int]bool{}}
	var err error
	if f.bucket, err = s3.New(t.Context(), s3.Config{Endpoint: m.Addr, Bucket: "source", AccessKey: m.AccessKey, SecretKey: m.SecretKey, CreateBucket: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.bucket.Close)
	output := "output:\n  lakehouse: {table: things, batching: {count: 1}}\n"
	f.dir = product.Project{
		"tidemill.yaml":        "maintenance: {every: off}\n",
		"tables/things.yaml":   "table: things\ncolumns:\n  - {name: id, type: long, required: true}\n  - {name: name, type: string}\n",
		"connectors/logs.yaml": "input:\n  files: {paths: [\"in/*.log\"], poll: 100ms, still_for: 1h}\n" + output,
		"connectors/csv.yaml":  "input:\n  files: {paths: [in/csv], poll: 100ms, still_for: 300ms}\n" + output,
		"connectors/far.yaml": "input:\n  files:\n    paths: [\"s3://source/prefix/\"]\n    poll: 100ms\n" +
			"    s3: {endpoint: \"http://" + m.Addr + "\", access_key: " + m.AccessKey + ", secret_key: \"${E2E_S3_SECRET}\"}\n" + output,
		"connectors/own.yaml": "input:\n  files: {paths: [\"s3://drop/*.csv\"], poll: 100ms}\n" + output,
		"in/csv/_SUCCESS":     "",
	}.Write(t, "files")
	secretEnv := "E2E_S3_SECRET=" + m.SecretKey.Reveal()

	for round, point := range []string{"after-data-put:3", "before-commit:2", "after-commit:2", "before-ack:4", "after-commit:1"} {
		f.grow(t, round)
		s, err := binary(t, secretEnv, "TIDEMILL_FAULT="+point).Start("dev", f.dir, "--free-ports", "--json")
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-s.Done():
			if strings.Contains(s.Output(), m.SecretKey.Reveal()) {
				t.Error("the secret is in the output")
			}
		case <-time.After(time.Minute):
			s.Stop()
			t.Fatalf("not dead at %s\n%s", point, s.Output())
		}
	}
	f.grow(t, 99)
	f.finish(t)
	b := binary(t, secretEnv)
	s, addresses, err := b.Dev(f.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Stop() })
	own := ownBucket(t, f.dir, addresses.S3, "drop")
	if err := own.Put(t.Context(), "x.csv", append([]byte("id,name\n"), f.rows(100, csvRow)...)); err != nil {
		t.Fatal(err)
	}
	type row struct{ N, Different, Last int64 }
	s.Until(t, func() error {
		got := product.Query[row](t, b, f.dir, "SELECT count(*) AS N, count(DISTINCT id) AS Different, max(id) AS Last FROM things_scored")[0]
		if got.N < int64(len(f.want)) {
			return fmt.Errorf("%d of %d rows", got.N, len(f.want))
		}
		return nil
	})
	got := product.Query[struct{ ID, N int64 }](t, b, f.dir, "SELECT id AS ID, count(*) AS N FROM things_scored GROUP BY id")
	for _, g := range got {
		if g.N != 1 || !f.want[int(g.ID)] {
			t.Errorf("id %d is in %d times", g.ID, g.N)
		}
		delete(f.want, int(g.ID))
	}
	if len(f.want) > 0 {
		t.Errorf("%d rows are not in", len(f.want))
	}
	if n := product.Query[row](t, b, f.dir, "SELECT count(*) AS N FROM things_quarantine")[0].N; n != 0 {
		t.Errorf("%d rows are in quarantine", n)
	}
	t.Logf("%d rows, 5 kills", len(got))
}

// ownBucket makes a bucket in the store that a dev process embeds.
func ownBucket(t *testing.T, dir, endpoint, name string) *s3.Store {
	t.Helper()
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
	b, err := s3.New(t.Context(), s3.Config{Endpoint: endpoint, Bucket: name, AccessKey: keys.Access, SecretKey: secret.New(keys.Secret), CreateBucket: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}
