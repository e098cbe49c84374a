package workflows

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/tidemill/tidemill/activities"
)

// ReplayID is the workflow id of a table's replay: one at a time.
func ReplayID(project, table string) string { return "replay/" + project + "/" + table }

// ReplayInput is what a person types into the Temporal UI.
type ReplayInput struct {
	Project string `json:"project,omitempty"`
	Table   string `json:"table"` // the contract's
	// Where is an SQL condition over the quarantine table's columns, such as
	// "rule = 'wrong_type'"; all rows by default.
	Where string `json:"where,omitempty"`
	// Repair is a Bloblang mapping over the row's bytes, such as
	// "root = this\nroot.amount = this.amount.number()"; none by default.
	Repair string `json:"repair,omitempty"`
	DryRun bool   `json:"dry_run,omitempty"` // say what would pass, and change nothing
}

// ReplayResult says what was done.
type ReplayResult struct {
	Table string `json:"table"`
	// ID is in the column replay of the rows that were taken out of quarantine.
	ID      string           `json:"id"`
	Chosen  int64            `json:"chosen"`          // rows that the condition chose
	Marked  int64            `json:"marked"`          // taken out of quarantine, or would be in a dry run
	Kept    int64            `json:"kept"`            // would not pass today, and stayed
	Rules   map[string]int64 `json:"rules,omitempty"` // what they would fail
	Example string           `json:"example,omitempty"`
	Landed  int64            `json:"landed"`
	Back    int64            `json:"back,omitempty"`    // turned away by hop one once more
	Waiting int64            `json:"waiting,omitempty"` // left, since a turn of the pipeline is not done with them
}

func (in ReplayInput) validate() error {
	if in.Table == "" {
		return temporal.NewNonRetryableApplicationError(
			`input: "table" is missing; example: {"table": "orders", "where": "rule = 'wrong_type'", "repair": "root = this\nroot.amount = this.amount.number()", "dry_run": true}`,
			activities.ErrTypeInput, nil)
	}
	return nil
}

const (
	// replayWaits is how often a replay looks again for rows that a turn is not done with.
	replayWaits = 30
	replayWait  = time.Second
)

// ReplayQuarantine puts quarantined rows through the same path once more: those that a
// condition chooses and that would pass today, after a repair if one is given. The
// others stay. Each row that is taken out lands once, whatever is cut off, and keeps its
// place in the quarantine table with the replay's id beside it.
func ReplayQuarantine(ctx workflow.Context, in ReplayInput) (res ReplayResult, err error) {
	if err := in.validate(); err != nil {
		return res, err
	}
	res.Table, res.ID = in.Table, workflow.GetInfo(ctx).WorkflowExecution.RunID
	res.Rules = map[string]int64{}
	if err := workflow.UpsertTypedSearchAttributes(ctx, AttributeTable.ValueSet(in.Table)); err != nil {
		return res, err
	}
	actx := workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 15 * time.Minute,
		HeartbeatTimeout:    15 * time.Second,
		RetryPolicy:         &temporal.RetryPolicy{InitialInterval: retryMin, MaximumInterval: retryMax},
	})
	before := workflow.Now(ctx).UnixMilli()
	workflow.SetCurrentDetails(ctx, res.markdown("Replaying", in))
	for waits := 0; ; {
		var part activities.ReplayResult
		err := workflow.ExecuteActivity(actx, a.Replay, activities.ReplayInput{
			Table: in.Table, ID: res.ID, Where: in.Where, Repair: in.Repair, Before: before, DryRun: in.DryRun,
		}).Get(ctx, &part)
		if err != nil {
			return res, err
		}
		res.add(part)
		switch {
		case part.More:
		case part.Waiting > 0 && waits < replayWaits:
			waits++
			if err := workflow.Sleep(ctx, replayWait); err != nil {
				return res, err
			}
		default:
			workflow.SetCurrentDetails(ctx, res.markdown("Replayed", in))
			return res, nil
		}
		workflow.SetCurrentDetails(ctx, res.markdown("Replaying", in))
	}
}

// add takes in what one call did. What stays is looked at by each of them.
func (r *ReplayResult) add(p activities.ReplayResult) {
	r.Marked += p.Marked
	r.Landed += p.Landed
	r.Back += p.Back
	r.Kept, r.Rules, r.Example, r.Waiting = p.Kept, p.Rules, p.Example, p.Waiting
	r.Chosen = r.Marked + r.Kept + r.Waiting
}

func (r *ReplayResult) markdown(doing string, in ReplayInput) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s rows of **%s_quarantine**.", doing, in.Table)
	taken := "rows taken out of quarantine"
	if in.DryRun {
		b.WriteString(" A dry run: nothing is changed.")
		taken = "rows that would pass"
	}
	fmt.Fprintf(&b, "\n\n| | |\n|---|---|\n| %s | %d |\n| landed again | %d |\n| back in quarantine | %d |\n| rows that would not pass, and stay | %d |\n| rows that a turn is not done with | %d |\n",
		taken, r.Marked, r.Landed, r.Back, r.Kept, r.Waiting)
	for _, rule := range slices.Sorted(maps.Keys(r.Rules)) {
		fmt.Fprintf(&b, "| stay: %s | %d |\n", rule, r.Rules[rule])
	}
	if r.Example != "" {
		fmt.Fprintf(&b, "\nOne of those that stay: %s\n", oneLine(r.Example))
	}
	return b.String()
}
