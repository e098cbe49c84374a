package app

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow/array"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/workflows"
)

// scheduled is a mill with the maintenance schedules of its project.
type scheduled struct {
	*mill
	*schedules
}

func newScheduled(t *testing.T) *scheduled {
	t.Helper()
	m := newMill(t)
	return &scheduled{m, &schedules{client: m.client.ScheduleClient(), queue: "q", project: "p", every: time.Hour, log: slog.New(slog.DiscardHandler)}}
}

func (s *scheduled) put(tables ...string) {
	s.t.Helper()
	if err := s.set(s.ctx, tables); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scheduled) handle(table string) client.ScheduleHandle {
	return s.schedules.client.GetHandle(s.ctx, workflows.MaintainID("p", table))
}

func (s *scheduled) describe(table string) *client.ScheduleDescription {
	s.t.Helper()
	d, err := s.handle(table).Describe(s.ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

// removed waits until a schedule is gone: lists of schedules are a moment behind.
func (s *scheduled) removed(table string, keep ...string) {
	s.t.Helper()
	for {
		s.put(keep...)
		_, err := s.handle(table).Describe(s.ctx)
		var gone *serviceerror.NotFound
		if errors.As(err, &gone) {
			return
		}
		if s.ctx.Err() != nil {
			s.t.Fatalf("schedule of %s: %v", table, err)
		}
	}
}

// Schedules follow the project; what a person did to one stays.
func TestSchedules(t *testing.T) {
	s := newScheduled(t)
	s.put("t", "gone")
	d := s.describe("t")
	if i := d.Schedule.Spec.Intervals; len(i) != 1 || i[0].Every != time.Hour || d.Schedule.Policy.Overlap != enums.SCHEDULE_OVERLAP_POLICY_SKIP {
		t.Errorf("%+v, %+v", d.Schedule.Spec, d.Schedule.Policy)
	}
	if err := s.handle("t").Pause(s.ctx, client.SchedulePauseOptions{Note: "an upgrade"}); err != nil {
		t.Fatal(err)
	}
	s.every = 10 * time.Minute
	s.put("t", "gone")
	d = s.describe("t")
	if i := d.Schedule.Spec.Intervals; len(i) != 1 || i[0].Every != 10*time.Minute || !d.Schedule.State.Paused || d.Schedule.State.Note != "an upgrade" {
		t.Errorf("%+v, %+v", d.Schedule.Spec, d.Schedule.State)
	}
	s.removed("gone", "t")
	if !s.describe("t").Schedule.State.Paused {
		t.Error("goes on by itself")
	}
	other := *s.schedules
	other.project = "p2"
	if err := other.set(s.ctx, []string{"t"}); err != nil {
		t.Fatal(err)
	}
	s.every = 0
	s.removed("t", "t")
	if _, err := other.client.GetHandle(s.ctx, workflows.MaintainID("p2", "t")).Describe(s.ctx); err != nil {
		t.Errorf("another project's: %v", err)
	}
}

// While rows come in, the schedule has their tables' files joined; each row stays in
// exactly one of the two tables.
func TestMaintenanceWhileRowsComeIn(t *testing.T) {
	s := newScheduled(t)
	s.every = time.Second
	s.put("t")
	joined := map[string]bool{}
	for len(joined) < 3 {
		s.land()
		s.wake()
		s.scored(s.next / 2)
		for _, name := range []string{"t", "t_scored", "t_quarantine"} {
			l, err := s.tables.Open(s.ctx, name)
			if err != nil {
				t.Fatal(err)
			}
			for f := range l.Snapshot().Files() {
				joined[name] = joined[name] || f.Tags[lakehouse.TagLevel] != ""
			}
			if !joined[name] {
				delete(joined, name)
			}
		}
	}
	// By hand, too, and once at a time.
	run, err := s.mill.client.ExecuteWorkflow(s.ctx, client.StartWorkflowOptions{ID: "by hand", TaskQueue: "q"}, "Maintain",
		workflows.MaintainInput{Project: "p", Table: "t", Only: "t_scored", Orphans: true})
	if err != nil {
		t.Fatal(err)
	}
	var res workflows.MaintainResult
	if err := run.Get(s.ctx, &res); err != nil || res.Skipped == "" && (len(res.Tables) != 1 || res.Tables[0].Table != "t_scored" || len(res.Tables[0].Steps) != 5) {
		t.Errorf("%+v, %v", res, err)
	}
	s.land()
	s.wake()
	s.scored(s.next / 2)
	if n := s.describe("t").Info.NumActions; n < 2 {
		t.Errorf("the schedule has started %d runs", n)
	}
	good, bad := s.offsets("t_scored"), s.offsets("t_quarantine")
	t.Logf("%d rows came in while %d runs were started", s.next, s.describe("t").Info.NumActions)
	for n := range s.next {
		want := &good
		if n%2 == 1 {
			want = &bad
		}
		if int64(len(*want)) <= n/2 || (*want)[n/2] != n {
			t.Fatalf("%d scored, %d in quarantine of %d: row %d is lost or doubled", len(good), len(bad), s.next, n)
		}
	}
	if in := int64(len(good) + len(bad)); in != s.next || int64(len(s.offsets("t"))) != s.next {
		t.Errorf("in %d, scored %d, quarantined %d, landed %d", s.next, len(good), len(bad), len(s.offsets("t")))
	}
}

// offsets are the source offsets of a table's rows, sorted.
func (s *scheduled) offsets(name string) (out []int64) {
	s.t.Helper()
	l, err := lakehouse.Open(s.ctx, s.tables.store, name)
	if err != nil {
		s.t.Fatal(err)
	}
	for f := range l.Snapshot().Files() {
		rec, err := l.ReadFile(s.ctx, f)
		if err != nil {
			s.t.Fatal(err)
		}
		c, ok := rec.Column(rec.Schema().FieldIndices(batch.ColOffset)[0]).(*array.Int64)
		if !ok {
			s.t.Fatal("no offsets")
		}
		out = append(out, c.Int64Values()...)
		rec.Release()
	}
	slices.Sort(out)
	return out
}

// The command line starts a run, tells how it goes, and hands over what failed.
func TestMaintainByHand(t *testing.T) {
	s := newScheduled(t)
	for range 9 {
		s.land()
	}
	s.wake()
	s.scored(9)
	var told []string
	o := MaintainOptions{Table: "t", Wait: true, Told: func(line string) { told = append(told, line) }}
	w := &maintainWatch{client: s.mill.client, told: o.Told, done: map[string]bool{}}
	start := func() {
		t.Helper()
		run, err := s.mill.client.ExecuteWorkflow(s.ctx, client.StartWorkflowOptions{ID: workflows.MaintainID("p", "t"), TaskQueue: "q"}, "Maintain", workflows.MaintainInput{})
		if err != nil {
			t.Fatal(err)
		}
		w.run = run
	}
	start()
	res, err := w.wait(s.ctx)
	if err != nil || len(res.Tables) != 3 || len(told) < 15 || !slices.Contains(told, "expire t: not needed, the contract has no retention") {
		t.Errorf("%+v, %v\n%s", res, err, strings.Join(told, "\n"))
	}
	// The landed table's newest commit is cut short: that is told, and nothing else is done.
	next := s.tables.open["t"].Snapshot().Version() + 1
	if err := s.tables.store.Put(s.ctx, fmt.Sprintf("t/_delta_log/%020d.json", next), []byte("{")); err != nil {
		t.Fatal(err)
	}
	start()
	if _, err := w.wait(s.ctx); err == nil || !strings.Contains(err.Error(), "damaged log: _delta_log/") || !strings.Contains(err.Error(), "put the object back") {
		t.Errorf("%v", err)
	}
}
