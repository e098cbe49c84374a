package activities_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/activities"
)

func TestTurn(t *testing.T) {
	w := newWorld(t)
	v := w.champion(poison(t))
	k := w.start(contractYAML)
	if res := w.turn(k); res.From != -1 || res.To != -1 || res.Rows != 0 {
		t.Errorf("before anything has landed: %+v", res)
	}
	w.land(row(1, 10, 1), row(2, 20, -1), `{"id":3,"x":1}`, row(4, 40, 5000))
	w.land(row(5, 50, 1))

	res := w.turn(k)
	if res.From != -1 || res.To != 2 || res.Rows != 5 || res.Scored != 3 || res.Quarantined != 2 || res.Warnings != 1 ||
		res.Model != "m" || res.ModelVersion != 1 || res.Contract != parse(t, contractYAML).Version() || res.BacklogVersions != 0 {
		t.Errorf("%+v", res)
	}
	scored, bad := w.exact(0)
	if len(scored) != 3 {
		t.Fatalf("%d rows scored", len(scored))
	}
	for i, want := range []string{"-10", "-40", "-50"} {
		w.explained(scored[i], parse(t, contractYAML), v)
		if r := scored[i]; r["score"] != want || r["twice"] != fmt.Sprint(map[string]string{"-10": "2", "-40": "10000", "-50": "2"}[want]) {
			t.Errorf("scored row %v", r)
		}
	}
	if len(bad) != 2 {
		t.Fatalf("%d rows in quarantine", len(bad))
	}
	for i, want := range []map[string]string{
		{"class": "check", "rule": "positive", "raw": row(2, 20, -1), "_offset": "1", "landed_row": "1", "model": "(null)"},
		{"class": "score", "rule": "model_input", "column": "n", "raw": `{"id":3,"x":1}`, "_offset": "2", "landed_row": "2", "model": "m", "model_version": "1"},
	} {
		want["_source"], want["landed_version"], want["contract"] = "c/f/0", "1", parse(t, contractYAML).Version()
		for k, s := range want {
			if bad[i][k] != s {
				t.Errorf("quarantined row %d: %s is %q, want %q", i, k, bad[i][k], s)
			}
		}
		if bad[i]["message"] == "" {
			t.Errorf("quarantined row %d has no message", i)
		}
	}
	if len(k.seen) != 1 || k.seen[0].Rows != 3 || k.seen[0].Quarantined["positive"] != 1 || k.seen[0].Quarantined["model_input"] != 1 || k.seen[0].Model != "m@1" || k.seen[0].Versions != 3 {
		t.Errorf("observed %+v", k.seen)
	}

	// A repetition finds nothing to do, in this process and in another.
	before := w.version("t_scored")
	for _, k := range []*worker{k, w.start(contractYAML)} {
		if res := w.turn(k); res.From != 2 || res.To != 2 || res.Rows != 0 {
			t.Errorf("repeated: %+v", res)
		}
	}
	if after := w.version("t_scored"); after != before {
		t.Errorf("a repetition committed: version %d, then %d", before, after)
	}
}

// A worker that stays pays nothing for being the only one: one commit per turn.
func TestOneCommitPerTurn(t *testing.T) {
	w := newWorld(t)
	w.champion(poison(t))
	k := w.start(contractYAML)
	w.land(row(1, 1, 1))
	w.drain(k)
	scored, bad := w.version("t_scored"), w.version("t_quarantine")
	for i := range int64(3) {
		w.land(row(2, 2, 1), row(3, 3, float64(-i)))
		w.drain(k)
	}
	if n, m := w.version("t_scored")-scored, w.version("t_quarantine")-bad; n != 3 || m != 3 {
		t.Errorf("%d scored and %d quarantine commits for three turns", n, m)
	}
	w.exact(0)
}

func TestBacklogIsCut(t *testing.T) {
	w := newWorld(t)
	w.champion(poison(t))
	k := w.start(contractYAML)
	for i := range int64(5) {
		w.land(row(2*i, i, 1), row(2*i+1, i, 1))
	}
	for _, want := range []struct{ from, to, rows, versions, left int64 }{{-1, 2, 4, 3, 6}, {2, 4, 4, 1, 2}, {4, 5, 2, 0, 0}} {
		res, err := k.Turn(t.Context(), activities.TurnInput{Table: "t", MaxRows: 4})
		if err != nil || res.From != want.from || res.To != want.to || res.Rows != want.rows || res.BacklogVersions != want.versions || res.BacklogRows != want.left {
			t.Errorf("%+v, %v; want %+v", res, err, want)
		}
	}
	w.land(row(100, 1, 1), row(101, 1, 1), row(102, 1, 1), row(103, 1, 1), row(104, 1, 1))
	res, err := k.Turn(t.Context(), activities.TurnInput{Table: "t", MaxRows: 1})
	if err != nil || res.Rows != 5 {
		t.Errorf("a version is taken whole: %+v, %v", res, err)
	}
	w.exact(0)

	for i := range int64(4) {
		w.land(row(200+i, i, 1))
	}
	res, err = k.CatchUp(t.Context(), activities.TurnInput{Table: "t", MaxRows: 2})
	if err != nil || res.From != 6 || res.To != 10 || res.Rows != 4 || res.BacklogVersions != 0 {
		t.Errorf("catch up: %+v, %v", res, err)
	}
	w.exact(0)
}

// More landed versions than are looked at in one go.
func TestLongBacklog(t *testing.T) {
	w := newWorld(t)
	w.champion(poison(t))
	const versions = 600
	for i := range int64(versions) {
		w.land(row(i, i, float64(i%7)))
	}
	k := w.start(contractYAML)
	res, err := k.Turn(t.Context(), activities.TurnInput{Table: "t", MaxRows: 10})
	if err != nil || res.To != 10 || res.BacklogVersions != versions-10 || res.BacklogRows < 500 || res.BacklogRows > versions {
		t.Errorf("%+v, %v", res, err)
	}
	if sum := w.drain(k); sum.Rows != versions-10 || sum.To != versions {
		t.Errorf("%+v", sum)
	}
	w.exact(0)
}

// One landed file becomes several pieces that are worked on side by side.
func TestBigFile(t *testing.T) {
	w := newWorld(t)
	w.champion(poison(t))
	const n = 80_000
	var b strings.Builder
	for i := range int64(n) {
		x := 1.0
		if i%1000 == 7 {
			x = -1
		}
		b.WriteString(row(i, i, x))
		b.WriteByte('\n')
	}
	w.landBlock(b.String())
	res := w.turn(w.start(contractYAML))
	if res.Rows != n || res.Quarantined != n/1000 || res.Scored != n-n/1000 {
		t.Errorf("%+v", res)
	}
	_, bad := w.exact(0)
	for _, r := range bad {
		if !strings.Contains(r["raw"], `"x":-1`) || r["landed_row"] != r["_offset"] {
			t.Errorf("the wrong row is in quarantine: %v", r)
			break
		}
	}
}

func TestMissingModel(t *testing.T) {
	w := newWorld(t)
	k := w.start(contractYAML)
	w.land(row(1, 7, 1))
	for range 2 {
		_, err := k.Turn(t.Context(), activities.TurnInput{Table: "t"})
		if activities.Kind(err) != activities.ErrTypeModel || !strings.Contains(err.Error(), "tables/t.yaml:14: score.model: ") || !strings.Contains(err.Error(), "not registered") {
			t.Fatalf("no model: %v", err)
		}
	}
	w.champion(poison(t))
	if res := w.turn(k); res.Scored != 1 {
		t.Errorf("once it is registered: %+v", res)
	}
	_, err := k.Turn(t.Context(), activities.TurnInput{Table: "other"})
	if activities.Kind(err) != activities.ErrTypeContract || !strings.Contains(err.Error(), "tables/other.yaml") {
		t.Errorf("no contract: %v", err)
	}
}

func TestAliasMoves(t *testing.T) {
	w := newWorld(t)
	v1 := w.champion(poison(t))
	c := &clock{now: time.Now()}
	k := w.start(contractYAML, func(o *activities.Options) { o.Now = c.Now })
	w.land(row(1, 10, 1))
	w.turn(k)
	v2 := w.champion(healthy(t))
	w.land(row(2, 20, 1))
	w.turn(k) // what was looked up a moment ago still counts
	c.add(time.Second)
	w.land(row(3, 30, 1))
	if res := w.turn(k); res.ModelVersion != 2 {
		t.Errorf("%+v", res)
	}
	scored, _ := w.exact(0)
	for i, want := range []string{"-10", "-20", "30"} {
		if scored[i]["score"] != want {
			t.Errorf("row %d is scored %s, want %s", i, scored[i]["score"], want)
		}
	}
	w.explained(scored[1], parse(t, contractYAML), v1)
	w.explained(scored[2], parse(t, contractYAML), v2)
}

// An alias that moves to a model that does not fit blocks until it is mended;
// the old version is not used in between as if nothing had happened.
func TestAliasMovesToWrongModel(t *testing.T) {
	w := newWorld(t)
	w.champion(poison(t))
	c := &clock{now: time.Now()}
	k := w.start(contractYAML, func(o *activities.Options) { o.Now = c.Now })
	w.land(row(1, 10, 1))
	w.turn(k)
	data, err := files{}.Read(t.Context(), "linear.onnx")
	if err != nil {
		t.Fatal(err)
	}
	w.champion(data)
	c.add(time.Second)
	w.land(row(2, 20, 1))
	for range 3 {
		_, err := k.Turn(t.Context(), activities.TurnInput{Table: "t"})
		if activities.Kind(err) != activities.ErrTypeModel || !strings.Contains(err.Error(), "tables/t.yaml:13: score") {
			t.Fatalf("a model with other inputs: %v", err)
		}
	}
	w.champion(healthy(t))
	if res := w.turn(k); res.ModelVersion != 3 || res.Scored != 1 {
		t.Errorf("%+v", res)
	}
	w.exact(0)
}

// A contract that computes more gives the scored table another column.
func TestContractGrows(t *testing.T) {
	w := newWorld(t)
	v := w.champion(poison(t))
	w.land(row(1, 10, 9))
	w.drain(w.start(contractYAML))
	grown := replace(strictYAML, "  - {name: ts, type: timestamp}\n", "  - {name: ts, type: timestamp}\n  - {name: note, type: string}\n")
	k := w.start(grown)
	w.land(row(2, 20, 9)) // by a connector that does not know the new column
	w.drain(k)
	w.landAs(grown, `{"id":3,"n":30,"x":9,"note":"hello"}`)
	w.drain(k)
	scored, _ := w.exact(0)
	for i, want := range []string{"(null) (null)", "10 (null)", "10 hello"} {
		if got := scored[i]["more"] + " " + scored[i]["note"]; got != want {
			t.Errorf("row %d has %s, want %s", i, got, want)
		}
	}
	w.explained(scored[0], parse(t, contractYAML), v)
	w.explained(scored[2], parse(t, grown), v)

	clash := replace(contractYAML, "x * 2 AS twice", "'two' AS twice")
	w.land(row(4, 40, 9))
	_, err := w.start(clash).Turn(t.Context(), activities.TurnInput{Table: "t"})
	if activities.Kind(err) != activities.ErrTypeContract || !strings.Contains(err.Error(), "twice") {
		t.Errorf("a column of another type: %v", err)
	}
}
