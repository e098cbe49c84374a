package workflows_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	enums "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/tidemill/tidemill/activities"
	"github.com/tidemill/tidemill/deploy/embedded"
	"github.com/tidemill/tidemill/workflows"
)

// Recording replaces committed histories by those of the workflows as they are
// now, run on an embedded server; those whose group does not match stay:
//
//	go test ./workflows -run TestHistories -record '^replay$'
//
// Do so only when nobody can have a workflow of the old kind running any more;
// otherwise keep the old files and give the change a version marker
// (workflow.GetVersion).
var record = flag.String("record", "", "a regular expression: the groups of testdata/histories (maintain, pipeline, continue, register, replay, rescore) to record anew")

const histories = "testdata/histories"

// TestHistories replays workflows that have run before. A change of theirs that
// gives another order of steps would break those that are running at an upgrade.
func TestHistories(t *testing.T) {
	if *record != "" {
		recordHistories(t, regexp.MustCompile(*record))
	}
	files, err := filepath.Glob(filepath.Join(histories, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, f := range files {
		name, err := replay(f, nil)
		if err != nil {
			t.Errorf("%s does not replay: %v", f, err)
		}
		seen[name] = true
	}
	for name := range all {
		if !seen[name] {
			t.Errorf("there is no history of %s", name)
		}
	}
}

// all are the workflows, by the names that they are registered under.
var all = map[string]any{
	"Pipeline": workflows.Pipeline, "RegisterModel": workflows.RegisterModel, "RecoverBatch": workflows.RecoverBatch, "Maintain": workflows.Maintain,
	"ReplayQuarantine": workflows.ReplayQuarantine, "Rescore": workflows.Rescore,
}

// A replay can fail: workflows that wait before their first step do, and those that leave
// out a step.
func TestChangedWorkflowIsNoticed(t *testing.T) {
	wait := func(ctx workflow.Context) error { return workflow.Sleep(ctx, time.Second) }
	for name, c := range map[string]struct {
		file    string
		changed any
	}{
		"Pipeline": {"pipeline-turns", func(ctx workflow.Context, in workflows.PipelineInput) error {
			return errors.Join(wait(ctx), workflows.Pipeline(ctx, in))
		}},
		"ReplayQuarantine": {"replay", func(ctx workflow.Context, in workflows.ReplayInput) (res workflows.ReplayResult, err error) {
			if err := wait(ctx); err != nil {
				return res, err
			}
			return workflows.ReplayQuarantine(ctx, in)
		}},
		"Rescore": {"rescore", func(ctx workflow.Context, in workflows.RescoreInput) (res workflows.RescoreResult, err error) {
			ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
			return res, workflow.ExecuteActivity(ctx, "Rescore", in).Get(ctx, nil) // once, though there was more
		}},
	} {
		_, err := replay(filepath.Join(histories, c.file+".json"), map[string]any{name: c.changed})
		if err == nil || !strings.Contains(err.Error(), "TMPRL1100") { // the SDK's number for histories that do not fit
			t.Errorf("%s: %v", name, err)
		}
	}
}

// replay replays a history with the workflows as they are, or as they have been changed.
// It returns the workflow's name.
func replay(file string, changed map[string]any) (name string, err error) {
	r := worker.NewWorkflowReplayer()
	for name, w := range all {
		if c := changed[name]; c != nil {
			w = c
		}
		r.RegisterWorkflowWithOptions(w, workflow.RegisterOptions{Name: name})
	}
	data, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer data.Close()
	h, err := client.HistoryFromJSON(data, client.HistoryJSONOptions{})
	if err != nil {
		return "", err
	}
	begun := h.Events[0].GetWorkflowExecutionStartedEventAttributes()
	// Maintain looks at its id, ReplayQuarantine at its run's.
	o := worker.ReplayWorkflowHistoryOptions{OriginalExecution: workflow.Execution{ID: begun.GetWorkflowId(), RunID: begun.GetOriginalExecutionRunId()}}
	return begun.GetWorkflowType().GetName(), r.ReplayWorkflowHistoryWithOptions(quiet, h, o)
}

// actor does what a test says, under the names of the real activities.
type actor struct {
	mu      sync.Mutex
	cursor  int64
	landed  int64 // versions; beyond 1000 each counts a thousand rows of backlog
	blocked bool
	parts   []activities.Part
	crashes int // attempts at a part that still fail
	refuse  bool
	steps   map[string]func(context.Context) error // of maintenance, by "step table"
	replays []func() (activities.ReplayResult, error)
	scored  int // calls of Rescore
}

func (a *actor) set(f func(*actor)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f(a)
}

func (a *actor) Turn(context.Context, activities.TurnInput) (activities.TurnResult, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.blocked {
		return activities.TurnResult{}, activities.Permanent(activities.ErrTypeModel, errors.New("tables/t.yaml:14: score.model: not registered"))
	}
	res := activities.TurnResult{From: a.cursor, To: min(a.landed, a.cursor+1000), Contract: "sha256:0123456789abcdef", Recover: a.parts}
	n := res.To - res.From
	if n > 0 {
		res.Rows, res.Scored, res.Quarantined, res.Model, res.ModelVersion = 10*n, 9*n, n, "fraud", 1
	}
	a.cursor = res.To
	res.BacklogVersions = a.landed - a.cursor
	res.BacklogRows = 1000 * res.BacklogVersions
	return res, nil
}

func (a *actor) CatchUp(ctx context.Context, in activities.TurnInput) (activities.TurnResult, error) {
	return a.Turn(ctx, in)
}

func (a *actor) Recover(_ context.Context, in activities.RecoverInput) (activities.RecoverResult, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if in.Last {
		a.parts = nil
		return activities.RecoverResult{Quarantined: 2}, nil
	}
	if a.crashes > 0 {
		a.crashes--
		return activities.RecoverResult{}, activities.Permanent(activities.ErrTypePoison, errors.New("2 rows crash the model"))
	}
	a.parts = nil
	return activities.RecoverResult{Scored: 2}, nil
}

func (a *actor) InspectModel(context.Context, activities.Candidate) (activities.Inspected, error) {
	return activities.Inspected{SHA256: "abc", Bytes: 3, Signature: "x → y", Upload: "upload/abc.onnx", Tables: []string{"t"}}, nil
}

func (a *actor) GateModel(context.Context, activities.GateInput) ([]activities.Check, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.refuse {
		return nil, activities.Permanent(activities.ErrTypeModel, errors.New("tables/t.yaml:9: score.inputs: does not fit"))
	}
	return []activities.Check{{Name: "signature", Detail: "fits"}}, nil
}

func (a *actor) PublishModel(context.Context, activities.PublishInput) (activities.Published, error) {
	return activities.Published{Name: "fraud", Version: 1, SHA256: "abc"}, nil
}

// Replay does what comes next in a.replays.
func (a *actor) Replay(context.Context, activities.ReplayInput) (activities.ReplayResult, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	next := a.replays[0]
	a.replays = a.replays[1:]
	return next()
}

func (a *actor) Rescore(context.Context, activities.RescoreInput) (activities.RescoreResult, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.scored++
	return activities.RescoreResult{Files: 2, Rows: 100, Kept: 1, Rule: "positive", Model: "fraud", Version: 2, More: a.scored < 3}, nil
}

func (a *actor) MoveAlias(context.Context, activities.AliasInput) error { return nil }

// stage is an embedded server with a worker of the actor's.
type stage struct {
	t     *testing.T
	ctx   context.Context
	c     client.Client
	actor *actor
}

const queue = "t"

func newStage(t *testing.T, historyEvents int) *stage {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	s, err := embedded.Start(ctx, embedded.Options{Dir: t.TempDir(), FreePorts: true, Temporal: true, HistoryEvents: historyEvents})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	c, err := client.Dial(client.Options{HostPort: s.TemporalAddress(), Logger: quiet, Identity: "recorder"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	st := &stage{t: t, ctx: ctx, c: c, actor: &actor{cursor: -1, landed: 0}}
	w := worker.New(c, queue, worker.Options{StickyScheduleToStartTimeout: time.Second})
	for name, f := range all {
		w.RegisterWorkflowWithOptions(f, workflow.RegisterOptions{Name: name})
	}
	w.RegisterActivity(st.actor)
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	return st
}

const pipelineID = "pipeline/p/t"

// land lets versions land and wakes the pipeline.
func (s *stage) land(versions int64) {
	s.t.Helper()
	s.actor.set(func(a *actor) { a.landed += versions })
	s.wake()
}

func (s *stage) wake() {
	s.t.Helper()
	_, err := s.c.SignalWithStartWorkflow(s.ctx, pipelineID, workflows.SignalLanded, nil, client.StartWorkflowOptions{ID: pipelineID, TaskQueue: queue},
		workflows.Pipeline, workflows.PipelineInput{Project: "p", Table: "t"})
	if err != nil {
		s.t.Fatal(err)
	}
}

// until asks the pipeline for its status until that is as wanted.
func (s *stage) until(what string, ok func(workflows.Status) bool) workflows.Status {
	s.t.Helper()
	var st workflows.Status
	for {
		v, err := s.c.QueryWorkflow(s.ctx, pipelineID, "", workflows.QueryStatus)
		if err == nil {
			err = v.Get(&st)
		}
		if s.ctx.Err() != nil {
			s.t.Fatalf("never %s: %+v, %v", what, st, err)
		}
		if err == nil && ok(st) {
			return st
		}
	}
}

func (s *stage) done(version int64) workflows.Status {
	s.t.Helper()
	return s.until("that far", func(st workflows.Status) bool { return st.Last.To == version && st.Doing == "waiting" })
}

func (s *stage) update(name string, args ...any) (st workflows.Status, err error) {
	s.t.Helper()
	h, err := s.c.UpdateWorkflow(s.ctx, client.UpdateWorkflowOptions{WorkflowID: pipelineID, UpdateName: name, Args: args, WaitForStage: client.WorkflowUpdateStageCompleted})
	if err != nil {
		return st, err
	}
	return st, h.Get(s.ctx, &st)
}

func (s *stage) history(id, run string) *historypb.History {
	s.t.Helper()
	h := &historypb.History{}
	for it := s.c.GetWorkflowHistory(s.ctx, id, run, false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); it.HasNext(); {
		e, err := it.Next()
		if err != nil {
			s.t.Fatal(err)
		}
		h.Events = append(h.Events, e)
	}
	return h
}

func (s *stage) run(id string) string {
	s.t.Helper()
	d, err := s.c.DescribeWorkflowExecution(s.ctx, id, "")
	if err != nil {
		s.t.Fatal(err)
	}
	return d.GetWorkflowExecutionInfo().GetExecution().GetRunId()
}

// save keeps a history as testdata.
func (s *stage) save(name, id, run string) {
	s.t.Helper()
	data, err := protojson.MarshalOptions{Indent: " "}.Marshal(s.history(id, run))
	host, herr := os.Hostname() // is in the names of workers' own task queues
	if err = errors.Join(err, herr); err == nil {
		data = bytes.ReplaceAll(data, []byte(`"`+host+`:`), []byte(`"recorder:`))
		err = os.MkdirAll(histories, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(histories, name+".json"), append(data, '\n'), 0o644)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func recordHistories(t *testing.T, groups *regexp.Regexp) {
	for name, f := range map[string]func(*testing.T){
		"maintain": recordMaintenance, "pipeline": recordPipeline, "continue": recordContinueAsNew, "register": recordRegister,
		"replay": recordReplay, "rescore": recordRescore,
	} {
		if groups.MatchString(name) {
			t.Run(name, f)
		}
	}
}

// recordReplay replays rows over an outage and a turn that is not done with them, and a
// replay that cannot be done.
func recordReplay(t *testing.T) {
	s := newStage(t, 0)
	answer := func(r activities.ReplayResult, err error) func() (activities.ReplayResult, error) {
		return func() (activities.ReplayResult, error) { return r, err }
	}
	kept := map[string]int64{"positive": 1}
	for name, c := range map[string]struct {
		answers []func() (activities.ReplayResult, error)
		kind    string
	}{
		"replay": {[]func() (activities.ReplayResult, error){
			answer(activities.ReplayResult{Marked: 10, Landed: 4, Kept: 1, Rules: kept, Example: "x = 0", Waiting: 3, More: true}, nil),
			answer(activities.ReplayResult{}, errors.New("the store is away")),
			answer(activities.ReplayResult{Landed: 6, Again: 4, Kept: 1, Rules: kept, Example: "x = 0", Waiting: 3}, nil),
			answer(activities.ReplayResult{Marked: 3, Landed: 2, Back: 1, Kept: 1, Rules: kept, Example: "x = 0"}, nil),
		}, ""},
		"replay-refused": {[]func() (activities.ReplayResult, error){
			answer(activities.ReplayResult{}, activities.Permanent(activities.ErrTypeInput, errors.New("where: there is no column ruel; did you mean rule?"))),
		}, activities.ErrTypeInput},
	} {
		s.actor.set(func(a *actor) { a.replays = c.answers })
		run, err := s.c.ExecuteWorkflow(s.ctx, client.StartWorkflowOptions{ID: workflows.ReplayID("p", "t"), TaskQueue: queue}, workflows.ReplayQuarantine,
			workflows.ReplayInput{Project: "p", Table: "t", Where: "rule = 'wrong_type'", Repair: "root = this"})
		if err != nil {
			t.Fatal(err)
		}
		if err := run.Get(s.ctx, nil); (err != nil) != (c.kind != "") || err != nil && activities.Kind(err) != c.kind {
			t.Fatal(err)
		}
		s.save(name, run.GetID(), run.GetRunID())
	}
}

func recordRescore(t *testing.T) {
	s := newStage(t, 0)
	run, err := s.c.ExecuteWorkflow(s.ctx, client.StartWorkflowOptions{ID: workflows.RescoreID("p", "t"), TaskQueue: queue}, workflows.Rescore,
		workflows.RescoreInput{Project: "p", Table: "t", Where: "amount > 1"})
	if err == nil {
		err = run.Get(s.ctx, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.save("rescore", run.GetID(), run.GetRunID())
}

func recordPipeline(t *testing.T) {
	s := newStage(t, 0)
	s.land(0)
	s.done(0)
	for v := range int64(3) {
		s.land(1)
		s.done(v + 1)
	}
	if _, err := s.update(workflows.UpdatePause, workflows.PauseInput{Reason: "an upgrade"}); err != nil {
		t.Fatal(err)
	}
	s.land(1)
	s.land(1)
	if _, err := s.update(workflows.UpdateResume); err != nil {
		t.Fatal(err)
	}
	s.done(5)
	s.save("pipeline-turns", pipelineID, "")

	s.actor.set(func(a *actor) { a.blocked = true })
	s.land(1)
	s.until("blocked", func(st workflows.Status) bool { return st.Doing == "blocked" })
	s.actor.set(func(a *actor) { a.blocked = false })
	if _, err := s.update(workflows.UpdateResume); err != nil {
		t.Fatal(err)
	}
	s.done(6)
	s.save("pipeline-blocked", pipelineID, "")

	s.land(3000)
	s.done(3006)
	s.save("pipeline-catch-up", pipelineID, "")

	part := activities.Part{Version: 1, File: "f.parquet", From: 2, To: 4}
	s.actor.set(func(a *actor) { a.parts, a.crashes = []activities.Part{part}, 1 })
	s.land(1)
	id := workflows.RecoverID("p", "t", part)
	s.done(3007)
	if err := s.c.GetWorkflow(s.ctx, id, "").Get(s.ctx, nil); err != nil {
		t.Fatal(err)
	}
	s.land(1)
	s.done(3008)
	s.save("recover", id, "")

	s.actor.set(func(a *actor) { a.parts, a.crashes = []activities.Part{part}, 9 })
	s.land(1)
	s.done(3009)
	if err := s.c.SignalWorkflow(s.ctx, id, "", workflows.SignalQuarantine, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.c.GetWorkflow(s.ctx, id, "").Get(s.ctx, nil); err != nil {
		t.Fatal(err)
	}
	s.save("recover-given-up", id, "")
	if err := s.c.CancelWorkflow(s.ctx, pipelineID, ""); err != nil {
		t.Fatal(err)
	}
	if err := s.c.GetWorkflow(s.ctx, pipelineID, "").Get(s.ctx, nil); err == nil {
		t.Fatal("cancelled without an error")
	}
	s.save("pipeline-recoveries-cancelled", pipelineID, "")
}

func recordContinueAsNew(t *testing.T) {
	s := newStage(t, 40)
	s.land(0)
	s.done(0)
	first := s.run(pipelineID)
	for v := int64(1); s.run(pipelineID) == first; v++ {
		s.land(1)
		s.done(v)
	}
	if _, err := s.update(workflows.UpdatePause); err != nil {
		t.Fatal(err)
	}
	second := s.run(pipelineID)
	for s.run(pipelineID) == second { // a paused one does so too
		s.land(1)
	}
	s.save("pipeline-continues", pipelineID, first)
	s.save("pipeline-continues-paused", pipelineID, second)
}

func recordRegister(t *testing.T) {
	s := newStage(t, 0)
	for name, refuse := range map[string]bool{"register": false, "register-refused": true} {
		s.actor.set(func(a *actor) { a.refuse = refuse })
		run, err := s.c.ExecuteWorkflow(s.ctx, client.StartWorkflowOptions{ID: name, TaskQueue: queue}, workflows.RegisterModel,
			workflows.RegisterModelInput{Name: "fraud", File: "models/fraud.onnx", Alias: "champion"})
		if err != nil {
			t.Fatal(err)
		}
		if err := run.Get(s.ctx, nil); (err != nil) != refuse {
			t.Fatal(err)
		}
		s.save(name, name, "")
	}
}
