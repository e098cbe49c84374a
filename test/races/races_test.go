package races

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/objstore"
)

// run is one table with everything going on.
type run struct {
	t      *testing.T
	store  objstore.Store
	ledger ledger

	appends, duplicates, reads, travels, compactions, cleaned, vacuumed, expired, checkpoints, slow, conflicts atomic.Int64
}

func (r *run) open(ctx context.Context) (*lakehouse.Table, error) {
	return lakehouse.Open(ctx, r.store, root, lakehouse.WithLogger(quiet()))
}

// fails says whether an error is one to report: not the end of the test.
func (r *run) fails(ctx context.Context, what string, err error) bool {
	if err == nil || ctx.Err() != nil {
		return false
	}
	r.t.Errorf("%s: %v", what, err)
	return true
}

// appender appends to its own partitions, and now and then delivers again what another
// has, until the context ends. Its appends end even then.
func (r *run) appender(ctx context.Context, me int, rnd *rand.Rand) {
	next := map[int]int64{}
	var a *lakehouse.Appender
	for ctx.Err() == nil {
		if a == nil || rnd.IntN(50) == 0 { // another process takes over
			t, err := r.open(context.WithoutCancel(ctx))
			if r.fails(ctx, "open to append", err) || err != nil {
				return
			}
			a = lakehouse.NewAppender(t, lakehouse.AppenderOptions{})
		}
		p, n := me*10+rnd.IntN(3), 1+rnd.IntN(40)
		if rnd.IntN(20) == 0 {
			p += old
		}
		first := next[p]
		switch rnd.IntN(6) {
		case 0: // delivered again, with other boundaries
			back := int64(rnd.IntN(100))
			first = max(0, first-back)
		case 1: // a gap that a later one fills
			first += int64(rnd.IntN(20))
		}
		rec := record(p, first, n)
		out, err := a.Append(context.WithoutCancel(ctx), lakehouse.Append{
			Record: rec, Runs: []batch.Run{{Partition: source(p), First: first, Rows: n, PerRow: true}},
		})
		rec.Release()
		if err != nil {
			r.t.Errorf("append: %v", err)
			return
		}
		if out.Record != nil {
			out.Record.Release()
		}
		r.ledger.ack(p, first, n)
		r.appends.Add(1)
		r.duplicates.Add(out.Duplicates)
		if first+int64(n) > next[p] && first <= next[p] || rnd.IntN(3) == 0 {
			next[p] = max(next[p], first+int64(n))
		}
	}
}

// reader reads the newest version, and sometimes one before it, again and again.
func (r *run) reader(ctx context.Context, rnd *rand.Rand) {
	var t *lakehouse.Table
	for ctx.Err() == nil {
		var err error
		if t == nil || rnd.IntN(4) == 0 {
			if t, err = r.open(ctx); r.fails(ctx, "open to read", err) || err != nil {
				return
			}
		}
		acked, begun := r.ledger.now(), time.Now()
		s, err := t.Refresh(ctx)
		if r.fails(ctx, "refresh", err) || err != nil {
			return
		}
		if rnd.IntN(3) == 0 {
			r.travel(ctx, t, max(0, s.Version()-int64(rnd.IntN(30))))
			continue
		}
		_, err = check(ctx, t, s, acked)
		if errors.Is(err, fs.ErrNotExist) && time.Since(begun) > retention {
			r.slow.Add(1) // slower than what it reads is kept
			continue
		}
		if r.fails(ctx, "read", err) || err != nil {
			return
		}
		r.reads.Add(1)
	}
}

// travel reads a version that may be cleaned up meanwhile, but is never half there.
func (r *run) travel(ctx context.Context, t *lakehouse.Table, version int64) {
	begun := time.Now()
	s, err := t.At(ctx, version)
	var gone *lakehouse.VersionError
	if errors.As(err, &gone) {
		return
	}
	if err == nil {
		_, err = check(ctx, t, s, nil)
	}
	// Its files may have left the table up to as long before as it is old.
	if errors.Is(err, fs.ErrNotExist) && (s == nil || time.Since(s.Time()) > retention || time.Since(begun) > retention) {
		r.slow.Add(1)
		return
	}
	if !r.fails(ctx, "read an earlier version", err) && err == nil {
		r.travels.Add(1)
	}
}

// maintain does one of the steps of maintenance at a time.
func (r *run) maintain(ctx context.Context, rnd *rand.Rand) {
	for ctx.Err() == nil {
		t, err := r.open(ctx)
		if r.fails(ctx, "open to maintain", err) || err != nil {
			return
		}
		for range 10 {
			if !r.step(ctx, t, rnd) {
				return
			}
		}
	}
}

// lost takes an error for none that says only that another step of maintenance was
// faster, again and again. Here several go on at once, which in a project never do.
func (r *run) lost(err error) error {
	if _, ok := errors.AsType[*lakehouse.ConflictError](err); ok {
		r.conflicts.Add(1)
		return nil
	}
	return err
}

func (r *run) step(ctx context.Context, t *lakehouse.Table, rnd *rand.Rand) bool {
	o := lakehouse.MaintainOptions{Hold: math.MaxInt64}
	switch rnd.IntN(6) {
	case 5:
		x, err := t.Expire(ctx, lakehouse.ExpireOptions{MaintainOptions: o, Column: "ts", Before: expired})
		r.expired.Add(x.Rows)
		return !r.fails(ctx, "expire", r.lost(err))
	case 0:
		c, err := t.Checkpoint(ctx)
		if c.Written {
			r.checkpoints.Add(1)
		}
		return !r.fails(ctx, "checkpoint", err)
	case 1:
		c, err := t.CleanLog(ctx, o)
		r.cleaned.Add(int64(c.Commits))
		return !r.fails(ctx, "clean up", err)
	case 2:
		v, err := t.Vacuum(ctx, lakehouse.VacuumOptions{MaintainOptions: o, Orphans: rnd.IntN(2) == 0})
		r.vacuumed.Add(int64(v.Expired + v.Orphans))
		return !r.fails(ctx, "vacuum", err)
	default:
		c, err := t.Compact(ctx, lakehouse.CompactOptions{
			MaintainOptions: o, ClusterBy: []string{"ts"}, TargetBytes: 1 << (12 + rnd.IntN(8)), MinAge: time.Millisecond, MinFiles: 2,
		})
		r.compactions.Add(int64(c.Groups))
		return !r.fails(ctx, "compact", r.lost(err))
	}
}

func TestEverythingAtOnce(t *testing.T) {
	_, store := startStore(t)
	create(t, store)
	rnd := seeded(t)
	r := &run{t: t, store: store}
	ctx, cancel := context.WithTimeout(t.Context(), length(t))
	defer cancel()
	var wg sync.WaitGroup
	start := func(f func(rnd *rand.Rand)) {
		own := rand.New(rand.NewPCG(rnd.Uint64(), rnd.Uint64()))
		wg.Go(func() { f(own) })
	}
	for i := range 4 {
		start(func(rnd *rand.Rand) { r.appender(ctx, i, rnd) })
	}
	for range 3 {
		start(func(rnd *rand.Rand) { r.reader(ctx, rnd) })
	}
	for range 2 {
		start(func(rnd *rand.Rand) { r.maintain(ctx, rnd) })
	}
	wg.Wait()
	t.Logf("%d appends, %d duplicates dropped, %d reads, %d of earlier versions, %d slower than retention, %d compactions, %d rows expired, %d checkpoints by hand, %d commits cleaned up, %d files vacuumed, %d steps lost to others",
		r.appends.Load(), r.duplicates.Load(), r.reads.Load(), r.travels.Load(), r.slow.Load(), r.compactions.Load(), r.expired.Load(), r.checkpoints.Load(), r.cleaned.Load(), r.vacuumed.Load(), r.conflicts.Load())
	for what, n := range map[string]*atomic.Int64{"append": &r.appends, "duplicate": &r.duplicates, "read": &r.reads, "compaction": &r.compactions, "vacuumed file": &r.vacuumed, "expired row": &r.expired, "cleaned-up commit": &r.cleaned} {
		if n.Load() == 0 && !t.Failed() {
			t.Errorf("not a single %s: the test shows nothing", what)
		}
	}
	r.end(t)
}

// end checks the table as it was left, and that maintenance takes away all that is not in it.
func (r *run) end(t *testing.T) {
	t.Helper()
	tbl, err := r.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := tbl.Snapshot()
	rows, err := check(t.Context(), tbl, s, r.ledger.now())
	if err != nil {
		t.Error(err)
	}
	want := int64(0)
	for _, set := range r.ledger.now() {
		want += set.Len()
	}
	if rows != want {
		t.Errorf("%d rows are in the table, %d were acked", rows, want)
	}
	r.dense(t)
	all := lakehouse.VacuumOptions{MaintainOptions: lakehouse.MaintainOptions{Hold: math.MaxInt64}, Orphans: true}
	deadline := time.Now().Add(3 * retention)
	for range time.Tick(time.Second) { // until what is too young now is old enough
		if _, err := tbl.Vacuum(t.Context(), all); err != nil {
			t.Fatal(err)
		}
		left := r.dataFiles(t)
		if left == tbl.Snapshot().NumFiles() {
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("%d files are left, %d are in the table", left, tbl.Snapshot().NumFiles())
			break
		}
	}
	if _, err := check(t.Context(), tbl, tbl.Snapshot(), r.ledger.now()); err != nil {
		t.Errorf("after the last vacuum: %v", err)
	}
	t.Logf("%d rows in %d files at version %d", rows, s.NumFiles(), s.Version())
}

func (r *run) dataFiles(t *testing.T) int {
	n := 0
	for o, err := range r.store.List(t.Context(), root+"/", "") {
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(o.Key, root+"/_") {
			n++
		}
	}
	return n
}

// dense checks that the log has no gap from its first commit on.
func (r *run) dense(t *testing.T) {
	t.Helper()
	last := ""
	for o, err := range r.store.List(t.Context(), root+"/_delta_log/0", "") {
		if err != nil {
			t.Fatal(err)
		}
		name, ok := strings.CutSuffix(o.Key, ".json")
		if !ok {
			continue
		}
		name = name[strings.LastIndexByte(name, '/')+1:]
		if last != "" && number(t, name) != number(t, last)+1 {
			t.Errorf("the log goes from %s to %s", last, name)
		}
		last = name
	}
}
