package lakehouse

import (
	"testing"
	"time"
)

// TestTurns: only the winner of the last version waits, only after a rival, and not for long.
func TestTurns(t *testing.T) {
	at := func(version int64) *Snapshot { return &Snapshot{version: version} }
	var u turns
	u.note(7, true, 10*time.Millisecond)
	if d := u.pause(at(7)); d != 0 {
		t.Errorf("alone, it waits %v", d)
	}
	u.note(8, false, 10*time.Millisecond)
	if d := u.pause(at(8)); d != 0 {
		t.Errorf("after a lost version, it waits %v", d)
	}
	u.note(9, true, 10*time.Millisecond)
	if d := u.pause(at(9)); d < 10*time.Millisecond || d > 20*time.Millisecond {
		t.Errorf("after a version that was won against a rival, it waits %v", d)
	}
	u.note(10, true, time.Minute)
	if d := u.pause(at(10)); d != maxYield {
		t.Errorf("on a slow store, it waits %v", d)
	}
	u.rival = u.rival.Add(-2 * rivalFor)
	if d := u.pause(at(10)); d != 0 {
		t.Errorf("the rival has gone, it waits %v", d)
	}
}
