package workflows

import (
	"fmt"
	"regexp"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/tidemill/tidemill/activities"
)

// RegisterModelInput is what a person types into the Temporal UI.
type RegisterModelInput struct {
	Name string `json:"name"` // the model's name, [a-z][a-z0-9_-]*
	File string `json:"file"` // the ONNX file, see activities.Candidate
	// Alias moves to the new version once it has passed; none by default.
	Alias string `json:"alias,omitempty"`
	Table string `json:"table,omitempty"`
}

// RegisterModelResult says what was registered.
type RegisterModelResult struct {
	activities.Published
	Alias  string             `json:"alias,omitempty"`
	Checks []activities.Check `json:"checks"`
}

var modelName = regexp.MustCompile(`^[a-z][a-z0-9_-]*$`)

func (in RegisterModelInput) validate() error {
	bad := func(format string, args ...any) error {
		return temporal.NewNonRetryableApplicationError(fmt.Sprintf(format, args...)+`; example: {"name": "fraud", "file": "models/fraud.onnx", "alias": "champion"}`, activities.ErrTypeInput, nil)
	}
	switch {
	case !modelName.MatchString(in.Name):
		return bad(`input: "name" is %q, want a letter followed by letters, digits, - or _, all lower case`, in.Name)
	case in.File == "":
		return bad(`input: "file" is missing; name the ONNX file in the project directory`)
	case in.Alias != "" && !modelName.MatchString(in.Alias):
		return bad(`input: "alias" is %q, want a letter followed by letters, digits, - or _, all lower case`, in.Alias)
	}
	return nil
}

// RegisterModel puts a model through the gate and, when it passes, makes it an
// immutable version and moves the alias. A model that does not pass leaves
// nothing behind; the failure says which check and why.
func RegisterModel(ctx workflow.Context, in RegisterModelInput) (res RegisterModelResult, err error) {
	if err := in.validate(); err != nil {
		return res, err
	}
	if err := workflow.UpsertTypedSearchAttributes(ctx, AttributeModel.ValueSet(in.Name)); err != nil {
		return res, err
	}
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 5 * time.Minute,
		HeartbeatTimeout:    15 * time.Second,
		RetryPolicy:         &temporal.RetryPolicy{InitialInterval: 200 * time.Millisecond, MaximumInterval: 10 * time.Second},
	})
	show := func(format string, args ...any) { workflow.SetCurrentDetails(ctx, fmt.Sprintf(format, args...)) }

	cand := activities.Candidate{Name: in.Name, File: in.File, Table: in.Table}
	show("Reading **%s**.", in.File)
	var seen activities.Inspected
	if err := workflow.ExecuteActivity(ctx, a.InspectModel, cand).Get(ctx, &seen); err != nil {
		return res, err
	}
	show("Checking **%s** (%d bytes, %s) against %d contracts.", in.Name, seen.Bytes, seen.Signature, len(seen.Tables))
	if err := workflow.ExecuteActivity(ctx, a.GateModel, activities.GateInput{Candidate: cand, Inspected: seen}).Get(ctx, &res.Checks); err != nil {
		return res, err
	}
	if err := workflow.ExecuteActivity(ctx, a.PublishModel, activities.PublishInput{Candidate: cand, Inspected: seen, Checks: res.Checks}).Get(ctx, &res.Published); err != nil {
		return res, err
	}
	if in.Alias != "" {
		move := activities.AliasInput{Name: in.Name, Alias: in.Alias, Version: res.Version}
		if err := workflow.ExecuteActivity(ctx, a.MoveAlias, move).Get(ctx, nil); err != nil {
			return res, err
		}
		res.Alias = in.Alias
	}
	show("Registered **%s@%d**.", in.Name, res.Version)
	return res, nil
}
