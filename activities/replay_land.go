package activities

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/tidemill/tidemill/internal/predicate"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/quarantine"
)

// What goes to Land at once at most.
const (
	landRows  = 5_000
	landBytes = 8 << 20
)

// land lands all rows that are marked with this replay's id. Files are read in the order of
// a snapshot; one that was compacted meanwhile makes it begin anew, without what has landed.
func (r *replaying) land(ctx context.Context) error {
	for {
		snap, err := r.s.quarantine.Refresh(ctx)
		if err != nil {
			return err
		}
		files, _ := snap.Prune(predicate.Compare(predicate.Eq, []string{quarantine.ColReplay}, predicate.String(r.in.ID)))
		moved := false
		for _, f := range files {
			if r.a.o.Now().After(r.deadline) {
				r.res.More = true
				return nil
			}
			err := r.landFile(ctx, f)
			if moved = again(err); moved {
				break
			}
			if err != nil {
				return err
			}
		}
		if !moved {
			return nil
		}
	}
}

func (r *replaying) landFile(ctx context.Context, f lakehouse.File) error {
	rec, err := r.s.quarantine.ReadFile(ctx, f)
	if err != nil {
		return err
	}
	defer rec.Release()
	mine, err := r.a.rowsWhere(ctx, rec, quarantine.ColReplay+" = "+sqlText(r.in.ID), "")
	if err != nil || len(mine) == 0 {
		return err
	}
	at := slices.Sorted(maps.Keys(mine))
	rows, err := replayRows(rec, at)
	if err != nil {
		return err
	}
	offsets, err := column[*array.Int64](rec, quarantine.ColReplayRow)
	if err != nil {
		return err
	}
	for i := range rows {
		rows[i].Offset = offsets.Value(int(at[i]))
	}
	slices.SortFunc(rows, func(a, b ReplayRow) int { return cmp.Compare(a.Offset, b.Offset) })
	for chunk := range chunks(rows) {
		if err := r.landRows(ctx, chunk); err != nil {
			return err
		}
	}
	return nil
}

// chunks cuts rows into what is decoded and landed at once.
func chunks(rows []ReplayRow) iter.Seq[[]ReplayRow] {
	return func(yield func([]ReplayRow) bool) {
		for len(rows) > 0 {
			n, bytes := 0, 0
			for n < len(rows) && n < landRows && (n == 0 || bytes+len(rows[n].Raw) <= landBytes) {
				bytes += len(rows[n].Raw)
				n++
			}
			if !yield(rows[:n]) {
				return
			}
			rows = rows[n:]
		}
	}
}

// landRows repairs rows as they were when they were marked, and lands them. A row that does
// not decode any more, because the contract has changed since, goes through hop one all the
// same, and so back into quarantine under its new position.
func (r *replaying) landRows(ctx context.Context, rows []ReplayRow) error {
	rec, err := r.a.o.Replayer.Repair(ctx, r.s.name, r.in.Repair, rows)
	if err != nil {
		return err
	}
	rec.Release()
	r.a.o.Fault("replay-before-land")
	done, err := r.a.o.Replayer.Land(ctx, r.s.name, rows)
	if err != nil {
		return fmt.Errorf("land replayed rows in %s: %w", r.s.name, err)
	}
	r.a.o.Fault("replay-after-land")
	r.res.Landed += done.Landed
	r.res.Again += done.Duplicates
	r.res.Back += done.Quarantined
	return nil
}
