package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"github.com/tidemill/tidemill/activities"
	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/internal/project"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/workflows"
)

// MaintainSteps are the steps that [Client.Maintain] knows.
func MaintainSteps() []string { return activities.MaintainSteps() }

// MaintainOptions of [Client.Maintain].
type MaintainOptions struct {
	Table   string // a contract's, or one of its three tables
	Only    string
	Steps   []string
	Orphans bool
	DryRun  bool
	Wait    bool              // until it is done
	Told    func(line string) // progress, for people
}

// Maintenance is how a run of the Maintain workflow ended, or with Wait unset, began.
type Maintenance struct {
	Workflow string `json:"workflow"`
	Run      string `json:"run"`
	workflows.MaintainResult
}

// Maintain runs the Maintain workflow. When one is running for the table already, it
// waits for that to end. An error about steps that failed comes with the result.
func (c *Client) Maintain(ctx context.Context, o MaintainOptions) (out Maintenance, err error) {
	if !c.running {
		return out, unavailableError{fmt.Errorf("no worker is running for %s; start `tidemill dev %s` first", c.project.Dir(), c.project.Dir())}
	}
	in := workflows.MaintainInput{Project: c.project.Name(), Table: o.Table, Only: o.Only, Steps: o.Steps, Orphans: o.Orphans, DryRun: o.DryRun}
	if _, ok := c.project.Contract(in.Table); !ok {
		if in.Table, err = c.contractOf(o.Table); err != nil {
			return out, err
		}
		if in.Only == "" {
			in.Only = o.Table
		}
	}
	t, err := dialTemporal(c.ends.Temporal, c.log)
	if err != nil {
		return out, err
	}
	defer t.Close()
	if err := reachTemporal(ctx, t, c.ends.Temporal, 5*time.Second, c.log); err != nil {
		return out, err
	}
	run, err := c.startMaintain(ctx, t, in, o)
	if err != nil {
		return out, plain(err)
	}
	out.Workflow, out.Run, out.Table = run.GetID(), run.GetRunID(), in.Table
	if !o.Wait {
		return out, nil
	}
	w := &maintainWatch{client: t, run: run, told: o.Told, done: map[string]bool{}}
	out.MaintainResult, err = w.wait(ctx)
	return out, err
}

// contractOf returns the contract that one of its tables belongs to.
func (c *Client) contractOf(table string) (string, error) {
	var names []string
	for _, t := range c.project.Contracts() {
		if slices.Contains(activities.MaintainedTables(t.Name()), table) {
			return t.Name(), nil
		}
		names = append(names, t.Name())
	}
	if len(names) == 0 {
		return "", fmt.Errorf("no table %s: the project has no contracts", table)
	}
	return "", fmt.Errorf("no table %s; there are: %s", table, strings.Join(names, ", "))
}

func (c *Client) startMaintain(ctx context.Context, t client.Client, in workflows.MaintainInput, o MaintainOptions) (client.WorkflowRun, error) {
	id := workflows.MaintainID(in.Project, in.Table)
	for {
		run, err := t.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
			ID: id, TaskQueue: c.project.Temporal().TaskQueue, StaticSummary: workflows.MaintainSummary(in.Project, in.Table),
			WorkflowIDReusePolicy:                    enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
			WorkflowIDConflictPolicy:                 enums.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
			WorkflowExecutionErrorWhenAlreadyStarted: true,
		}, "Maintain", in)
		var running *serviceerror.WorkflowExecutionAlreadyStarted
		if !errors.As(err, &running) {
			return run, err
		}
		if !o.Wait {
			return nil, fmt.Errorf("%s is being maintained already, by the workflow %s; with --wait the new run begins when that has ended", in.Table, id)
		}
		o.Told("waiting for the run that is under way")
		if err := t.GetWorkflow(ctx, id, running.RunId).Get(ctx, nil); err != nil && ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

// maintainWatch follows a run.
type maintainWatch struct {
	client client.Client
	run    client.WorkflowRun
	told   func(string)
	done   map[string]bool // steps that were told of
	last   string
}

// watchEvery is how often a run is asked how far it is.
const watchEvery = 500 * time.Millisecond

func (w *maintainWatch) wait(ctx context.Context) (res workflows.MaintainResult, err error) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		err = w.run.Get(ctx, &res)
	}()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			w.look(ctx)
			continue
		case <-ended:
		}
		break
	}
	if ctx.Err() != nil {
		return res, fmt.Errorf("%w; the workflow %s goes on", ctx.Err(), w.run.GetID())
	}
	if ae, ok := errors.AsType[*temporal.ApplicationError](err); ok && ae.Type() == workflows.ErrTypeMaintenance && ae.HasDetails() {
		err = errors.Join(plain(err), ae.Details(&res))
	} else if err != nil {
		err = plain(err)
	}
	w.steps(res)
	return res, err
}

// look tells of what is new. What cannot be asked now is told at the end.
func (w *maintainWatch) look(ctx context.Context) {
	var s workflows.MaintainStatus
	v, err := w.client.QueryWorkflow(ctx, w.run.GetID(), w.run.GetRunID(), workflows.QueryStatus)
	if err != nil || v.Get(&s) != nil {
		return
	}
	w.steps(s.MaintainResult)
	d, err := w.client.DescribeWorkflowExecution(ctx, w.run.GetID(), w.run.GetRunID())
	if err != nil {
		return
	}
	for _, p := range d.GetPendingActivities() {
		line := s.Doing
		var at activities.StepProgress
		if p.GetHeartbeatDetails() != nil && converter.GetDefaultDataConverter().FromPayloads(p.GetHeartbeatDetails(), &at) == nil {
			line += progress(at)
		}
		if p.GetAttempt() > 1 {
			line += fmt.Sprintf(", attempt %d: %s", p.GetAttempt(), p.GetLastFailure().GetMessage())
		}
		if line != w.last {
			w.told(line)
			w.last = line
		}
	}
}

func progress(at activities.StepProgress) string {
	switch {
	case at.Total > 0:
		return fmt.Sprintf(": %d of %d", at.Done, at.Total)
	case at.Done > 0:
		return fmt.Sprintf(": %d", at.Done)
	case strings.HasPrefix(at.Doing, "waiting"):
		return ": " + at.Doing
	}
	return ""
}

func (w *maintainWatch) steps(r workflows.MaintainResult) {
	for _, t := range r.Tables {
		for _, s := range t.Steps {
			name := s.Step + " " + t.Table
			if w.done[name] {
				continue
			}
			w.done[name] = true
			switch {
			case s.Error != "":
				w.told(name + ": failed")
			case s.Skipped != "":
				w.told(name + ": not needed, " + s.Skipped)
			default:
				w.told(fmt.Sprintf("%s: done in %s", name, time.Duration(s.TookMS)*time.Millisecond))
			}
		}
	}
}

// TableDiff is what differs between two versions of a table.
type TableDiff struct {
	Table   string   `json:"table"`
	From    int64    `json:"from"`
	To      int64    `json:"to"`
	Added   Files    `json:"added"`   // in To and not in From
	Removed Files    `json:"removed"` // in From and not in To
	Columns []Column `json:"columns,omitempty"`
	Commits []Commit `json:"commits"` // after From, up to To
}

// Files are a number of files.
type Files struct {
	Files int   `json:"files"`
	Rows  int64 `json:"rows"`
	Bytes int64 `json:"bytes"`
}

func sum(files []lakehouse.File) (s Files) {
	for _, f := range files {
		s.Files, s.Rows, s.Bytes = s.Files+1, s.Rows+max(f.Rows, 0), s.Bytes+f.Size
	}
	return s
}

// Diff compares two versions of a table.
func (c *Client) Diff(ctx context.Context, name string, from, to int64) (TableDiff, error) {
	l, err := c.table(ctx, name)
	if err != nil {
		return TableDiff{}, err
	}
	d, err := l.Diff(ctx, from, to)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("commits between versions %d and %d of table %s were cleaned up meanwhile; choose later ones: %w", from, to, name, err)
	}
	if err != nil {
		return TableDiff{}, err
	}
	out := TableDiff{Table: name, From: from, To: to, Added: sum(d.Added), Removed: sum(d.Removed), Commits: []Commit{}}
	for _, f := range d.Columns {
		out.Columns = append(out.Columns, Column{Name: f.Name, Type: contract.TypeName(f.Type), Nullable: f.Nullable})
	}
	for _, ch := range d.Commits {
		out.Commits = append(out.Commits, commitOf(ch))
	}
	return out, nil
}

// TableRestore is what restoring a table to a version means.
type TableRestore struct {
	Table   string `json:"table"`
	From    int64  `json:"from"`              // the newest version
	To      int64  `json:"to"`                // the version whose rows come back
	Version int64  `json:"version,omitempty"` // the new one; 0 before it is done
	Added   Files  `json:"added"`             // that come back
	Removed Files  `json:"removed"`           // that go
	// Lag says what of a landed table its pipeline has yet to read: it reads that from the
	// log, whether a restore has taken it out or not.
	Lag string `json:"lag,omitempty"`
}

// PlanRestore says what Restore would do.
func (c *Client) PlanRestore(ctx context.Context, name string, version int64) (TableRestore, error) {
	l, err := c.table(ctx, name)
	if err != nil {
		return TableRestore{}, err
	}
	s, err := l.Refresh(ctx)
	if err != nil {
		return TableRestore{}, err
	}
	d, err := l.Diff(ctx, s.Version(), version)
	if err != nil {
		return TableRestore{}, err
	}
	out := TableRestore{Table: name, From: s.Version(), To: version, Added: sum(d.Added), Removed: sum(d.Removed)}
	if _, landed := c.project.Contract(name); landed {
		out.Lag, err = c.lag(ctx, name, s)
	}
	return out, err
}

// lag says what of a landed table its pipeline still has to read, "" for nothing.
func (c *Client) lag(ctx context.Context, name string, landed *lakehouse.Snapshot) (string, error) {
	cursor := int64(-1)
	scored, err := c.tables.Open(ctx, name+activities.Suffix)
	if err == nil {
		var s *lakehouse.Snapshot
		if s, err = scored.Refresh(ctx); err != nil {
			return "", err
		}
		if n := activities.OpenParts(s); n > 0 {
			return fmt.Sprintf("%d parts of it are being recovered", n), nil
		}
		if v, ok := s.Txn(activities.AppID(name)); ok {
			cursor = v
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if n := landed.Version() - cursor; n > 0 {
		return fmt.Sprintf("its pipeline has scored it up to version %d of %d", cursor, landed.Version()), nil
	}
	return "", nil
}

// Restore gives a table the rows of a version again. Without force it refuses to take
// rows out of a landed table that its pipeline has not read.
func (c *Client) Restore(ctx context.Context, plan TableRestore, force bool) (TableRestore, error) {
	now, err := c.PlanRestore(ctx, plan.Table, plan.To)
	if err != nil {
		return plan, err
	}
	if now.Lag != "" && !force {
		return now, fmt.Errorf("table %s is not restored: %s, and what the restore takes out before it is read would be scored all the same; wait until the pipeline has caught up, with the connectors stopped, or give --force", plan.Table, now.Lag)
	}
	l, err := c.table(ctx, plan.Table)
	if err != nil {
		return now, err
	}
	r, err := l.Restore(ctx, plan.To)
	now.Version = r.Version
	return now, errors.Join(err, l.Close(ctx))
}

// TableNames lists the names of a project's contracts, or of all their tables, for completion.
func TableNames(dir string, all bool) []string {
	p, err := project.Load(dir)
	if err != nil {
		return nil
	}
	var out []string
	for _, t := range p.Contracts() {
		if all {
			out = append(out, activities.MaintainedTables(t.Name())...)
		} else {
			out = append(out, t.Name())
		}
	}
	return out
}
