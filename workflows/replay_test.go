package workflows_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/mock"

	"github.com/tidemill/tidemill/activities"
	"github.com/tidemill/tidemill/workflows"
)

// A replay goes on while there is more, over a store that is away, and waits for rows that a
// turn is not done with; each call has the same id and the same time.
func TestReplayQuarantine(t *testing.T) {
	e := newEnv(t)
	var calls []activities.ReplayInput
	e.OnActivity(a.Replay, mock.Anything, mock.Anything).
		Return(func(_ context.Context, in activities.ReplayInput) (activities.ReplayResult, error) {
			calls = append(calls, in)
			switch len(calls) {
			case 1:
				return activities.ReplayResult{Marked: 10, Landed: 4, Kept: 1, Waiting: 3, More: true}, nil
			case 2:
				return activities.ReplayResult{}, errors.New("the store is away")
			case 3:
				return activities.ReplayResult{Landed: 6, Again: 4, Kept: 1, Waiting: 3}, nil
			}
			return activities.ReplayResult{Marked: 3, Landed: 2, Back: 1, Kept: 1, Rules: map[string]int64{"positive": 1}, Example: "x = 0"}, nil
		})
	e.ExecuteWorkflow(workflows.ReplayQuarantine, workflows.ReplayInput{Table: "t", Where: "rule = 'x'", Repair: "root = this"})
	var res workflows.ReplayResult
	if err := errors.Join(e.GetWorkflowError(), e.GetWorkflowResult(&res)); err != nil {
		t.Fatal(err)
	}
	if res.Marked != 13 || res.Landed != 12 || res.Back != 1 || res.Kept != 1 || res.Waiting != 0 || res.Chosen != 14 || res.Rules["positive"] != 1 {
		t.Errorf("%+v", res)
	}
	for _, c := range calls {
		if c != calls[0] || c.ID != res.ID || c.ID == "" || c.Before == 0 || c.Where != "rule = 'x'" || c.Repair != "root = this" {
			t.Errorf("%+v after %+v", c, calls[0])
		}
	}
	if len(calls) != 4 {
		t.Errorf("%d calls", len(calls))
	}
}

func TestReplayQuarantineWithoutTable(t *testing.T) {
	e := newEnv(t)
	e.ExecuteWorkflow(workflows.ReplayQuarantine, workflows.ReplayInput{})
	if m, _ := workflows.Message(e.GetWorkflowError()); !strings.Contains(m, `"table" is missing; example: {"table": "orders"`) {
		t.Errorf("%q, %v", m, e.GetWorkflowError())
	}
	e.AssertNotCalled(t, "Replay", mock.Anything, mock.Anything)
}
