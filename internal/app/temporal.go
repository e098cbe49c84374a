package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/tidemill/tidemill/activities"
	"github.com/tidemill/tidemill/internal/secret"
	"github.com/tidemill/tidemill/workflows"
)

// Cluster is a Temporal cluster.
type Cluster struct {
	Address, Namespace string
	TLS                bool
	APIKey             secret.String
}

func dialTemporal(c Cluster, log *slog.Logger) (client.Client, error) {
	o := client.Options{HostPort: c.Address, Namespace: c.Namespace, Logger: sdklog.NewStructuredLogger(quiet(log)), FailureConverter: scrubbing{temporal.GetDefaultFailureConverter()}}
	if c.TLS {
		o.ConnectionOptions.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if k := c.APIKey.Reveal(); k != "" {
		o.Credentials = client.NewAPIKeyStaticCredentials(k)
	}
	t, err := client.NewLazyClient(o)
	if err != nil {
		return nil, fmt.Errorf("temporal client: %w", err)
	}
	return t, nil
}

// scrubbing keeps secrets out of what workflows and activities fail with, which their
// histories keep and the UI shows.
type scrubbing struct{ converter.FailureConverter }

// ErrorToFailure implements converter.FailureConverter.
func (s scrubbing) ErrorToFailure(err error) *failurepb.Failure {
	f := s.FailureConverter.ErrorToFailure(err)
	for at := f; at != nil; at = at.Cause {
		at.Message, at.StackTrace = secret.Scrub(at.Message), secret.Scrub(at.StackTrace)
	}
	return f
}

// reachTemporal waits until the cluster answers.
func reachTemporal(ctx context.Context, t client.Client, c Cluster, wait time.Duration, log *slog.Logger) error {
	return reach(ctx, wait, log, "Temporal at "+c.Address, func(ctx context.Context) error {
		_, err := t.CheckHealth(ctx, &client.CheckHealthRequest{})
		return err
	})
}

// stickyTimeout is how long a task waits for the worker that has the workflow
// in memory before any other may take it: the pause after a worker's death.
const stickyTimeout = time.Second

// taskTimeout is how long the server waits for a worker that has begun a step
// of a pipeline before it hands the step to another: the pause after a worker
// died in the middle of a turn. The server's default is 10 s. A turn may take
// longer; the worker says in time that it is still at it.
const taskTimeout = 3 * time.Second

// pollers is how many requests for tasks a worker has open of each kind. With
// the SDK's 2, tasks wait for 0.2 to 0.6 s at the p99, and now and then for 20.
const pollers = 16

// newWorker registers the workflows and one project's activities.
func newWorker(t client.Client, queue string, acts *activities.Activities) worker.Worker {
	w := worker.New(t, queue, worker.Options{
		StickyScheduleToStartTimeout:     stickyTimeout,
		MaxConcurrentWorkflowTaskPollers: pollers,
		MaxConcurrentActivityTaskPollers: pollers,
		WorkerStopTimeout:                10 * time.Second,
		// An activity hears of its cancellation when it sends a heartbeat.
		MaxHeartbeatThrottleInterval: time.Second,
	})
	for name, fn := range map[string]any{
		"Pipeline": workflows.Pipeline, "RegisterModel": workflows.RegisterModel, "RecoverBatch": workflows.RecoverBatch,
		"Rescore": workflows.Rescore, "Maintain": workflows.Maintain, "ReplayQuarantine": workflows.ReplayQuarantine,
	} {
		w.RegisterWorkflowWithOptions(fn, workflow.RegisterOptions{Name: name})
	}
	for name, fn := range map[string]any{
		"Turn": acts.Turn, "CatchUp": acts.CatchUp, "Recover": acts.Recover, "Rescore": acts.Rescore, "Replay": acts.Replay,
		"InspectModel": acts.InspectModel, "GateModel": acts.GateModel, "PublishModel": acts.PublishModel, "MoveAlias": acts.MoveAlias,
		"PlanMaintenance": acts.PlanMaintenance, "ExpireRows": acts.ExpireRows, "CompactFiles": acts.CompactFiles,
		"WriteCheckpoint": acts.WriteCheckpoint, "CleanLog": acts.CleanLog, "VacuumFiles": acts.VacuumFiles,
	} {
		w.RegisterActivityWithOptions(fn, activity.RegisterOptions{Name: name})
	}
	return w
}

// wake starts a table's pipeline where it is not running, and tells it that
// something has landed.
func wake(ctx context.Context, t client.Client, queue, project, table string) error {
	id := workflows.PipelineID(project, table)
	_, err := t.SignalWithStartWorkflow(ctx, id, workflows.SignalLanded, nil, client.StartWorkflowOptions{
		ID: id, TaskQueue: queue, WorkflowTaskTimeout: taskTimeout, StaticSummary: fmt.Sprintf("Checks and scores **%s** of project %s.", table, project),
	}, workflows.Pipeline, workflows.PipelineInput{Project: project, Table: table})
	return err
}

// pipelineStatus asks a pipeline what it is doing.
func pipelineStatus(ctx context.Context, t client.Client, project, table string) (s workflows.Status, err error) {
	v, err := t.QueryWorkflow(ctx, workflows.PipelineID(project, table), "", workflows.QueryStatus)
	if err != nil {
		return s, err
	}
	return s, v.Get(&s)
}

// registerModel runs the RegisterModel workflow to its end.
func registerModel(ctx context.Context, t client.Client, queue, project string, in workflows.RegisterModelInput) (res workflows.RegisterModelResult, err error) {
	run, err := t.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: fmt.Sprintf("register/%s/%s/%d", project, in.Name, time.Now().UnixNano()), TaskQueue: queue,
		StaticSummary: fmt.Sprintf("Registers model **%s** in project %s.", in.Name, project),
	}, workflows.RegisterModel, in)
	if err != nil {
		return res, err
	}
	err = run.Get(ctx, &res)
	return res, plain(err)
}

// plain takes the SDK's wrapping off an error that a person is to read.
func plain(err error) error {
	if err == nil {
		return nil
	}
	if m, ok := workflows.Message(err); ok {
		return errors.New(m)
	}
	var unavailable *serviceerror.Unavailable
	if errors.As(err, &unavailable) {
		return unavailableError{fmt.Errorf("temporal: %w", err)}
	}
	return err
}

// quiet lets warnings through that a person should see; the SDK tells of every
// retried call at info.
func quiet(log *slog.Logger) *slog.Logger { return slog.New(atLeast{log.Handler(), slog.LevelWarn}) }

// atLeast drops records below a level.
type atLeast struct {
	slog.Handler
	level slog.Level
}

func (h atLeast) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= h.level && h.Handler.Enabled(ctx, l)
}
func (h atLeast) WithAttrs(a []slog.Attr) slog.Handler {
	return atLeast{h.Handler.WithAttrs(a), h.level}
}
func (h atLeast) WithGroup(g string) slog.Handler { return atLeast{h.Handler.WithGroup(g), h.level} }
