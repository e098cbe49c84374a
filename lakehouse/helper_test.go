package lakehouse

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/lakehouse/objstore"
)

// landed is the schema of most tests: a value, and the source position.
func landed() *arrow.Schema {
	return arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: arrow.BinaryTypes.String},
		{Name: "country", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: batch.ColSource, Type: arrow.BinaryTypes.String},
		{Name: batch.ColOffset, Type: arrow.PrimitiveTypes.Int64},
	}, nil)
}

var countries = []string{"DE", "FR", "US"}

// rows makes a record of the runs' rows. A row's id says its position and its place
// among the rows of one offset.
func rows(mem memory.Allocator, runs ...batch.Run) arrow.Record {
	b := array.NewRecordBuilder(mem, landed())
	defer b.Release()
	for _, r := range runs {
		for i := range r.Rows {
			off, place := r.Offset(i), 0
			if !r.PerRow {
				place = i
			}
			b.Field(0).(*array.StringBuilder).Append(fmt.Sprintf("%s/%d/%d", r.Partition, off, place))
			b.Field(1).(*array.StringBuilder).Append(countries[(int(off)+place)%len(countries)])
			b.Field(2).(*array.StringBuilder).Append(r.Partition)
			b.Field(3).(*array.Int64Builder).Append(off)
		}
	}
	return b.NewRecord()
}

// perRow is the run of offsets first to last.
func perRow(partition string, first, last int64) batch.Run {
	return batch.Run{Partition: partition, First: first, Rows: int(last - first + 1), PerRow: true}
}

func noWait(ctx context.Context, _ int) error { return ctx.Err() }

func mustCreate(t *testing.T, s objstore.Store, o CreateOptions) *Table {
	t.Helper()
	if o.Schema == nil {
		o.Schema = landed()
	}
	tbl, err := Create(t.Context(), s, "tables/t", o, WithWait(noWait))
	if err != nil {
		t.Fatal(err)
	}
	return tbl
}

func mustOpen(t *testing.T, s objstore.Store) *Table {
	t.Helper()
	tbl, err := Open(t.Context(), s, "tables/t", WithWait(noWait))
	if err != nil {
		t.Fatal(err)
	}
	return tbl
}

func mustAppend(t *testing.T, a *Appender, runs ...batch.Run) Appended {
	t.Helper()
	rec := rows(memory.DefaultAllocator, runs...)
	defer rec.Release()
	out, err := a.Append(t.Context(), Append{Record: rec, Runs: runs})
	if err != nil {
		t.Fatal(err)
	}
	if out.Record != nil {
		out.Record.Release()
	}
	return out
}

// ids reads all rows of a table: how often each id is in it.
func ids(t *testing.T, tbl *Table) map[string]int {
	t.Helper()
	out := map[string]int{}
	n := int64(0)
	for f := range tbl.Snapshot().Files() {
		rec, err := tbl.ReadFile(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		if rec.NumRows() != f.Rows {
			t.Errorf("file %s has %d rows, the log says %d", f.Path, rec.NumRows(), f.Rows)
		}
		for i := range int(rec.NumRows()) {
			out[rec.Column(0).(*array.String).Value(i)]++
		}
		n += rec.NumRows()
		rec.Release()
	}
	if tbl.Snapshot().NumRows() != n {
		t.Errorf("the snapshot says %d rows, there are %d", tbl.Snapshot().NumRows(), n)
	}
	return out
}

// wantIDs fails unless each of the offsets' rows is in the table once, and nothing else.
func wantIDs(t *testing.T, tbl *Table, runs ...batch.Run) {
	t.Helper()
	want := map[string]int{}
	for _, r := range runs {
		for i := range r.Rows {
			place := i
			if r.PerRow {
				place = 0
			}
			want[fmt.Sprintf("%s/%d/%d", r.Partition, r.Offset(i), place)] = 1
		}
	}
	got := ids(t, tbl)
	for _, id := range slices.Sorted(maps.Keys(want)) {
		if got[id] != 1 {
			t.Errorf("row %s is %d times in the table", id, got[id])
		}
		delete(got, id)
	}
	for _, id := range slices.Sorted(maps.Keys(got)) {
		t.Errorf("row %s is in the table and should not", id)
	}
}

// txns returns a snapshot's transactions.
func txns(s *Snapshot) map[string]int64 {
	out := map[string]int64{}
	for x := range s.Txns() {
		out[x.AppID] = x.Version
	}
	return out
}

// fate is what happens to a conditional PUT.
type fate int

const (
	stored       fate = iota // and the answer says so
	answerLost               // stored
	requestLost              // not stored
	conflict                 // 409: not stored
	refused                  // 412 for an object that is not there: not stored
	own412                   // stored, and the answer to a repetition of the request arrives
	late                     // the answer says nothing, and it is stored when release is called, if it still can
	interrupted              // stored, but the caller's context ends before the answer
	forbidden                // not stored, for a reason that stays
	forbiddenYet             // stored, says it was refused for a reason that stays
)

var fates = map[fate]string{stored: "stored", answerLost: "answer lost", requestLost: "request lost", conflict: "409", own412: "own 412", late: "late"}

// fateful is a store that decides over commits.
type fateful struct {
	objstore.Store
	mu      sync.Mutex
	put     func(key string) fate  // nil: stored
	get     func(key string) error // nil: read
	other   func(op, key string) error
	calm    atomic.Bool // for get to look at
	pending []func()
	puts    []string // keys of conditional PUTs, in their order
}

var (
	errTimeout   = objstore.Transient(errors.New("timeout"))
	errForbidden = errors.New("forbidden")
)

func (s *fateful) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.puts = append(s.puts, filepath.Base(key))
	f := stored
	if s.put != nil {
		f = s.put(key)
	}
	put := func() error { return s.Store.PutIfAbsent(context.WithoutCancel(ctx), key, data) }
	switch f {
	case answerLost:
		_ = put()
		return errTimeout
	case requestLost:
		return errTimeout
	case conflict:
		return objstore.ErrConflict
	case own412:
		_ = put()
		return put()
	case late:
		data := slices.Clone(data)
		s.pending = append(s.pending, func() { _ = s.Store.PutIfAbsent(context.Background(), key, data) })
		return errTimeout
	case interrupted:
		_ = put()
		return context.Canceled
	case forbidden:
		return errForbidden
	case forbiddenYet:
		_ = put()
		return errForbidden
	}
	return put()
}

// release lets the late requests arrive.
func (s *fateful) release() {
	s.mu.Lock()
	p := s.pending
	s.pending = nil
	s.mu.Unlock()
	for _, f := range p {
		f()
	}
}

func (s *fateful) Get(ctx context.Context, key string) ([]byte, error) {
	if s.get != nil {
		if err := s.get(key); err != nil {
			return nil, err
		}
	}
	return s.Store.Get(ctx, key)
}

func (s *fateful) Put(ctx context.Context, key string, data []byte) error {
	if s.other != nil {
		if err := s.other("put", key); err != nil {
			return err
		}
	}
	return s.Store.Put(ctx, key, data)
}

// one is a fate for the first conditional PUT of a version; all else goes well.
func one(version int64, f fate) func(string) fate {
	done := false
	return func(key string) fate {
		if done || !strings.HasSuffix(key, commitKey(version)) {
			return stored
		}
		done = true
		return f
	}
}

func seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0x7de)) }
