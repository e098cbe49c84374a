package activities_test

import (
	"context"
	"testing"
	"time"

	"github.com/tidemill/tidemill/activities"
	"github.com/tidemill/tidemill/lakehouse"
)

// What a sink has not sent can be read as it was added, though it was put together long
// ago; what it has sent goes as ever.
func TestMaintainKeepsWhatASinkHasNotSent(t *testing.T) {
	k := newKept(t)
	hold := lakehouse.NoHold
	w := k.worker(contractYAML, func(o *activities.Options) {
		o.HoldScored = func(_ context.Context, table string, scored *lakehouse.Table) (int64, error) {
			if table != "t" || scored.Snapshot().NumFiles() == 0 {
				t.Errorf("asked about %s", table)
			}
			return hold, nil
		}
	})
	for i := range 12 {
		k.batch(0)
		k.turn(w)
		if i == 5 {
			scored, err := lakehouse.Open(t.Context(), k.store, "t_scored")
			if err != nil {
				t.Fatal(err)
			}
			hold = scored.Snapshot().Version()
		}
	}
	k.clock.add(time.Minute)
	if did := k.maintained(w, activities.MaintainInput{}); did["compact t_scored"].Counts.FilesJoined != 12 {
		t.Errorf("%+v", did)
	}
	k.clock.add(25 * time.Hour)
	k.batch(0)
	k.turn(w)
	did := k.maintained(w, activities.MaintainInput{Orphans: true})
	if n := did["vacuum t_scored"].Counts.Vacuumed; n != 6 {
		t.Errorf("%d files are vacuumed, want 6", n)
	}
	scored, err := lakehouse.Open(t.Context(), k.store, "t_scored", k.options()...)
	if err != nil {
		t.Fatal(err)
	}
	changes, err := scored.Changes(t.Context(), hold, scored.Snapshot().Version())
	if err != nil {
		t.Fatal(err)
	}
	rows := int64(0)
	for _, c := range changes {
		for _, f := range c.Adds {
			rec, err := scored.ReadFile(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			rows += rec.NumRows()
			rec.Release()
		}
	}
	if rows != 7 {
		t.Errorf("the sink reads %d rows, want 7", rows)
	}
	// Once it has caught up, nothing is kept for it.
	hold = lakehouse.NoHold
	k.clock.add(25 * time.Hour)
	before := k.objects("t_scored")
	k.maintained(w, activities.MaintainInput{})
	if after := k.objects("t_scored"); after != before-6 {
		t.Errorf("%d files were there, and %d are now, want 6 less", before, after)
	}
	k.exact(0)
}
