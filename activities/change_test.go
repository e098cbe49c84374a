package activities_test

import (
	"context"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemill/tidemill/activities"
	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/internal/problem"
)

// TestSetContracts changes a contract between turns and in the middle of one: the turn at
// hand ends as it began, the next goes by the new contract, and each row is scored once.
func TestSetContracts(t *testing.T) {
	w := newWorld(t)
	w.champion(healthy(t))
	var inTurn, goOn chan struct{}
	k := w.start(contractYAML, func(o *activities.Options) {
		o.Fault = func(point string) {
			if point == "after-scored-put" && inTurn != nil {
				close(inTurn)
				inTurn = nil
				<-goOn
			}
		}
	})
	w.land(row(1, 1, 3), row(2, 2, 9))
	if r := w.turn(k); r.Scored != 2 || r.Contract != parse(t, contractYAML).Version() {
		t.Fatalf("%+v", r)
	}
	owner := w.txn("t_scored", "owner/pipeline/t")

	// The same contract again is none of its business.
	if err := k.SetContracts([]*contract.Table{parse(t, "# a comment\n"+contractYAML)}); err != nil {
		t.Fatal(err)
	}
	w.land(row(3, 3, 3))
	w.turn(k)
	if now := w.txn("t_scored", "owner/pipeline/t"); now != owner {
		t.Errorf("owner %d became %d, though nothing had changed", owner, now)
	}

	// In the middle of a turn: it ends by the contract that it began with.
	w.land(row(4, 4, 3), row(5, 5, 9))
	at := make(chan struct{})
	inTurn, goOn = at, make(chan struct{})
	type ended struct {
		r   activities.TurnResult
		err error
	}
	turn, set := make(chan ended, 1), make(chan error, 1)
	go func() {
		r, err := k.Turn(t.Context(), activities.TurnInput{Table: "t"})
		turn <- ended{r, err}
	}()
	<-at
	go func() { set <- k.SetContracts([]*contract.Table{parse(t, strictYAML)}) }()
	select {
	case <-set:
		t.Error("the contract changed in the middle of a turn")
	default:
	}
	close(goOn)
	if e := <-turn; e.err != nil || e.r.Scored != 2 {
		t.Fatalf("%+v", e)
	}
	if err := <-set; err != nil {
		t.Fatal(err)
	}
	w.landAs(strictYAML, row(6, 6, 3), row(7, 7, 9))
	if r := w.turn(k); r.Scored != 1 || r.Quarantined != 1 || r.Contract != parse(t, strictYAML).Version() {
		t.Errorf("under the new contract: %+v", r)
	}
	if now := w.txn("t_scored", "owner/pipeline/t"); now != owner+1 {
		t.Errorf("owner %d became %d: the new contract does not take the table over", owner, now)
	}
	w.exact(0)

	// Without its contract the table has no turns, and with it they go on.
	if err := k.SetContracts(nil); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Turn(t.Context(), activities.TurnInput{Table: "t"}); activities.Kind(err) != activities.ErrTypeContract {
		t.Errorf("a turn without a contract: %v", err)
	}
	w.landAs(strictYAML, row(8, 8, 9))
	if err := k.SetContracts([]*contract.Table{parse(t, strictYAML)}); err != nil {
		t.Fatal(err)
	}
	if r := w.turn(k); r.Scored != 1 {
		t.Errorf("with its contract again: %+v", r)
	}
	w.exact(0)
}

// TestCheckChange: what the tables and the model cannot follow is told before anything changes.
func TestCheckChange(t *testing.T) {
	w := newWorld(t)
	w.champion(healthy(t))
	k := w.start(contractYAML)
	w.land(row(1, 1, 3))
	w.turn(k)
	version := w.version("t_scored")
	for name, c := range map[string]struct{ yaml, at, says string }{
		"good":             {strictYAML, "", ""},
		"feature's type":   {replace(contractYAML, "x * 2 AS twice", "'a' AS twice"), "tables/t.yaml:12: features", "keeps its type"},
		"no model":         {replace(contractYAML, "m@champion", "m@nosuch"), "tables/t.yaml:14: score.model", "nosuch"},
		"not its input":    {replace(contractYAML, "inputs: [n]", "inputs: [ts]"), "tables/t.yaml:13: score", "ts"},
		"not its output":   {replace(contractYAML, "score: y", "score: z"), "tables/t.yaml:13: score", "z"},
		"SQL that is none": {replace(contractYAML, "x > 0", "xx > 0"), "tables/t.yaml:10: checks[0].expr", "xx"},
	} {
		err := k.CheckChange(t.Context(), parse(t, c.yaml))
		if c.at == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		ps := problem.Of(err)
		if len(ps) != 1 || !strings.HasPrefix(ps[0].Error(), c.at) || !strings.Contains(ps[0].Message, c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if now := w.version("t_scored"); now != version {
		t.Errorf("the scored table was at %d and is at %d", version, now)
	}
}

// TestRehearse counts what would become of rows, and writes nothing.
func TestRehearse(t *testing.T) {
	w := newWorld(t)
	w.champion(healthy(t))
	k := w.start(contractYAML)
	w.land(row(1, 1, 3), row(2, 2, 9), row(3, 3, 2000), row(4, 4, -1), `{"id":5,"x":9}`)
	w.turn(k)
	before := w.version("t_scored")
	table, err := w.landed.Open(context.Background(), "t")
	if err != nil {
		t.Fatal(err)
	}
	var recs []arrow.Record
	for f := range table.Snapshot().Files() {
		rec, err := table.ReadFile(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		defer rec.Release()
		recs = append(recs, rec)
	}
	r, err := k.Rehearse(t.Context(), parse(t, strictYAML), recs)
	if err != nil {
		t.Fatal(err)
	}
	if r.Rows != 5 || r.Scored != 2 || r.Quarantined["positive"] != 2 || r.Quarantined["model_input"] != 1 || r.Warned["small"] != 1 || r.Model != "m@1" || !strings.Contains(r.Examples["positive"], "x > 5") {
		t.Errorf("%+v", r)
	}
	if now := w.version("t_scored"); now != before {
		t.Errorf("the scored table was at %d and is at %d", before, now)
	}
}
