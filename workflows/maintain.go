package workflows

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/tidemill/tidemill/activities"
)

// ErrTypeMaintenance is the type of the error with which Maintain ends when steps have
// failed. Its details are the MaintainResult.
const ErrTypeMaintenance = "Maintenance"

const maintainPrefix = "maintain/"

// MaintainID is the workflow id of a table's maintenance, and the id of its schedule.
func MaintainID(project, table string) string { return maintainPrefix + project + "/" + table }

// MaintainSchedule returns the table that a schedule is for, if it is a project's.
func MaintainSchedule(project, id string) (table string, ok bool) {
	return strings.CutPrefix(id, maintainPrefix+project+"/")
}

// MaintainInput starts the maintenance of a contract's tables.
type MaintainInput struct {
	// Project and Table are taken from the workflow's id, maintain/<project>/<table>, when
	// they are left out.
	Project string   `json:"project,omitempty"`
	Table   string   `json:"table,omitempty"`
	Only    string   `json:"only,omitempty"`    // one of the contract's three tables; all by default
	Steps   []string `json:"steps,omitempty"`   // see activities.MaintainSteps; all by default
	Orphans bool     `json:"orphans,omitempty"` // look for files that nothing names, whenever that was done last
	DryRun  bool     `json:"dry_run,omitempty"` // count, and change nothing
}

// MaintainResult says what was done.
type MaintainResult struct {
	Table  string            `json:"table"`
	DryRun bool              `json:"dry_run,omitempty"`
	Tables []TableMaintained `json:"tables"`
	// Skipped says why nothing was done at all.
	Skipped string `json:"skipped,omitempty"`
}

// TableMaintained says what was done to one table.
type TableMaintained struct {
	Table  string               `json:"table"`
	Before activities.TableSize `json:"before"`
	After  activities.TableSize `json:"after"`
	Counts activities.Counts    `json:"counts"`
	Steps  []StepDone           `json:"steps"`
}

// StepDone is how one step ended.
type StepDone struct {
	Step    string `json:"step"`
	TookMS  int64  `json:"took_ms,omitempty"`
	Skipped string `json:"skipped,omitempty"` // why it was not needed
	Error   string `json:"error,omitempty"`
	Advice  string `json:"advice,omitempty"` // what to do about the error
}

// MaintainStatus answers the status query.
type MaintainStatus struct {
	Doing string `json:"doing"` // "expire t_scored", "done"
	MaintainResult
}

func (in *MaintainInput) complete(id string) {
	rest, ok := strings.CutPrefix(id, maintainPrefix)
	if !ok {
		return
	}
	project, table, ok := strings.Cut(rest, "/")
	if ok && in.Project == "" && in.Table == "" {
		// A schedule adds the time to the ids of what it starts, after a "-"; tables' names have none.
		in.Project = project
		in.Table, _, _ = strings.Cut(table, "-")
	}
}

func (in *MaintainInput) validate() error {
	bad := func(format string, args ...any) error {
		return temporal.NewNonRetryableApplicationError(fmt.Sprintf(format, args...)+`; example: {"project": "shop", "table": "orders"}, or an empty input with the workflow id maintain/shop/orders`, activities.ErrTypeInput, nil)
	}
	tables, steps := activities.MaintainedTables(in.Table), activities.MaintainSteps()
	switch {
	case in.Table == "":
		return bad(`input: "table" is missing; name the contract's table`)
	case in.Project == "":
		return bad(`input: "project" is missing`)
	case in.Only != "" && !slices.Contains(tables, in.Only):
		return bad(`input: "only" is %q, want one of %s`, in.Only, strings.Join(tables, ", "))
	}
	for i, s := range in.Steps {
		if !slices.Contains(steps, s) {
			return bad(`input: "steps[%d]" is %q, want one of %s`, i, s, strings.Join(steps, ", "))
		}
	}
	if in.Orphans && len(in.Steps) > 0 && !slices.Contains(in.Steps, activities.StepVacuum) {
		return bad(`input: "orphans" is part of the step vacuum, which "steps" leaves out`)
	}
	return nil
}

// Maintain keeps a contract's tables in order: it expires rows, joins files, writes
// checkpoints, cleans up logs and deletes files that are not needed any more, one step
// after the other. A step that fails does not keep the others from being taken.
//
// It works under the id MaintainID only, so that there is one at a time for a table;
// under any other id, as a schedule or a person may give, it runs that one as its child.
func Maintain(ctx workflow.Context, in MaintainInput) (res MaintainResult, err error) {
	id := workflow.GetInfo(ctx).WorkflowExecution.ID
	in.complete(id)
	if err := in.validate(); err != nil {
		return res, err
	}
	if err := workflow.UpsertTypedSearchAttributes(ctx, AttributeTable.ValueSet(in.Table)); err != nil {
		return res, err
	}
	if own := MaintainID(in.Project, in.Table); id != own {
		return maintainAsChild(ctx, own, in)
	}
	m := &maintenance{in: in, res: MaintainResult{Table: in.Table, DryRun: in.DryRun, Tables: []TableMaintained{}}, doing: "planning"}
	status := func() (MaintainStatus, error) { return MaintainStatus{Doing: m.doing, MaintainResult: m.res}, nil }
	if err := workflow.SetQueryHandlerWithOptions(ctx, QueryStatus, status, workflow.QueryHandlerOptions{Description: "What is being done and was done."}); err != nil {
		return res, err
	}
	return m.run(ctx)
}

func maintainAsChild(ctx workflow.Context, id string, in MaintainInput) (res MaintainResult, err error) {
	workflow.SetCurrentDetails(ctx, fmt.Sprintf("Done by the workflow `%s`.", id))
	ctx = workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
		WorkflowID: id, ParentClosePolicy: enums.PARENT_CLOSE_POLICY_REQUEST_CANCEL, WaitForCancellation: true,
		WorkflowIDReusePolicy: enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE, StaticSummary: MaintainSummary(in.Project, in.Table),
	})
	err = workflow.ExecuteChildWorkflow(ctx, Maintain, in).Get(ctx, &res)
	if temporal.IsWorkflowExecutionAlreadyStartedError(err) {
		res = MaintainResult{Table: in.Table, Tables: []TableMaintained{}, Skipped: fmt.Sprintf("the table is being maintained already, by the workflow %s", id)}
		workflow.SetCurrentDetails(ctx, "Nothing was done: "+res.Skipped+".")
		return res, nil
	}
	return res, err
}

// MaintainSummary is what lists of workflows show.
func MaintainSummary(project, table string) string {
	return fmt.Sprintf("Keeps the tables of **%s** of project %s in order.", table, project)
}

type maintenance struct {
	in    MaintainInput
	res   MaintainResult
	doing string
}

func (m *maintenance) run(ctx workflow.Context) (MaintainResult, error) {
	// Many attempts, since a worker that restarts uses one up; few minutes, since the
	// next run does what this one could not.
	actx := workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 6 * time.Hour,
		HeartbeatTimeout:    6 * time.Second,
		WaitForCancellation: true,
		RetryPolicy:         &temporal.RetryPolicy{InitialInterval: time.Second, MaximumInterval: 8 * time.Second, MaximumAttempts: 6},
	})
	m.show(ctx)
	var plan activities.MaintainPlan
	pctx := workflow.WithStartToCloseTimeout(actx, 5*time.Minute)
	err := workflow.ExecuteActivity(pctx, a.PlanMaintenance, activities.MaintainInput{
		Table: m.in.Table, Only: m.in.Only, Steps: m.in.Steps, Orphans: m.in.Orphans, DryRun: m.in.DryRun,
	}).Get(ctx, &plan)
	if err != nil {
		return m.res, err
	}
	for _, t := range plan.Tables {
		m.res.Tables = append(m.res.Tables, TableMaintained{Table: t.Table, Before: t.Size, After: t.Size, Steps: []StepDone{}})
	}
	for i, t := range plan.Tables {
		for _, s := range t.Steps {
			if err := m.step(ctx, actx, &m.res.Tables[i], s); err != nil {
				m.doing = "cancelled"
				m.show(ctx)
				return m.res, err
			}
		}
	}
	m.doing = "done"
	if len(plan.Tables) == 0 {
		m.res.Skipped = "there is no table yet"
	}
	m.show(ctx)
	return m.res, m.failure()
}

// step takes one step. It returns an error only when the workflow is to end.
func (m *maintenance) step(ctx, actx workflow.Context, t *TableMaintained, s activities.PlannedStep) error {
	done := StepDone{Step: s.Step, Skipped: s.Skip}
	if s.Skip == "" {
		m.doing = s.Step + " " + t.Table
		m.show(ctx)
		o := workflow.GetActivityOptions(actx)
		o.Summary = m.doing
		sctx := workflow.WithActivityOptions(actx, o)
		var r activities.StepResult
		err := workflow.ExecuteActivity(sctx, stepActivity(s.Step), activities.StepInput{
			Contract: m.in.Table, Table: t.Table, Orphans: s.Orphans, DryRun: m.in.DryRun,
		}).Get(ctx, &r)
		switch {
		case temporal.IsCanceledError(err) || ctx.Err() != nil:
			return errors.Join(err, ctx.Err())
		case err != nil:
			done.Error, done.Advice = reason(err), advice(err)
		default:
			done.TookMS, t.After = r.Took.Milliseconds(), r.Size
			t.Counts.Add(r.Counts)
		}
	}
	t.Steps = append(t.Steps, done)
	return nil
}

func stepActivity(step string) any {
	switch step {
	case activities.StepExpire:
		return a.ExpireRows
	case activities.StepCompact:
		return a.CompactFiles
	case activities.StepCheckpoint:
		return a.WriteCheckpoint
	case activities.StepClean:
		return a.CleanLog
	default:
		return a.VacuumFiles
	}
}

// advice is what a person can do about a step that failed.
func advice(err error) string {
	var heartbeat *temporal.TimeoutError
	switch {
	case activities.Kind(err) == activities.ErrTypeTable:
		return "mend the table as the error says; the next run goes on with it"
	case errors.As(err, &heartbeat):
		return "its worker died or hung; look at the worker's log, the next run tries again"
	default:
		return "the next run tries again; if it keeps failing, look at the store and the worker's log"
	}
}

// failure is the error of a run in which steps failed.
func (m *maintenance) failure() error {
	var failed []string
	steps := 0
	for _, t := range m.res.Tables {
		for _, s := range t.Steps {
			steps++
			if s.Error != "" {
				failed = append(failed, fmt.Sprintf("%s %s: %s; %s", s.Step, t.Table, s.Error, s.Advice))
			}
		}
	}
	if len(failed) == 0 {
		return nil
	}
	text := fmt.Sprintf("%d of %d steps failed, the others are done: %s", len(failed), steps, strings.Join(failed, " | "))
	return temporal.NewApplicationErrorWithOptions(text, ErrTypeMaintenance, temporal.ApplicationErrorOptions{NonRetryable: true, Details: []any{m.res}})
}

// show says for people in the Temporal UI what is being done and was done.
func (m *maintenance) show(ctx workflow.Context) {
	var b strings.Builder
	fmt.Fprintf(&b, "**%s**: %s.", m.in.Table, m.doing)
	if m.in.DryRun {
		b.WriteString(" A dry run: nothing is changed, the counts are of what would be.")
	}
	if m.res.Skipped != "" {
		fmt.Fprintf(&b, " Nothing was done: %s.", m.res.Skipped)
	}
	b.WriteString("\n\n" + m.res.Markdown())
	workflow.SetCurrentDetails(ctx, b.String())
}

// Markdown shows a result as a table, and below it what failed and what to do.
func (r *MaintainResult) Markdown() string {
	if len(r.Tables) == 0 {
		return ""
	}
	var b, failed strings.Builder
	b.WriteString("| table | files | size | rows expired | files joined | versions cleaned | files vacuumed | freed | took | |\n|---|---|---|---|---|---|---|---|---|---|\n")
	for _, t := range r.Tables {
		var took time.Duration
		var steps []string
		for _, s := range t.Steps {
			took += time.Duration(s.TookMS) * time.Millisecond
			mark := "done"
			switch {
			case s.Error != "":
				mark = "**failed**"
				fmt.Fprintf(&failed, "- **%s %s**: %s; %s\n", s.Step, t.Table, oneLine(s.Error), s.Advice)
			case s.Skipped != "":
				mark = "– (" + s.Skipped + ")"
			}
			steps = append(steps, s.Step+" "+mark)
		}
		c := t.Counts
		fmt.Fprintf(&b, "| %s | %d → %d | %s → %s | %d | %d | %d | %d | %s | %s | %s |\n", t.Table, t.Before.Files, t.After.Files,
			size(t.Before.Bytes), size(t.After.Bytes), c.RowsExpired, c.FilesJoined, c.Versions, c.Vacuumed+c.Orphans, size(c.BytesFreed),
			took, strings.Join(steps, ", "))
	}
	if failed.Len() > 0 {
		b.WriteString("\nWhat failed:\n\n" + failed.String())
	}
	return b.String()
}

func oneLine(s string) string { return strings.ReplaceAll(s, "\n", " ") }

// size writes a number of bytes for people.
func size(n int64) string {
	const units = "kMGTP"
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	f, u := float64(n)/1000, 0
	for f >= 1000 && u < len(units)-1 {
		f, u = f/1000, u+1
	}
	return fmt.Sprintf("%.1f %cB", f, units[u])
}
