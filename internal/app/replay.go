package app

import (
	"context"
	"fmt"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"go.temporal.io/sdk/client"

	"github.com/tidemill/tidemill/activities"
	"github.com/tidemill/tidemill/connectors"
	"github.com/tidemill/tidemill/workflows"
)

// replayer lets activities use hop one, which they do not know.
type replayer struct{ *connectors.Replayer }

func (r replayer) Compile(mapping string) error { return connectors.CompileRepair(mapping) }

func (r replayer) Repair(ctx context.Context, table, mapping string, rows []activities.ReplayRow) (arrow.Record, error) {
	in := replayRows(rows)
	rec, problems, err := r.Replayer.Repair(ctx, table, mapping, in)
	if err != nil {
		return nil, err
	}
	for i := range rows {
		rows[i].Raw, rows[i].Rule, rows[i].Problem = in[i].Raw, problems[i].Rule, problems[i].Message
	}
	return rec, nil
}

func (r replayer) Land(ctx context.Context, table string, rows []activities.ReplayRow) (done activities.Landed, err error) {
	out, err := r.Replayer.Land(ctx, table, replayRows(rows))
	done.Landed, done.Duplicates = out.Landed, out.Duplicates
	for _, n := range out.Quarantined {
		done.Quarantined += n
	}
	return done, err
}

func replayRows(rows []activities.ReplayRow) []connectors.ReplayRow {
	out := make([]connectors.ReplayRow, len(rows))
	for i, row := range rows {
		out[i] = connectors.ReplayRow{Offset: row.Offset, Raw: row.Raw, Meta: row.Meta}
	}
	return out
}

// ReplayOptions say which rows are replayed, and how.
type ReplayOptions struct {
	Table  string // the contract's
	Where  string // SQL condition over the quarantine table's columns
	Repair string // Bloblang mapping over a row's bytes
	DryRun bool
}

// Replayed says what a replay did.
type Replayed = workflows.ReplayResult

// Replay runs the ReplayQuarantine workflow to its end, or follows the one that is running.
func (c *Client) Replay(ctx context.Context, o ReplayOptions) (res Replayed, err error) {
	in := workflows.ReplayInput{Project: c.project.Name(), Table: o.Table, Where: o.Where, Repair: o.Repair, DryRun: o.DryRun}
	if !c.running {
		return res, unavailableError{fmt.Errorf("no worker is running for %s; start `tidemill dev %s` first", c.project.Dir(), c.project.Dir())}
	}
	if _, ok := c.tables.contracts[in.Table]; !ok {
		return res, fmt.Errorf("no contract tables/%s.yaml; replay takes the contract's name, one of %v", in.Table, sortedKeys(c.tables.contracts))
	}
	t, err := dialTemporal(c.ends.Temporal, c.log)
	if err != nil {
		return res, err
	}
	defer t.Close()
	if err := reachTemporal(ctx, t, c.ends.Temporal, 5*time.Second, c.log); err != nil {
		return res, err
	}
	run, err := t.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: workflows.ReplayID(in.Project, in.Table), TaskQueue: c.project.Temporal().TaskQueue,
		StaticSummary: fmt.Sprintf("Puts quarantined rows of **%s** through the same path again.", in.Table),
	}, workflows.ReplayQuarantine, in)
	if err != nil {
		return res, plain(err)
	}
	err = run.Get(ctx, &res)
	return res, plain(err)
}
