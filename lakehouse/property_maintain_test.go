package lakehouse

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/lakehouse/delta"
	"github.com/tidemill/tidemill/lakehouse/objstore"
)

// retention is that of the tables in scenarios; slack is by how much the processes'
// clocks may make it shorter or longer.
const (
	retention = time.Hour
	slack     = 5 * time.Minute
)

// lived is the schema of tables in scenarios. A row's ts is its offset, in minutes; rows
// of plain commits and of messages with keys have none.
func lived() *arrow.Schema {
	ts := arrow.Field{Name: "ts", Type: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}, Nullable: true}
	return arrow.NewSchema(append(landed().Fields(), ts), nil)
}

func minute(off int64) time.Time {
	return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(off) * time.Minute)
}

// livedRows are rows with their ts.
func livedRows(mem memory.Allocator, runs []batch.Run) arrow.Record {
	rec := rows(mem, runs...)
	defer rec.Release()
	b := array.NewTimestampBuilder(mem, lived().Field(4).Type.(*arrow.TimestampType))
	defer b.Release()
	for _, r := range runs {
		for i := range r.Rows {
			if hasTime(r.Partition) {
				b.Append(arrow.Timestamp(minute(r.Offset(i)).UnixMicro()))
			} else {
				b.AppendNull()
			}
		}
	}
	ts := b.NewArray()
	defer ts.Release()
	return array.NewRecord(lived(), append(slices.Clone(rec.Columns()), ts), rec.NumRows())
}

func hasTime(part string) bool {
	return !strings.HasPrefix(part, "commit/") && !strings.HasPrefix(part, "#")
}

// offsetOf reads a row's id.
func offsetOf(id string) (part string, off int64) {
	f := strings.Split(id, "/")
	off, _ = strconv.ParseInt(f[len(f)-2], 10, 64)
	return strings.Join(f[:len(f)-2], "/"), off
}

// maintain does a step of maintenance.
func (w *world) maintain(ctx context.Context, a *actor, s step, c *claim) (err error) {
	o := MaintainOptions{Hold: NoHold}
	if w.follower {
		o.Hold = w.cursor
	}
	c.hold = o.Hold
	switch s.Do {
	case "checkpoint":
		// Not Checkpoint: of that a real process makes one at a time, and here all are one.
		_, err = a.tbl.writeCheckpoint(ctx, a.tbl.Snapshot())
	case "clean":
		_, err = a.tbl.CleanLog(ctx, o)
	case "vacuum":
		_, err = a.tbl.Vacuum(ctx, VacuumOptions{MaintainOptions: o, Orphans: s.Orphans})
	case "compact":
		options := CompactOptions{MaintainOptions: o, MinAge: -slack, MinFiles: 2, KeyWindow: keyWindow}
		if s.Sorted {
			options.ClusterBy = []string{"ts", "id"}
		}
		_, err = a.tbl.Compact(ctx, options)
	case "expire":
		_, err = a.tbl.Expire(ctx, ExpireOptions{MaintainOptions: o, Column: "ts", Before: minute(s.First)})
	case "restore":
		_, err = a.tbl.Restore(ctx, c.target)
	case "follow":
		if w.follower && !w.following {
			w.following = true
			err = w.follow(ctx, a.tbl)
			w.following = false
		}
	case "at":
		var got *Snapshot
		if got, err = a.tbl.At(ctx, c.target); err == nil {
			w.mu.Lock()
			a.looked = append(a.looked, got)
			w.mu.Unlock()
		}
	}
	return err
}

// rearranged finds the reason of a commit that maintenance made.
func (m *model) rearranged(c *delta.Commit, next *state, added, removed []string) error {
	begun := func(do string, is func(*claim) bool) error {
		if slices.ContainsFunc(m.claims, func(x *claim) bool { return x.step.Do == do && (is == nil || is(x)) }) {
			return nil
		}
		return fmt.Errorf("nobody began to %s so", do)
	}
	switch c.Info.Operation {
	case opOptimize:
		if !slices.Equal(added, removed) {
			return fmt.Errorf("a compaction takes %v and gives %v", removed, added)
		}
		if len(next.brought) > 0 {
			return errors.New("a compaction says that it brings new rows")
		}
		return begun("compact", nil)
	case opDelete:
		kept := map[string]bool{}
		for _, id := range added {
			kept[id] = true
		}
		went := slices.DeleteFunc(slices.Clone(removed), func(id string) bool { return kept[id] })
		if len(went)+len(added) != len(removed) || len(went) == 0 {
			return fmt.Errorf("expiry takes %v and gives %v", removed, added)
		}
		return begun("expire", func(x *claim) bool {
			tooOld := func(id string) bool { part, off := offsetOf(id); return hasTime(part) && off < x.step.First }
			return !slices.ContainsFunc(added, tooOld) && !slices.ContainsFunc(went, func(id string) bool { return !tooOld(id) })
		})
	case opRestore:
		to, err := strconv.ParseInt(c.Info.OperationParameters["version"], 10, 64)
		if err != nil {
			return err
		}
		if !maps.Equal(next.where, m.states[to].where) {
			return fmt.Errorf("restored to version %d it has %d rows, and then it had %d, or others", to, len(next.where), len(m.states[to].where))
		}
		return begun("restore", nil)
	}
	return fmt.Errorf("operation %s with %d rows added, %d removed", c.Info.Operation, len(added), len(removed))
}

// maintained wants of a maintenance step that succeeded what it promised.
func (m *model) maintained(c *claim) error {
	if c.hold < c.began {
		return nil // some of it must wait for a follower
	}
	last := m.last()
	switch c.step.Do {
	case "expire":
		for id := range last.where {
			if part, off := offsetOf(id); hasTime(part) && off < c.step.First && m.landed[id] <= c.began && !m.restoredSince(c.began) {
				return fmt.Errorf("row %s is too old, and still there", id)
			}
		}
	case "vacuum":
		if c.step.Orphans && c.step.Fault == nil {
			return m.swept()
		}
	}
	return nil
}

func (m *model) restoredSince(version int64) bool {
	return slices.ContainsFunc(m.states[version:], func(s *state) bool { return s.operation == opRestore })
}

// readable says whether a version can be asked for: it was the newest within retention.
func (m *model) readable(version int64) bool {
	if version < 0 || version >= int64(len(m.states)) {
		return false
	}
	return version == int64(len(m.states))-1 || m.clock().Sub(m.states[version+1].at) < retention-slack
}

// present wants the files of all versions in retention to be in the store.
func (m *model) present(ctx context.Context, store objstore.Store) error {
	m.objects = map[string]time.Time{}
	for o, err := range store.List(ctx, "", "") {
		if err != nil {
			return err
		}
		if !strings.HasPrefix(o.Key, logDir) {
			m.objects[o.Key] = o.ModTime
		}
	}
	for v := len(m.states) - 1; v >= 0 && m.readable(int64(v)); v-- {
		for path := range m.states[v].files {
			if _, ok := m.objects[path]; !ok {
				return fmt.Errorf("file %s of version %d, the table is at %d, is gone", path, v, len(m.states)-1)
			}
		}
	}
	return nil
}

// swept wants no file to be left that no version in retention has, and that is older.
func (m *model) swept() error {
	named := map[string]bool{}
	for v, s := range m.states {
		if v == len(m.states)-1 || m.clock().Sub(m.states[v+1].at) < retention+slack {
			for path := range s.files {
				named[path] = true
			}
		}
	}
	for path, at := range m.objects {
		if !named[path] && m.clock().Sub(at) > retention+slack {
			return fmt.Errorf("file %s of %s is left over", path, at)
		}
	}
	return nil
}

// follow reads the rows of the versions after the cursor, as hop two does, and sets the
// cursor to the last of them. Maintenance holds what is after the cursor, so that no
// file is missing and every row is seen once, whatever became of its file since.
func (w *world) follow(ctx context.Context, tbl *Table) error {
	s, err := tbl.Refresh(ctx)
	if err != nil {
		return err
	}
	changes, err := tbl.Changes(ctx, w.cursor, s.version)
	if err != nil {
		return err
	}
	if n := int64(len(changes)); n != s.version-w.cursor {
		return fmt.Errorf("%d changes after version %d, the table is at %d", n, w.cursor, s.version)
	}
	var ids []string
	for _, c := range changes {
		for _, f := range c.Adds {
			rec, err := tbl.ReadFile(ctx, f)
			if err != nil {
				return err
			}
			column := rec.Column(0).(*array.String)
			for i := range column.Len() {
				ids = append(ids, strings.Clone(column.Value(i)))
			}
			rec.Release()
		}
	}
	for _, id := range ids {
		w.followed[id]++
	}
	w.cursor = max(w.cursor, s.version)
	return nil
}

// followedAll wants a follower to have seen every row that came in, once.
func (w *world) followedAll() error {
	came := map[string]bool{}
	for _, s := range w.states {
		if s.operation != "STREAMING UPDATE" && s.operation != "WRITE" {
			continue
		}
		for _, path := range s.brought {
			for _, id := range w.rows[path] {
				came[id] = true
				if w.followed[id] != 1 {
					return fmt.Errorf("row %s was seen %d times by who follows the table", id, w.followed[id])
				}
			}
		}
	}
	for id := range w.followed {
		if !came[id] {
			return fmt.Errorf("row %s was seen by who follows the table, and never came in", id)
		}
	}
	return nil
}
