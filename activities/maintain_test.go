package activities_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/testsuite"

	"github.com/tidemill/tidemill/activities"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/objstore/faulty"
	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
)

const retainYAML = contractYAML + "retention: 1h\n"

// kept is a world with a clock of its own, in which tables are maintained.
type kept struct {
	*world
	clock *clock
}

func newKept(t *testing.T) *kept {
	t.Helper()
	k := &kept{world: newWorld(t), clock: &clock{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}}
	s, ok := k.store.(*mem.Store)
	if !ok {
		t.Fatal("no store in memory")
	}
	s.Now = k.clock.Now
	k.landed.options = k.options()
	k.champion(poison(t))
	return k
}

// clone is another world in the same state.
func (k *kept) clone() *kept {
	k.t.Helper()
	to := mem.New()
	out := &kept{world: &world{t: k.t, store: to, reg: k.reg, next: k.next}, clock: &clock{now: k.clock.Now()}}
	out.landed = tables{store: to, options: out.options()}
	for o, err := range k.store.List(k.t.Context(), "", "") {
		if err != nil {
			k.t.Fatal(err)
		}
		data, err := k.store.Get(k.t.Context(), o.Key)
		to.Now = func() time.Time { return o.ModTime }
		if err = errors.Join(err, to.Put(k.t.Context(), o.Key, data)); err != nil {
			k.t.Fatal(err)
		}
	}
	to.Now = out.clock.Now
	return out
}

// options of tables: checkpoints are written when a step writes them.
func (k *kept) options() []lakehouse.Option {
	return []lakehouse.Option{lakehouse.WithClock(k.clock.Now), lakehouse.WithoutCheckpoints()}
}

func (k *kept) worker(yaml string, change ...func(*activities.Options)) *worker {
	k.t.Helper()
	return k.start(yaml, append([]func(*activities.Options){func(o *activities.Options) {
		o.Tables, o.Now, o.OrphansEvery = &tables{store: k.store, options: k.options()}, k.clock.Now, 24*time.Hour
	}}, change...)...)
}

// at is a row with a time.
func at(id int64, x float64, when time.Time) string {
	return fmt.Sprintf(`{"id":%d,"n":%d,"x":%v,"ts":%q}`, id, 10*id, x, when.UTC().Format(time.RFC3339Nano))
}

// batch lands a good and a bad row, as old as a duration.
func (k *kept) batch(age time.Duration) {
	k.t.Helper()
	when := k.clock.Now().Add(-age)
	k.land(at(k.next, 9, when), at(k.next+1, -9, when))
}

// maintain plans and takes all steps, and returns what each did by "step table".
func maintain(t *testing.T, w *worker, in activities.MaintainInput) (map[string]activities.StepResult, error) {
	t.Helper()
	in.Table = "t"
	plan, err := w.PlanMaintenance(t.Context(), in)
	if err != nil {
		return nil, err
	}
	out, errs := map[string]activities.StepResult{}, []error(nil)
	for _, table := range plan.Tables {
		for _, s := range table.Steps {
			if s.Skip != "" {
				continue
			}
			res, err := stepOf(w, s.Step)(t.Context(), activities.StepInput{Contract: "t", Table: table.Table, Orphans: s.Orphans, DryRun: in.DryRun})
			errs = append(errs, err)
			out[s.Step+" "+table.Table] = res
		}
	}
	return out, errors.Join(errs...)
}

func stepOf(w *worker, step string) func(context.Context, activities.StepInput) (activities.StepResult, error) {
	switch step {
	case activities.StepExpire:
		return w.ExpireRows
	case activities.StepCompact:
		return w.CompactFiles
	case activities.StepCheckpoint:
		return w.WriteCheckpoint
	case activities.StepClean:
		return w.CleanLog
	default:
		return w.VacuumFiles
	}
}

func (k *kept) maintained(w *worker, in activities.MaintainInput) map[string]activities.StepResult {
	k.t.Helper()
	out, err := maintain(k.t, w, in)
	if err != nil {
		k.t.Fatal(err)
	}
	return out
}

func (k *kept) numFiles(table string) int {
	k.t.Helper()
	l, err := lakehouse.Open(k.t.Context(), k.store, table)
	if err != nil {
		k.t.Fatal(err)
	}
	return l.Snapshot().NumFiles()
}

// objects counts a table's objects, but for those of its log.
func (k *kept) objects(table string) (n int) {
	k.t.Helper()
	for o, err := range k.store.List(k.t.Context(), table+"/", "") {
		if err != nil {
			k.t.Fatal(err)
		}
		if !strings.HasPrefix(o.Key, table+"/_") {
			n++
		}
	}
	return n
}

var three = []string{"t", "t_scored", "t_quarantine"}

// The tables become a few files, and a day later nothing is left of what they were
// before; every row is still in exactly one table, and new ones come in.
func TestMaintainTables(t *testing.T) {
	k := newKept(t)
	w := k.worker(contractYAML)
	for range 12 {
		k.batch(0)
		k.turn(w)
	}
	k.clock.add(time.Minute)
	did := k.maintained(w, activities.MaintainInput{})
	for _, table := range three {
		if n := k.numFiles(table); n != 1 {
			t.Errorf("%d files of %s", n, table)
		}
		c := did["compact "+table]
		if c.Counts.FilesJoined != 12 || c.Counts.FilesMade != 1 || c.Size.Files != 1 || c.Counts.BytesJoined == 0 {
			t.Errorf("%s: %+v", table, c)
		}
		if did["checkpoint "+table].Counts.Checkpoints != 1 || did["clean "+table].Counts.LogCommits < 13 {
			t.Errorf("%s: %+v", table, did)
		}
		if _, expired := did["expire "+table]; expired {
			t.Errorf("%s expires without a retention", table)
		}
	}
	k.exact(0)

	k.clock.add(25 * time.Hour)
	k.batch(0)
	k.turn(w)
	if err := k.store.Put(t.Context(), "t_scored/part-00000-left-over.c000.snappy.parquet", []byte("of a writer that died")); err != nil {
		t.Fatal(err)
	}
	did = k.maintained(w, activities.MaintainInput{})
	for _, table := range three {
		v := did["vacuum "+table].Counts
		if v.Vacuumed != 12 || v.BytesFreed == 0 || k.objects(table) < 2 {
			t.Errorf("%s: %+v, %d objects", table, v, k.objects(table))
		}
		if c := did["clean "+table].Counts; c.Versions == 0 || c.LogCommits > 5 {
			t.Errorf("%s: %+v", table, c)
		}
	}
	if did["vacuum t_scored"].Counts.Orphans != 0 { // it is new by the store's clock
		t.Errorf("%+v", did["vacuum t_scored"])
	}
	k.exact(0)

	// The search for orphans comes round once a day, and when it is asked for.
	for _, c := range []struct {
		after   time.Duration
		in      activities.MaintainInput
		orphans bool
	}{
		{time.Hour, activities.MaintainInput{}, false},
		{0, activities.MaintainInput{Orphans: true}, true},
		{23 * time.Hour, activities.MaintainInput{}, false},
		{time.Hour, activities.MaintainInput{}, true},
	} {
		k.clock.add(c.after)
		plan, err := w.PlanMaintenance(t.Context(), activities.MaintainInput{Table: "t", Only: "t_scored", Orphans: c.in.Orphans})
		if err != nil || len(plan.Tables) != 1 || plan.Tables[0].Steps[4].Orphans != c.orphans {
			t.Errorf("after %v: %+v, %v", c.after, plan, err)
		}
		did = k.maintained(w, c.in)
	}
	if did["vacuum t_scored"].Counts.Orphans != 1 {
		t.Errorf("%+v", did["vacuum t_scored"])
	}
	k.batch(0)
	k.drain(k.worker(contractYAML))
	k.exact(0)
}

// Rows expire by their own time, and only once they are scored.
func TestMaintainExpires(t *testing.T) {
	k := newKept(t)
	w := k.worker(retainYAML)
	k.batch(2 * time.Hour)
	k.batch(0)
	k.turn(w)
	k.batch(2 * time.Hour) // not scored yet
	dry := k.maintained(w, activities.MaintainInput{DryRun: true})
	did := k.maintained(w, activities.MaintainInput{})
	for table, rows := range map[string]int64{"t": 2, "t_scored": 1, "t_quarantine": 0} {
		if d := did["expire "+table]; d.Counts.RowsExpired != rows {
			t.Errorf("%s: %+v", table, d)
		}
		if d := dry["expire "+table].Counts; table == "t" && (d.RowsExpired != rows || d.FilesExpired != 1) {
			t.Errorf("dry run, %s: %+v", table, d)
		}
	}
	k.turn(w)
	k.clock.add(time.Hour + time.Second)
	k.maintained(w, activities.MaintainInput{})
	for _, table := range three {
		if rows := k.read(table); len(rows) != 0 {
			t.Errorf("%s has %v", table, rows)
		}
	}
	// What has expired does not come in again, neither from the source nor from the log.
	if res := k.drain(k.worker(retainYAML)); res.Rows != 0 {
		t.Errorf("%+v", res)
	}
}

// What the pipeline has yet to read stays as it landed.
func TestMaintainHoldsWhatIsNotScored(t *testing.T) {
	k := newKept(t)
	for range 10 {
		k.batch(0)
	}
	k.clock.add(25 * time.Hour)
	w := k.worker(contractYAML)
	if did := k.maintained(w, activities.MaintainInput{Orphans: true}); did["compact t"].Counts != (activities.Counts{}) || k.numFiles("t") != 10 || len(did) != 4 {
		t.Errorf("without a scored table: %+v", did)
	}
	k.turn(w)
	for range 10 {
		k.batch(0)
	}
	k.clock.add(25 * time.Hour)
	did := k.maintained(w, activities.MaintainInput{Orphans: true})
	if c := did["compact t"].Counts; c.FilesJoined != 10 || k.numFiles("t") != 11 {
		t.Errorf("%+v, %d files", c, k.numFiles("t"))
	}
	if c := did["clean t"].Counts; c.LogCommits < 10 {
		t.Errorf("%+v", c)
	}
	if res := k.drain(k.worker(contractYAML)); res.Rows != 20 {
		t.Errorf("%+v", res)
	}
	k.exact(0)
}

// A turn that was cut off between its two commits finds what it had put into quarantine,
// whatever was maintained in between.
func TestMaintainLeavesWhatACutOffTurnNeeds(t *testing.T) {
	k := newKept(t)
	w := k.worker(contractYAML)
	for range 12 {
		k.batch(0)
		k.turn(w)
	}
	k.batch(0)
	died := false
	func() {
		defer func() { died = recover() != nil }()
		dying := k.worker(contractYAML, func(o *activities.Options) {
			o.Fault = func(p string) {
				if p == "after-quarantine-commit" {
					panic(p)
				}
			}
		})
		_, _ = dying.Turn(t.Context(), activities.TurnInput{Table: "t"})
	}()
	if !died {
		t.Fatal("was not there")
	}
	k.clock.add(25 * time.Hour)
	w = k.worker(contractYAML)
	for range 2 {
		k.maintained(w, activities.MaintainInput{Orphans: true})
	}
	if n := k.numFiles("t_quarantine"); n != 2 {
		t.Errorf("%d files in quarantine, want that of the turn and one of the others", n)
	}
	k.drain(k.worker(strictYAML))
	scored, bad := k.exact(0)
	if len(scored) != 13 || len(bad) != 13 {
		t.Errorf("%d scored, %d in quarantine", len(scored), len(bad))
	}
}

// Rows that are being recovered are read from the file that they landed in.
func TestMaintainLeavesOpenParts(t *testing.T) {
	k := newKept(t)
	w := k.worker(crashing(contractYAML))
	k.land(deadly()...)
	part := k.turn(w).Recover[0]
	for range 10 {
		k.batch(0)
		k.turn(w)
	}
	k.clock.add(25 * time.Hour)
	k.maintained(w, activities.MaintainInput{Orphans: true})
	if n := k.numFiles("t"); n != 11 {
		t.Errorf("%d files landed", n)
	}
	if _, err := w.Recover(t.Context(), activities.RecoverInput{Table: "t", Part: part, Last: true}); err != nil {
		t.Fatal(err)
	}
	k.exact(0)
	k.maintained(w, activities.MaintainInput{})
	if n := k.numFiles("t"); n != 1 {
		t.Errorf("%d files landed, of which nothing is being recovered", n)
	}
	k.exact(0)
}

// The store dies at every single write of a maintenance run. Another worker's run makes
// up for it.
func TestMaintainCutOffAnywhere(t *testing.T) {
	seed := newKept(t)
	w := seed.worker(retainYAML)
	for i := range 9 {
		seed.batch(time.Duration(i%2) * 2 * time.Hour)
		seed.turn(w)
	}
	seed.clock.add(time.Minute)
	seed.maintained(w, activities.MaintainInput{Steps: []string{"compact", "checkpoint"}})
	for range 9 {
		seed.batch(0)
		seed.turn(w)
	}
	seed.clock.add(25 * time.Hour)
	seed.batch(0)
	seed.batch(0)
	seed.turn(w)
	calls := int64(0)
	for _, when := range []faulty.When{faulty.Before, faulty.After} {
		for at := int64(1); ; at++ {
			k := seed.clone()
			f := faulty.New(k.store, faulty.Options{CrashAt: at, CrashWhen: when, Match: func(op faulty.Op, _ string) bool {
				return op == faulty.Put || op == faulty.PutIfAbsent || op == faulty.Delete
			}})
			dying := k.worker(retainYAML, func(o *activities.Options) { o.Tables = &tables{store: f, options: k.options()} })
			_, err := maintain(t, dying, activities.MaintainInput{Orphans: true})
			if !f.Crashed() {
				if err != nil {
					t.Error(err)
				}
				calls += at - 1
				break
			}
			k.maintained(k.worker(retainYAML), activities.MaintainInput{Orphans: true})
			k.exact(0)
			for _, table := range three {
				if n := k.objects(table); n > 25 {
					t.Errorf("cut off at %d: %d objects of %s", at, n, table)
				}
			}
		}
	}
	t.Logf("%d places to die at", calls)
	if calls < 60 {
		t.Errorf("only %d places to die at", calls)
	}
}

// stepEnv runs a step as a worker does.
func stepEnv(t *testing.T, w *worker) *testsuite.TestActivityEnvironment {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	e := suite.NewTestActivityEnvironment()
	e.RegisterActivity(w.Activities)
	return e
}

// A retry counts what the attempts before it have done.
func TestMaintainRetryGoesOn(t *testing.T) {
	k := newKept(t)
	w := k.worker(contractYAML)
	for range 12 {
		k.batch(0)
		k.turn(w)
	}
	k.clock.add(25 * time.Hour)
	k.maintained(w, activities.MaintainInput{Steps: []string{"compact", "checkpoint"}})
	k.clock.add(25 * time.Hour)
	var deletes atomic.Int64
	f := faulty.New(k.store, faulty.Options{Hook: func(_ context.Context, c faulty.Call, when faulty.When) error {
		if c.Op == faulty.Delete && when == faulty.Before && deletes.Add(1) > 8 {
			return objstore.ErrConflict
		}
		return nil
	}})
	in := activities.StepInput{Contract: "t", Table: "t"}
	first := stepEnv(t, k.worker(contractYAML, func(o *activities.Options) { o.Tables = &tables{store: f, options: k.options()} }))
	var last activities.StepProgress
	first.SetOnActivityHeartbeatListener(func(_ *activity.Info, details converter.EncodedValues) {
		if err := details.Get(&last); err != nil {
			t.Error(err)
		}
	})
	if _, err := first.ExecuteActivity("VacuumFiles", in); err == nil || last.Doing != "vacuum" || last.Done != 8 || last.Total != 12 {
		t.Fatalf("%+v, %v", last, err)
	}
	last.Earlier.RowsExpired = 7 // of no attempt at all, so that it can be told apart
	second := stepEnv(t, w)
	second.SetHeartbeatDetails(last)
	v, err := second.ExecuteActivity("VacuumFiles", in)
	var res activities.StepResult
	if err == nil {
		err = v.Get(&res)
	}
	if err != nil || res.Counts.RowsExpired != 7 || res.Counts.Vacuumed != 12 || k.objects("t") != 1 {
		t.Errorf("%+v, %v, %d objects", res, err, k.objects("t"))
	}
}

// A step that hangs in the store ends as soon as its worker stops or it is cancelled, and
// the next one in the process waits for it.
func TestMaintainEndsPromptly(t *testing.T) {
	k := newKept(t)
	w := k.worker(contractYAML)
	k.batch(0)
	k.turn(w)
	begun := make(chan struct{}, 1)
	f := faulty.New(k.store, faulty.Options{Hook: func(ctx context.Context, c faulty.Call, when faulty.When) error {
		if c.Op != faulty.Put || when != faulty.Before {
			return nil
		}
		begun <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}})
	hanging := k.worker(contractYAML, func(o *activities.Options) { o.Tables = &tables{store: f, options: k.options()} })
	in := activities.StepInput{Contract: "t", Table: "t"}

	stop, ended := make(chan struct{}), make(chan error)
	e := stepEnv(t, hanging)
	e.SetWorkerStopChannel(stop)
	go func() {
		_, err := e.ExecuteActivity("WriteCheckpoint", in)
		ended <- err
	}()
	<-begun
	waiting, other := make(chan struct{}), stepEnv(t, w)
	other.SetOnActivityHeartbeatListener(func(_ *activity.Info, details converter.EncodedValues) {
		var at activities.StepProgress
		if err := details.Get(&at); err != nil {
			t.Error(err)
		}
		if at.Doing == "waiting for another step" {
			close(waiting)
		}
	})
	otherEnded := make(chan error)
	go func() {
		_, err := other.ExecuteActivity("WriteCheckpoint", in)
		otherEnded <- err
	}()
	<-waiting
	close(stop)
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "the worker is stopping") {
		t.Errorf("stopped: %v", err)
	}
	if err := <-otherEnded; err != nil {
		t.Errorf("the next: %v", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	k.batch(0)
	go func() {
		_, err := hanging.WriteCheckpoint(ctx, in)
		ended <- err
	}()
	<-begun
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// A table that must be mended is no reason to try again and again.
func TestMaintainDamagedTable(t *testing.T) {
	k := newKept(t)
	w := k.worker(contractYAML)
	k.batch(0)
	k.turn(w)
	if err := k.store.Put(t.Context(), "t/_delta_log/00000000000000000002.json", []byte("{")); err != nil {
		t.Fatal(err)
	}
	_, err := k.worker(contractYAML).PlanMaintenance(t.Context(), activities.MaintainInput{Table: "t"})
	if activities.Kind(err) != activities.ErrTypeTable || !strings.Contains(err.Error(), "table t: ") || !strings.Contains(err.Error(), "put the object back") {
		t.Errorf("%v", err)
	}
	if _, err := w.PlanMaintenance(t.Context(), activities.MaintainInput{Table: "u"}); activities.Kind(err) != activities.ErrTypeContract {
		t.Errorf("no contract: %v", err)
	}
}
