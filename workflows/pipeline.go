package workflows

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/tidemill/tidemill/activities"
	"github.com/tidemill/tidemill/internal/secret"
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
	in    PipelineInput
	st    State
	doing string
	err   string
	model string
	wake  workflow.ReceiveChannel
	poked bool            // an update wants the loop to look at the state again
	parts map[string]bool // recoveries started by this run and not done yet

	timer workflow.Future // runs on over turns, so that most of them need no new one
	due   time.Time
	stop  workflow.CancelFunc
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
		wake: workflow.GetSignalChannelWithOptions(ctx, SignalLanded, workflow.SignalChannelOptions{Description: "Look at the landed table now; connectors send it after a commit."}),
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
		p.st.Paused, p.st.PauseReason, p.poked = true, in.Reason, true
		return status()
	}
	mayPause := func(PauseInput) error {
		if !p.st.Paused {
			return nil
		}
		why := ""
		if p.st.PauseReason != "" {
			why = ": " + p.st.PauseReason
		}
		return fmt.Errorf("%s is paused already%s; it goes on with the update %q", p.in.Table, why, UpdateResume)
	}
	resume := func(workflow.Context) (Status, error) {
		p.st.Paused, p.st.PauseReason, p.poked = false, "", true
		return status()
	}
	return errors.Join(
		workflow.SetQueryHandlerWithOptions(ctx, QueryStatus, status, workflow.QueryHandlerOptions{Description: "What the pipeline is doing and has done."}),
		workflow.SetUpdateHandlerWithOptions(ctx, UpdatePause, pause, workflow.UpdateHandlerOptions{
			Validator: mayPause, Description: `Stop after the turn at hand. Input: {"reason": "…"}, may be left out.`,
		}),
		workflow.SetUpdateHandlerWithOptions(ctx, UpdateResume, resume, workflow.UpdateHandlerOptions{
			Description: "Go on after a pause; while blocked, try again now.",
		}),
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
	for ctx.Err() == nil {
		if full(ctx) {
			return p.continueAsNew(ctx)
		}
		p.poked = false
		if p.st.Paused {
			p.show(ctx, "paused", "")
			// Signals pile up in the meantime, so the history may fill.
			if err := workflow.Await(ctx, func() bool { return !p.st.Paused || full(ctx) }); err != nil {
				return err
			}
			idle, retry = idleMin, retryMin
			continue
		}
		res, err := p.turn(ctx)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			p.show(ctx, "blocked", reason(err))
			p.wait(ctx, retry, func() bool { return false })
			retry = min(2*retry, retryMax)
			continue
		}
		retry = retryMin
		if err := p.note(ctx, res); err != nil {
			return err
		}
		if res.From != res.To || res.BacklogVersions > 0 {
			idle = idleMin
		}
		if res.BacklogVersions > 0 {
			continue
		}
		p.show(ctx, "waiting", "")
		if p.wait(ctx, idle, func() bool { return p.wake.Len() > 0 }) {
			idle = min(2*idle, idleMax)
		} else {
			idle = idleMin
		}
	}
	return ctx.Err()
}

// full says that the history is long enough.
func full(ctx workflow.Context) bool { return workflow.GetInfo(ctx).GetContinueAsNewSuggested() }

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
	open := make(map[string]bool, len(res.Recover))
	for _, part := range res.Recover {
		open[RecoverID(p.in.Project, p.in.Table, part)] = true
		p.recover(ctx, part)
	}
	maps.DeleteFunc(p.parts, func(id string, _ bool) bool { return !open[id] })
	return nil
}

func (p *pipeline) recover(ctx workflow.Context, part activities.Part) {
	id := RecoverID(p.in.Project, p.in.Table, part)
	if p.parts[id] {
		return
	}
	cctx := workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
		WorkflowID:            id,
		ParentClosePolicy:     enums.PARENT_CLOSE_POLICY_ABANDON,
		WorkflowIDReusePolicy: enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		StaticSummary:         fmt.Sprintf("Recovers %d rows of **%s** that crash the model.", part.To-part.From, p.in.Table),
	})
	err := workflow.ExecuteChildWorkflow(cctx, RecoverBatch, RecoverBatchInput{Project: p.in.Project, Table: p.in.Table, Part: part}).
		GetChildWorkflowExecution().Get(ctx, nil)
	// A recovery that an earlier run started may still be at it. After any other
	// error the next turn tells of the part again.
	p.parts[id] = err == nil || temporal.IsWorkflowExecutionAlreadyStartedError(err)
}

// wait returns after a time, or earlier when woken holds, an update has come in
// or the workflow is cancelled. It says whether the time had passed.
func (p *pipeline) wait(ctx workflow.Context, d time.Duration, woken func() bool) bool {
	now := workflow.Now(ctx)
	if p.timer == nil || p.timer.IsReady() || p.due.Sub(now) > d {
		if p.stop != nil {
			p.stop()
		}
		var tctx workflow.Context
		tctx, p.stop = workflow.WithCancel(ctx)
		p.timer, p.due = workflow.NewTimer(tctx, d), now.Add(d)
	}
	early := false
	// Cancelled, run sees it in the context.
	_ = workflow.Await(ctx, func() bool {
		early = p.poked || woken()
		return early || p.timer.IsReady()
	})
	return !early
}

func (p *pipeline) continueAsNew(ctx workflow.Context) error {
	// An update that is being answered must be answered by this run.
	if err := workflow.Await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) }); err != nil {
		return err
	}
	// What signals say stands in the log, which the next run reads first of all.
	for p.wake.ReceiveAsync(nil) {
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
		fmt.Fprintf(&b, "\n\n%s\n\nIt tries again by itself, and at once with the update `%s`; nothing is lost.", err, UpdateResume)
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
		return secret.Scrub(m)
	}
	return secret.Scrub(err.Error())
}

// Message returns what an activity or a workflow said of its failure, without
// the SDK's wrapping.
func Message(err error) (string, bool) {
	if ae, ok := errors.AsType[*temporal.ApplicationError](err); ok {
		return ae.Message(), true
	}
	return "", false
}
