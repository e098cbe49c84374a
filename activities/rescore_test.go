package activities_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"go.temporal.io/sdk/temporal"

	"github.com/tidemill/tidemill/activities"
	"github.com/tidemill/tidemill/lakehouse"
)

func (w *world) rescore(k *worker, in activities.RescoreInput) activities.RescoreResult {
	w.t.Helper()
	in.Table = "t"
	res, err := k.Rescore(w.t.Context(), in)
	if err != nil {
		w.t.Fatal(err)
	}
	return res
}

// scores are the scores of the rows by their n, with the version of the model.
func (w *world) scores() string {
	w.t.Helper()
	var out []string
	scored, _ := w.exact(0)
	for _, r := range scored {
		out = append(out, fmt.Sprintf("%s:%s@%s", r["n"], r["score"], r["_model_version"]))
	}
	return strings.Join(out, " ")
}

func TestRescore(t *testing.T) {
	w := newWorld(t)
	w.champion(poison(t))
	k := w.start(contractYAML)
	w.land(row(1, 10, 1), row(2, 20, 9))
	w.drain(k)
	w.land(row(3, 30, 2), row(4, 40, -1))
	w.drain(k)
	if res := w.rescore(k, activities.RescoreInput{}); res.Rows != 0 || res.Skipped != 2 || res.Files != 0 {
		t.Errorf("all is up to date: %+v", res)
	}
	w.champion(healthy(t))
	k = w.start(contractYAML)
	if res := w.rescore(k, activities.RescoreInput{DryRun: true}); res.Rows != 3 || res.Version != 2 {
		t.Errorf("dry run: %+v", res)
	}
	if got := w.scores(); got != "10:-10@1 20:-20@1 30:-30@1" {
		t.Errorf("a dry run changed %s", got)
	}
	if res := w.rescore(k, activities.RescoreInput{Where: "n >= 20 + 5 AND x < 5"}); res.Rows != 1 || res.Files != 1 || res.Skipped != 1 {
		t.Errorf("with a condition: %+v", res)
	}
	if got := w.scores(); got != "10:-10@1 20:-20@1 30:30@2" {
		t.Error(got)
	}
	if res := w.rescore(k, activities.RescoreInput{}); res.Rows != 2 || res.Kept != 0 || res.Skipped != 1 || res.Model != "m" {
		t.Errorf("%+v", res)
	}
	if got := w.scores(); got != "10:10@2 20:20@2 30:30@2" {
		t.Error(got)
	}
	if scored, _ := w.exact(0); len(scored) == 3 {
		for _, r := range scored {
			if r["_source"] != "c/f/0" || r["twice"] == "" || r["_landed_version"] == "" {
				t.Errorf("row %v", r)
			}
		}
	}
	before := w.version("t_scored")
	if res := w.rescore(k, activities.RescoreInput{}); res.Rows != 0 || w.version("t_scored") != before {
		t.Errorf("again: %+v", res)
	}
	// A pipeline goes on where it was, and has no new rows.
	if sum := w.drain(w.start(contractYAML)); sum.Rows != 0 {
		t.Errorf("a pipeline took %d rows again", sum.Rows)
	}
}

// Rows that today's contract refuses stay as they were: they are in one table only.
func TestRescoreKeepsWhatIsRefused(t *testing.T) {
	w := newWorld(t)
	w.champion(poison(t))
	k := w.start(contractYAML)
	w.land(row(1, 10, 1), row(2, 20, 9), row(3, 30, 2))
	w.drain(k)
	strict := w.start(strictYAML)
	if res := w.rescore(strict, activities.RescoreInput{}); res.Rows != 1 || res.Kept != 2 || res.Rule != "positive" {
		t.Errorf("%+v", res)
	}
	scored, _ := w.exact(0)
	for i, want := range []string{"(null)", "10", "(null)"} {
		if scored[i]["more"] != want {
			t.Errorf("row %d: more is %s, want %s", i, scored[i]["more"], want)
		}
	}
}

func TestRescoreInput(t *testing.T) {
	w := newWorld(t)
	w.champion(poison(t))
	k := w.start(contractYAML)
	refused := func(in activities.RescoreInput, want string) {
		t.Helper()
		_, err := k.Rescore(t.Context(), in)
		if _, final := err.(*temporal.ApplicationError); !final || activities.Kind(err) != activities.ErrTypeInput || !strings.Contains(err.Error(), want) { //nolint:errorlint // nor does Temporal look inside
			t.Errorf("got %v, want %s", err, want)
		}
	}
	w.land(row(1, 10, 1))
	refused(activities.RescoreInput{Table: "t"}, "t_scored does not exist yet")
	w.drain(k)
	refused(activities.RescoreInput{Table: "t", Where: "m > 3"}, "they are id, n, x, ts, twice")
	refused(activities.RescoreInput{Table: "t", Where: "n >"}, `input: "where"`)
	if _, err := k.Rescore(t.Context(), activities.RescoreInput{Table: "other"}); activities.Kind(err) != activities.ErrTypeContract {
		t.Errorf("got %v", err)
	}
}

// While rows come in, are scored and compacted, each of them stays in one table, and in
// the end all of them have the new score.
func TestRescoreWhileOthersWrite(t *testing.T) {
	w := newWorld(t)
	w.champion(poison(t))
	k := w.start(contractYAML)
	n := int64(0)
	for range 12 {
		w.land(row(n, n, 1), row(n+1, n+1, 1))
		n += 2
		w.drain(k)
	}
	w.champion(healthy(t))
	var wg sync.WaitGroup
	wg.Go(func() {
		again := w.start(contractYAML)
		for range 3 {
			if _, err := again.Rescore(t.Context(), activities.RescoreInput{Table: "t"}); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Go(func() {
		table, err := lakehouse.Open(t.Context(), w.store, "t_scored", noWait)
		if err != nil {
			t.Error(err)
			return
		}
		for range 10 {
			_, err := table.Compact(t.Context(), lakehouse.CompactOptions{MaintainOptions: lakehouse.MaintainOptions{Hold: lakehouse.NoHold}, MinAge: 1, MinFiles: 2})
			var lost *lakehouse.ConflictError // rescoring was faster each time
			if err != nil && !errors.As(err, &lost) {
				t.Error(err)
			}
		}
	})
	k = w.start(contractYAML)
	for range 5 {
		w.land(row(n, n, 1))
		n++
		w.drain(k)
	}
	wg.Wait()
	w.rescore(k, activities.RescoreInput{})
	scored, _ := w.exact(0)
	if len(scored) != int(n) {
		t.Errorf("%d rows of %d", len(scored), n)
	}
	for _, r := range scored {
		if r["score"] != r["n"] {
			t.Errorf("row %s has score %s", r["n"], r["score"])
		}
	}
}
