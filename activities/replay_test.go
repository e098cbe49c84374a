package activities_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"go.temporal.io/sdk/temporal"

	"github.com/tidemill/tidemill/activities"
	"github.com/tidemill/tidemill/connectors/decode"
	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/quarantine"
)

// replays stands in for hop one's own, which would link all of Benthos: it decodes and
// appends as that does. A mapping is "old>new", text in the row's bytes.
type replays struct {
	w    *world
	yaml string
}

func (r replays) Compile(mapping string) error {
	if mapping != "" && !strings.Contains(mapping, ">") {
		return errors.New("no arrow")
	}
	return nil
}

func (r replays) plan() (*contract.Table, *decode.Plan) {
	c := parse(r.w.t, r.yaml)
	p, err := decode.NewPlan(c.ArrowSchema(), decode.Options{})
	if err != nil {
		panic(err)
	}
	return c, p
}

func (r replays) Repair(_ context.Context, _, mapping string, rows []activities.ReplayRow) (arrow.Record, error) {
	_, p := r.plan()
	d := p.NewDecoder(memory.DefaultAllocator)
	for i := range rows {
		if from, to, ok := strings.Cut(mapping, ">"); ok {
			rows[i].Raw = bytes.ReplaceAll(rows[i].Raw, []byte(from), []byte(to))
		}
		if err := d.Message(rows[i].Raw, decode.Position{Partition: quarantine.ReplaySource, First: int64(i)}); err != nil {
			return nil, err
		}
	}
	rec, _, bad := d.Flush()
	for _, b := range bad {
		rows[b.Offset].Rule, rows[b.Offset].Problem = b.Rule, b.Message
	}
	return rec, nil
}

func (r replays) Land(ctx context.Context, _ string, rows []activities.ReplayRow) (done activities.Landed, err error) {
	_, p := r.plan()
	d := p.NewDecoder(memory.DefaultAllocator)
	for _, row := range rows {
		if err := d.Message(row.Raw, decode.Position{Partition: quarantine.ReplaySource, First: row.Offset}); err != nil {
			return done, err
		}
	}
	rec, runs, _ := d.Flush()
	defer rec.Release()
	table, err := lakehouse.Open(ctx, r.w.store, "t")
	if err != nil {
		return done, err
	}
	app := lakehouse.NewAppender(table, lakehouse.AppenderOptions{})
	out, err := app.Append(ctx, lakehouse.Append{Record: rec, Runs: runs})
	if err != nil {
		return done, err
	}
	if out.Record != nil {
		out.Record.Release()
	}
	return activities.Landed{Landed: out.Rows, Duplicates: out.Duplicates}, app.Close(ctx)
}

func (w *world) replayer(yaml string, change ...func(*activities.Options)) *worker {
	return w.start(yaml, append(change, func(o *activities.Options) { o.Replayer = replays{w, yaml} })...)
}

func (w *world) replay(k *worker, in activities.ReplayInput) activities.ReplayResult {
	w.t.Helper()
	in.Table = "t"
	if in.Before == 0 {
		in.Before = time.Now().Add(time.Hour).UnixMilli()
	}
	res, err := k.Replay(w.t.Context(), in)
	if err != nil {
		w.t.Fatal(err)
	}
	return res
}

// ids are the ids of the rows in the scored table, and of those that are in quarantine now.
func (w *world) ids() (scored, bad []string) {
	w.t.Helper()
	for _, r := range w.read("t_scored") {
		scored = append(scored, r["id"])
	}
	for _, r := range w.read("t" + quarantine.Suffix) {
		if r["replay"] != "(null)" {
			continue
		}
		var v struct{ ID json.Number }
		if err := json.Unmarshal([]byte(r["raw"]), &v); err != nil {
			w.t.Fatal(err)
		}
		bad = append(bad, v.ID.String())
	}
	slices.Sort(scored)
	slices.Sort(bad)
	return scored, bad
}

func (w *world) want(scored, bad string) {
	w.t.Helper()
	s, b := w.ids()
	if got := strings.Join(s, " "); got != scored {
		w.t.Errorf("scored: %s, want %s", got, scored)
	}
	if got := strings.Join(b, " "); got != bad {
		w.t.Errorf("in quarantine: %s, want %s", got, bad)
	}
}

// quarantined is a world with the rows 1 and 4 scored and 2, 3, 5 and 6 in quarantine, in two files.
func quarantined(t *testing.T) (*world, *worker) {
	w := newWorld(t)
	w.champion(healthy(t))
	k := w.replayer(contractYAML)
	w.land(row(1, 10, 1), row(2, 20, -2), row(3, 30, -3))
	w.drain(k)
	w.land(row(4, 40, 4), row(5, 50, -5), row(6, 60, 0))
	w.drain(k)
	w.want("1 4", "2 3 5 6")
	return w, k
}

func TestReplay(t *testing.T) {
	w, k := quarantined(t)
	before := w.version("t" + quarantine.Suffix)
	const fix = `"x":->"x":`
	if res := w.replay(k, activities.ReplayInput{ID: "a", Repair: fix, DryRun: true}); res.Chosen != 4 || res.Marked != 3 || res.Kept != 1 || res.Rules["positive"] != 1 || res.Landed != 0 || !strings.Contains(res.Example, "x = 0") {
		t.Errorf("dry run: %+v", res)
	}
	if w.version("t"+quarantine.Suffix) != before {
		t.Error("a dry run changed the table")
	}
	if res := w.replay(k, activities.ReplayInput{ID: "a"}); res.Marked != 0 || res.Kept != 4 {
		t.Errorf("without a repair: %+v", res)
	}
	if res := w.replay(k, activities.ReplayInput{ID: "b", Repair: fix, Where: "_offset < 3"}); res.Marked != 2 || res.Landed != 2 || res.Kept != 0 {
		t.Errorf("with a condition: %+v", res)
	}
	w.drain(k)
	w.want("1 2 3 4", "5 6")
	if res := w.replay(k, activities.ReplayInput{ID: "b", Repair: fix, Where: "_offset < 3"}); res.Marked != 0 || res.Landed != 0 || res.Again != 2 {
		t.Errorf("again: %+v", res)
	}
	if res := w.replay(k, activities.ReplayInput{ID: "c", Repair: fix}); res.Marked != 1 || res.Landed != 1 || res.Kept != 1 {
		t.Errorf("the rest: %+v", res)
	}
	w.drain(k)
	w.want("1 2 3 4 5", "6")
	var at []string
	for _, r := range w.read("t" + quarantine.Suffix) {
		at = append(at, r["replay"]+r["replay_row"])
	}
	slices.Sort(at)
	if got := strings.Join(at, " "); got != "(null)(null) b0 b1 c2" {
		t.Errorf("marked: %s", got)
	}
	// What the source sends again is in quarantine still, as far as hop one is concerned.
	if res := w.replay(k, activities.ReplayInput{ID: "d", Repair: "0>7", Before: 1}); res.Chosen != 0 {
		t.Errorf("rows that came after the replay's start: %+v", res)
	}
}

func TestReplayInput(t *testing.T) {
	w, k := quarantined(t)
	for _, in := range []activities.ReplayInput{{Repair: "x"}, {Where: "m > 3"}, {Where: "n >"}} {
		in.Table, in.Before = "t", 1
		_, err := k.Replay(w.t.Context(), in)
		if _, final := err.(*temporal.ApplicationError); !final || activities.Kind(err) != activities.ErrTypeInput || !strings.Contains(err.Error(), `input: "`) { //nolint:errorlint // nor does Temporal look inside
			t.Errorf("%+v: %v", in, err)
		}
	}
}

// A replay that is cut off anywhere is taken up by the next attempt, by another worker too:
// every row lands once.
func TestReplayCutOff(t *testing.T) {
	const fix = `"x":->"x":`
	for _, point := range []string{"replay-before-mark", "replay-after-mark", "replay-before-land", "replay-after-land"} {
		for pass := 1; pass <= 2; pass++ {
			t.Run(fmt.Sprint(point, pass), func(t *testing.T) {
				w, _ := quarantined(t)
				left, died := pass, false
				k := w.replayer(contractYAML, func(o *activities.Options) {
					o.Fault = func(p string) {
						if p != point {
							return
						}
						if left--; left == 0 {
							panic(point)
						}
					}
				})
				func() {
					defer func() {
						if p := recover(); p != nil && p != point {
							panic(p)
						} else if p != nil {
							died = true
						}
					}()
					_, _ = k.Replay(w.t.Context(), activities.ReplayInput{Table: "t", ID: "r", Repair: fix, Before: time.Now().Add(time.Hour).UnixMilli()})
				}()
				if !died {
					t.Fatal("was not there")
				}
				// Rows that are joined meanwhile keep their marks.
				q, err := lakehouse.Open(t.Context(), w.store, "t"+quarantine.Suffix)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := q.Compact(t.Context(), lakehouse.CompactOptions{MaintainOptions: lakehouse.MaintainOptions{Hold: lakehouse.NoHold}, MinAge: -1, MinFiles: 2}); err != nil {
					t.Fatal(err)
				}
				next := w.replayer(contractYAML)
				w.replay(next, activities.ReplayInput{ID: "r", Repair: fix})
				w.replay(next, activities.ReplayInput{ID: "r", Repair: fix})
				w.drain(next)
				w.want("1 2 3 4 5", "6")
			})
		}
	}
}
