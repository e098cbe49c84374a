package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/tidemill/tidemill/activities"
)

// RescoreID is the workflow id of a table's rescoring: one at a time.
func RescoreID(project, table string) string { return "rescore/" + project + "/" + table }

// RescoreInput is what a person types into the Temporal UI.
type RescoreInput struct {
	Project string `json:"project,omitempty"`
	Table   string `json:"table"`
	// Where is an SQL condition over the scored table's columns, such as
	// "ts >= TIMESTAMP '2026-01-01'"; all rows by default.
	Where  string `json:"where,omitempty"`
	DryRun bool   `json:"dry_run,omitempty"` // count only
}

// RescoreResult says what was done.
type RescoreResult struct {
	Table    string `json:"table"`
	Rows     int64  `json:"rows"` // scored again, or to be in a dry run
	Kept     int64  `json:"kept"` // refused today, and left as they were
	Rule     string `json:"rule,omitempty"`
	Files    int    `json:"files"`
	Skipped  int    `json:"skipped"` // files that needed no look
	Model    string `json:"model,omitempty"`
	Version  int64  `json:"version,omitempty"`
	Contract string `json:"contract,omitempty"`
}

func (in RescoreInput) validate() error {
	if in.Table == "" {
		return temporal.NewNonRetryableApplicationError(
			`input: "table" is missing; example: {"table": "orders", "where": "ts >= TIMESTAMP '2026-01-01'"}`, activities.ErrTypeInput, nil)
	}
	return nil
}

// Rescore brings a scored table's rows up to today's contract and model, after an alias
// has moved, say. It can be stopped and started again: rows that are up to date are
// left alone.
func Rescore(ctx workflow.Context, in RescoreInput) (res RescoreResult, err error) {
	if err := in.validate(); err != nil {
		return res, err
	}
	res.Table = in.Table
	if err := workflow.UpsertTypedSearchAttributes(ctx, AttributeTable.ValueSet(in.Table)); err != nil {
		return res, err
	}
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 15 * time.Minute,
		HeartbeatTimeout:    15 * time.Second,
		RetryPolicy:         &temporal.RetryPolicy{InitialInterval: retryMin, MaximumInterval: retryMax},
	})
	show := func(doing string) {
		workflow.SetCurrentDetails(ctx, fmt.Sprintf("%s **%s**.\n\n| | |\n|---|---|\n| rows scored again | %d |\n| rows refused, left as they were | %d |\n| files looked into | %d |\n| files skipped | %d |\n| model | %s@%d |\n",
			doing, in.Table, res.Rows, res.Kept, res.Files, res.Skipped, res.Model, res.Version))
	}
	show("Rescoring")
	for {
		var part activities.RescoreResult
		err := workflow.ExecuteActivity(ctx, a.Rescore, activities.RescoreInput{Table: in.Table, Where: in.Where, DryRun: in.DryRun}).Get(ctx, &part)
		if err != nil {
			return res, err
		}
		res.Rows += part.Rows
		res.Files += part.Files
		res.Kept, res.Rule, res.Skipped = part.Kept, part.Rule, part.Skipped
		res.Model, res.Version, res.Contract = part.Model, part.Version, part.Contract
		if !part.More {
			show("Rescored")
			return res, nil
		}
		show("Rescoring")
	}
}
