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

func (in RecoverBatchInput) validate() error {
	bad := func(format string, args ...any) error {
		return temporal.NewNonRetryableApplicationError(fmt.Sprintf(format, args...)+`; example: {"project": "shop", "table": "orders", "part": {"version": 17, "file": "part-….parquet", "from": 3, "to": 5}}`, activities.ErrTypeInput, nil)
	}
	switch p := in.Part; {
	case in.Table == "":
		return bad(`input: "table" is missing`)
	case p.File == "":
		return bad(`input: "part.file" is missing; the pipeline's id of the part names it`)
	case p.Version < 0 || p.From < 0 || p.To <= p.From:
		return bad(`input: "part" is rows %d to %d of landed version %d, want "from" below "to" and none of them negative`, p.From, p.To, p.Version)
	case in.Attempts < 0:
		return bad(`input: "attempts" is %d, want 1 or more, or 0 for the default`, in.Attempts)
	}
	return nil
}

const (
	defaultAttempts = 5
	recoverMin      = 2 * time.Second
	recoverMax      = 5 * time.Minute
)

// RecoverBatch scores rows that a pipeline could not get through a model
// without killing it. It tries again with growing pauses, since a new model
// version or a machine with more memory may do it, and quarantines what still
// fails at the end. While the model or the contract itself is at fault it waits
// for somebody to mend that, and uses up no attempts.
func RecoverBatch(ctx workflow.Context, in RecoverBatchInput) (res activities.RecoverResult, err error) {
	if err := in.validate(); err != nil {
		return res, err
	}
	if in.Attempts == 0 {
		in.Attempts = defaultAttempts
	}
	if err := workflow.UpsertTypedSearchAttributes(ctx, AttributeTable.ValueSet(in.Table)); err != nil {
		return res, err
	}
	r := &recovery{
		in:     in,
		retry:  workflow.GetSignalChannelWithOptions(ctx, SignalRetry, workflow.SignalChannelOptions{Description: "Try again now."}),
		giveUp: workflow.GetSignalChannelWithOptions(ctx, SignalQuarantine, workflow.SignalChannelOptions{Description: "Quarantine what still fails."}),
	}
	return r.run(ctx)
}

type recovery struct {
	in            RecoverBatchInput
	retry, giveUp workflow.ReceiveChannel
}

func (r *recovery) run(ctx workflow.Context) (res activities.RecoverResult, err error) {
	in := r.in
	actx := workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 10 * time.Minute,
		HeartbeatTimeout:    15 * time.Second,
		// A store that is away is not the rows' fault and does not use up attempts.
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: time.Second, MaximumInterval: 30 * time.Second},
	})
	show := func(format string, args ...any) {
		workflow.SetCurrentDetails(ctx, fmt.Sprintf("Rows %d to %d of landed version %d of **%s**. ", in.Part.From, in.Part.To-1, in.Part.Version, in.Table)+fmt.Sprintf(format, args...))
	}
	pause, last := recoverMin, false
	for attempt := 1; ; {
		if workflow.GetInfo(ctx).GetContinueAsNewSuggested() {
			in.Attempts = max(1, in.Attempts-attempt+1)
			if last {
				in.Attempts = 1
			}
			return res, workflow.NewContinueAsNewError(ctx, RecoverBatch, in)
		}
		last = last || attempt >= in.Attempts || r.giveUp.ReceiveAsync(nil)
		for r.retry.ReceiveAsync(nil) { // answered by this attempt
		}
		show("Attempt %d of %d.", attempt, in.Attempts)
		err = workflow.ExecuteActivity(actx, a.Recover, activities.RecoverInput{Table: in.Table, Part: in.Part, Last: last}).Get(ctx, &res)
		switch activities.Kind(err) {
		case activities.ErrTypePoison:
			show("Attempt %d of %d failed: %s\n\nNext attempt in %s. Signal `%s` to try now, `%s` to quarantine the rows.", attempt, in.Attempts, reason(err), pause, SignalRetry, SignalQuarantine)
			attempt++
		case activities.ErrTypeModel, activities.ErrTypeContract:
			show("Blocked: %s\n\nNext attempt in %s. Mend it and signal `%s` to try now.", reason(err), pause, SignalRetry)
		default:
			return res, err
		}
		if _, err := workflow.AwaitWithTimeout(ctx, pause, func() bool { return r.retry.Len() > 0 || r.giveUp.Len() > 0 }); err != nil {
			return res, err
		}
		pause = min(4*pause, recoverMax)
	}
}
