package workflows_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	sdkpb "go.temporal.io/api/sdk/v1"
	"go.temporal.io/sdk/converter"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/tidemill/tidemill/activities"
	"github.com/tidemill/tidemill/workflows"
)

var a *activities.Activities

var quiet = sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler))

// script is a pipeline in Temporal's simulated time, with turns that a test makes up.
type script struct {
	*testsuite.TestWorkflowEnvironment
	t       *testing.T
	started time.Time
	turns   []time.Duration // when each turn began, from the start
	catchUp int
	// turn answers the n-th turn, from 1; nil: nothing to do.
	turn func(n int) (activities.TurnResult, error)
}

func newScript(t *testing.T) *script {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(quiet)
	s := &script{TestWorkflowEnvironment: suite.NewTestWorkflowEnvironment(), t: t}
	s.started = s.Now()
	s.RegisterWorkflow(workflows.Pipeline)
	s.RegisterWorkflow(workflows.RecoverBatch)
	s.RegisterActivity(activities.New(activities.Options{}))
	turn := func(context.Context, activities.TurnInput) (activities.TurnResult, error) {
		s.turns = append(s.turns, s.Now().Sub(s.started))
		if s.turn == nil {
			return activities.TurnResult{From: 4, To: 4}, nil
		}
		return s.turn(len(s.turns))
	}
	s.OnActivity(a.Turn, mock.Anything, mock.Anything).Return(turn)
	s.OnActivity(a.CatchUp, mock.Anything, mock.Anything).Return(func(ctx context.Context, in activities.TurnInput) (activities.TurnResult, error) {
		s.catchUp++
		return turn(ctx, in)
	})
	return s
}

// at does something at a time after the start.
func (s *script) at(after time.Duration, do func()) { s.RegisterDelayedCallback(do, after) }

func (s *script) signalAt(after time.Duration) {
	s.at(after, func() { s.SignalWorkflow(workflows.SignalLanded, nil) })
}

// run runs the pipeline until it is cancelled after a time, or ends before.
func (s *script) run(until time.Duration, state *workflows.State) error {
	s.at(until, s.CancelWorkflow)
	s.ExecuteWorkflow(workflows.Pipeline, workflows.PipelineInput{Project: "p", Table: "t", State: state})
	if !s.IsWorkflowCompleted() {
		s.t.Error("does not end")
	}
	return s.GetWorkflowError()
}

func (s *script) status() (st workflows.Status) {
	s.t.Helper()
	v, err := s.QueryWorkflow(workflows.QueryStatus)
	if err == nil {
		err = v.Get(&st)
	}
	if err != nil {
		s.t.Error(err)
	}
	return st
}

// details is the text that a person sees in the Temporal UI.
func (s *script) details() string {
	s.t.Helper()
	return details(s.t, s)
}

func details(t *testing.T, w interface {
	QueryWorkflow(name string, args ...any) (converter.EncodedValue, error)
}) string {
	t.Helper()
	v, err := w.QueryWorkflow("__temporal_workflow_metadata")
	if err != nil {
		t.Error(err)
		return ""
	}
	var out sdkpb.WorkflowMetadata
	if err := v.Get(&out); err != nil {
		t.Error(err)
	}
	return out.GetCurrentDetails()
}

// updated is what became of an update, once the pipeline has run on.
type updated struct {
	rejected, failed error
	status           workflows.Status
}

func (s *script) update(name string, args ...any) *updated {
	u := &updated{}
	s.UpdateWorkflow(name, "", &testsuite.TestUpdateCallback{
		OnAccept: func() {},
		OnReject: func(err error) { u.rejected = err },
		OnComplete: func(v any, err error) {
			u.failed = err
			u.status, _ = v.(workflows.Status)
		},
	}, args...)
	return u
}

func (s *script) wantTurns(want ...time.Duration) {
	s.t.Helper()
	if !slices.Equal(s.turns, want) {
		s.t.Errorf("turns at %v, want %v", s.turns, want)
	}
}

func TestIdleTimer(t *testing.T) {
	s := newScript(t)
	err := s.run(100*time.Second, nil)
	s.wantTurns(0, 5*time.Second, 15*time.Second, 35*time.Second, 65*time.Second, 95*time.Second)
	if !temporal.IsCanceledError(err) {
		t.Errorf("cancelled: %v", err)
	}
	if s.catchUp != 0 {
		t.Errorf("%d catch-ups", s.catchUp)
	}
}

func TestSignalsWake(t *testing.T) {
	s := newScript(t)
	s.turn = func(n int) (activities.TurnResult, error) {
		return activities.TurnResult{From: int64(n) - 1, To: int64(n), Rows: 10, Scored: 9, Quarantined: 1, Model: "m", ModelVersion: 3, Contract: "c"}, nil
	}
	s.signalAt(time.Second)
	for range 5 {
		s.signalAt(2 * time.Second) // one turn is enough for all of them
	}
	// The timer of the first wait goes off five seconds after it, whatever came between.
	s.at(3*time.Second, func() {
		st := s.status()
		if st.Doing != "waiting" || st.Table != "t" || st.Turns < 3 || st.Rows != 10*st.Turns || st.Scored != 9*st.Turns || st.Quarantined != st.Turns || st.Last.Model != "m" {
			t.Errorf("%+v", st)
		}
		if d := s.details(); !strings.Contains(d, "**t** is waiting") || !strings.Contains(d, "| model | m@3 |") || !strings.Contains(d, "| quarantined | ") {
			t.Errorf("details: %s", d)
		}
	})
	_ = s.run(6*time.Second, nil)
	if n := len(s.turns); n < 4 || n > 8 || s.turns[1] != time.Second || s.turns[2] != 2*time.Second || s.turns[n-1] != 5*time.Second {
		t.Errorf("turns at %v", s.turns)
	}
}

func TestBacklogGoesOnAtOnce(t *testing.T) {
	s := newScript(t)
	s.turn = func(n int) (activities.TurnResult, error) {
		left := []int64{2_500_000, 1_500_000, 900_000, 0}[min(n, 4)-1]
		return activities.TurnResult{From: int64(n) - 1, To: int64(n), BacklogRows: left, BacklogVersions: left / 1000}, nil
	}
	_ = s.run(4*time.Second, nil)
	if s.catchUp != 2 {
		t.Errorf("%d of the turns were activities with heartbeats, want the two after a large backlog", s.catchUp)
	}
	s.wantTurns(0, 0, 0, 0)
}

func TestPauseAndResume(t *testing.T) {
	s := newScript(t)
	var first, second, third *updated
	s.at(time.Second, func() { first = s.update(workflows.UpdatePause, workflows.PauseInput{Reason: "the bank holiday"}) })
	s.at(2*time.Second, func() {
		if d := s.details(); !strings.Contains(d, "**t** is paused. Reason: the bank holiday.") {
			t.Errorf("details: %s", d)
		}
		second = s.update(workflows.UpdatePause, workflows.PauseInput{Reason: "again"})
	})
	for i := range 20 {
		s.signalAt(time.Duration(3+i) * time.Second)
	}
	s.at(30*time.Second, func() { third = s.update(workflows.UpdateResume) })
	_ = s.run(33*time.Second, nil)
	s.wantTurns(0, 30*time.Second)
	if first.rejected != nil || first.failed != nil || first.status.Doing != "paused" || first.status.PauseReason != "the bank holiday" {
		t.Errorf("%+v", first)
	}
	if second.rejected == nil || !strings.Contains(second.rejected.Error(), `t is paused already: the bank holiday; it goes on with the update "resume"`) {
		t.Errorf("paused twice: %+v", second)
	}
	if third.rejected != nil || third.failed != nil || third.status.Paused || third.status.PauseReason != "" {
		t.Errorf("%+v", third)
	}
}

func TestPausedCanBeCancelled(t *testing.T) {
	s := newScript(t)
	if err := s.run(time.Hour, &workflows.State{Paused: true}); !temporal.IsCanceledError(err) {
		t.Errorf("%v", err)
	}
	s.wantTurns()
}

// Signals fill the history of a paused pipeline too.
func TestPausedContinuesAsNew(t *testing.T) {
	s := newScript(t)
	s.at(time.Second, func() {
		s.SetContinueAsNewSuggested(true)
		s.SignalWorkflow(workflows.SignalLanded, nil)
	})
	in := continued(t, s.run(time.Hour, &workflows.State{Paused: true, PauseReason: "why", Turns: 7}))
	if in.Project != "p" || in.Table != "t" || in.State == nil || !in.State.Paused || in.State.PauseReason != "why" || in.State.Turns != 7 {
		t.Errorf("%+v, %+v", in, in.State)
	}
}

func TestContinuesAsNew(t *testing.T) {
	s := newScript(t)
	s.turn = func(n int) (activities.TurnResult, error) {
		s.SetContinueAsNewSuggested(n == 3)
		return activities.TurnResult{From: int64(n), To: int64(n) + 1, Rows: 5, Scored: 5, BacklogVersions: 1}, nil
	}
	in := continued(t, s.run(time.Hour, &workflows.State{Turns: 10, Rows: 100}))
	if in.State.Turns != 13 || in.State.Rows != 115 || in.State.Last.To != 4 {
		t.Errorf("%+v", in.State)
	}
	s.wantTurns(0, 0, 0)
}

func continued(t *testing.T, err error) (in workflows.PipelineInput) {
	t.Helper()
	var can *workflow.ContinueAsNewError
	if !errors.As(err, &can) {
		t.Fatalf("does not continue as new: %v", err)
	}
	if err := converter.GetDefaultDataConverter().FromPayloads(can.Input, &in); err != nil {
		t.Fatal(err)
	}
	return in
}

func TestBlocked(t *testing.T) {
	s := newScript(t)
	mended := false
	s.turn = func(int) (activities.TurnResult, error) {
		if mended {
			return activities.TurnResult{From: 1, To: 2}, nil
		}
		return activities.TurnResult{}, activities.Permanent(activities.ErrTypeModel, errors.New("tables/t.yaml:14: score.model: no such model"))
	}
	for i := range 50 { // none of them makes it try again any earlier
		s.signalAt(time.Duration(i) * 100 * time.Millisecond)
	}
	s.at(8*time.Second, func() {
		st := s.status()
		if st.Doing != "blocked" || st.Error != "tables/t.yaml:14: score.model: no such model" {
			t.Errorf("%+v", st)
		}
		if d := s.details(); !strings.Contains(d, "**t** is blocked.") || !strings.Contains(d, st.Error) || !strings.Contains(d, "`resume`") {
			t.Errorf("details: %s", d)
		}
	})
	s.at(10*time.Second, func() {
		mended = true
		s.update(workflows.UpdateResume)
	})
	s.at(11*time.Second, func() {
		if st := s.status(); st.Doing != "waiting" || st.Error != "" {
			t.Errorf("%+v", st)
		}
	})
	_ = s.run(12*time.Second, nil)
	ms := time.Millisecond
	s.wantTurns(0, 500*ms, 1500*ms, 3500*ms, 7500*ms, 10*time.Second)
}

func TestRecoveriesAreStartedOnce(t *testing.T) {
	s := newScript(t)
	parts := []activities.Part{{Version: 3, File: "day=1/f.parquet", From: 2, To: 4}, {Version: 3, File: "g.parquet", From: 0, To: 1}}
	s.turn = func(n int) (activities.TurnResult, error) {
		res := activities.TurnResult{From: 3, To: 3, Recover: parts}
		if n > 3 {
			res.Recover = nil
		}
		return res, nil
	}
	var started []string
	s.OnWorkflow(workflows.RecoverBatch, mock.Anything, mock.Anything).Return(func(ctx workflow.Context, in workflows.RecoverBatchInput) (activities.RecoverResult, error) {
		id := workflow.GetInfo(ctx).WorkflowExecution.ID
		if id != workflows.RecoverID("p", "t", in.Part) || in.Project != "p" || in.Table != "t" {
			t.Errorf("%s: %+v", id, in)
		}
		started = append(started, id)
		return activities.RecoverResult{}, workflow.Sleep(ctx, 8*time.Second)
	})
	for i := range 4 {
		s.signalAt(time.Duration(i+1) * time.Second)
	}
	_ = s.run(20*time.Second, nil)
	slices.Sort(started)
	if want := []string{"recover/3/0-1/g.parquet/p/t", "recover/3/2-4/day=1/f.parquet/p/t"}; !slices.Equal(started, want) {
		t.Errorf("started %v, want %v", started, want)
	}
}

func TestPipelineInput(t *testing.T) {
	s := newScript(t)
	s.ExecuteWorkflow(workflows.Pipeline, workflows.PipelineInput{})
	err := s.GetWorkflowError()
	if m, _ := workflows.Message(err); activities.Kind(err) != activities.ErrTypeInput || m != `input: "table" is missing; give {"project": "…", "table": "…"}` {
		t.Errorf("%v", err)
	}
}

func TestPipelineIsListed(t *testing.T) {
	s := newScript(t)
	var seen []string
	s.OnUpsertTypedSearchAttributes(mock.MatchedBy(func(sa temporal.SearchAttributes) bool {
		for k, v := range sa.GetUntypedValues() {
			if text := fmt.Sprint(k.GetName(), "=", v); !slices.Contains(seen, text) { // it is asked more than once
				seen = append(seen, text)
			}
		}
		return true
	})).Return(nil)
	s.turn = func(n int) (activities.TurnResult, error) {
		return activities.TurnResult{From: int64(n), To: int64(n) + 1, Model: "m", ModelVersion: int64(n+1) / 2}, nil
	}
	s.signalAt(time.Second)
	s.signalAt(2 * time.Second)
	_ = s.run(3*time.Second, nil)
	if want := []string{"TidemillTable=t", "TidemillModel=m@1", "TidemillModel=m@2"}; !slices.Equal(seen, want) {
		t.Errorf("%v, want %v", seen, want)
	}
}
