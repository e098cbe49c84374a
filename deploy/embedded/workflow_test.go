package embedded_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/tidemill/tidemill/deploy/embedded"
	"github.com/tidemill/tidemill/internal/secret"
	"github.com/tidemill/tidemill/internal/testserver"
)

const queue = "embedded-test"

var tableAttribute = temporal.NewSearchAttributeKeyKeyword("TidemillTable")

// counter is a workflow like a table's pipeline: it waits for signals, does its work in
// local activities, answers queries and takes updates.
func counter(ctx workflow.Context) (int, error) {
	n, done := 0, false
	workflow.SetCurrentDetails(ctx, "waiting for **signals**")
	err := workflow.SetUpdateHandler(ctx, "finish", func(workflow.Context) (int, error) { done = true; return n, nil })
	if err != nil {
		return 0, err
	}
	if err := workflow.SetQueryHandler(ctx, "count", func() (int, error) { return n, nil }); err != nil {
		return 0, err
	}
	lctx := workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{StartToCloseTimeout: time.Minute})
	signals := workflow.GetSignalChannel(ctx, "go")
	sel := workflow.NewSelector(ctx)
	sel.AddReceive(signals, func(c workflow.ReceiveChannel, _ bool) {
		var sent int64
		c.Receive(ctx, &sent)
		_ = workflow.ExecuteLocalActivity(lctx, (*activities).Step, sent).Get(ctx, nil)
		n++
	})
	for !done {
		if err := workflow.Await(ctx, func() bool { return done || sel.HasPending() }); err != nil {
			return 0, err
		}
		for sel.HasPending() {
			sel.Select(ctx)
		}
		if n > 0 && n%1000 == 0 {
			return n, nil
		}
	}
	return n, nil
}

// steps runs three ordinary activities.
func steps(ctx workflow.Context) error {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
	for range 3 {
		if err := workflow.ExecuteActivity(ctx, (*activities).Step, int64(0)).Get(ctx, nil); err != nil {
			return err
		}
	}
	return nil
}

// activities notes how long after its signal each step began.
type activities struct {
	steps chan time.Duration
}

func (a *activities) Step(_ context.Context, sent int64) error {
	if a.steps != nil {
		a.steps <- time.Since(time.Unix(0, sent))
	}
	return nil
}

func work(tb testing.TB, c client.Client, a *activities) {
	tb.Helper()
	w := worker.New(c, queue, worker.Options{
		StickyScheduleToStartTimeout: time.Second,
		// With the default of two, tasks that find no poller waiting go through the
		// database after 200 ms, and everything behind them with them.
		MaxConcurrentWorkflowTaskPollers: 16,
		MaxConcurrentActivityTaskPollers: 16,
	})
	w.RegisterWorkflow(counter)
	w.RegisterWorkflow(steps)
	w.RegisterActivity(a)
	if err := w.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(w.Stop)
}

func signal(ctx context.Context, c client.Client, id string) error {
	_, err := c.SignalWithStartWorkflow(ctx, id, "go", time.Now().UnixNano(), client.StartWorkflowOptions{
		TaskQueue:             queue,
		TypedSearchAttributes: temporal.NewSearchAttributes(tableAttribute.ValueSet("transactions")),
		StaticSummary:         "counts signals",
	}, counter)
	return err
}

// TestFeatures: what the workflows use works with the server as it is configured.
func TestFeatures(t *testing.T) {
	s := start(t, embedded.Options{Temporal: true})
	c := dial(t, s.TemporalAddress())
	a := &activities{steps: make(chan time.Duration, 10)}
	work(t, c, a)
	for range 3 {
		if err := signal(t.Context(), c, "pipeline/transactions"); err != nil {
			t.Fatal(err)
		}
		<-a.steps
	}
	v, err := c.QueryWorkflow(t.Context(), "pipeline/transactions", "", "count")
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := v.Get(&n); err != nil || n != 3 {
		t.Errorf("count is %d, %v", n, err)
	}
	_, err = c.QueryWorkflow(t.Context(), "pipeline/transactions", "", "__temporal_workflow_metadata")
	if err != nil {
		t.Fatal(err)
	}
	desc, err := c.DescribeWorkflow(t.Context(), "pipeline/transactions", "")
	if err != nil {
		t.Fatal(err)
	}
	if sum, err := desc.GetStaticSummary(); err != nil || sum != "counts signals" {
		t.Errorf("summary %q, %v", sum, err)
	}

	// An eager start saves the first hop through the task queue.
	run, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{TaskQueue: queue, EnableEagerStart: true}, steps)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		<-a.steps
	}
	if err := run.Get(t.Context(), nil); err != nil {
		t.Fatal(err)
	}

	up, err := c.UpdateWorkflow(t.Context(), client.UpdateWorkflowOptions{
		WorkflowID: "pipeline/transactions", UpdateName: "finish", WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := up.Get(t.Context(), &n); err != nil || n != 3 {
		t.Errorf("update gives %d, %v", n, err)
	}

	h, err := c.ScheduleClient().Create(t.Context(), client.ScheduleOptions{
		ID: "maintain", Spec: client.ScheduleSpec{Intervals: []client.ScheduleIntervalSpec{{Every: time.Hour}}},
		Action:             &client.ScheduleWorkflowAction{ID: "scheduled", Workflow: steps, TaskQueue: queue},
		TriggerImmediately: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		<-a.steps
	}
	if err := h.Delete(t.Context()); err != nil {
		t.Error(err)
	}
	waitListed(t, c, `TidemillTable = 'transactions'`)
}

// waitListed waits until visibility, which lags a moment, has a workflow for query.
func waitListed(t *testing.T, c client.Client, query string) {
	t.Helper()
	for {
		l, err := c.ListWorkflow(t.Context(), &workflowservice.ListWorkflowExecutionsRequest{Query: query})
		if err != nil {
			t.Fatal(err)
		}
		if len(l.Executions) > 0 {
			return
		}
	}
}

const helperEnv = "TIDEMILL_EMBEDDED_TEST_DIR"

// TestMain lets the test binary be a process that runs the stack until it is killed.
func TestMain(m *testing.M) {
	dir := os.Getenv(helperEnv)
	if dir == "" {
		os.Exit(m.Run())
	}
	s, err := embedded.Start(context.Background(), embedded.Options{Dir: dir, FreePorts: true, Logger: slog.Default()})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	fmt.Println("ready", s.TemporalAddress(), s.S3().Endpoint, s.S3().AccessKey, s.S3().SecretKey.Reveal())
	select {}
}

// TestKilled: a stack killed without notice comes back with all it had, on the same
// directory, whose lock is free again.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperEnv+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	t.Cleanup(kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	f := strings.Fields(line)
	if err != nil || len(f) != 5 {
		t.Fatalf("helper says %q, %v", line, err)
	}

	_, err = embedded.Start(t.Context(), embedded.Options{Dir: dir, FreePorts: true})
	if !errors.Is(err, embedded.ErrLocked) || !strings.Contains(err.Error(), fmt.Sprint(cmd.Process.Pid)) {
		t.Errorf("start in a directory in use: %v", err)
	}

	c := dial(t, f[1])
	if err := signal(t.Context(), c, "pipeline/transactions"); err != nil { // no worker yet
		t.Fatal(err)
	}
	lake := bucket(t, embedded.S3{Endpoint: f[2], AccessKey: f[3], SecretKey: secret.New(f[4])})
	if err := lake.PutIfAbsent(t.Context(), "_delta_log/0.json", []byte("commit")); err != nil {
		t.Fatal(err)
	}
	kill()

	s := start(t, embedded.Options{Dir: dir})
	got, err := bucket(t, s.S3()).Get(t.Context(), "_delta_log/0.json")
	if err != nil || string(got) != "commit" {
		t.Errorf("object after restart: %q, %v", got, err)
	}
	a := &activities{steps: make(chan time.Duration, 1)}
	work(t, dial(t, s.TemporalAddress()), a)
	<-a.steps // the signal sent before the crash

	// The store's process goes with its parent, and its port is free.
	for testserver.Dial(f[2]) == nil {
		if t.Context().Err() != nil {
			t.Fatal("the store outlived its parent")
		}
	}
}

// BenchmarkSignal measures from a signal-with-start to the start of the local activity
// that it leads to in a running workflow: back to back, and four a second.
func BenchmarkSignal(b *testing.B) {
	for _, every := range []time.Duration{0, 50 * time.Millisecond} {
		b.Run(fmt.Sprintf("every=%v", every), func(b *testing.B) {
			s := start(b, embedded.Options{Temporal: true})
			c := dial(b, s.TemporalAddress())
			a := &activities{steps: make(chan time.Duration, 1)}
			work(b, c, a)
			var took []time.Duration
			for b.Loop() {
				if err := signal(b.Context(), c, "pipeline/transactions"); err != nil {
					b.Fatal(err)
				}
				took = append(took, <-a.steps)
				if every > 0 {
					b.StopTimer()
					time.Sleep(every)
					b.StartTimer()
				}
			}
			report(b, took)
		})
	}
}

// BenchmarkActivities measures a workflow of three ordinary activities, eight at a time.
func BenchmarkActivities(b *testing.B) {
	s := start(b, embedded.Options{Temporal: true})
	c := dial(b, s.TemporalAddress())
	work(b, c, &activities{})
	var mu sync.Mutex
	var took []time.Duration
	b.SetParallelism(4)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			began := time.Now()
			run, err := c.ExecuteWorkflow(b.Context(), client.StartWorkflowOptions{TaskQueue: queue, EnableEagerStart: true}, steps)
			if err == nil {
				err = run.Get(b.Context(), nil)
			}
			if err != nil {
				b.Error(err)
				return
			}
			mu.Lock()
			took = append(took, time.Since(began))
			mu.Unlock()
		}
	})
	report(b, took)
}

func report(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	ms := func(q float64) float64 { return float64(took[int(q*float64(len(took)-1))].Microseconds()) / 1000 }
	b.ReportMetric(ms(0.50), "p50-ms")
	b.ReportMetric(ms(0.99), "p99-ms")
	b.ReportMetric(ms(1), "max-ms")
}
