package app

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"github.com/tidemill/tidemill/activities"
	"github.com/tidemill/tidemill/connectors/decode"
	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/deploy/embedded"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
	"github.com/tidemill/tidemill/query"
	"github.com/tidemill/tidemill/workflows"
)

var latency = flag.Int("latency", 0, "turns to measure from the signal on, four a second")

const pipelineContract = `table: t
columns:
  - {name: id, type: long, required: true}
  - {name: x, type: double, required: true}
key: [id]
checks:
  - {name: positive, expr: "x > 0", on_fail: quarantine}
`

// mill is hop two as a process runs it: a real server, a real worker, real
// tables in memory.
type mill struct {
	t      *testing.T
	ctx    context.Context
	client client.Client
	tables *tables
	acts   *activities.Activities
	worker worker.Worker
	begun  chan time.Time // turns
	hold   chan struct{}  // if set, turns wait for it to be closed
	next   int64
}

func newMill(t *testing.T) *mill {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	stack, err := embedded.Start(ctx, embedded.Options{Dir: t.TempDir(), FreePorts: true, Temporal: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stack.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	log := slog.New(slog.DiscardHandler)
	m := &mill{t: t, ctx: ctx, begun: make(chan time.Time, 1000)}
	if m.client, err = dialTemporal(Cluster{Address: stack.TemporalAddress(), Namespace: embedded.Namespace}, log); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.client.Close)
	c, err := contract.Parse("tables/t.yaml", []byte(pipelineContract))
	if err != nil {
		t.Fatal(err)
	}
	m.tables = &tables{store: mem.New(), contracts: map[string]*contract.Table{"t": c}, log: log, open: map[string]*lakehouse.Table{}}
	engine, err := query.Open(query.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = engine.Close() })
	m.acts = activities.New(activities.Options{
		Contracts: []*contract.Table{c}, Tables: m.tables, Models: newRegistry(m.tables.store), Engine: engine,
		Cache: lakehouse.NewRecordCache(1 << 20), Files: &projectFiles{dir: t.TempDir(), store: m.tables.store}, Logger: log,
		TurnStarted: func(string) { m.begun <- time.Now() },
		Fault: func(string) {
			if m.hold != nil {
				<-m.hold
			}
		},
	})
	m.start()
	return m
}

func (m *mill) start() {
	m.t.Helper()
	m.worker = newWorker(m.client, "q", m.acts)
	if err := m.worker.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(m.worker.Stop)
}

// land commits one good row and a bad one.
func (m *mill) land() {
	m.t.Helper()
	c := m.tables.contracts["t"]
	plan, err := decode.NewPlan(c.ArrowSchema(), decode.Options{})
	if err != nil {
		m.t.Fatal(err)
	}
	d := plan.NewDecoder(memory.DefaultAllocator)
	for _, x := range []int{1, -1} {
		if err := d.Message(fmt.Appendf(nil, `{"id":%d,"x":%d}`, m.next, x), decode.Position{Partition: "c/f/0", First: m.next}); err != nil {
			m.t.Fatal(err)
		}
		m.next++
	}
	rec, runs, _ := d.Flush()
	defer rec.Release()
	table, err := m.tables.Create(m.ctx, "t", lakehouse.CreateOptions{Schema: plan.Schema()})
	if err != nil {
		m.t.Fatal(err)
	}
	done, err := lakehouse.NewAppender(table, lakehouse.AppenderOptions{}).Append(m.ctx, lakehouse.Append{Record: rec, Runs: runs})
	if err != nil {
		m.t.Fatal(err)
	}
	if done.Record != nil {
		done.Record.Release()
	}
}

func (m *mill) wake() {
	m.t.Helper()
	if err := wake(m.ctx, m.client, "q", "p", "t"); err != nil {
		m.t.Fatal(err)
	}
}

// until asks for the pipeline's status until it is as wanted.
func (m *mill) until(what string, ok func(workflows.Status) bool) {
	m.t.Helper()
	for {
		s, err := pipelineStatus(m.ctx, m.client, "p", "t")
		if err == nil && ok(s) {
			return
		}
		if m.ctx.Err() != nil {
			m.t.Fatalf("never %s: %+v, %v", what, s, err)
		}
	}
}

func (m *mill) scored(rows int64) {
	m.t.Helper()
	m.until(fmt.Sprint(rows, " rows scored"), func(s workflows.Status) bool {
		return s.Scored == rows && s.Quarantined == rows && s.Doing == "waiting"
	})
}

func (m *mill) update(name string, args ...any) (s workflows.Status, err error) {
	h, err := m.client.UpdateWorkflow(m.ctx, client.UpdateWorkflowOptions{WorkflowID: workflows.PipelineID("p", "t"), UpdateName: name, Args: args, WaitForStage: client.WorkflowUpdateStageCompleted})
	if err != nil {
		return s, err
	}
	return s, h.Get(m.ctx, &s)
}

func TestPipelineOnServer(t *testing.T) {
	m := newMill(t)
	m.wake() // before anything has landed
	m.until("waiting", func(s workflows.Status) bool { return s.Doing == "waiting" })
	m.land()
	m.wake()
	m.scored(1)

	// Pause, without an input as a person may do it, and twice.
	s, err := m.update(workflows.UpdatePause)
	if err != nil || s.Doing != "paused" {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := m.update(workflows.UpdatePause); err == nil || !strings.Contains(err.Error(), "t is paused already") {
		t.Errorf("paused twice: %v", err)
	}
	m.land()
	m.wake()
	// A worker that goes and one that comes find it paused still.
	m.worker.Stop()
	m.start()
	m.until("paused", func(s workflows.Status) bool { return s.Doing == "paused" && s.Scored == 1 })
	if s, err := m.update(workflows.UpdateResume); err != nil || s.Paused {
		t.Errorf("%+v, %v", s, err)
	}
	m.scored(2)

	d, err := m.client.DescribeWorkflow(m.ctx, workflows.PipelineID("p", "t"), "")
	if err != nil {
		t.Fatal(err)
	}
	if text, err := d.GetStaticSummary(); err != nil || text != "Checks and scores **t** of project p." {
		t.Errorf("summary %q, %v", text, err)
	}
	for {
		l, err := m.client.ListWorkflow(m.ctx, &workflowservice.ListWorkflowExecutionsRequest{Query: `TidemillTable = 't' AND WorkflowType = 'Pipeline'`})
		if err != nil {
			t.Fatal(err)
		}
		if len(l.Executions) == 1 { // visibility is a moment behind
			break
		}
	}
}

// A worker that is stopped in the middle of a turn finishes it, or leaves it to
// another; the status can be asked meanwhile.
func TestWorkerStopsInTurn(t *testing.T) {
	m := newMill(t)
	m.land()
	m.hold = make(chan struct{})
	m.wake()
	<-m.begun
	began := time.Now()
	m.until("scoring", func(s workflows.Status) bool { return s.Doing == "scoring" })
	t.Logf("status during a turn: after %v", time.Since(began).Round(time.Millisecond))
	stopped := make(chan time.Duration, 1)
	go func() {
		start := time.Now()
		m.worker.Stop()
		stopped <- time.Since(start)
	}()
	close(m.hold)
	t.Logf("stopped after %v", (<-stopped).Round(time.Millisecond))
	m.start()
	m.land()
	m.wake()
	m.scored(2)
}

// TestLatency measures from the signal to the turn it wakes, and what a turn
// leaves in the history: go test ./internal/app -run TestLatency -latency 200
func TestLatency(t *testing.T) {
	if *latency == 0 {
		t.Skip("asked for with -latency")
	}
	m := newMill(t)
	m.land()
	m.wake()
	m.scored(1)
	for len(m.begun) > 0 {
		<-m.begun
	}
	events := m.events()
	var took []time.Duration
	pace := time.NewTicker(250 * time.Millisecond)
	defer pace.Stop()
	for range *latency {
		<-pace.C
		m.land()
		start := time.Now()
		m.wake()
		took = append(took, (<-m.begun).Sub(start))
		m.scored(m.next / 2)
		for len(m.begun) > 0 { // a turn of the slow timer
			<-m.begun
		}
	}
	slices.Sort(took)
	n := len(took)
	t.Logf("signal to turn: p50 %v, p99 %v, max %v; %.1f events per turn", took[n/2], took[n*99/100], took[n-1], float64(m.events()-events)/float64(n))
}

func (m *mill) events() (n int) {
	m.t.Helper()
	it := m.client.GetWorkflowHistory(m.ctx, workflows.PipelineID("p", "t"), "", false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for ; it.HasNext(); n++ {
		if _, err := it.Next(); err != nil {
			m.t.Fatal(err)
		}
	}
	return n
}

// A table that this process has open gets the columns that a contract or a
// model brings later.
func TestOpenTableGetsColumns(t *testing.T) {
	long := arrow.PrimitiveTypes.Int64
	fields := []arrow.Field{{Name: "a", Type: long}, {Name: "b", Type: long, Nullable: true}, {Name: "c", Type: long, Nullable: true}}
	ts := &tables{store: mem.New(), open: map[string]*lakehouse.Table{}}
	for n := 1; n <= 3; n++ {
		l, err := ts.Create(t.Context(), "t", lakehouse.CreateOptions{Schema: arrow.NewSchema(fields[:n], nil)})
		if err != nil {
			t.Fatal(err)
		}
		if got := l.Snapshot().Schema().NumFields(); got != n {
			t.Errorf("%d columns, want %d", got, n)
		}
	}
	fields[1].Type = arrow.BinaryTypes.String
	if _, err := ts.Create(t.Context(), "t", lakehouse.CreateOptions{Schema: arrow.NewSchema(fields, nil)}); err == nil || !strings.Contains(err.Error(), "column b") {
		t.Errorf("a column of another type: %v", err)
	}
}

func TestFilesOutsideOfTheProject(t *testing.T) {
	m := &projectFiles{dir: t.TempDir(), store: mem.New()}
	a := activities.New(activities.Options{Files: m})
	for _, name := range []string{"../x.onnx", "/etc/passwd", "."} {
		_, err := a.InspectModel(t.Context(), activities.Candidate{Name: "m", File: name})
		if activities.Kind(err) != activities.ErrTypeInput || !strings.Contains(err.Error(), "not a readable file inside the project directory") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := a.InspectModel(t.Context(), activities.Candidate{Name: "m", File: "x.onnx"}); activities.Kind(err) != activities.ErrTypeInput || errors.Is(err, context.Canceled) {
		t.Errorf("no such file: %v", err)
	}
}
