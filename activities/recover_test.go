package activities_test

import (
	"math"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/activities"
)

// deadly are rows of which the third and fourth kill the model.
func deadly() []string {
	return []string{row(1, 10, 9), row(2, 20, -9), row(3, math.MinInt64, 9), row(4, math.MinInt64, 9), row(5, 50, 9)}
}

// handedOver is a world whose deadly rows have become a part.
func handedOver(t *testing.T) (*world, activities.Part) {
	t.Helper()
	w := newWorld(t)
	w.champion(poison(t))
	w.land(deadly()...)
	res := w.turn(w.start(crashing(contractYAML)))
	if res.Scored != 2 || res.Quarantined != 1 || res.Recovering != 2 || len(res.Recover) != 1 {
		t.Fatalf("%+v", res)
	}
	part := res.Recover[0]
	if part.Version != 1 || part.From != 2 || part.To != 4 || part.File != w.read("t")[0]["file"] {
		t.Fatalf("%+v", part)
	}
	if v := w.txn("t_scored", part.ID()); v != 0 {
		t.Fatalf("the log has the part as %d, not open", v)
	}
	w.exact(2)
	return w, part
}

func TestDeadlyRowsAreHandedOver(t *testing.T) {
	w, part := handedOver(t)
	k := w.start(crashing(contractYAML))
	// Every turn tells of the part until it is done, whatever became of the recovery.
	if res := w.turn(k); res.Rows != 0 || len(res.Recover) != 1 || res.Recover[0] != part {
		t.Errorf("%+v", res)
	}
	in := activities.RecoverInput{Table: "t", Part: part}
	_, err := k.Recover(t.Context(), in)
	if activities.Kind(err) != activities.ErrTypePoison || !strings.Contains(err.Error(), "crash the model") {
		t.Errorf("not the last attempt: %v", err)
	}
	w.exact(2)
	in.Last = true
	res, err := k.Recover(t.Context(), in)
	if err != nil || res.Scored != 0 || res.Quarantined != 2 {
		t.Errorf("last attempt: %+v, %v", res, err)
	}
	_, bad := w.exact(0)
	r := bad[1]
	if r["class"] != "score" || r["rule"] != "crash" || r["raw"] != row(3, math.MinInt64, 9) || r["_offset"] != "2" || r["landed_row"] != "2" || r["model"] != "m" || r["model_version"] != "1" || !strings.Contains(r["message"], "crashes the model") {
		t.Errorf("%v", r)
	}
	if v := w.txn("t_scored", part.ID()); v != 1 {
		t.Errorf("the log has the part as %d, not done", v)
	}
	before := w.version("t_scored")
	if _, err := k.Recover(t.Context(), in); err != nil || w.version("t_scored") != before {
		t.Errorf("once more: %v", err)
	}
	if res := w.turn(k); len(res.Recover) != 0 {
		t.Errorf("still to be recovered: %+v", res.Recover)
	}
}

func TestRecoveredByAnotherModel(t *testing.T) {
	w, part := handedOver(t)
	v := w.champion(healthy(t))
	res, err := w.start(crashing(contractYAML)).Recover(t.Context(), activities.RecoverInput{Table: "t", Part: part})
	if err != nil || res.Scored != 2 || res.Quarantined != 0 {
		t.Errorf("%+v, %v", res, err)
	}
	scored, _ := w.exact(0)
	if scored[1]["score"] != "-9223372036854775808" || scored[1]["_offset"] != "2" {
		t.Errorf("%v", scored[1])
	}
	w.explained(scored[1], parse(t, crashing(contractYAML)), v)
}

// Killed between its two commits, a recovery is finished by the next attempt,
// even when that one would judge the rows otherwise.
func TestRecoveryCutOff(t *testing.T) {
	for _, last := range []bool{true, false} {
		w, part := handedOver(t)
		died := func() (p any) {
			defer func() { p = recover() }()
			k := w.start(crashing(contractYAML), func(o *activities.Options) {
				o.Fault = func(p string) {
					if p == "after-quarantine-commit" {
						panic(p)
					}
				}
			})
			_, _ = k.Recover(t.Context(), activities.RecoverInput{Table: "t", Part: part, Last: true})
			return nil
		}()
		if died != "after-quarantine-commit" {
			t.Fatalf("died of %v", died)
		}
		w.champion(healthy(t))
		res, err := w.start(crashing(contractYAML)).Recover(t.Context(), activities.RecoverInput{Table: "t", Part: part, Last: last})
		if err != nil || res.Quarantined != 2 || w.txn("t_scored", part.ID()) != 1 {
			t.Errorf("%+v, %v", res, err)
		}
		w.exact(0)
	}
}

// A recovery that was given up for dead comes back after another has scored the rows.
func TestZombieRecovery(t *testing.T) {
	w, part := handedOver(t)
	g := newGate("before-commit-scored")
	zombie := w.start(crashing(contractYAML), func(o *activities.Options) { o.Fault = g.fault })
	v2 := make(chan error, 1)
	// The zombie has scored the rows with the healthy model; meanwhile the alias
	// moves back and another worker gives the rows up.
	w.champion(healthy(t))
	go func() {
		_, err := zombie.Recover(t.Context(), activities.RecoverInput{Table: "t", Part: part})
		v2 <- err
	}()
	<-g.reached
	w.champion(poison(t))
	k := w.start(crashing(contractYAML), func(o *activities.Options) {
		o.Fault = func(p string) {
			if p == "after-quarantine-commit" {
				panic(p)
			}
		}
	})
	func() {
		defer func() { _ = recover() }()
		_, _ = k.Recover(t.Context(), activities.RecoverInput{Table: "t", Part: part, Last: true})
	}()
	close(g.open)
	if err := <-v2; err == nil || activities.Kind(err) != "" {
		t.Errorf("the zombie: %v", err)
	}
	if _, err := w.start(crashing(contractYAML)).Recover(t.Context(), activities.RecoverInput{Table: "t", Part: part}); err != nil {
		t.Error(err)
	}
	w.exact(0)
}

func TestRecoverWhatIsNotThere(t *testing.T) {
	w, part := handedOver(t)
	k := w.start(crashing(contractYAML))
	part.To++
	_, err := k.Recover(t.Context(), activities.RecoverInput{Table: "t", Part: part})
	if activities.Kind(err) != activities.ErrTypeInput || !strings.Contains(err.Error(), "knows of no part") {
		t.Errorf("%v", err)
	}
	w.exact(2)
}
