package activities

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/delta"
	"github.com/tidemill/tidemill/lakehouse/quarantine"
)

// MaintainedTables are the tables of a contract, in the order in which they are
// maintained: first those that people query.
func MaintainedTables(table string) []string {
	return []string{table + Suffix, table + quarantine.Suffix, table}
}

// PlanMaintenance says which tables there are to maintain and which steps they need.
func (a *Activities) PlanMaintenance(ctx context.Context, in MaintainInput) (MaintainPlan, error) {
	stop := heartbeats(ctx)
	defer stop()
	a.o.Fault("maintain-plan")
	plan := MaintainPlan{Tables: []PlannedTable{}}
	s, err := a.state(in.Table)
	if err != nil {
		return plan, err
	}
	for _, name := range MaintainedTables(in.Table) {
		if in.Only != "" && in.Only != name {
			continue
		}
		t, err := a.o.Tables.Open(ctx, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var p PlannedTable
		if err == nil {
			p, err = a.planTable(ctx, s, name, t, in)
		}
		if err != nil {
			return plan, mustMend(err)
		}
		plan.Tables = append(plan.Tables, p)
	}
	return plan, nil
}

func (a *Activities) planTable(ctx context.Context, s *state, name string, t *lakehouse.Table, in MaintainInput) (PlannedTable, error) {
	snap, err := t.Refresh(ctx)
	if err != nil {
		return PlannedTable{}, err
	}
	up, err := t.Upkeep(ctx)
	if err != nil {
		return PlannedTable{}, err
	}
	now := a.o.Now()
	p := PlannedTable{Table: name, Size: sizeOf(snap)}
	for _, step := range MaintainSteps() {
		asked := slices.Contains(in.Steps, step)
		if len(in.Steps) > 0 && !asked {
			continue
		}
		do := PlannedStep{Step: step}
		switch column := s.timeColumn(name); step {
		case StepExpire:
			switch {
			case s.contract.Retention() == 0:
				do.Skip = "the contract has no retention"
			case !hasTime(snap, column):
				do.Skip = fmt.Sprintf("the table has no timestamp column %s", column)
			}
		case StepVacuum:
			do.Orphans = in.Orphans || a.o.OrphansEvery > 0 && now.Sub(up.OrphansAt) >= a.o.OrphansEvery
			// Tombstones are read from a checkpoint; that they lie a little longer than they
			// have to costs less than looking all the time.
			if due := up.VacuumedTo.Add(up.Retention + up.Retention/vacuumsPerRetention); !asked && !do.Orphans && !in.DryRun && now.Before(due) {
				do.Skip = "done not long ago"
			}
		case StepCompact, StepCheckpoint, StepClean:
			if in.DryRun {
				do.Skip = "not in a dry run"
			}
		}
		p.Steps = append(p.Steps, do)
	}
	return p, nil
}

// vacuumsPerRetention is how often a table is vacuumed in the time for which it keeps
// files that were taken out of it.
const vacuumsPerRetention = 24

// timeColumn is the column by which rows of one of the contract's tables expire.
func (s *state) timeColumn(name string) string {
	if name == s.name+quarantine.Suffix {
		return quarantinedAt
	}
	return s.contract.EventTime()
}

const quarantinedAt = "quarantined_at"

func hasTime(s *lakehouse.Snapshot, column string) bool {
	at := s.Schema().FieldIndices(column)
	return len(at) == 1 && s.Schema().Field(at[0]).Type.ID() == arrow.TIMESTAMP
}

func sizeOf(s *lakehouse.Snapshot) TableSize {
	return TableSize{Version: s.Version(), Files: int64(s.NumFiles()), Bytes: s.Bytes(), Rows: s.NumRows()}
}

// ExpireRows takes rows out of a table that are older than the contract's retention.
func (a *Activities) ExpireRows(ctx context.Context, in StepInput) (StepResult, error) {
	return a.maintain(ctx, StepExpire, in, func(ctx context.Context, m *maintaining) (Counts, error) {
		keep := m.s.contract.Retention()
		out, err := m.table.Expire(ctx, lakehouse.ExpireOptions{
			MaintainOptions: m.options, Column: m.s.timeColumn(in.Table), Before: a.o.Now().Add(-keep),
			Slack: min(max(keep/20, 10*time.Minute), 24*time.Hour), DryRun: in.DryRun,
		})
		return Counts{RowsExpired: out.Rows, FilesExpired: int64(out.FilesRemoved), FilesRewritten: int64(out.FilesRewritten)}, err
	})
}

// CompactFiles joins a table's small files, sorted by the contract's cluster_by.
func (a *Activities) CompactFiles(ctx context.Context, in StepInput) (StepResult, error) {
	return a.maintain(ctx, StepCompact, in, func(ctx context.Context, m *maintaining) (Counts, error) {
		by := m.s.contract.ClusterBy()
		if in.Table == in.Contract+quarantine.Suffix {
			by = []string{quarantinedAt}
		}
		// A features expression may have dropped a column.
		schema := m.table.Snapshot().Schema()
		by = slices.DeleteFunc(by, func(c string) bool { return !schema.HasField(c) })
		out, err := m.table.Compact(ctx, lakehouse.CompactOptions{MaintainOptions: m.options, ClusterBy: by, MemoryBytes: a.o.MaintainMemory})
		return Counts{FilesJoined: int64(out.FilesIn), FilesMade: int64(out.FilesOut), BytesJoined: out.BytesIn, BytesMade: out.BytesOut}, err
	})
}

// WriteCheckpoint writes the state of a table's log as one object.
func (a *Activities) WriteCheckpoint(ctx context.Context, in StepInput) (StepResult, error) {
	return a.maintain(ctx, StepCheckpoint, in, func(ctx context.Context, m *maintaining) (c Counts, err error) {
		out, err := m.table.Checkpoint(ctx)
		if out.Written {
			c.Checkpoints = 1
		}
		return c, err
	})
}

// CleanLog deletes commits from a table's log that are past its retention.
func (a *Activities) CleanLog(ctx context.Context, in StepInput) (StepResult, error) {
	return a.maintain(ctx, StepClean, in, func(ctx context.Context, m *maintaining) (Counts, error) {
		out, err := m.table.CleanLog(ctx, m.options)
		c := Counts{Versions: int64(out.Commits), OldCheckpoints: int64(out.Checkpoints)}
		if err != nil {
			return c, err
		}
		up, err := m.table.Upkeep(ctx)
		c.LogCommits = up.LogCommits
		return c, err
	})
}

// VacuumFiles deletes files that no version of a table within its retention names.
func (a *Activities) VacuumFiles(ctx context.Context, in StepInput) (StepResult, error) {
	return a.maintain(ctx, StepVacuum, in, func(ctx context.Context, m *maintaining) (Counts, error) {
		out, err := m.table.Vacuum(ctx, lakehouse.VacuumOptions{MaintainOptions: m.options, Orphans: in.Orphans, DryRun: in.DryRun})
		if err != nil { // the next attempt goes over the others once more
			return Counts{Orphans: int64(out.Orphans)}, err
		}
		return Counts{Vacuumed: int64(out.Expired), Orphans: int64(out.Orphans), BytesFreed: out.Bytes}, nil
	})
}

// maintaining is one step that is being taken.
type maintaining struct {
	s       *state
	table   *lakehouse.Table
	options lakehouse.MaintainOptions
}

// maintainer lets one step at a time work in a process: it bounds memory, and what is
// taken from those who land and score.
var maintainer = make(chan struct{}, 1)

// turn waits until no other step works in the process.
func (b *beats) turn(ctx context.Context) error {
	select {
	case maintainer <- struct{}{}:
		return nil
	default:
		b.doing("waiting for another step")
	}
	select {
	case maintainer <- struct{}{}:
		return nil
	case <-ctx.Done():
		return b.cause(ctx, ctx.Err())
	}
}

// maintain takes a step of a table: when it is this one's turn in the process, on the
// newest version, with heartbeats.
func (a *Activities) maintain(ctx context.Context, step string, in StepInput, do func(context.Context, *maintaining) (Counts, error)) (res StepResult, err error) {
	s, err := a.state(in.Contract)
	if err != nil {
		return res, err
	}
	b, ctx := startBeats(ctx)
	defer b.stop()
	if err := b.turn(ctx); err != nil {
		return res, err
	}
	defer func() { <-maintainer }()
	b.doing(step)
	start := a.o.Now()
	m := &maintaining{s: s}
	var done Counts
	if m.table, err = a.o.Tables.Open(ctx, in.Table); err == nil {
		_, err = m.table.Refresh(ctx)
	}
	if err == nil {
		m.options, err = a.maintainOptions(ctx, s, in.Table)
	}
	if err == nil && in.Table == s.name+Suffix && a.o.HoldScored != nil && (step == StepClean || step == StepVacuum) {
		// Sinks read files as they were added, so that others may join them meanwhile.
		m.options.Hold, err = a.o.HoldScored(ctx, s.name, m.table)
	}
	if err == nil {
		m.options.Progress = b.progress
		done, err = do(ctx, m)
	}
	res = StepResult{Counts: b.earlier(), Took: a.o.Now().Sub(start)}
	res.Counts.Add(done)
	if m.table != nil {
		res.Size = sizeOf(m.table.Snapshot())
	}
	if err != nil {
		b.failed(res.Counts)
		err = mustMend(b.cause(ctx, err))
	}
	a.o.Maintained(Maintained{Table: in.Table, Step: step, Result: StepResult{Size: res.Size, Counts: done, Took: res.Took}, Err: err})
	return res, err
}

// maintainOptions say what of a table its followers still need.
//
// Of the landed table that is everything after the pipeline's cursor, and the rows that
// are being recovered. The cursor only grows, and a part is only opened by the commit
// that moves the cursor past it, so what is read here may be old and is still right.
//
// A turn that was cut off between its two commits is taken up with what it had put into
// quarantine, which it finds by the files' tags; joined files have lost them.
func (a *Activities) maintainOptions(ctx context.Context, s *state, name string) (lakehouse.MaintainOptions, error) {
	o := lakehouse.MaintainOptions{Hold: lakehouse.NoHold, Pace: a.pacer.pace, Fault: a.maintainFault}
	if name == s.name+Suffix {
		return o, nil
	}
	scored, err := a.o.Tables.Open(ctx, s.name+Suffix)
	var snap *lakehouse.Snapshot
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return o, fmt.Errorf("scored table: %w", err)
	default:
		if snap, err = scored.Refresh(ctx); err != nil {
			return o, fmt.Errorf("scored table: %w", err)
		}
	}
	cursor := cursorOf(snap, s.appID())
	if name == s.name {
		o.Hold = min(cursor, firstOpenPart(snap)-1)
		return o, nil
	}
	o.Keep = func(f lakehouse.File) bool { return stillNeeded(f, snap, s.appID(), cursor) }
	return o, nil
}

// maintainFault tells the commits of maintenance apart from those of rows that come in.
func (a *Activities) maintainFault(point string) {
	if point == "before-commit" || point == "after-commit" {
		point = "maintain-" + point
	}
	a.o.Fault(point)
}

func cursorOf(scored *lakehouse.Snapshot, app string) int64 {
	if scored == nil {
		return -1
	}
	if v, ok := scored.Txn(app); ok {
		return v
	}
	return -1
}

// firstOpenPart is the first landed version of which rows are being recovered.
func firstOpenPart(scored *lakehouse.Snapshot) int64 {
	first := lakehouse.NoHold
	if scored == nil {
		return first
	}
	for t := range scored.Txns() {
		if p, ok := parsePart(t.AppID); ok && t.Version == partOpen {
			first = min(first, p.Version)
		}
	}
	return first
}

// OpenParts is how many parts of a landed table are being recovered, as its scored table has it.
func OpenParts(scored *lakehouse.Snapshot) (n int) {
	for t := range scored.Txns() {
		if _, ok := parsePart(t.AppID); ok && t.Version == partOpen {
			n++
		}
	}
	return n
}

// stillNeeded says whether hop two may have to find a quarantine file by its tags.
func stillNeeded(f lakehouse.File, scored *lakehouse.Snapshot, app string, cursor int64) bool {
	under, ok := f.Tags[tagTxn]
	if !ok {
		return false // hop one's
	}
	if under != app {
		if scored == nil {
			return true
		}
		done, ok := scored.Txn(under)
		return !ok || done != partDone
	}
	_, last, _ := strings.Cut(f.Tags[tagLanded], "-")
	to, err := strconv.ParseInt(last, 10, 64)
	return err != nil || to > cursor
}

// mustMend marks errors that no repetition mends.
func mustMend(err error) error {
	var damaged *lakehouse.DamagedError
	var unsupported *delta.UnsupportedError
	if errors.As(err, &damaged) || errors.As(err, &unsupported) {
		return Permanent(ErrTypeTable, err)
	}
	return err
}
