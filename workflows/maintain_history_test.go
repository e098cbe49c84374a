package workflows_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/tidemill/tidemill/activities"
	"github.com/tidemill/tidemill/workflows"
)

func (a *actor) PlanMaintenance(context.Context, activities.MaintainInput) (activities.MaintainPlan, error) {
	p := planOf(activities.MaintainSteps(), "t_scored", "t_quarantine", "t")
	p.Tables[2].Steps[0].Skip = "the contract has no retention"
	return p, nil
}

func (a *actor) maintain(ctx context.Context, step string, in activities.StepInput) (activities.StepResult, error) {
	a.mu.Lock()
	f := a.steps[step+" "+in.Table]
	a.mu.Unlock()
	if f != nil {
		if err := f(ctx); err != nil {
			return activities.StepResult{}, err
		}
	}
	return activities.StepResult{Size: activities.TableSize{Files: 1}, Counts: activities.Counts{FilesJoined: 3}}, nil
}

func (a *actor) ExpireRows(ctx context.Context, in activities.StepInput) (activities.StepResult, error) {
	return a.maintain(ctx, activities.StepExpire, in)
}

func (a *actor) CompactFiles(ctx context.Context, in activities.StepInput) (activities.StepResult, error) {
	return a.maintain(ctx, activities.StepCompact, in)
}

func (a *actor) WriteCheckpoint(ctx context.Context, in activities.StepInput) (activities.StepResult, error) {
	return a.maintain(ctx, activities.StepCheckpoint, in)
}

func (a *actor) CleanLog(ctx context.Context, in activities.StepInput) (activities.StepResult, error) {
	return a.maintain(ctx, activities.StepClean, in)
}

func (a *actor) VacuumFiles(ctx context.Context, in activities.StepInput) (activities.StepResult, error) {
	return a.maintain(ctx, activities.StepVacuum, in)
}

func (s *stage) maintain(id string, in workflows.MaintainInput) client.WorkflowRun {
	s.t.Helper()
	run, err := s.c.ExecuteWorkflow(s.ctx, client.StartWorkflowOptions{ID: id, TaskQueue: queue}, workflows.Maintain, in)
	if err != nil {
		s.t.Fatal(err)
	}
	return run
}

// recordMaintenance runs maintenance that goes well, that fails in one step, that a
// schedule or a person starts under a name of its own while another one runs, and that is
// cancelled.
func recordMaintenance(t *testing.T) {
	s := newStage(t, 0)
	run := s.maintain(maintainID, workflows.MaintainInput{})
	if err := run.Get(s.ctx, nil); err != nil {
		t.Fatal(err)
	}
	s.save("maintain", maintainID, run.GetRunID())

	fail := func(context.Context) error {
		return activities.Permanent(activities.ErrTypeTable, errors.New("damaged log: 3.json"))
	}
	s.actor.set(func(a *actor) { a.steps = map[string]func(context.Context) error{"compact t": fail} })
	run = s.maintain(maintainID, workflows.MaintainInput{Project: "p", Table: "t"})
	if err := run.Get(s.ctx, nil); activities.Kind(err) != workflows.ErrTypeMaintenance {
		t.Fatal(err)
	}
	s.save("maintain-step-failed", maintainID, run.GetRunID())

	begun := make(chan struct{})
	hang := func(ctx context.Context) error {
		close(begun)
		for ctx.Err() == nil {
			activity.RecordHeartbeat(ctx)
		}
		return ctx.Err()
	}
	s.actor.set(func(a *actor) { a.steps = map[string]func(context.Context) error{"vacuum t_scored": hang} })
	run = s.maintain("by hand", workflows.MaintainInput{Project: "p", Table: "t"})
	<-begun
	second := s.maintain(maintainID+"-2026-01-01T00:00:00Z", workflows.MaintainInput{})
	var res workflows.MaintainResult
	if err := second.Get(s.ctx, &res); err != nil || !strings.Contains(res.Skipped, "is being maintained already, by the workflow maintain/p/t") {
		t.Fatalf("%+v, %v", res, err)
	}
	s.save("maintain-under-way", second.GetID(), "")
	if err := s.c.CancelWorkflow(s.ctx, "by hand", ""); err != nil {
		t.Fatal(err)
	}
	if err := run.Get(s.ctx, nil); !temporal.IsCanceledError(err) {
		t.Fatal(err)
	}
	s.save("maintain-child", "by hand", "")
	if err := s.c.GetWorkflow(s.ctx, maintainID, "").Get(s.ctx, nil); !temporal.IsCanceledError(err) {
		t.Fatal(err)
	}
	s.save("maintain-cancelled", maintainID, "")
}
