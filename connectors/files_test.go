package connectors

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemill/tidemill/connectors/files"
	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/internal/testserver"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
	"github.com/tidemill/tidemill/lakehouse/objstore/s3"
)

func filesConf(path, more string) string {
	return fmt.Sprintf("input:\n  files: {paths: [%q], poll: \"off\", still_for: 50ms%s}\noutput:\n  lakehouse: {table: events, batching: {count: 3, period: 20ms}}\n", path, more)
}

// ids are the rows that a file of n has, as a table shows them.
func ids(first, n int) (text string, want []string) {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "{\"id\":%d}\n", first+i)
		want = append(want, fmt.Sprint(first+i))
	}
	return b.String(), want
}

func put(tb testing.TB, path, content string) {
	tb.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		tb.Fatal(err)
	}
}

func zipped(tb testing.TB, s string) string {
	tb.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(s)); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.String()
}

func sameIDs(tb testing.TB, store objstore.Store, want []string) {
	tb.Helper()
	got := map[string]int{}
	for _, id := range rows(tb, store, "events", "id") {
		got[id]++
	}
	for _, id := range want {
		if got[id] != 1 {
			tb.Errorf("id %s is in %d times", id, got[id])
		}
		delete(got, id)
	}
	for id := range got {
		tb.Errorf("id %s was never sent", id)
	}
}

// TestFilesOnce runs a directory of formats three times, by processes that share only the
// store, with and without processors: each row is in once, and of what ended nothing is
// even read.
func TestFilesOnce(t *testing.T) {
	store, dir := mem.New(), t.TempDir()
	nd, want := ids(0, 20_000)
	gz, more := ids(100_000, 20_000)
	want = append(want, more...)
	put(t, filepath.Join(dir, "a.ndjson"), nd+"broken\n")
	put(t, filepath.Join(dir, "b.ndjson.gz"), zipped(t, gz+"{\"id\":\"x\"}\n"))
	put(t, filepath.Join(dir, "c.csv"), "id,name\n200001,\"a \"\"quoted\"\" name\"\n200002,\n7\n00200003,x\nnine,y\n")
	want = append(want, "200001", "200002", "200003")

	const mapping = "pipeline: {threads: 2, processors: [{mapping: root = content()}]}\n"
	for i, conf := range []string{filesConf(dir, ""), filesConf(dir, "") + mapping, filesConf(dir, "")} {
		l := newLake(t, store, eventsContract)
		l.run(conf)
		sameIDs(t, store, want)
		equal(t, "quarantined", rows(t, store, "events_quarantine", "rule", "raw"), []string{
			"csv_record 7", "not_json broken", `wrong_type {"id":"nine","name":"y"}`, `wrong_type {"id":"x"}`,
		})
		if i > 0 && (l.sum.Landed > 0 || l.sum.Duplicates > 0) {
			t.Errorf("run %d had something to do: %+v", i, l.sum)
		}
	}
	names := rows(t, store, "events", "id", "name", batch.ColOffset)
	for _, n := range names {
		if strings.HasPrefix(n, "200001") && n != `200001 a "quoted" name 0` {
			t.Errorf("row %q", n)
		}
	}
}

// TestFilesWithProcessors: each row is a message, those that are dropped stay so, and what
// could not be read is in quarantine with its bytes whatever the processors make of it.
func TestFilesWithProcessors(t *testing.T) {
	store, path := mem.New(), filepath.Join(t.TempDir(), "a.csv")
	put(t, path, "id,name\n1,a\n2,b\n3\n4,d\n")
	for range 2 {
		newLake(t, store, eventsContract).run(filesConf(path, "") +
			"pipeline: {processors: [{mapping: 'root = if this.name == \"b\" { deleted() } else { {\"id\": this.id * 10, \"name\": @path.filepath_split().index(1)} }'}]}\n")
	}
	equal(t, "landed", rows(t, store, "events", "id", "name", "_offset"), []string{"10 a.csv 0", "40 a.csv 3"})
	equal(t, "quarantined", rows(t, store, "events_quarantine", "rule", "raw", "_offset"), []string{"csv_record 3 2"})
}

// memBucket is a bucket in memory whose reads can fail.
type memBucket struct {
	objstore.Store
	mu    sync.Mutex
	reads int
	fail  func(n int) error
}

func (b *memBucket) GetRange(ctx context.Context, key, etag string, p []byte, off int64) error {
	b.mu.Lock()
	b.reads++
	n := b.reads
	b.mu.Unlock()
	if b.fail != nil {
		if err := b.fail(n); err != nil {
			return err
		}
	}
	data, err := b.Get(ctx, key)
	if err != nil {
		return err
	}
	if o, err := b.Stat(ctx, key); err != nil || o.ETag != etag {
		return errors.Join(err, os.ErrExist)
	}
	copy(p, data[off:])
	return nil
}

// TestFilesInTwoProcesses: two connectors read one prefix at the same time while its reads
// fail now and then; each row lands once.
func TestFilesInTwoProcesses(t *testing.T) {
	store := mem.New()
	source := &memBucket{Store: mem.New(), fail: func(n int) error {
		if n%17 == 5 {
			return objstore.Transient(errors.New("connection reset"))
		}
		return nil
	}}
	var want []string
	for i := range 40 {
		text, some := ids(10_000*i, 500)
		want = append(want, some...)
		key := fmt.Sprintf("in/%02d.ndjson", i)
		if i%2 == 1 {
			key, text = key+".gz", zipped(t, text)
		}
		if err := source.Put(t.Context(), key, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	var both sync.WaitGroup
	for range 2 {
		l := newLake(t, store, eventsContract)
		l.open = func(context.Context, S3) (files.Bucket, error) { return source, nil }
		both.Go(func() { l.run(filesConf("s3://bucket/in/", "")) })
	}
	both.Wait()
	sameIDs(t, store, want)
	reads := source.reads
	l := newLake(t, store, eventsContract)
	l.open = func(context.Context, S3) (files.Bucket, error) { return source, nil }
	l.run(filesConf("s3://bucket/in/", ""))
	if source.reads != reads {
		t.Errorf("%d reads of objects that are in", source.reads-reads)
	}
	table, err := lakehouse.Open(t.Context(), store, "events")
	if err != nil {
		t.Fatal(err)
	}
	txns := 0
	for range table.Snapshot().Txns() {
		txns++
	}
	// One each, and a second where the end of an object was said before all of its rows were in.
	if txns < 40 || txns > 80 {
		t.Errorf("the log has %d transactions for 40 objects", txns)
	}
}

// TestFilesOnMinIO reads a prefix of a real server, objects that come while it runs, and
// one that is replaced.
func TestFilesOnMinIO(t *testing.T) {
	m := testserver.StartMinIO(t)
	source, err := s3.New(t.Context(), s3.Config{Endpoint: m.Addr, Bucket: "source", AccessKey: m.AccessKey, SecretKey: m.SecretKey, CreateBucket: true})
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	onServer(t, source)
}

// onServer is what TestFilesOnMinIO asks of any server.
func onServer(t *testing.T, source *s3.Store) {
	put := func(key, content string) {
		t.Helper()
		if err := source.Put(t.Context(), key, []byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	store := mem.New()
	big, want := ids(0, 700_000) // several requests
	put("logs/big.ndjson", big)
	for i := range 20 {
		text, some := ids(1_000_000+1000*i, 100)
		want = append(want, some...)
		put(fmt.Sprintf("logs/2026/%02d.ndjson.gz", i), zipped(t, text))
	}
	put("logs/_SUCCESS", "x")
	put("other/x.ndjson", "{\"id\":-1}\n")

	l := newLake(t, store, eventsContract)
	l.open = func(_ context.Context, c S3) (files.Bucket, error) {
		if c.Bucket != "source" {
			return nil, fmt.Errorf("bucket %s", c.Bucket)
		}
		return source, nil
	}
	e, err := New(Options{Tables: l, OpenBucket: l.open})
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseConfig("connectors/in.yaml", []byte(strings.NewReplacer("\"off\"", "50ms", "count: 3", "count: 50").Replace(filesConf("s3://source/logs/", ""))))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx, c, 10*time.Second) }()
	late, some := ids(2_000_000, 100)
	want = append(want, some...)
	put("logs/late.ndjson", late)
	landed := func(n int64) {
		t.Helper()
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		deadline := time.After(time.Minute)
		for {
			l.mu.Lock()
			have := l.sum.Landed
			l.mu.Unlock()
			if have >= n {
				return
			}
			select {
			case <-tick.C:
			case err := <-done:
				t.Fatalf("ended with %d of %d rows: %v", have, n, err)
			case <-deadline:
				t.Fatalf("%d of %d rows", have, n)
			}
		}
	}
	landed(int64(len(want)))
	replaced, some := ids(3_000_000, 100)
	want = append(want, some...)
	put("logs/late.ndjson", replaced)
	landed(int64(len(want)))
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	sameIDs(t, store, want)
	again := newLake(t, store, eventsContract)
	again.open = l.open
	again.run(filesConf("s3://source/logs/", ""))
	if again.sum.Landed+again.sum.Duplicates > 0 {
		t.Errorf("a second run read what is in: %+v", again.sum)
	}
}
