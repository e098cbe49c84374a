package workflows_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/mock"

	"github.com/tidemill/tidemill/activities"
	"github.com/tidemill/tidemill/workflows"
)

// Rescore goes on until an attempt says that nothing is left, over a store that is away.
func TestRescore(t *testing.T) {
	e := newEnv(t)
	n := 0
	e.OnActivity(a.Rescore, mock.Anything, activities.RescoreInput{Table: "t", Where: "x > 1"}).
		Return(func(context.Context, activities.RescoreInput) (activities.RescoreResult, error) {
			n++
			switch n {
			case 1:
				return activities.RescoreResult{Rows: 10, Files: 2, More: true}, nil
			case 2:
				return activities.RescoreResult{}, errors.New("the store is away")
			}
			return activities.RescoreResult{Rows: 5, Files: 1, Kept: 2, Rule: "positive", Model: "m", Version: 3}, nil
		})
	e.ExecuteWorkflow(workflows.Rescore, workflows.RescoreInput{Table: "t", Where: "x > 1"})
	var res workflows.RescoreResult
	if err := errors.Join(e.GetWorkflowError(), e.GetWorkflowResult(&res)); err != nil {
		t.Fatal(err)
	}
	if res.Rows != 15 || res.Files != 3 || res.Kept != 2 || res.Version != 3 || n != 3 {
		t.Errorf("%+v after %d attempts", res, n)
	}
}
