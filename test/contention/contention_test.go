package contention

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow/array"

	embedded "github.com/tidemill/tidemill/deploy/embedded/store"
	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/internal/secret"
	"github.com/tidemill/tidemill/internal/testserver"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/objstore/faulty"
)

// CI makes a share of what `task test:contention` makes.
var (
	versions = flag.Int64("contention.versions", 300, "how long each log gets")
	repeat   = flag.Int("contention.repeat", 1, "how often each case runs")
	all      = flag.Bool("contention.all", false, "run all cases")
)

const (
	processes = 4
	writers   = 4 // of each
)

// behind bounds how much more the fastest writer may get done than the slowest.
const behind = 3.0

// server is an S3 store under test.
type server struct {
	addr, key string
	secret    secret.String
}

func minio(t *testing.T) server {
	m := testserver.StartMinIO(t)
	return server{m.Addr, m.AccessKey, m.SecretKey}
}

func gateway(t *testing.T) server {
	s := server{testserver.Addr(testserver.FreePort(t)), "tidemill", secret.New("contention-secret")}
	o := embedded.Options{Dir: t.TempDir(), Addr: s.addr, Region: "us-east-1", AccessKey: s.key, SecretKey: s.secret}
	run, err := embedded.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = run.Stop(context.Background()) })
	return s
}

// TestContention: 16 writers in 4 processes on one table. A process's writers share an
// appender, which commits together what they wrote meanwhile, or each has its own.
func TestContention(t *testing.T) {
	for name, start := range map[string]func(*testing.T) server{"MinIO": minio, "embedded": gateway} {
		for _, c := range []struct {
			name      string
			appenders int
			badly     bool
			clean     bool
			always    bool
		}{
			{"an appender a process", 1, false, false, false},
			{"16 appenders, log cleaned", writers, false, true, true},
			{"bad network", 1, true, false, true},
			{"bad network, 16 appenders, log cleaned", writers, true, true, false},
		} {
			if !c.always && !*all {
				continue
			}
			for n := range *repeat {
				t.Run(fmt.Sprintf("%s/%s/%d", name, c.name, n), func(t *testing.T) {
					r := &race{t: t, server: start(t), appenders: c.appenders}
					r.create(c.clean)
					if c.badly {
						r.badNetwork(rand.Uint64())
					}
					r.run(c.clean)
					r.verify(c.clean)
				})
			}
		}
	}
}

// race is one run of the writers.
type race struct {
	t         *testing.T
	server    server // as the writers reach it
	store     objstore.Store
	appenders int // of each process
	results   []done
	took      time.Duration
}

func (r *race) create(clean bool) {
	var err error
	if r.store, err = open(r.t.Context(), r.server.addr, r.server.key, r.server.secret); err != nil {
		r.t.Fatal(err)
	}
	o := lakehouse.CreateOptions{Schema: schema(), Configuration: map[string]string{}}
	if clean {
		const short = "interval 4 seconds"
		o.Configuration["delta.logRetentionDuration"], o.Configuration["delta.deletedFileRetentionDuration"] = short, short
	}
	if _, err := lakehouse.Create(r.t.Context(), r.store, table, o); err != nil {
		r.t.Fatal(err)
	}
}

// badNetwork puts a proxy between the writers and their store.
func (r *race) badNetwork(seed uint64) {
	r.t.Logf("the network's seed is %d", seed)
	proxy, err := faulty.StartProxy(r.server.addr, faulty.ProxyOptions{
		Fault:   faulty.Random(seed, faulty.Rates{DropAnswer: 0.05, DropRequest: 0.01, Conflict: 0.02, Internal: 0.01, Unavailable: 0.01}),
		Latency: faulty.Jitter(seed, 4*time.Millisecond),
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(proxy.Close)
	r.server.addr = proxy.Addr
}

// run starts the processes and waits for them.
func (r *race) run(clean bool) {
	ctx, cancel := context.WithCancel(r.t.Context())
	defer cancel()
	var cleaning sync.WaitGroup
	if clean {
		cleaning.Go(func() { r.clean(ctx) })
	}
	start := time.Now()
	r.results = make([]done, processes)
	errs := make([]error, processes)
	var wg sync.WaitGroup
	for p := range processes {
		wg.Go(func() { r.results[p], errs[p] = r.process(ctx, p) })
	}
	wg.Wait()
	r.took = time.Since(start)
	cancel()
	cleaning.Wait()
	if err := errors.Join(errs...); err != nil {
		r.t.Fatal(err)
	}
}

func (r *race) process(ctx context.Context, p int) (d done, err error) {
	input, err := json.Marshal(job{
		Endpoint: r.server.addr, AccessKey: r.server.key, SecretKey: r.server.secret.Reveal(),
		Process: p, Processes: processes, Writers: writers, Appenders: r.appenders, Versions: *versions,
	})
	if err != nil {
		return d, err
	}
	exe, err := os.Executable()
	if err != nil {
		return d, err
	}
	cmd := exec.CommandContext(ctx, exe)
	cmd.Env = append(os.Environ(), writerEnv+"=1")
	cmd.Stdin = bytes.NewReader(input)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return d, fmt.Errorf("process %d: %w: %s", p, err, stderr.Bytes())
	}
	return d, json.Unmarshal(out, &d)
}

// clean keeps the log short while the writers write.
func (r *race) clean(ctx context.Context) {
	tbl, err := lakehouse.Open(ctx, r.store, table)
	if err != nil {
		r.t.Error(err)
		return
	}
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		// Not cut off at the end: the log would begin in the middle of what it deletes.
		_, err := tbl.CleanLog(context.WithoutCancel(ctx), lakehouse.MaintainOptions{Hold: lakehouse.NoHold})
		if err != nil {
			r.t.Error(err)
			return
		}
	}
}

// verify looks at the table, past the network, and at what the writers say.
func (r *race) verify(clean bool) {
	t := r.t
	tbl, err := lakehouse.Open(t.Context(), r.store, table)
	if err != nil {
		t.Fatal(err)
	}
	s := tbl.Snapshot()
	r.dense(s.Version(), clean)
	acked := batch.Claims{}
	var commits, conflicts, failures int64
	for _, d := range r.results {
		commits, conflicts, failures = commits+d.Commits, conflicts+d.Conflicts, failures+d.Errors
		for _, w := range d.Writers {
			for p, list := range w.Acked {
				for _, v := range list {
					acked[p] = acked[p].Add(batch.Interval{First: v[0], Last: v[1]})
				}
			}
		}
	}
	if commits != s.Version() {
		t.Errorf("the processes made %d commits, the log has %d beside its first", commits, s.Version())
	}
	if s.Version() < *versions {
		t.Errorf("%d versions, want %d", s.Version(), *versions)
	}
	r.rows(tbl, acked)
	known := lakehouse.NewAppender(tbl, lakehouse.AppenderOptions{})
	for p, want := range acked {
		if got := known.Claims(p); !slices.Equal(got, want) {
			t.Errorf("partition %s: the log says that %v is in, acked was %v", p, got, want)
		}
	}
	t.Logf("%d versions in %v, %.0f a second; %d files, %d rows; %d commits planned again, %d appends repeated",
		s.Version(), r.took.Round(time.Millisecond), float64(s.Version())/r.took.Seconds(), s.NumFiles(), s.NumRows(), conflicts, failures)
	r.fair()
}

// dense wants a log of versions without a hole: from 0, or when it was cleaned from a checkpoint.
func (r *race) dense(last int64, clean bool) {
	var commits []int64
	checkpoints := map[int64]bool{}
	for o, err := range r.store.List(r.t.Context(), table+"/_delta_log/", "") {
		if err != nil {
			r.t.Fatal(err)
		}
		number, kind, _ := strings.Cut(strings.TrimPrefix(o.Key, table+"/_delta_log/"), ".")
		v, err := strconv.ParseInt(number, 10, 64)
		switch {
		case err != nil:
		case kind == "json":
			commits = append(commits, v)
		default:
			checkpoints[v] = true
		}
	}
	if len(commits) == 0 {
		r.t.Fatal("the log is empty")
	}
	for i, v := range commits {
		if v != commits[0]+int64(i) {
			r.t.Fatalf("the log goes from version %d to %d", commits[i-1], v)
		}
	}
	first := commits[0]
	switch {
	case commits[len(commits)-1] != last:
		r.t.Errorf("the log ends at version %d, the table is at %d", commits[len(commits)-1], last)
	case !clean && first != 0:
		r.t.Errorf("the log begins at version %d", first)
	case clean && first > 0 && !checkpoints[first] && !checkpoints[first-1]:
		r.t.Errorf("the log begins at version %d, where there is no checkpoint; there are %v", first, slices.Sorted(maps.Keys(checkpoints)))
	}
	if clean {
		r.t.Logf("the log was cleaned up to version %d of %d", first, last)
	}
}

// rows reads every file: each row that was acked is there once, and no other.
func (r *race) rows(tbl *lakehouse.Table, acked batch.Claims) {
	files := make(chan lakehouse.File)
	var mu sync.Mutex
	seen := map[string]batch.Intervals{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for f := range files {
				rec, err := tbl.ReadFile(r.t.Context(), f)
				if err != nil {
					r.t.Error(err)
					continue
				}
				parts, offsets := rec.Column(1).(*array.String), rec.Column(2).(*array.Int64)
				mu.Lock()
				for i := range int(rec.NumRows()) {
					p, off := parts.Value(i), offsets.Value(i)
					if seen[p].Contains(off) {
						r.t.Errorf("row %s/%d is in twice", p, off)
					}
					seen[p] = seen[p].Add(batch.Interval{First: off, Last: off})
				}
				mu.Unlock()
				rec.Release()
			}
		})
	}
	for f := range tbl.Snapshot().Files() {
		files <- f
	}
	close(files)
	wg.Wait()
	for p, want := range acked {
		if !slices.Equal(seen[p], want) {
			r.t.Errorf("partition %s: the table has %v, acked was %v", p, seen[p], want)
		}
	}
	if len(seen) != len(acked) {
		r.t.Errorf("rows of %d partitions, want %d", len(seen), len(acked))
	}
}

// fair wants no writer to be far behind another, and tells how they did.
func (r *race) fair() {
	var least, most, leastCommits, mostCommits int64
	for p, d := range r.results {
		line := fmt.Sprintf("process %d: %d commits, %d planned again;", p, d.Commits, d.Conflicts)
		for _, w := range d.Writers {
			line += fmt.Sprintf(" %d appends (p50 %v, p99 %v, longest %v)", w.Appends, w.P50.Round(time.Millisecond), w.P99.Round(time.Millisecond), w.MaxWait.Round(time.Millisecond))
			if least == 0 || w.Appends < least {
				least = w.Appends
			}
			most = max(most, w.Appends)
		}
		if leastCommits == 0 || d.Commits < leastCommits {
			leastCommits = d.Commits
		}
		mostCommits = max(mostCommits, d.Commits)
		r.t.Log(line)
	}
	if float64(most) > behind*float64(least) {
		r.t.Errorf("one writer made %d appends, another %d", least, most)
	}
	if float64(mostCommits) > behind*float64(leastCommits) {
		r.t.Errorf("one process made %d commits, another %d", leastCommits, mostCommits)
	}
}
