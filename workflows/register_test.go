package workflows_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	"github.com/tidemill/tidemill/activities"
	"github.com/tidemill/tidemill/workflows"
)

func newEnv(t *testing.T) *testsuite.TestWorkflowEnvironment {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(quiet)
	e := suite.NewTestWorkflowEnvironment()
	// A busy machine is no deadlock.
	e.SetWorkerOptions(worker.Options{DeadlockDetectionTimeout: time.Minute})
	e.RegisterActivity(activities.New(activities.Options{}))
	return e
}

func TestRegisterModel(t *testing.T) {
	e := newEnv(t)
	in := workflows.RegisterModelInput{Name: "fraud", File: "models/fraud.onnx", Alias: "champion", Table: "t"}
	cand := activities.Candidate{Name: "fraud", File: "models/fraud.onnx", Table: "t"}
	seen := activities.Inspected{SHA256: "abc", Upload: "upload/abc.onnx"}
	checks := []activities.Check{{Name: "signature", Detail: "fits"}}
	e.OnActivity(a.InspectModel, mock.Anything, cand).Return(seen, nil).Once()
	e.OnActivity(a.GateModel, mock.Anything, activities.GateInput{Candidate: cand, Inspected: seen}).Return(checks, nil).Once()
	e.OnActivity(a.PublishModel, mock.Anything, activities.PublishInput{Candidate: cand, Inspected: seen, Checks: checks}).
		Return(activities.Published{Name: "fraud", Version: 7, SHA256: "abc"}, nil).Once()
	e.OnActivity(a.MoveAlias, mock.Anything, activities.AliasInput{Name: "fraud", Alias: "champion", Version: 7}).Return(nil).Once()
	e.ExecuteWorkflow(workflows.RegisterModel, in)
	var res workflows.RegisterModelResult
	if err := errors.Join(e.GetWorkflowError(), e.GetWorkflowResult(&res)); err != nil || res.Version != 7 || res.Alias != "champion" || len(res.Checks) != 1 {
		t.Errorf("%+v, %v", res, err)
	}
	e.AssertExpectations(t)
}

// What the gate refuses is not published, and the reason is what a person reads.
func TestRegisterModelRefused(t *testing.T) {
	e := newEnv(t)
	e.OnActivity(a.InspectModel, mock.Anything, mock.Anything).Return(activities.Inspected{}, nil)
	e.OnActivity(a.GateModel, mock.Anything, mock.Anything).Return(nil, activities.Permanent(activities.ErrTypeModel, errors.New("tables/t.yaml:9: score.inputs: no")))
	e.ExecuteWorkflow(workflows.RegisterModel, workflows.RegisterModelInput{Name: "fraud", File: "f.onnx"})
	if m, _ := workflows.Message(e.GetWorkflowError()); m != "tables/t.yaml:9: score.inputs: no" {
		t.Errorf("%v", e.GetWorkflowError())
	}
	e.AssertNotCalled(t, "PublishModel", mock.Anything, mock.Anything)
}

func TestRegisterModelWithoutAlias(t *testing.T) {
	e := newEnv(t)
	tries := 0
	e.OnActivity(a.InspectModel, mock.Anything, mock.Anything).Return(func(context.Context, activities.Candidate) (activities.Inspected, error) {
		if tries++; tries < 8 {
			return activities.Inspected{}, errors.New("the store is away")
		}
		return activities.Inspected{}, nil
	})
	e.OnActivity(a.GateModel, mock.Anything, mock.Anything).Return(nil, nil)
	e.OnActivity(a.PublishModel, mock.Anything, mock.Anything).Return(activities.Published{Version: 1}, nil)
	e.ExecuteWorkflow(workflows.RegisterModel, workflows.RegisterModelInput{Name: "fraud", File: "f.onnx"})
	if err := e.GetWorkflowError(); err != nil || tries != 8 {
		t.Errorf("%v after %d tries", err, tries)
	}
	e.AssertNotCalled(t, "MoveAlias", mock.Anything, mock.Anything)
}

func TestInputs(t *testing.T) {
	part := activities.Part{Version: 1, File: "f.parquet", From: 0, To: 2}
	with := func(change func(*workflows.RecoverBatchInput)) workflows.RecoverBatchInput {
		in := workflows.RecoverBatchInput{Project: "p", Table: "t", Part: part}
		change(&in)
		return in
	}
	for _, c := range []struct {
		workflow, input any
		want            string
	}{
		{workflows.RegisterModel, workflows.RegisterModelInput{File: "f.onnx"}, `input: "name" is ""`},
		{workflows.RegisterModel, workflows.RegisterModelInput{Name: "Fraud!", File: "f.onnx"}, `input: "name" is "Fraud!", want a letter`},
		{workflows.RegisterModel, workflows.RegisterModelInput{Name: "fraud"}, `input: "file" is missing`},
		{workflows.RegisterModel, workflows.RegisterModelInput{Name: "fraud", File: "f.onnx", Alias: "A b"}, `input: "alias" is "A b"`},
		{workflows.Rescore, workflows.RescoreInput{}, `input: "table" is missing`},
		{workflows.RecoverBatch, with(func(in *workflows.RecoverBatchInput) { in.Table = "" }), `input: "table" is missing`},
		{workflows.RecoverBatch, with(func(in *workflows.RecoverBatchInput) { in.Part.File = "" }), `input: "part.file" is missing`},
		{workflows.RecoverBatch, with(func(in *workflows.RecoverBatchInput) { in.Part.To = 0 }), `input: "part" is rows 0 to 0 of landed version 1`},
		{workflows.RecoverBatch, with(func(in *workflows.RecoverBatchInput) { in.Attempts = -1 }), `input: "attempts" is -1`},
	} {
		e := newEnv(t)
		e.ExecuteWorkflow(c.workflow, c.input)
		m, _ := workflows.Message(e.GetWorkflowError())
		if activities.Kind(e.GetWorkflowError()) != activities.ErrTypeInput || !strings.HasPrefix(m, c.want) || !strings.Contains(m, "example: {") {
			t.Errorf("%+v: %v", c.input, e.GetWorkflowError())
		}
	}
}

// recovering runs RecoverBatch against attempts that a test makes up, and says
// when they were made and with which of them the rows were given up.
func recovering(t *testing.T, in workflows.RecoverBatchInput, during func(*testsuite.TestWorkflowEnvironment), attempt func(n int) (activities.RecoverResult, error)) (at []time.Duration, last []bool, res activities.RecoverResult, err error) {
	t.Helper()
	e := newEnv(t)
	start := e.Now()
	e.OnActivity(a.Recover, mock.Anything, mock.Anything).Return(func(_ context.Context, in activities.RecoverInput) (activities.RecoverResult, error) {
		at, last = append(at, e.Now().Sub(start)), append(last, in.Last)
		if in.Last {
			return activities.RecoverResult{Quarantined: 2}, nil
		}
		return attempt(len(at))
	})
	if during != nil {
		during(e)
	}
	e.ExecuteWorkflow(workflows.RecoverBatch, in)
	if err = e.GetWorkflowError(); err == nil {
		err = e.GetWorkflowResult(&res)
	}
	return at, last, res, err
}

var (
	errPoison = activities.Permanent(activities.ErrTypePoison, errors.New("2 rows crash the model"))
	recoverIn = workflows.RecoverBatchInput{Project: "p", Table: "t", Part: activities.Part{Version: 1, File: "f.parquet", From: 0, To: 2}}
)

func poisonous(int) (activities.RecoverResult, error) { return activities.RecoverResult{}, errPoison }

func TestRecoverBatchGivesUp(t *testing.T) {
	at, last, res, err := recovering(t, recoverIn, nil, poisonous)
	if err != nil || res.Quarantined != 2 || len(at) != 5 || last[3] || !last[4] || at[4] != 170*time.Second { // 2 + 8 + 32 + 128
		t.Errorf("%v, %v, %+v, %v", at, last, res, err)
	}
	in := recoverIn
	in.Attempts = 1
	if at, last, _, err = recovering(t, in, nil, poisonous); err != nil || len(at) != 1 || !last[0] {
		t.Errorf("%v, %v, %v", at, last, err)
	}
}

func TestRecoverBatchSucceeds(t *testing.T) {
	at, last, res, err := recovering(t, recoverIn, nil, func(n int) (activities.RecoverResult, error) {
		if n < 3 {
			return poisonous(n)
		}
		return activities.RecoverResult{Scored: 2}, nil
	})
	if err != nil || res.Scored != 2 || len(at) != 3 || last[2] {
		t.Errorf("%v, %v, %+v, %v", at, last, res, err)
	}
}

func TestRecoverBatchSignals(t *testing.T) {
	at, _, _, err := recovering(t, recoverIn, func(e *testsuite.TestWorkflowEnvironment) {
		e.RegisterDelayedCallback(func() { e.SignalWorkflow(workflows.SignalRetry, nil) }, 5*time.Second)
		e.RegisterDelayedCallback(func() { e.SignalWorkflow(workflows.SignalQuarantine, nil) }, 6*time.Second)
	}, poisonous)
	if err != nil || len(at) != 4 || at[1] != 2*time.Second || at[2] != 5*time.Second || at[3] != 6*time.Second {
		t.Errorf("%v, %v", at, err)
	}
}

// While the model is missing nobody's attempts are used up, and nothing is given up.
func TestRecoverBatchBlocked(t *testing.T) {
	at, last, res, err := recovering(t, recoverIn, func(e *testsuite.TestWorkflowEnvironment) {
		e.RegisterDelayedCallback(func() { e.SignalWorkflow(workflows.SignalRetry, nil) }, time.Hour+time.Minute)
	}, func(n int) (activities.RecoverResult, error) {
		if n < 18 {
			return activities.RecoverResult{}, activities.Permanent(activities.ErrTypeModel, errors.New("no model"))
		}
		return activities.RecoverResult{Scored: 2}, nil
	})
	if err != nil || res.Scored != 2 || len(at) != 18 || at[17] > 80*time.Minute || last[17] {
		t.Errorf("%v, %v, %+v, %v", at, last, res, err)
	}
}

func TestRecoverBatchEnds(t *testing.T) {
	_, _, _, err := recovering(t, recoverIn, nil, func(int) (activities.RecoverResult, error) {
		return activities.RecoverResult{}, activities.Permanent(activities.ErrTypeInput, errors.New("no such part"))
	})
	if activities.Kind(err) != activities.ErrTypeInput {
		t.Errorf("%v", err)
	}
	_, _, _, err = recovering(t, recoverIn, func(e *testsuite.TestWorkflowEnvironment) {
		e.RegisterDelayedCallback(e.CancelWorkflow, time.Second)
	}, poisonous)
	if !temporal.IsCanceledError(err) {
		t.Errorf("cancelled: %v", err)
	}
}
