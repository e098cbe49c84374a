package workflows_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/tidemill/tidemill/activities"
	"github.com/tidemill/tidemill/workflows"
)

const maintainID = "maintain/p/t"

// upkeep is Maintain in simulated time, with steps that a test makes up.
type upkeep struct {
	*testsuite.TestWorkflowEnvironment
	t     *testing.T
	plans []activities.MaintainInput
	steps []string // "expire t_scored", in the order of their attempts
	plan  activities.MaintainPlan
	// step answers an attempt at a step; nil: done.
	step func(step string, in activities.StepInput) (activities.StepResult, error)
}

func newUpkeep(t *testing.T, id string) *upkeep {
	t.Helper()
	u := &upkeep{TestWorkflowEnvironment: newEnv(t), t: t, plan: planOf(activities.MaintainSteps(), "t_scored", "t_quarantine", "t")}
	u.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: id})
	u.SetWorkerOptions(worker.Options{DeadlockDetectionTimeout: time.Minute}) // machines can be busy
	u.RegisterWorkflow(workflows.Maintain)
	u.OnActivity(a.PlanMaintenance, mock.Anything, mock.Anything).Return(func(_ context.Context, in activities.MaintainInput) (activities.MaintainPlan, error) {
		u.plans = append(u.plans, in)
		return u.plan, nil
	})
	for step, f := range map[string]any{
		activities.StepExpire: a.ExpireRows, activities.StepCompact: a.CompactFiles, activities.StepCheckpoint: a.WriteCheckpoint,
		activities.StepClean: a.CleanLog, activities.StepVacuum: a.VacuumFiles,
	} {
		u.OnActivity(f, mock.Anything, mock.Anything).Return(func(_ context.Context, in activities.StepInput) (activities.StepResult, error) {
			u.steps = append(u.steps, step+" "+in.Table)
			if u.step == nil {
				return activities.StepResult{}, nil
			}
			return u.step(step, in)
		}).Maybe()
	}
	return u
}

func planOf(steps []string, tables ...string) (p activities.MaintainPlan) {
	for _, t := range tables {
		x := activities.PlannedTable{Table: t, Size: activities.TableSize{Files: 100, Bytes: 5_000_000, Rows: 1000}}
		for _, s := range steps {
			x.Steps = append(x.Steps, activities.PlannedStep{Step: s})
		}
		p.Tables = append(p.Tables, x)
	}
	return p
}

func (u *upkeep) run(in workflows.MaintainInput) (res workflows.MaintainResult, err error) {
	u.t.Helper()
	u.ExecuteWorkflow(workflows.Maintain, in)
	if !u.IsWorkflowCompleted() {
		u.t.Fatal("does not end")
	}
	err = u.GetWorkflowError()
	if ae, ok := errors.AsType[*temporal.ApplicationError](err); ok && ae.HasDetails() {
		return res, errors.Join(err, ae.Details(&res))
	}
	if err == nil {
		err = u.GetWorkflowResult(&res)
	}
	return res, err
}

func TestMaintain(t *testing.T) {
	u := newUpkeep(t, maintainID)
	u.plan.Tables[1].Steps[0].Skip = "the contract has no retention"
	u.step = func(step string, in activities.StepInput) (activities.StepResult, error) {
		r := activities.StepResult{Size: activities.TableSize{Files: 100, Bytes: 5_000_000}, Took: 1500 * time.Millisecond}
		switch {
		case in.Table != "t_scored":
		case step == activities.StepExpire:
			r.Size, r.Counts.RowsExpired, r.Counts.FilesExpired = activities.TableSize{Files: 90, Bytes: 4_500_000}, 50, 10
		case step == activities.StepCompact:
			r.Size, r.Counts.FilesJoined, r.Counts.FilesMade = activities.TableSize{Files: 1, Bytes: 4_000_000}, 90, 1
		default:
			r.Size = activities.TableSize{Files: 1, Bytes: 4_000_000}
			r.Counts.Versions = 7 // by each of the other three
		}
		return r, nil
	}
	res, err := u.run(workflows.MaintainInput{Project: "p", Table: "t", Orphans: true})
	if err != nil || len(res.Tables) != 3 {
		t.Fatalf("%+v, %v", res, err)
	}
	var want []string
	for _, table := range []string{"t_scored", "t_quarantine", "t"} {
		for _, s := range activities.MaintainSteps() {
			if name := s + " " + table; name != "expire t_quarantine" {
				want = append(want, name)
			}
		}
	}
	if !slices.Equal(u.steps, want) {
		t.Errorf("steps %v", u.steps)
	}
	if len(u.plans) != 1 || u.plans[0].Table != "t" || !u.plans[0].Orphans {
		t.Errorf("plans %+v", u.plans)
	}
	s := res.Tables[0]
	if s.Before.Files != 100 || s.After.Files != 1 || s.Counts.RowsExpired != 50 || s.Counts.FilesJoined != 90 || s.Counts.Versions != 21 {
		t.Errorf("%+v", s)
	}
	md := res.Markdown()
	for _, line := range []string{
		"| t_scored | 100 → 1 | 5.0 MB → 4.0 MB | 50 | 90 | 21 | 0 | 0 B | 7.5s | expire done, compact done,",
		"| expire – (the contract has no retention), compact done,",
	} {
		if !strings.Contains(md, line) {
			t.Errorf("%s\nlacks %s", md, line)
		}
	}
	if d := details(t, u); d != "**t**: done.\n\n"+md {
		t.Error(d)
	}
	var st workflows.MaintainStatus
	if v, err := u.QueryWorkflow(workflows.QueryStatus); err != nil || v.Get(&st) != nil || st.Doing != "done" || len(st.Tables) != 3 {
		t.Errorf("%+v, %v", st, err)
	}
}

// A step that fails for good, and one that fails often, leave the others to be taken; the
// workflow says at its end what failed and what to do.
func TestMaintainGoesOnAfterFailures(t *testing.T) {
	u := newUpkeep(t, maintainID)
	u.step = func(step string, in activities.StepInput) (activities.StepResult, error) {
		switch step + " " + in.Table {
		case "compact t_scored":
			return activities.StepResult{}, errors.New("compact table t_scored: store away")
		case "clean t":
			return activities.StepResult{}, activities.Permanent(activities.ErrTypeTable, errors.New("damaged log: 3.json"))
		}
		return activities.StepResult{Counts: activities.Counts{Vacuumed: 1}}, nil
	}
	res, err := u.run(workflows.MaintainInput{Project: "p", Table: "t"})
	if activities.Kind(err) != workflows.ErrTypeMaintenance {
		t.Fatalf("%v", err)
	}
	m, _ := workflows.Message(err)
	for _, part := range []string{"2 of 15 steps failed, the others are done", "compact t_scored: compact table t_scored: store away; the next run tries again",
		"clean t: damaged log: 3.json; mend the table as the error says"} {
		if !strings.Contains(m, part) {
			t.Errorf("%s\nlacks %s", m, part)
		}
	}
	count := map[string]int{}
	for _, s := range u.steps {
		count[s]++
	}
	if len(count) != 15 || count["compact t_scored"] != 6 || count["clean t"] != 1 || count["vacuum t"] != 1 {
		t.Errorf("%v", count)
	}
	if len(res.Tables) != 3 || res.Tables[0].Counts.Vacuumed != 4 || res.Tables[2].Steps[3].Error == "" {
		t.Errorf("%+v", res)
	}
	if md := res.Markdown(); !strings.Contains(md, "compact **failed**") || !strings.Contains(md, "What failed:\n\n- **compact t_scored**") {
		t.Error(md)
	}
}

// One attempt that fails is no failure of the step.
func TestMaintainRetries(t *testing.T) {
	u := newUpkeep(t, maintainID)
	n := 0
	u.step = func(string, activities.StepInput) (activities.StepResult, error) {
		if n++; n < 4 {
			return activities.StepResult{}, errors.New("not now")
		}
		return activities.StepResult{}, nil
	}
	if _, err := u.run(workflows.MaintainInput{Project: "p", Table: "t"}); err != nil || len(u.steps) != 18 {
		t.Errorf("%v, %v", u.steps, err)
	}
}

func TestMaintainCancelled(t *testing.T) {
	u := newUpkeep(t, maintainID)
	u.step = func(step string, in activities.StepInput) (activities.StepResult, error) {
		if step == activities.StepCompact {
			u.CancelWorkflow()
			return activities.StepResult{}, errors.New("tried again if it were not cancelled")
		}
		return activities.StepResult{}, nil
	}
	_, err := u.run(workflows.MaintainInput{Project: "p", Table: "t"})
	if !temporal.IsCanceledError(err) || len(u.steps) != 2 {
		t.Errorf("%v, %v", u.steps, err)
	}
}

// With an empty input the id says which table it is about.
func TestMaintainByID(t *testing.T) {
	for _, id := range []string{maintainID, maintainID + "-2026-01-01T00:00:00Z"} {
		u := newUpkeep(t, id)
		u.plan.Tables = nil
		res, err := u.run(workflows.MaintainInput{})
		if err != nil || len(u.plans) != 1 || u.plans[0].Table != "t" || res.Skipped != "there is no table yet" {
			t.Errorf("%s: %+v, %+v, %v", id, u.plans, res, err)
		}
	}
}

// Whatever a run is called, the work is done under one id. (That there is only one at a
// time is the server's to say: see recordMaintenance.)
func TestMaintainOnce(t *testing.T) {
	u := newUpkeep(t, "by hand")
	var id string
	u.SetOnChildWorkflowStartedListener(func(info *workflow.Info, _ workflow.Context, _ converter.EncodedValues) {
		id = info.WorkflowExecution.ID
	})
	res, err := u.run(workflows.MaintainInput{Project: "p", Table: "t"})
	if err != nil || id != maintainID || len(u.steps) != 15 || len(res.Tables) != 3 {
		t.Errorf("%s, %v, %+v, %v", id, u.steps, res, err)
	}
	if d := details(t, u); d != "Done by the workflow `maintain/p/t`." {
		t.Error(d)
	}
}

func TestMaintainInputs(t *testing.T) {
	for _, c := range []struct {
		in   workflows.MaintainInput
		want string
	}{
		{workflows.MaintainInput{}, `input: "table" is missing`},
		{workflows.MaintainInput{Table: "t"}, `input: "project" is missing`},
		{workflows.MaintainInput{Project: "p", Table: "t", Only: "u"}, `input: "only" is "u", want one of t_scored, t_quarantine, t`},
		{workflows.MaintainInput{Project: "p", Table: "t", Steps: []string{"vacuum", "tidy"}}, `input: "steps[1]" is "tidy", want one of expire, compact,`},
		{workflows.MaintainInput{Project: "p", Table: "t", Steps: []string{"clean"}, Orphans: true}, `input: "orphans" is part of the step vacuum`},
	} {
		u := newUpkeep(t, "by hand")
		_, err := u.run(c.in)
		m, _ := workflows.Message(err)
		if activities.Kind(err) != activities.ErrTypeInput || !strings.HasPrefix(m, c.want) || !strings.Contains(m, "example: {") || len(u.plans) > 0 {
			t.Errorf("%+v: %v", c.in, err)
		}
	}
}
