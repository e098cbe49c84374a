package connectors

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/tidemill/tidemill/connectors/files"
	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
	"github.com/tidemill/tidemill/lakehouse/quarantine"
)

const eventsContract = `table: events
columns:
  - {name: id, type: long, required: true}
  - {name: name, type: string}
key: [id]
`

// lake is one process's view of the tables of a test: what internal/app wires.
type lake struct {
	tb       testing.TB
	store    objstore.Store
	contract *contract.Table
	fault    func(point string)                              // nil: none
	open     func(context.Context, S3) (files.Bucket, error) // buckets of the input files

	mu      sync.Mutex
	landing *Landing
	sum     Outcome
	commits int
	fields  []Field // that were told of
}

func newLake(tb testing.TB, store objstore.Store, src string) *lake {
	tb.Helper()
	c, err := contract.Parse("tables/events.yaml", []byte(src))
	if err != nil {
		tb.Fatal(err)
	}
	return &lake{tb: tb, store: store, contract: c, sum: Outcome{Quarantined: map[string]int64{}, Extra: map[string]int64{}}}
}

func (l *lake) Landing(ctx context.Context, table string) (*Landing, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if table != l.contract.Name() {
		return nil, fmt.Errorf("no contract %s", table)
	}
	if l.landing != nil {
		return l.landing, nil
	}
	landed, err := lakehouse.Create(ctx, l.store, table, lakehouse.CreateOptions{Schema: LandedSchema(l.contract), PartitionBy: l.contract.PartitionBy()})
	if err != nil {
		return nil, err
	}
	bad, err := lakehouse.Create(ctx, l.store, table+quarantine.Suffix, lakehouse.CreateOptions{Schema: quarantine.Schema()})
	if err != nil {
		return nil, err
	}
	byKey, byRaw := Dedupe(l.contract)
	l.landing = &Landing{
		Contract: l.contract, Table: landed, Pages: objstore.WithPrefix(l.store, table+"/_tidemill/pages"),
		Landed: lakehouse.NewAppender(landed, lakehouse.AppenderOptions{Fault: l.fault, Dedupe: byKey}), Quarantine: lakehouse.NewAppender(bad, lakehouse.AppenderOptions{Fault: l.fault, Dedupe: byRaw}),
		Fault: l.fault,
		Committed: func(lakehouse.Appended) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.commits++
		},
		Observe: func(o Outcome) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.sum.Landed += o.Landed
			l.sum.Duplicates += o.Duplicates
			for k, n := range o.Quarantined {
				l.sum.Quarantined[k] += n
			}
			for k, n := range o.Extra {
				l.sum.Extra[k] += n
			}
		},
		NewFields: func(_ context.Context, fields []Field) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.fields = append(l.fields, fields...)
		},
	}
	return l.landing, nil
}

// linted is an engine, and a connector that its lint has nothing to say of.
func linted(tb testing.TB, o Options, conf string) (*Engine, *Config) {
	tb.Helper()
	e, err := New(o)
	if err != nil {
		tb.Fatal(err)
	}
	c, err := ParseConfig("connectors/in.yaml", []byte(conf))
	if err != nil {
		tb.Fatal(err)
	}
	if ps := e.Lint(c, []string{"events"}); len(ps) > 0 {
		tb.Fatal(ps)
	}
	return e, c
}

// run runs a connector until its input ends.
func (l *lake) run(conf string) {
	l.tb.Helper()
	e, c := linted(l.tb, Options{Tables: l, OpenBucket: l.open}, conf)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := e.Run(ctx, c, time.Second); err != nil {
		l.tb.Fatal(err)
	}
	if ctx.Err() != nil {
		l.tb.Fatal("the connector did not end within a minute")
	}
}

// rows reads a table as "column column …" lines, sorted.
func rows(tb testing.TB, store objstore.Store, table string, columns ...string) []string {
	tb.Helper()
	ctx := context.Background()
	t, err := lakehouse.Open(ctx, store, table)
	if err != nil {
		tb.Fatal(err)
	}
	out := []string{}
	for f := range t.Snapshot().Files() {
		rec, err := t.ReadFile(ctx, f)
		if err != nil {
			tb.Fatal(err)
		}
		for i := range int(rec.NumRows()) {
			var parts []string
			for _, c := range columns {
				parts = append(parts, text(rec.Column(rec.Schema().FieldIndices(c)[0]), i))
			}
			out = append(out, strings.Join(parts, " "))
		}
		rec.Release()
	}
	sort.Strings(out)
	return out
}

func text(a arrow.Array, i int) string {
	if b, ok := a.(*array.Binary); ok {
		return string(b.Value(i))
	}
	return a.ValueStr(i)
}

func equal(tb testing.TB, what string, got, want []string) {
	tb.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		tb.Fatalf("%s:\n%s\nwant:\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func fileConf(path, more string) string {
	return fmt.Sprintf("input:\n  file: {paths: [%q]}\n%soutput:\n  lakehouse: {table: events, batching: {count: 3, period: 20ms}}\n", path, more)
}

// TestFileOnce runs a file twice, through blocks and line by line, by two
// processes that share only the store, and lets it grow in between.
func TestFileOnce(t *testing.T) {
	store := mem.New()
	path := filepath.Join(t.TempDir(), "events.ndjson")
	write := func(s string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("{\"id\":1}\n\n{\"id\":2}\nbroken\n{\"id\":3,\"name\":\"x\"}\n")
	const mapping = "pipeline: {threads: 1, processors: [{mapping: root = content()}]}\n"
	first := newLake(t, store, eventsContract)
	first.run(fileConf(path, ""))
	if first.sum.Landed != 3 || first.sum.Quarantined["not_json"] != 1 {
		t.Fatalf("first run: %+v", first.sum)
	}
	second := newLake(t, store, eventsContract)
	second.run(fileConf(path, mapping))
	if second.sum.Landed != 0 || second.sum.Duplicates != 4 || len(second.sum.Quarantined) != 0 {
		t.Fatalf("second run, line by line: %+v", second.sum)
	}
	write("{\"id\":1}\n\n{\"id\":2}\nbroken\n{\"id\":3,\"name\":\"x\"}\n{\"id\":4}\n{\"id\":\"five\"}\n")
	third := newLake(t, store, eventsContract)
	third.run(fileConf(path, ""))
	id := path + "@" + hashHex(`{"id":1}`)[:8]
	equal(t, "landed", rows(t, store, "events", "id", batch.ColSource, batch.ColOffset, batch.ColRaw), []string{
		"1 in/" + id + ` 0 {"id":1}`, "2 in/" + id + ` 2 {"id":2}`, "3 in/" + id + ` 4 {"id":3,"name":"x"}`, "4 in/" + id + ` 5 {"id":4}`,
	})
	equal(t, "quarantined", rows(t, store, "events_quarantine", "rule", "column", "raw", batch.ColOffset), []string{
		"not_json (null) broken 3", `wrong_type id {"id":"five"} 6`,
	})
}

// TestAnotherFileAtTheSamePath is new rows, not old ones.
func TestAnotherFileAtTheSamePath(t *testing.T) {
	store := mem.New()
	path := filepath.Join(t.TempDir(), "events.ndjson")
	for i, content := range []string{"{\"id\":1}\n{\"id\":2}\n", "{\"id\":3}\n{\"id\":4}\n"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		l := newLake(t, store, eventsContract)
		l.run(fileConf(path, ""))
		if l.sum.Landed != 2 {
			t.Fatalf("file %d: %+v", i, l.sum)
		}
	}
	equal(t, "ids", rows(t, store, "events", "id"), []string{"1", "2", "3", "4"})
}

// TestProcessorsThatDropRows: what they drop is settled with the block it came
// in, so that one number says how far the file is in.
func TestProcessorsThatDropRows(t *testing.T) {
	store := mem.New()
	path := filepath.Join(t.TempDir(), "events.ndjson")
	var b bytes.Buffer
	for i := range 60_000 {
		fmt.Fprintf(&b, "{\"id\":%d}\n", i)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	const mapping = "pipeline: {threads: 1, processors: [{mapping: 'root = if this.id % 3 != 0 { deleted() }'}]}\n"
	for range 2 {
		newLake(t, store, eventsContract).run(strings.Replace(fileConf(path, mapping), "batching: {count: 3", "max_in_flight: 1, batching: {count: 500", 1))
	}
	if n := len(rows(t, store, "events", "id")); n != 20_000 {
		t.Fatalf("%d rows landed, want 20,000", n)
	}
	table, err := lakehouse.Open(context.Background(), store, "events")
	if err != nil {
		t.Fatal(err)
	}
	txns := 0
	for x := range table.Snapshot().Txns() {
		txns++
		if x.Version < 20_000 {
			t.Errorf("txn %s is at %d: dropped rows are not settled", x.AppID, x.Version)
		}
	}
	if txns != 1 {
		t.Errorf("%d txns, want one for the file", txns)
	}
}

// TestPositionsBesideDroppedRows: behind a message that a processor drops, the
// others of its batch keep their own positions, wherever the processor stands.
func TestPositionsBesideDroppedRows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.ndjson")
	if err := os.WriteFile(path, []byte("{\"id\":0}\n{\"id\":1}\n{\"id\":2}\n{\"id\":3}\n{\"id\":4}\n{\"id\":5}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const drop = `processors: [{mapping: 'root = if this.id % 3 == 1 { deleted() }'}, {mapping: 'root = this'}]`
	for name, conf := range map[string]string{
		"pipeline":    fmt.Sprintf("input: {file: {paths: [%q]}}\npipeline: {%s}\n", path, drop),
		"input":       fmt.Sprintf("input: {file: {paths: [%q]}, %s}\n", path, drop),
		"broker":      fmt.Sprintf("input: {broker: {inputs: [{file: {paths: [%q]}, %s}]}}\n", path, drop),
		"no metadata": fmt.Sprintf("input: {file: {paths: [%q]}}\npipeline: {processors: [{mapping: 'meta = deleted()'}]}\n", path),
	} {
		store := mem.New()
		newLake(t, store, eventsContract).run(conf + "output: {lakehouse: {table: events}}\n")
		want := "0 0,2 2,3 3,5 5"
		if name == "no metadata" {
			want = "0 0,1 1,2 2,3 3,4 4,5 5"
		}
		if got := strings.Join(rows(t, store, "events", "id", "_offset"), ","); got != want {
			t.Errorf("%s: rows and offsets are %s, want %s", name, got, want)
		}
	}
}

// TestContractChangedBetween: a row that was quarantined and whose message
// comes again under a contract that accepts it must not land as well.
func TestContractChangedBetween(t *testing.T) {
	store := mem.New()
	path := filepath.Join(t.TempDir(), "events.ndjson")
	if err := os.WriteFile(path, []byte("{\"id\":1,\"new\":1}\n{\"id\":2}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	newLake(t, store, eventsContract+"on_new_field: quarantine\n").run(fileConf(path, ""))
	newLake(t, store, eventsContract).run(fileConf(path, ""))
	newLake(t, store, eventsContract+"on_new_field: quarantine\n").run(fileConf(path, ""))
	equal(t, "landed", rows(t, store, "events", "id"), []string{"2"})
	equal(t, "quarantined", rows(t, store, "events_quarantine", "rule"), []string{"unknown_column"})
}

func TestCompressedAndCSV(t *testing.T) {
	store := mem.New()
	dir := t.TempDir()
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	_, _ = io.WriteString(w, "{\"id\":1}\n{\"id\":2}\n")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	gz, csv := filepath.Join(dir, "a.ndjson.gz"), filepath.Join(dir, "a.csv")
	for path, data := range map[string][]byte{gz: z.Bytes(), csv: []byte("id,name\n3,a\n4,b\n")} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const out = "output:\n  lakehouse: {table: events, batching: {count: 2, period: 20ms}}\n"
	for range 2 {
		newLake(t, store, eventsContract).run(fmt.Sprintf("input:\n  file: {paths: [%q], scanner: {decompress: {algorithm: gzip, into: {lines: {}}}}}\n", gz) + out)
		newLake(t, store, eventsContract).run(fmt.Sprintf("input:\n  file: {paths: [%q], scanner: {csv: {}}}\npipeline: {threads: 1, processors: [{mapping: 'root = this.assign({\"id\": this.id.number()})'}]}\n", csv) + out)
	}
	equal(t, "ids", rows(t, store, "events", "id"), []string{"1", "2", "3", "4"})
}

func TestProcessorFailureIsQuarantined(t *testing.T) {
	store := mem.New()
	path := filepath.Join(t.TempDir(), "events.ndjson")
	if err := os.WriteFile(path, []byte("{\"id\":1}\n{\"id\":2,\"boom\":true}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := newLake(t, store, eventsContract)
	l.run(fileConf(path, "pipeline: {threads: 1, processors: [{mapping: 'root = if this.boom == true { throw(\"no such card\") }'}]}\n"))
	equal(t, "landed", rows(t, store, "events", "id"), []string{"1"})
	got := rows(t, store, "events_quarantine", "rule", "message")
	if len(got) != 1 || !strings.HasPrefix(got[0], "processor_failed ") || !strings.Contains(got[0], "no such card") {
		t.Fatalf("quarantined %q", got)
	}
}

// TestHTTP posts to a running connector: the answer comes after the commit, and
// a request that is sent again with its key adds nothing.
func TestHTTP(t *testing.T) {
	store := mem.New()
	l := newLake(t, store, eventsContract)
	mux := NewMux()
	e, err := New(Options{Tables: l, Mux: mux})
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseConfig("connectors/in.yaml", []byte("input:\n  http_server: {path: /events}\noutput:\n  lakehouse: {table: events, batching: {count: 1}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx, c, 5*time.Second) }()
	srv := httptest.NewServer(mux)
	defer srv.Close()
	post := func(key, body string) int {
		t.Helper()
		req, err := http.NewRequest(http.MethodPost, srv.URL+"/events", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if key != "" {
			req.Header.Set("Idempotency-Key", key)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	// The path is there once the stream runs.
	deadline := time.Now().Add(30 * time.Second)
	for post("", "{\"id\":0}") != http.StatusOK {
		if time.Now().After(deadline) {
			t.Fatal("the connector does not answer")
		}
	}
	if got := rows(t, store, "events", "id"); len(got) != 1 {
		t.Fatalf("answered before the commit: %v", got)
	}
	for _, p := range []struct{ key, body string }{
		{"k1", "{\"id\":1}\n{\"id\":2}\n"}, {"k1", "{\"id\":1}\n{\"id\":2}\n"}, {"k2", "[{\"id\":3},{\"id\":\"x\"}]"}, {"k2", "[{\"id\":3},{\"id\":\"x\"}]"}, {"", "{\"id\":4}"},
	} {
		if s := post(p.key, p.body); s != http.StatusOK {
			t.Fatalf("%s: status %d", p.body, s)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	equal(t, "ids", rows(t, store, "events", "id"), []string{"0", "1", "2", "3", "4"})
	equal(t, "quarantined", rows(t, store, "events_quarantine", "rule"), []string{"wrong_type"})
}

// rowsOf counts the rows of a table; there is none at first.
func rowsOf(tb testing.TB, store objstore.Store, table string) (int, bool) {
	tb.Helper()
	t, err := lakehouse.Open(context.Background(), store, table)
	if err != nil {
		return 0, false
	}
	return int(t.Snapshot().NumRows()), true
}
