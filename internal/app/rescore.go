package app

import (
	"context"
	"fmt"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/tidemill/tidemill/workflows"
)

// Rescore runs the Rescore workflow to its end, or follows the one that is running.
func (c *Client) Rescore(ctx context.Context, table, where string, dryRun bool) (res workflows.RescoreResult, err error) {
	if !c.running {
		return res, unavailableError{fmt.Errorf("no worker is running for %s; start `tidemill dev %s` first", c.project.Dir(), c.project.Dir())}
	}
	t, err := dialTemporal(c.ends.Temporal, c.log)
	if err != nil {
		return res, err
	}
	defer t.Close()
	if err := reachTemporal(ctx, t, c.ends.Temporal, 5*time.Second, c.log); err != nil {
		return res, err
	}
	in := workflows.RescoreInput{Project: c.project.Name(), Table: table, Where: where, DryRun: dryRun}
	run, err := t.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: workflows.RescoreID(in.Project, in.Table), TaskQueue: c.project.Temporal().TaskQueue,
		StaticSummary: fmt.Sprintf("Scores rows of **%s** again.", in.Table),
	}, workflows.Rescore, in)
	if err != nil {
		return res, plain(err)
	}
	err = run.Get(ctx, &res)
	return res, plain(err)
}
