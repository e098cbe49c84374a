package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemill/tidemill/internal/testserver"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/objstore/faulty"
	"github.com/tidemill/tidemill/lakehouse/objstore/s3"
	"github.com/tidemill/tidemill/test/product"
)

// memoryBound is what `run` may take at most while its servers are away, MB.
// It holds the product with its libraries (about 300) and a few batches.
const memoryBound = 1200

// TestOutages runs `tidemill run` against a real MinIO and a Temporal server,
// takes away each of them for a few seconds while rows come in, and counts.
func TestOutages(t *testing.T) {
	d := dev(t) // its Temporal
	minio := testserver.StartMinIO(t)
	proxy, err := faulty.StartProxy(minio.Addr, faulty.ProxyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	temporal := testserver.StartForward(t, d.Temporal)
	b := binary(t, "E2E_S3_SECRET="+minio.SecretKey.Reveal())
	addr := testserver.Addr(testserver.FreePort(t))
	p := project(t)
	p["tidemill.yaml"] = fmt.Sprintf(`project: outages
http: {address: %q}
store: {endpoint: "http://%s", bucket: outages, prefix: some/where, access_key: %s, secret_key: "${E2E_S3_SECRET}"}
temporal: {address: %q}
models:
  - {name: machine, file: models/zscore.onnx}
`, addr, proxy.Addr, minio.AccessKey, temporal.Addr)
	dir := p.Write(t, "outages")
	s, err := b.Start("run", dir, "--log-level", "debug")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Stop() })
	f := &feeder{url: "http://" + addr + "/readings"}
	s.Until(t, func() error { return f.send(t.Context(), 1) })
	stop := f.run(t, 3)
	count := func(sql string) int64 { return product.Query[struct{ N int64 }](t, b, dir, sql)[0].N }
	flows := func(after string) {
		t.Helper()
		from := f.acked.Load()
		s.Until(t, func() error {
			if n := f.acked.Load(); n <= from+5*rowsPerRequest {
				return fmt.Errorf("after %s no rows are taken in: %d since then", after, n-from)
			}
			return nil
		})
		landed := count("SELECT count(*) AS n FROM readings")
		s.Until(t, func() error {
			if n := count("SELECT count(*) AS n FROM readings_scored"); n < landed {
				return fmt.Errorf("after %s rows are not scored: %d of %d", after, n, landed)
			}
			return nil
		})
	}
	flows("the start")

	for _, o := range []struct {
		name string
		f    faulty.Fault
	}{{"503", faulty.Unavailable}, {"lost answers", faulty.DropAnswer}, {"no connections", faulty.DropRequest}} {
		proxy.Set(faulty.ProxyOptions{Fault: func(int64, *http.Request) faulty.Fault { return o.f }})
		pause(t, s, 2*time.Second)
		if proxy.Count() == 0 {
			t.Errorf("%s: no request was hit", o.name)
		}
		proxy.Set(faulty.ProxyOptions{})
		flows("the store's " + o.name)
	}
	temporal.Cut()
	from := f.acked.Load()
	pause(t, s, 3*time.Second)
	if n := f.acked.Load() - from; n == 0 {
		t.Error("without Temporal rows do not even land")
	}
	temporal.Mend()
	flows("Temporal's absence")
	stop()

	sent := f.next.Load()
	s.Until(t, func() error {
		if n := count("SELECT count(*) AS n FROM readings_scored"); n < sent {
			return fmt.Errorf("%d of %d rows are scored", n, sent)
		}
		return nil
	})
	for sql, want := range map[string]int64{
		"SELECT count(*) AS n FROM readings_scored":                                         sent,
		"SELECT count(DISTINCT n) AS n FROM readings_scored":                                sent,
		"SELECT max(n) + 1 AS n FROM readings_scored":                                       sent,
		"SELECT count(*) AS n FROM readings_quarantine":                                     0,
		"SELECT count(*) AS n FROM readings_scored WHERE anomaly IS NULL":                   0,
		"SELECT count(*) AS n FROM readings_scored WHERE _model != 'machine'":               0,
		"SELECT count(DISTINCT _model_sha256) AS n FROM readings_scored":                    1,
		"SELECT count(*) AS n FROM readings WHERE n NOT IN (SELECT n FROM readings_scored)": 0,
	} {
		if got := count(sql); got != want {
			t.Errorf("%s: %d, want %d", sql, got, want)
		}
	}
	peak := peakMB(t, s.Pid())
	t.Logf("%d rows in %d requests, %d of them sent more than once; at most %d MB", sent, sent/rowsPerRequest, f.repeated.Load(), peak)
	if peak > memoryBound {
		t.Errorf("the process took %d MB, more than %d", peak, memoryBound)
	}
	metrics := get(t, "http://"+addr+"/metrics")
	if code := s.Stop(); code != 0 {
		t.Errorf("exit code %d after SIGTERM", code)
	}
	for what, text := range map[string]string{"log": s.Output(), "metrics": metrics} {
		if strings.Contains(text, minio.SecretKey.Reveal()) {
			t.Errorf("the store's secret key is in the %s", what)
		}
	}
}

// TestStoreWithoutConditions: a store that takes If-None-Match and does not
// honour it would let two writers overwrite each other's commits.
func TestStoreWithoutConditions(t *testing.T) {
	minio := testserver.StartMinIO(t)
	direct, err := s3.New(t.Context(), s3.Config{Endpoint: minio.Addr, Bucket: "careless", AccessKey: minio.AccessKey, SecretKey: minio.SecretKey, CreateBucket: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(direct.Close)
	var store objstore.Store = direct
	proxy, err := faulty.StartProxy(minio.Addr, faulty.ProxyOptions{Overwrite: func(ctx context.Context, path string, content []byte) error {
		return store.Put(ctx, strings.TrimPrefix(path, "/careless/"), content)
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	b := binary(t, "E2E_S3_SECRET="+minio.SecretKey.Reveal())
	dir := product.Project{"tidemill.yaml": fmt.Sprintf("http: {address: \"127.0.0.1:%d\"}\nstore: {endpoint: \"http://%s\", bucket: careless, access_key: %s, secret_key: \"${E2E_S3_SECRET}\"}\n",
		testserver.FreePort(t), proxy.Addr, minio.AccessKey)}.Write(t, "careless")
	for _, args := range [][]string{{"run", dir, "--wait", "2s"}, {"-C", dir, "sql", "SELECT * FROM careless"}} {
		r := b.Run(t, args...)
		if r.Code != 1 {
			t.Errorf("%s: exit code %d, want 1", args[0], r.Code)
		}
		for _, want := range []string{proxy.Addr, "If-None-Match"} {
			if !strings.Contains(r.Stderr, want) {
				t.Errorf("%s: the text does not say %q:\n%s", args[0], want, r.Stderr)
			}
		}
	}
}

// rowsPerRequest is how many rows a feeder puts into a request.
const rowsPerRequest = 20

// feeder posts numbered rows, each request until it is accepted.
type feeder struct {
	url                   string
	next, acked, repeated atomic.Int64 // rows, rows, requests
}

func (f *feeder) send(ctx context.Context, tries int) error {
	// The number is taken by the try that succeeds, so that every row is acked.
	n := f.next.Load()
	return f.post(ctx, n, tries, func() { f.next.Add(rowsPerRequest) })
}

func (f *feeder) post(ctx context.Context, n int64, tries int, accepted func()) error {
	var body bytes.Buffer
	for i := range int64(rowsPerRequest) {
		fmt.Fprintf(&body, "{\"n\": %d, \"timestamp\": %d, \"value\": %d.5}\n", n+i, time.Now().UnixMilli(), 50+(n+i)%50)
	}
	for i := 0; ; i++ {
		code, err := product.Post(ctx, f.url, fmt.Sprintf("feeder-%d", n), body.Bytes())
		if err == nil && code == http.StatusOK {
			f.acked.Add(rowsPerRequest)
			if i > 0 {
				f.repeated.Add(1)
			}
			accepted()
			return nil
		}
		if i+1 == tries || ctx.Err() != nil {
			return fmt.Errorf("POST %s: status %d, %w", f.url, code, err)
		}
	}
}

// run feeds from several clients until the function that it returns is called,
// which waits until everything is accepted.
func (f *feeder) run(t *testing.T, clients int) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for ctx.Err() == nil {
				n := f.next.Add(rowsPerRequest) - rowsPerRequest
				if err := f.post(t.Context(), n, -1, func() {}); err != nil {
					t.Error(err)
					return
				}
				// A client that is refused at once must not spin.
				select {
				case <-ctx.Done():
				case <-time.After(10 * time.Millisecond):
				}
			}
		})
	}
	return sync.OnceFunc(func() { cancel(); wg.Wait() })
}

// pause lets an outage last.
func pause(t *testing.T, s *product.Server, d time.Duration) {
	t.Helper()
	select {
	case <-s.Done():
		t.Fatalf("ended in an outage\n%s", s.Output())
	case <-time.After(d):
	}
}

// peakMB is the most memory a process has had.
func peakMB(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Skipf("no /proc to see a process's memory in: %v", err)
	}
	for line := range strings.Lines(string(status)) {
		var kb int
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kb); n == 1 {
			return kb >> 10
		}
	}
	t.Fatal("no VmHWM in /proc")
	return 0
}

func get(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s, %v", url, resp.Status, err)
	}
	return string(data)
}
