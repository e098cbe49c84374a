package lakehouse

import (
	"testing"
	"time"
)

// A table tells how far it is maintained.
func TestUpkeep(t *testing.T) {
	k := newKept(t, CreateOptions{})
	k.append(t, 10)
	up, err := k.Upkeep(t.Context())
	if err != nil || up != (Upkeep{LogFirst: 0, LogCommits: 11, Checkpoint: -1, Retention: time.Hour}) {
		t.Errorf("%+v, %v", up, err)
	}
	k.checkpoint(t)
	k.clock.pass(3 * time.Hour)
	k.append(t, 2)
	k.checkpoint(t)
	if _, err := k.CleanLog(t.Context(), MaintainOptions{Hold: NoHold}); err != nil {
		t.Fatal(err)
	}
	k.vacuum(t, all)
	if up, err = k.Upkeep(t.Context()); err != nil || up.LogFirst != 10 || up.LogCommits != 3 || up.Checkpoint != 12 || k.CheckpointVersion() != 12 ||
		!up.VacuumedTo.Equal(k.clock.now().Add(-time.Hour)) || !up.OrphansAt.IsZero() {
		t.Errorf("%+v, %v", up, err)
	}
	orphans := all
	orphans.Orphans, orphans.Hold = true, 11 // a follower has yet to read version 12
	vacuumed := up.VacuumedTo
	k.clock.pass(time.Minute)
	k.vacuum(t, orphans)
	if up, err = k.Upkeep(t.Context()); err != nil || up.OrphansAt.IsZero() || up.VacuumedTo.Before(vacuumed) {
		t.Errorf("%+v, %v", up, err)
	}
}
