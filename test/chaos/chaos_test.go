package chaos

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"

	"github.com/tidemill/tidemill/internal/secret"
	"github.com/tidemill/tidemill/internal/testserver"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/objstore/faulty"
	"github.com/tidemill/tidemill/lakehouse/objstore/s3"
)

// points are the named steps on a row's way at which a process can be made to kill itself.
var points = []string{
	"after-data-put", "before-commit", "after-commit", "before-ack",
	"between-hops", "after-scored-put", "after-quarantine-commit", "before-commit-scored", "after-commit-scored",
}

// upkeep are those of maintenance. Each test takes every other one.
var upkeep = []string{
	"checkpoint-encoded", "compact-written", "checkpoint-put", "compact-before-commit", "hint-put", "compact-after-commit",
	"clean-before-delete", "vacuum-before-delete", "clean-after-delete", "vacuum-after-delete", "expire-before-commit", "maintain-plan",
}

// seedVar makes a run's random moments repeatable: they are in the test's log.
const seedVar = "TIDEMILL_CHAOS_SEED"

func newRand(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if s := os.Getenv(seedVar); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("$%s: %v", seedVar, err)
		}
	}
	t.Logf("random moments of $%s=%d", seedVar, seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// death is how a run of the product ends: at the n-th pass of a point, or, without one,
// some time after its start.
type death struct {
	point string
	n     int
	after time.Duration
}

func (d death) String() string {
	if d.point != "" {
		return fmt.Sprintf("%s:%d", d.point, d.n)
	}
	return "after " + d.after.String()
}

// deaths are a shuffled list of every point, of every other one of maintenance from an
// index on, and of random moments.
func deaths(r *rand.Rand, first, moments int) []death {
	var out []death
	for _, p := range points {
		out = append(out, death{point: p, n: 1 + r.IntN(5)})
	}
	for i := first; i < len(upkeep); i += 2 {
		out = append(out, death{point: upkeep[i], n: 1})
	}
	for range moments {
		out = append(out, death{after: time.Duration(200+r.IntN(3000)) * time.Millisecond})
	}
	r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// die lets one run of the product meet its death.
func (d death) die(t *testing.T, start func(env ...string) *instance) {
	t.Helper()
	began := time.Now()
	if d.point != "" {
		start(fault(d.point, d.n)).died(t, d.String())
	} else {
		p := start()
		moment := time.NewTimer(d.after)
		defer moment.Stop()
		select {
		case <-p.Done():
		case <-moment.C:
			p.Kill()
		}
		p.died(t, d.String())
	}
	t.Logf("killed %s, %.1f s after its start", d, time.Since(began).Seconds())
}

// env is what the tests share: a broker with the topic, and who feeds it.
type env struct {
	bin   string
	kafka *testserver.Kafka
	admin *kadm.Client
	rand  *rand.Rand
}

func setUp(t *testing.T) env {
	t.Helper()
	if testing.Short() {
		t.Skip("takes minutes")
	}
	e := env{bin: testserver.Tidemill(t), kafka: testserver.StartKafka(t), rand: newRand(t)}
	e.admin = kadm.NewClient(e.kafka.Client(t))
	e.kafka.CreateTopic(t, topic, partition)
	return e
}

// TestEverythingDies kills `tidemill dev`, and with it the embedded Temporal and
// the embedded store, and takes away Temporal's state and the broker's memory
// of the consumer group in between.
func TestEverythingDies(t *testing.T) {
	e := setUp(t)
	dir := writeProject(t, e.kafka, "")
	in := newFiles(dir)
	in.grow(t, "in/a.ndjson", 8000)
	feed := startFeeder(t, e.kafka, 16)
	start := func(env ...string) *instance {
		return launch(t, e.bin, env, "dev", dir, "--free-ports", "--json")
	}

	p := start()
	shorten(t, embeddedStore(t, dir, p.addresses(t).S3))
	p.Kill()
	for i, d := range deaths(e.rand, 0, 2) {
		if d.point == "expire-before-commit" {
			in.ancient(t)
		}
		switch i {
		case 4, 10:
			if err := os.RemoveAll(filepath.Join(dir, ".tidemill", "temporal")); err != nil {
				t.Fatal(err)
			}
			t.Log("Temporal's state is gone")
		case 7:
			forget(t, e.admin, 500)
			t.Log("the group's offsets are rolled back by 500")
		case 3, 5, 9:
			in.grow(t, "in/a.ndjson", 3000)
		case 6, 8:
			in.grow(t, "in/b.ndjson", 2000)
		}
		d.die(t, start)
	}

	p = start()
	e.settle(t, p, embeddedStore(t, dir, p.addresses(t).S3), feed, in)
	// Only now, since what comes again makes up for what was lost.
	p.Kill()
	forget(t, e.admin, -1)
	t.Log("the group begins again with everything")
	p = start()
	store := embeddedStore(t, dir, p.addresses(t).S3)
	e.settle(t, p, store, feed, in)
	tidy(t, store)
}

// TestProcessDies kills `tidemill run`, while Temporal and the store live on
// and the store's answers to commits get lost on the way. Then two processes
// are at the same table, and one of them is late: see takeOver.
func TestProcessDies(t *testing.T) {
	e := setUp(t)
	minio := testserver.StartMinIO(t)
	proxy, err := faulty.StartProxy(minio.Addr, faulty.ProxyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	idle := t.TempDir()
	writeFile(t, filepath.Join(idle, "tidemill.yaml"), []byte("project: idle\n"))
	temporal := launch(t, e.bin, nil, "dev", idle, "--free-ports", "--json").addresses(t).Temporal

	dir := writeProject(t, e.kafka, fmt.Sprintf(`store: {endpoint: "http://%s", bucket: tidemill, access_key: %s, secret_key: "${CHAOS_SECRET}"}
temporal: {address: %q}
http: {address: "127.0.0.1:${CHAOS_PORT}"}
`, proxy.Addr, minio.AccessKey, temporal))
	in := newFiles(dir)
	in.grow(t, "in/a.ndjson", 8000)
	feed := startFeeder(t, e.kafka, 16)
	start := func(env ...string) *instance {
		env = append(env, "CHAOS_SECRET="+minio.SecretKey.Reveal(), fmt.Sprintf("CHAOS_PORT=%d", testserver.FreePort(t)))
		return launch(t, e.bin, env, "run", dir)
	}

	p := start()
	p.atWork(t)
	store := openStore(t, s3.Config{Endpoint: minio.Addr, AccessKey: minio.AccessKey, SecretKey: minio.SecretKey})
	shorten(t, store)
	p.Kill()
	lost := loseAnswers(proxy)
	for i, d := range deaths(e.rand, 1, 2) {
		switch i {
		case 3, 9:
			in.grow(t, "in/a.ndjson", 3000)
		case 5:
			forget(t, e.admin, 500)
			t.Log("the group's offsets are rolled back by 500")
		case 6:
			in.grow(t, "in/b.ndjson", 2000)
		}
		d.die(t, start)
	}

	pickedUpSoon(t, temporal)
	last := e.takeOver(t, &watch{store: store}, start)
	if n := lost(); n == 0 {
		t.Error("no answer to a commit was lost")
	} else {
		t.Logf("%d answers to commits were lost", n)
	}
	proxy.Set(faulty.ProxyOptions{})
	e.settle(t, last, store, feed, in)
	tidy(t, store)
	e.settle(t, last, store, feed, in)
}

// loseAnswers has the proxy lose the answer to every third commit, after it
// went through, and every seventh commit on its way to the store.
func loseAnswers(p *faulty.Proxy) (lost func() int64) {
	p.Set(faulty.ProxyOptions{
		Match: func(r *http.Request) bool {
			return faulty.Conditional(r) && strings.Contains(r.URL.Path, "/_delta_log/")
		},
		Fault: func(n int64, _ *http.Request) faulty.Fault {
			switch {
			case n%3 == 0:
				return faulty.DropAnswer
			case n%7 == 0:
				return faulty.DropRequest
			}
			return faulty.Pass
		},
	})
	return func() int64 { return p.Count() / 3 }
}

// pickedUpSoon checks that a turn whose worker died is not waited for as long as
// Temporal does by default, 10 s: that is how long the table would stand still.
func pickedUpSoon(t *testing.T, temporal string) {
	t.Helper()
	c, err := client.Dial(client.Options{HostPort: temporal, Logger: log.NewStructuredLogger(slog.New(slog.DiscardHandler))})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	d, err := c.DescribeWorkflowExecution(t.Context(), "pipeline/"+project+"/"+table, "")
	if err != nil {
		t.Fatal(err)
	}
	if w := d.GetExecutionConfig().GetDefaultWorkflowTaskTimeout().AsDuration(); w > 5*time.Second {
		t.Errorf("a turn whose worker died is begun again after %s", w)
	}
}

// zombies are the points at which a process falls asleep with work in its hands.
var zombies = []string{"before-commit", "before-commit-scored", "after-quarantine-commit"}

// takeOver has one process fall asleep in the middle of its work, another one
// take over its partitions and its pipeline, and the first one wake up and
// finish what is no longer its own. Then one of the two is killed.
// It returns a process that lives.
func (e env) takeOver(t *testing.T, w *watch, start func(env ...string) *instance) (alive *instance) {
	t.Helper()
	for i, point := range zombies {
		if alive != nil {
			alive.Kill()
		}
		sleeper := start(fault(point, 1+e.rand.IntN(3)) + ":stop")
		sleeper.asleep(t, point)
		landed, done, err := w.progress(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		alive = start()
		testserver.Eventually(t, "take over from a process that sleeps at "+point, 3*time.Minute, func(ctx context.Context) error {
			l, d, err := w.progress(ctx)
			if err == nil && (l < landed+2 || d <= landed) {
				err = fmt.Errorf("landed %d, scored %d; were %d, %d", l, d, landed, done)
			}
			return err
		})
		e.members(t, 1)
		if err := syscall.Kill(sleeper.Pid(), syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		e.members(t, 2)
		if i%2 == 0 {
			alive, sleeper = sleeper, alive
		}
		sleeper.Kill()
		sleeper.died(t, "one of two")
		t.Logf("slept at %s until another had taken over; killed the %s of the two", point, []string{"other", "sleeper"}[i%2])
	}
	return alive
}

// members waits until the consumer group is stable with n members.
func (e env) members(t *testing.T, n int) {
	t.Helper()
	testserver.Eventually(t, fmt.Sprintf("a group of %d", n), 3*time.Minute, func(ctx context.Context) error {
		g, err := e.admin.DescribeGroups(ctx, group)
		if err != nil {
			return err
		}
		if d := g[group]; d.State != "Stable" || len(d.Members) != n {
			return fmt.Errorf("%d members, %s", len(d.Members), d.State)
		}
		return nil
	})
}

// embeddedStore opens the store of a dev process.
func embeddedStore(t *testing.T, dir, endpoint string) objstore.Store {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, ".tidemill", "addresses.json"))
	if err != nil {
		t.Fatal(err)
	}
	access, key, err := keys(data)
	if err != nil {
		t.Fatal(err)
	}
	return openStore(t, s3.Config{Endpoint: endpoint, AccessKey: access, SecretKey: secret.New(key)})
}

func openStore(t *testing.T, c s3.Config) objstore.Store {
	t.Helper()
	c.Bucket = "tidemill"
	s, err := s3.New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return objstore.WithPrefix(objstore.Retry(s, objstore.RetryPolicy{}), project)
}

// settle ends the feeding, waits until the living process says that it is done
// with everything, and judges the tables.
func (e env) settle(t *testing.T, p *instance, store objstore.Store, feed *feeder, in *files) {
	t.Helper()
	began := time.Now()
	w := &watch{store: store}
	sent := feed.finish(t)
	maps.Copy(sent, in.sent)
	testserver.Eventually(t, "everything acked and scored", 4*time.Minute, func(ctx context.Context) error {
		select {
		case <-p.Done():
			t.Fatalf("the process ended by itself: %s\n%s", p.State(), p.Output())
		default:
		}
		if !p.fileDone() {
			return errors.New("the files are not read yet")
		}
		if n, err := lag(ctx, e.admin); err != nil || n != 0 {
			return fmt.Errorf("%d messages not acked: %w", n, err)
		}
		landed, done, err := w.progress(ctx)
		if err == nil && landed != done {
			err = fmt.Errorf("landed version %d, scored up to %d", landed, done)
		}
		return err
	})
	done := time.Since(began)
	var l *ledger
	testserver.Eventually(t, "read the tables", 5*time.Minute, func(ctx context.Context) (err error) {
		l, err = readLedger(ctx, store) // longer than the tables' retention, files may go
		return err
	})
	t.Logf("sent %d events, of them %d from files; %v; settled in %.1f s, read in %.1f s",
		len(sent), len(in.sent), l.counts, done.Seconds(), (time.Since(began) - done).Seconds())
	l.judge(t, sent)
}

// watch follows the tables' logs.
type watch struct {
	store          objstore.Store
	landed, scored *lakehouse.Table
}

// progress returns the landed table's version, and the one up to which the
// pipeline has scored it.
func (w *watch) progress(ctx context.Context) (landed, done int64, err error) {
	if w.landed == nil {
		if w.landed, err = lakehouse.Open(ctx, w.store, table); err != nil {
			return 0, 0, err
		}
	}
	if w.scored == nil {
		if w.scored, err = lakehouse.Open(ctx, w.store, table+"_scored"); err != nil {
			return 0, 0, err
		}
	}
	l, err := w.landed.Refresh(ctx)
	if err != nil {
		return 0, 0, err
	}
	s, err := w.scored.Refresh(ctx)
	if err != nil {
		return 0, 0, err
	}
	done, _ = s.Txn("pipeline/" + table)
	return l.Version(), done, nil
}
