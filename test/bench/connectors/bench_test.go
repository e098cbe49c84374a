// Package connectors measures hop one from Kafka: rows a second into a landed table, and
// peak memory, beside Redpanda Connect's free components doing the same in the same run.
//
//	go tool task bench:connectors
package connectors

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemill/tidemill/internal/testserver"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/objstore/s3"
	"github.com/tidemill/tidemill/test/bench/harness"
	"github.com/tidemill/tidemill/test/product"
)

var (
	rows  = flag.Int64("bench.rows", 3_000_000, "rows of the topic")
	times = flag.Int("bench.times", 2, "how often each of the two does it; the better run counts")
	alone = flag.Bool("bench.alone", false, "measure Tidemill only")
	prof  = flag.String("bench.profile", "", "file for a CPU profile of Tidemill while it lands the rows")
	limit = flag.Int64("bench.limit", 0, "MiB that Tidemill may have in memory, pages of its program included; default half of the peer's least peak RSS")
	check = flag.Bool("bench.check", false, "fail unless Tidemill does 4 times the peer's rows a second with half its peak RSS")
)

const (
	topic      = "transactions"
	partitions = 4
	bucket     = "peer"
	patience   = 10 * time.Minute
)

// world is what both work with.
type world struct {
	kafka *testserver.Kafka
	minio *testserver.MinIO
	dev   product.Addresses // a process that has nothing to do but to be a Temporal server
	ours  string            // programs
	peer  string
}

// run is what one run of either came to.
type run struct {
	rate float64 // rows a second, from the first row to the last
	work int64   // bytes, the working set at its peak; see harness.Cgroup
	rss  int64   // bytes, of the process, at its peak
	anon int64   // the part of them that is no file's
	cpu  float64 // seconds
}

// BenchmarkKafkaToParquet runs each of the two from the beginning of the topic to its end, in
// a memory cgroup of its own. The peer takes what it wants. Tidemill may have half of what was
// resident of it in memory, of whatever kind, and not a page more: the kernel sees to it. (Left alone it
// would have more resident: of a program that is ten times as large, the kernel maps
// whatever lies in its cache around the pages that are touched, used or not.) The kernel reads
// as much ahead as it does by default.
func BenchmarkKafkaToParquet(b *testing.B) {
	w := newWorld(b)
	restore, err := harness.ReadAhead(b.TempDir(), 128)
	if err != nil {
		b.Fatalf("set the kernel's read-ahead, which takes root: %v", err)
	}
	b.Cleanup(func() {
		if err := restore(); err != nil {
			b.Error(err)
		}
	})
	for range b.N {
		var ours, peer run
		half := *limit << 20
		if !*alone {
			least := int64(math.MaxInt64)
			for i := range *times {
				r := w.runPeer(b, i)
				peer, least = better(peer, r), min(least, r.rss)
			}
			if half == 0 {
				half = least / 2
			}
		}
		for i := range *times {
			ours = better(ours, w.runOurs(b, i, half))
		}
		show := func(name string, r run) {
			b.Logf("%-17s %8.0f rows/s   working set %4d MiB, RSS %4d, anonymous %4d   %.1f s of CPU", name, r.rate, r.work>>20, r.rss>>20, r.anon>>20, r.cpu)
		}
		show("tidemill", ours)
		show("redpanda connect", peer)
		ratio := func(a, b int64) float64 { return float64(a) / float64(b) }
		b.Logf("%-17s %8.1f times    working set %4.2f times, RSS %4.2f, anonymous %4.2f", "ratio", ours.rate/peer.rate, ratio(ours.work, peer.work), ratio(ours.rss, peer.rss), ratio(ours.anon, peer.anon))
		b.ReportMetric(ours.rate, "rows/s")
		b.ReportMetric(ours.rate/peer.rate, "times-the-peer")
		b.ReportMetric(ratio(ours.rss, peer.rss), "of-its-RSS")
		if *check && (ours.rate < 4*peer.rate || 2*ours.rss > peer.rss || 2*ours.anon > peer.anon) {
			b.Error("want at least 4 times its rows a second with at most half of its RSS, and of its anonymous memory")
		}
	}
}

// better takes the faster run, as what the machine can do when nothing else is going on.
func better(a, b run) run {
	if b.rate > a.rate {
		return b
	}
	return a
}

func newWorld(b *testing.B) *world {
	w := &world{kafka: testserver.StartKafka(b), minio: testserver.StartMinIO(b), ours: testserver.Tidemill(b)}
	w.peer = filepath.Join(b.TempDir(), "peer")
	if out, err := exec.CommandContext(b.Context(), "go", "build", "-o", w.peer, "./peer").CombinedOutput(); err != nil {
		b.Fatalf("build the peer: %v\n%s", err, out)
	}
	idle := filepath.Join(b.TempDir(), "idle")
	if err := (product.Project{"tidemill.yaml": "project: idle\n"}).WriteTo(idle); err != nil {
		b.Fatal(err)
	}
	server, at, err := product.Binary{Path: w.ours}.Dev(idle)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { server.Stop() })
	w.dev = at
	store, err := s3.New(b.Context(), s3.Config{Endpoint: "http://" + w.minio.Addr, Bucket: bucket, AccessKey: w.minio.AccessKey, SecretKey: w.minio.SecretKey, CreateBucket: true})
	if err != nil {
		b.Fatal(err)
	}
	if err := objstore.Probe(b.Context(), store, "probe"); err != nil {
		b.Fatal(err)
	}
	w.fill(b)
	return w
}

// fill writes the rows into the topic, the same number into each partition.
func (w *world) fill(b *testing.B) {
	w.kafka.CreateTopic(b, topic, partitions)
	c := w.kafka.Client(b, kgo.ProducerLinger(5*time.Millisecond), kgo.MaxBufferedRecords(50_000))
	start := time.Now()
	failed := make(chan error, 1)
	for i := range *rows {
		row := bytes.TrimSuffix(harness.AppendRow(nil, i, "2026-01-01T00:00:00.000Z"), []byte("\n"))
		c.Produce(b.Context(), &kgo.Record{Topic: topic, Partition: int32(i % partitions), Value: row}, func(_ *kgo.Record, err error) {
			if err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		})
	}
	if err := c.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	select {
	case err := <-failed:
		b.Fatal(err)
	default:
	}
	b.Logf("%d rows of about 200 bytes, %d partitions, written in %s", *rows, partitions, time.Since(start).Round(time.Second))
}

// project is one that lands the topic in a table below its own name.
func (w *world) project(port int, name string) product.Project {
	return product.Project{
		"tidemill.yaml": fmt.Sprintf("project: %s\nstore: {endpoint: \"http://%s\", bucket: tidemill, access_key: %q, secret_key: %q}\ntemporal: {address: %q}\nhttp: {address: \"127.0.0.1:%d\"}\nmaintenance: {every: off}\n",
			name, w.minio.Addr, w.minio.AccessKey, w.minio.SecretKey.Reveal(), w.dev.Temporal, port),
		"connectors/cards.yaml":    fmt.Sprintf("input:\n  kafka_franz: {seed_brokers: [%q], topics: [%s], consumer_group: %s, start_offset: earliest}\noutput:\n  lakehouse: {table: transactions}\n", w.kafka.Addr, topic, name),
		"tables/transactions.yaml": "table: transactions\ncolumns:\n" + columns,
	}
}

// runOurs lands the topic in a table of its own, and counts its rows.
func (w *world) runOurs(b *testing.B, i int, limit int64) run {
	port := testserver.FreePort(b)
	dir := filepath.Join(b.TempDir(), fmt.Sprint("ours", i))
	if err := w.project(port, fmt.Sprint("ours", i)).WriteTo(dir); err != nil {
		b.Fatal(err)
	}
	group, sh, args := own(b, w.ours, fmt.Sprint("ours", i))
	if limit > 0 {
		if err := group.Limit(limit); err != nil {
			b.Fatal(err)
		}
		b.Logf("tidemill may have %d MiB in memory", limit>>20)
	}
	s, err := product.Binary{Path: sh}.Start(append(args, "run", dir, "--roles", "connect", "--pprof")...)
	if err != nil {
		b.Fatal(err)
	}
	landed := func(ctx context.Context) (int64, error) {
		return count(ctx, fmt.Sprintf("http://127.0.0.1:%d/metrics", port), "tidemill_rows_landed_total")
	}
	if *prof != "" {
		go profile(b, s, landed, fmt.Sprintf("http://127.0.0.1:%d/debug/pprof/", port))
	}
	r := follow(b, s.Pid(), group, s.Done(), landed, s.Output)
	if code := s.Stop(); code != 0 {
		b.Fatalf("tidemill run ended with code %d\n%s", code, s.Output())
	}
	counted := product.Query[struct{ N, IDs int64 }](b, product.Binary{Path: w.ours}, dir, "SELECT count(*) AS n, count(DISTINCT tx_id) AS ids FROM transactions")
	if len(counted) != 1 || counted[0].N != *rows || counted[0].IDs != *rows {
		b.Fatalf("the table has %+v, want %d", counted, *rows)
	}
	return r
}

// profile saves what the processor does for three seconds from the first row on, and the heap after it.
func profile(b *testing.B, s *product.Server, landed func(context.Context) (int64, error), pprof string) {
	if err := s.Wait(func() error {
		if n, err := landed(b.Context()); err != nil || n == 0 {
			return fmt.Errorf("%d rows: %w", n, err)
		}
		return nil
	}); err != nil {
		b.Log(err)
		return
	}
	for name, file := range map[string]string{"profile?seconds=3": *prof, "heap": *prof + ".heap"} {
		if err := save(b.Context(), pprof+name, file); err != nil {
			b.Log(err)
		}
	}
}

func save(ctx context.Context, url, file string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o600)
}

// runPeer has Redpanda Connect write the topic as Parquet files: columns and types as ours,
// batches of 20,000 rows, as many at once as there are cores and more. Rows count when
// their offsets are committed, which it does ten times a second.
func (w *world) runPeer(b *testing.B, i int) run {
	conf := filepath.Join(b.TempDir(), fmt.Sprint("peer", i, ".yaml"))
	text := fmt.Appendf(nil, peerConfig, testserver.FreePort(b), w.kafka.Addr, topic, i, bucket, i, w.minio.Addr, w.minio.AccessKey, w.minio.SecretKey.Reveal())
	if err := os.WriteFile(conf, text, 0o600); err != nil {
		b.Fatal(err)
	}
	group, sh, args := own(b, w.peer, fmt.Sprint("peer", i))
	p := testserver.Start(b, exec.Command(sh, append(args, "run", conf)...))
	admin := kadm.NewClient(w.kafka.Client(b))
	committed := func(ctx context.Context) (n int64, err error) {
		offsets, err := admin.FetchOffsets(ctx, fmt.Sprint("peer", i))
		if err != nil {
			return 0, err
		}
		offsets.Each(func(o kadm.OffsetResponse) { n += max(o.At, 0) })
		return n, nil
	}
	r := follow(b, p.Pid(), group, p.Done(), committed, p.Output)
	p.Stop()
	return r
}

// own gives a run of a program a cgroup, and a copy of the program that nobody has in memory,
// so that all of its pages are the run's. It returns what to begin the program with.
func own(b *testing.B, program, name string) (group *harness.Cgroup, sh string, args []string) {
	fresh := filepath.Join(b.TempDir(), name)
	if err := harness.CopyUncached(program, fresh); err != nil {
		b.Fatal(err)
	}
	group, err := harness.NewCgroup(fmt.Sprintf("tidemill-bench-%d-%s", os.Getpid(), name))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := group.Remove(); err != nil {
			b.Log(err)
		}
	})
	sh, args = group.Command()
	return group, sh, append(args, fresh)
}

// follow waits until a process has written all rows, and measures it.
func follow(b *testing.B, pid int, group *harness.Cgroup, done <-chan struct{}, written func(context.Context) (int64, error), said func() string) run {
	tree := harness.Watch(pid)
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var began time.Time
	before, work := int64(0), int64(0)
	for {
		select {
		case <-done:
			b.Fatalf("ended early:\n%s", said())
		case <-ctx.Done():
			b.Fatalf("%d of %d rows: %v\n%s", before, *rows, ctx.Err(), said())
		case <-tick.C:
		}
		now, err := group.WorkingSet()
		if err != nil {
			b.Fatal(err)
		}
		work = max(work, now)
		n, err := written(ctx)
		if err != nil {
			continue // it is starting
		}
		if began.IsZero() && n > 0 {
			began, before = time.Now(), n
		}
		if n >= *rows {
			r := run{rate: float64(n-before) / time.Since(began).Seconds(), work: work}
			tree.Stop()
			use, _ := tree.Usage()
			u := use[harness.PartProduct]
			r.rss, r.anon, r.cpu = u.Peak, u.Anon, u.CPU
			return r
		}
	}
}

// count adds up a series of a process's metrics.
func count(ctx context.Context, url, series string) (n int64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(resp.Body); err != nil {
		return 0, err
	}
	found := false
	for line := range strings.Lines(body.String()) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && (name == series || strings.HasPrefix(name, series+"{")) {
			var v float64
			if _, err := fmt.Sscan(value, &v); err != nil {
				return 0, err
			}
			n, found = n+int64(v), true
		}
	}
	if !found {
		return 0, errors.New("no " + series)
	}
	return n, nil
}

const columns = `  - {name: tx_id, type: string, required: true}
  - {name: card_id, type: string, required: true}
  - {name: amount, type: double, required: true}
  - {name: country, type: string}
  - {name: merchant_risk, type: double, required: true}
  - {name: hour_of_day, type: long, required: true}
  - {name: is_foreign, type: long, required: true}
  - {name: tx_per_hour, type: long, required: true}
  - {name: channel, type: string}
  - {name: ts, type: timestamp, required: true}
`

// peerConfig hands over records in batches, since one by one costs Redpanda Connect several
// times as much, and leaves the timestamp a string, which is less work than ours.
const peerConfig = `http: {address: "127.0.0.1:%d"}
logger: {level: WARN}
input:
  kafka_franz:
    seed_brokers: [%q]
    topics: [%s]
    consumer_group: peer%d
    start_offset: earliest
    checkpoint_limit: 200000
    commit_period: 100ms
    batching: {count: 5000, period: 100ms}
output:
  aws_s3:
    bucket: %s
    path: 'run%d/${! uuid_v4() }.parquet'
    endpoint: "http://%s"
    region: us-east-1
    force_path_style_urls: true
    credentials: {id: %q, secret: %q}
    max_in_flight: 8
    batching:
      count: 20000
      period: 250ms
      processors:
        - parquet_encode:
            default_compression: snappy
            schema:
              - {name: tx_id, type: UTF8}
              - {name: card_id, type: UTF8}
              - {name: amount, type: DOUBLE}
              - {name: country, type: UTF8, optional: true}
              - {name: merchant_risk, type: DOUBLE}
              - {name: hour_of_day, type: INT64}
              - {name: is_foreign, type: INT64}
              - {name: tx_per_hour, type: INT64}
              - {name: channel, type: UTF8, optional: true}
              - {name: ts, type: UTF8}
`
