package workflows

import (
	"errors"
	"fmt"
	"strings"
	"time"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/tidemill/tidemill/activities"
)

// Names that clients use.
const (
	SignalLanded = "landed" // a landed table has a new version
	UpdatePause  = "pause"  // PauseInput; returns Status
	UpdateResume = "resume" // no input; returns Status
	QueryStatus  = "status" // returns Status
)

// Search attributes that workflows set; the embedded server registers them.
var (
	AttributeTable = temporal.NewSearchAttributeKeyKeyword("TidemillTable")
	AttributeModel = temporal.NewSearchAttributeKeyKeyword("TidemillModel")
)

// PipelineID is the workflow id of a table's pipeline.
func PipelineID(project, table string) string { return "pipeline/" + project + "/" + table }

const (
	// idleMin and idleMax bound the slow timer that looks at the log when no
	// signal comes; a lost signal costs at most that much.
	idleMin = 5 * time.Second
	idleMax = 30 * time.Second
	// catchUpRows is the backlog above which rows go through activities with
	// heartbeats, not through turns that must fit into a workflow task.
	catchUpRows = 1_000_000
	// waits between attempts while the store or the model is not to be had.
	retryMin = 500 * time.Millisecond
	retryMax = 15 * time.Second
)

// a is for method references only; activities run on the worker's own value.
var a *activities.Activities

// PipelineInput starts or continues a pipeline.
type PipelineInput struct {
	Project string `json:"project"`
	Table   string `json:"table"`
	// State is carried over when the workflow continues as new. Nothing in it
	// is needed: the tables' logs say what is done.
	State *State `json:"state,omitempty"`
}

// PauseInput says why a pipeline is paused.
type PauseInput struct {
	Reason string `json:"reason,omitempty"`
}

// State is what a pipeline remembers of itself.
type State struct {
	Paused      bool                  `json:"paused,omitempty"`
	PauseReason string                `json:"pause_reason,omitempty"`
	Turns       int64                 `json:"turns"`
	Rows        int64                 `json:"rows"`
	Scored      int64                 `json:"scored"`
	Quarantined int64                 `json:"quarantined"`
	Last        activities.TurnResult `json:"last"`
}

// Status answers the status query.
type Status struct {
	Table string `json:"table"`
	Doing string `json:"doing"` // waiting | scoring | catching up | paused | blocked
	Error string `json:"error,omitempty"`
	State
}

type pipeline struct {
	in     PipelineInput
	st     State
	doing  string
	err    string
	model  string
	wake   workflow.ReceiveChannel
	resume workflow.Channel
	parts  map[string]bool // recoveries started by this run
}

// Pipeline moves a table's landed rows to its scored and quarantine tables,
// for as long as the table lives. A commit to the landed table wakes it by
// SignalLanded; a slow timer looks at the log as well.
func Pipeline(ctx workflow.Context, in PipelineInput) error {
	if in.Table == "" {
		return temporal.NewNonRetryableApplicationError(`input: "table" is missing; give {"project": "…", "table": "…"}`, activities.ErrTypeInput, nil)
	}
	p := &pipeline{
		in: in, doing: "waiting", parts: map[string]bool{},
		wake:   workflow.GetSignalChannelWithOptions(ctx, SignalLanded, workflow.SignalChannelOptions{Description: "Look at the landed table now. Connectors send it after a commit."}),
		resume: workflow.NewBufferedChannel(ctx, 1),
	}
	if in.State != nil {
		p.st = *in.State
	}
	if err := workflow.UpsertTypedSearchAttributes(ctx, AttributeTable.ValueSet(in.Table)); err != nil {
		return err
	}
	if err := p.handlers(ctx); err != nil {
		return err
	}
	return p.run(ctx)
}

func (p *pipeline) handlers(ctx workflow.Context) error {
	status := func() (Status, error) { return p.status(), nil }
	pause := func(_ workflow.Context, in PauseInput) (Status, error) {
		p.st.Paused, p.st.PauseReason = true, in.Reason
		return status()
	}
	resume := func(workflow.Context) (Status, error) {
		if p.st.Paused {
			p.st.Paused, p.st.PauseReason = false, ""
			p.resume.SendAsync(true)
		}
		return status()
	}
	// The descriptions are what a person sees in the Temporal UI.
	return errors.Join(
		workflow.SetQueryHandlerWithOptions(ctx, QueryStatus, status, workflow.QueryHandlerOptions{Description: "How far the table is, and what the pipeline is doing."}),
		workflow.SetUpdateHandlerWithOptions(ctx, UpdatePause, pause, workflow.UpdateHandlerOptions{Description: `Score nothing until resumed; rows go on landing. Input: {"reason": "…"}.`}),
		workflow.SetUpdateHandlerWithOptions(ctx, UpdateResume, resume, workflow.UpdateHandlerOptions{Description: "Go on scoring. No input."}),
	)
}

func (p *pipeline) status() Status {
	s := Status{Table: p.in.Table, Doing: p.doing, Error: p.err, State: p.st}
	if p.st.Paused {
		s.Doing = "paused"
	}
	return s
}

func (p *pipeline) run(ctx workflow.Context) error {
	idle, retry := idleMin, retryMin
	for {
		if workflow.GetInfo(ctx).GetContinueAsNewSuggested() {
			return p.continueAsNew(ctx)
		}
		if p.st.Paused {
			p.show(ctx, "paused", "")
			p.resume.Receive(ctx, nil)
			continue
		}
		res, err := p.turn(ctx)
		switch {
		case temporal.IsCanceledError(err) || ctx.Err() != nil:
			return err
		case err != nil:
			p.show(ctx, "blocked", reason(err))
			p.sleep(ctx, retry, false)
			retry = min(2*retry, retryMax)
			continue
		}
		retry = retryMin
		if err := p.note(ctx, res); err != nil {
			return err
		}
		if res.BacklogVersions > 0 {
			idle = idleMin
			continue
		}
		if res.From != res.To {
			idle = idleMin
		}
		p.show(ctx, "waiting", "")
		if p.sleep(ctx, idle, true) {
			idle = idleMin
		} else {
			idle = min(2*idle, idleMax)
		}
	}
}

// turn does one range of landed versions: here and now while that takes
// moments, as an activity with heartbeats while there is much to catch up on.
func (p *pipeline) turn(ctx workflow.Context) (res activities.TurnResult, err error) {
	// Signals that came until now are answered by this turn.
	for p.wake.ReceiveAsync(nil) {
	}
	in := activities.TurnInput{Table: p.in.Table}
	if p.st.Last.BacklogRows > catchUpRows {
		p.show(ctx, "catching up", "")
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
			StartToCloseTimeout: 10 * time.Minute,
			HeartbeatTimeout:    15 * time.Second,
			RetryPolicy:         &temporal.RetryPolicy{InitialInterval: retryMin, MaximumInterval: retryMax, MaximumAttempts: 3},
		})
		err = workflow.ExecuteActivity(ctx, a.CatchUp, in).Get(ctx, &res)
		return res, err
	}
	p.doing = "scoring"
	ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{
		StartToCloseTimeout: time.Minute,
		RetryPolicy:         &temporal.RetryPolicy{InitialInterval: 50 * time.Millisecond, MaximumInterval: 500 * time.Millisecond, MaximumAttempts: 3},
	})
	err = workflow.ExecuteLocalActivity(ctx, a.Turn, in).Get(ctx, &res)
	return res, err
}

// note takes a turn's result into the state and starts the recoveries it asks for.
func (p *pipeline) note(ctx workflow.Context, res activities.TurnResult) error {
	p.err = ""
	if res.From != res.To {
		p.st.Turns++
		p.st.Rows += res.Rows
		p.st.Scored += res.Scored
		p.st.Quarantined += res.Quarantined
	}
	if res.From == res.To && res.Model == "" {
		res.Model, res.ModelVersion, res.Contract = p.st.Last.Model, p.st.Last.ModelVersion, p.st.Last.Contract
	}
	p.st.Last = res
	if m := modelOf(res); m != "" && m != p.model {
		p.model = m
		if err := workflow.UpsertTypedSearchAttributes(ctx, AttributeModel.ValueSet(m)); err != nil {
			return err
		}
	}
	for _, part := range res.Recover {
		if err := p.recover(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

func (p *pipeline) recover(ctx workflow.Context, part activities.Part) error {
	id := RecoverID(p.in.Project, p.in.Table, part)
	if p.parts[id] {
		return nil
	}
	p.parts[id] = true
	cctx := workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
		WorkflowID:            id,
		ParentClosePolicy:     enums.PARENT_CLOSE_POLICY_ABANDON,
		WorkflowIDReusePolicy: enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
	})
	err := workflow.ExecuteChildWorkflow(cctx, RecoverBatch, RecoverBatchInput{Project: p.in.Project, Table: p.in.Table, Part: part}).
		GetChildWorkflowExecution().Get(ctx, nil)
	if temporal.IsWorkflowExecutionAlreadyStartedError(err) {
		return nil // a recovery that an earlier run started is still at it
	}
	return err
}

// sleep waits for a signal, a resume or the time, and says whether it was woken.
func (p *pipeline) sleep(ctx workflow.Context, d time.Duration, signals bool) (woken bool) {
	tctx, cancel := workflow.WithCancel(ctx)
	defer cancel()
	s := workflow.NewSelector(ctx)
	s.AddFuture(workflow.NewTimer(tctx, d), func(workflow.Future) {})
	s.AddReceive(p.resume, func(c workflow.ReceiveChannel, _ bool) { c.Receive(ctx, nil) })
	if signals {
		s.AddReceive(p.wake, func(c workflow.ReceiveChannel, _ bool) {
			c.Receive(ctx, nil)
			woken = true
		})
	}
	s.Select(ctx)
	return woken
}

func (p *pipeline) continueAsNew(ctx workflow.Context) error {
	// An update that is being answered must be answered by this run.
	if err := workflow.Await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) }); err != nil {
		return err
	}
	in := p.in
	in.State = &p.st
	return workflow.NewContinueAsNewError(ctx, Pipeline, in)
}

// show says what the pipeline is doing, for the status query and for a person
// who looks at the workflow in the Temporal UI.
func (p *pipeline) show(ctx workflow.Context, doing, err string) {
	p.doing, p.err = doing, err
	var b strings.Builder
	fmt.Fprintf(&b, "**%s** is %s.", p.in.Table, doing)
	if p.st.Paused && p.st.PauseReason != "" {
		fmt.Fprintf(&b, " Reason: %s.", p.st.PauseReason)
	}
	if err != "" {
		fmt.Fprintf(&b, "\n\n%s\n\nIt tries again by itself; nothing is lost.", err)
	}
	l := p.st.Last
	fmt.Fprintf(&b, "\n\n| landed version scored | %d |\n|---|---|\n| rows | %d |\n| scored | %d |\n| quarantined | %d |\n", l.To, p.st.Rows, p.st.Scored, p.st.Quarantined)
	if m := modelOf(l); m != "" {
		fmt.Fprintf(&b, "| model | %s |\n", m)
	}
	if l.BacklogVersions > 0 {
		fmt.Fprintf(&b, "| waiting | %d rows in %d versions |\n", l.BacklogRows, l.BacklogVersions)
	}
	workflow.SetCurrentDetails(ctx, b.String())
}

func modelOf(r activities.TurnResult) string {
	if r.Model == "" {
		return ""
	}
	return fmt.Sprintf("%s@%d", r.Model, r.ModelVersion)
}

// reason is what a person is told about an error.
func reason(err error) string {
	if m, ok := Message(err); ok {
		return m
	}
	return err.Error()
}

// Message returns what an activity or a workflow said of its failure, without
// the SDK's wrapping.
func Message(err error) (string, bool) {
	if ae, ok := errors.AsType[*temporal.ApplicationError](err); ok {
		return ae.Message(), true
	}
	return "", false
}
