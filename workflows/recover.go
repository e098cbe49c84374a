package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/tidemill/tidemill/activities"
)

// Signals with which a person ends the waiting of a recovery.
const (
	SignalRetry      = "retry"      // try again now
	SignalQuarantine = "quarantine" // give up: quarantine what still fails
)

// RecoverID is the workflow id of a part's recovery.
func RecoverID(project, table string, part activities.Part) string {
	return fmt.Sprintf("%s/%s/%s", part.ID(), project, table)
}

// RecoverBatchInput names the rows to recover.
type RecoverBatchInput struct {
	Project string          `json:"project"`
	Table   string          `json:"table"`
	Part    activities.Part `json:"part"`
	// Attempts before what still fails is quarantined; default 5.
	Attempts int `json:"attempts,omitempty"`
}

// RecoverBatch scores rows that a pipeline could not get through a model
// without killing it. It tries again with growing pauses, since a new model
// version or a machine with more memory may do it, and quarantines what still
// fails at the end.
func RecoverBatch(ctx workflow.Context, in RecoverBatchInput) (res activities.RecoverResult, err error) {
	if in.Attempts == 0 {
		in.Attempts = 5
	}
	if err := workflow.UpsertTypedSearchAttributes(ctx, AttributeTable.ValueSet(in.Table)); err != nil {
		return res, err
	}
	retry, giveUp := workflow.GetSignalChannel(ctx, SignalRetry), workflow.GetSignalChannel(ctx, SignalQuarantine)
	actx := workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 10 * time.Minute,
		HeartbeatTimeout:    15 * time.Second,
		// A store that is away is not the rows' fault and does not use up attempts.
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: time.Second, MaximumInterval: 30 * time.Second, NonRetryableErrorTypes: []string{activities.ErrTypePoison}},
	})
	wait := 2 * time.Second
	for attempt := 1; ; attempt++ {
		last := attempt >= in.Attempts || giveUp.ReceiveAsync(nil)
		workflow.SetCurrentDetails(ctx, fmt.Sprintf("Attempt %d of %d at rows %d to %d of landed version %d of **%s**.", attempt, in.Attempts, in.Part.From, in.Part.To-1, in.Part.Version, in.Table))
		err = workflow.ExecuteActivity(actx, a.Recover, activities.RecoverInput{Table: in.Table, Part: in.Part, Last: last}).Get(ctx, &res)
		if activities.Kind(err) != activities.ErrTypePoison {
			return res, err
		}
		workflow.SetCurrentDetails(ctx, fmt.Sprintf("Attempt %d of %d failed: %s\n\nNext attempt in %s. Signal `%s` to try now, `%s` to quarantine the rows.", attempt, in.Attempts, reason(err), wait, SignalRetry, SignalQuarantine))
		s := workflow.NewSelector(ctx)
		tctx, cancel := workflow.WithCancel(ctx)
		s.AddFuture(workflow.NewTimer(tctx, wait), func(workflow.Future) {})
		s.AddReceive(retry, func(c workflow.ReceiveChannel, _ bool) { c.Receive(ctx, nil) })
		s.AddReceive(giveUp, func(c workflow.ReceiveChannel, _ bool) {
			c.Receive(ctx, nil)
			attempt = in.Attempts
		})
		s.Select(ctx)
		cancel()
		if ctx.Err() != nil {
			return res, ctx.Err()
		}
		wait = min(4*wait, 5*time.Minute)
	}
}
