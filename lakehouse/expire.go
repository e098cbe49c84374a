package lakehouse

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/lakehouse/delta"
)

// ExpireOptions say which rows are too old.
type ExpireOptions struct {
	MaintainOptions
	Column string    // a timestamp
	Before time.Time // rows whose time is before it are to go
	// Slack is by how much a row may be too old before a file that has younger rows as
	// well is rewritten without it. A file that has only rows that are too old goes at once.
	Slack time.Duration
	// DryRun counts and changes nothing. Of the files that would be rewritten it is not
	// known how many rows would go.
	DryRun bool
}

// Expired says what Expire did.
type Expired struct {
	FilesRemoved   int
	FilesRewritten int
	Rows           int64 // that went
	Version        int64 // of the last commit; 0 when there was nothing to do
}

// expireGroup is how many files are taken out in one commit.
const expireGroup = 500

// Expire takes rows out of the table whose time is before a moment. Rows without a time
// stay. Files whose bounds are not known stay whole. The source offsets that came in
// with a removed file are written down as spans in the same commit: what has expired
// does not come in again when a source delivers it a second time. Its cursors, if no
// other file has later ones, go into a file without rows.
//
// When others take away its files, it plans again; after several attempts without
// success that is a *ConflictError.
//
// Fault point: "expire-before-commit".
func (t *Table) Expire(ctx context.Context, o ExpireOptions) (Expired, error) {
	var out Expired
	for failed := 1; ; failed++ {
		done := out.FilesRemoved + out.FilesRewritten
		err := t.expire(ctx, o, &out)
		if err == nil {
			return out, nil
		}
		if out.FilesRemoved+out.FilesRewritten > done {
			failed = 0
		}
		if _, lost := errors.AsType[*ConflictError](err); !lost || failed >= fruitless {
			return out, fmt.Errorf("expire rows of table %s: %w", t.root, err)
		}
	}
}

// expire plans once, and adds to out what it has done.
func (t *Table) expire(ctx context.Context, o ExpireOptions, out *Expired) error {
	s, err := t.Refresh(ctx)
	if err != nil {
		return err
	}
	at := s.Schema().FieldIndices(o.Column)
	if len(at) == 0 || s.Schema().Field(at[0]).Type.ID() != arrow.TIMESTAMP {
		return fmt.Errorf("%s is no timestamp column of the table", o.Column)
	}
	var gone, cut []File
	for f := range s.Files() {
		if !o.mayTouch(f) {
			continue
		}
		lo, hi, all, ok := timeBounds(f, o.Column)
		switch {
		case !ok:
		case all && hi.Before(o.Before):
			gone = append(gone, f)
		case lo.Before(o.Before.Add(-o.Slack)):
			cut = append(cut, f)
		}
	}
	if o.DryRun {
		for _, f := range gone {
			out.Rows += max(f.Rows, 0)
		}
		out.FilesRemoved, out.FilesRewritten = len(gone), len(cut)
		return nil
	}
	total, done := int64(len(gone)+len(cut)), int64(0)
	for group := range slices.Chunk(gone, expireGroup) {
		rows := int64(0)
		for _, f := range group {
			rows += max(f.Rows, 0)
		}
		if err := t.expireCommit(ctx, o, group, nil, out); err != nil {
			return err
		}
		out.FilesRemoved, out.Rows = out.FilesRemoved+len(group), out.Rows+rows
		done += int64(len(group))
		o.progress(done, total)
	}
	for _, f := range cut {
		start := t.opt.now()
		if err := t.expireRows(ctx, o, f, out); err != nil {
			return err
		}
		done++
		o.progress(done, total)
		if err := o.pace(ctx, t.opt.now().Sub(start)); err != nil {
			return err
		}
	}
	return nil
}

// expireRows rewrites a file without the rows that are too old.
func (t *Table) expireRows(ctx context.Context, o ExpireOptions, f File, out *Expired) error {
	rec, err := t.ReadFile(ctx, f)
	if errors.Is(err, fs.ErrNotExist) {
		// Compacted and vacuumed meanwhile, or damage: of a live file the next attempt fails too.
		return errors.Join(&ConflictError{"file " + f.Path + " is gone"}, err)
	}
	if err != nil {
		return err
	}
	defer rec.Release()
	ts, ok := rec.Column(rec.Schema().FieldIndices(o.Column)[0]).(*array.Timestamp)
	if !ok {
		return fmt.Errorf("%s is no timestamp in %s", o.Column, f.Path)
	}
	before := arrow.Timestamp(o.Before.UnixMicro())
	var keep []int32
	for i, v := range ts.TimestampValues() {
		if ts.IsNull(i) || v >= before {
			keep = append(keep, int32(i))
		}
	}
	went := rec.NumRows() - int64(len(keep))
	if went == 0 {
		return nil
	}
	left, err := take(ctx, rec, keep)
	if err != nil {
		return err
	}
	defer left.Release()
	files, err := t.writeFiles(ctx, t.Snapshot().meta, left, f.Tags, Metrics{})
	if err != nil {
		return err
	}
	if err := t.expireCommit(ctx, o, []File{f}, files, out); err != nil {
		return err
	}
	out.FilesRewritten, out.Rows = out.FilesRewritten+1, out.Rows+went
	return nil
}

func (t *Table) expireCommit(ctx context.Context, o ExpireOptions, removes, adds []File, out *Expired) error {
	o.fault("expire-before-commit")
	var base *Snapshot
	version, err := t.commit(ctx, func(s *Snapshot) (*Commit, error) {
		if base == nil {
			base = s
		}
		c := &Commit{
			Removes: removes, Adds: adds, Operation: opDelete, Fault: o.Fault,
			Parameters: map[string]string{"predicate": fmt.Sprintf("%s < '%s'", o.Column, o.Before.UTC().Format(time.RFC3339))},
		}
		if len(adds) == 0 {
			var err error
			if c.Txns, err = settle(s, removes); err != nil {
				return nil, err
			}
			if err := t.carrier(ctx, s, c); err != nil {
				return nil, err
			}
		}
		if err := t.judge(base, s, c); err != nil {
			return nil, err
		}
		return c, nil
	})
	if err == nil {
		out.Version = version
	}
	return err
}

// settle returns the transactions that say of the offsets which came in with files what
// the files' tags say, as far as the snapshot's own do not: with the files the tags go.
func settle(s *Snapshot, files []File) ([]delta.Txn, error) {
	came := batch.Claims{}
	for _, f := range files {
		c, err := Ranges(f)
		if err != nil {
			return nil, err
		}
		for p, set := range c {
			if batch.Durable(p) {
				came[p] = came[p].AddSet(set)
			}
		}
	}
	if len(came) == 0 {
		return nil, nil
	}
	in := spans(s)
	var out []delta.Txn
	for p, set := range came {
		for _, covered := range in[p] {
			set = set.Remove(covered)
		}
		for _, v := range set {
			out = append(out, spanTxn(p, v.First, v.Last))
		}
	}
	slices.SortFunc(out, func(a, b delta.Txn) int { return strings.Compare(a.AppID, b.AppID) })
	return out, nil
}

// spans returns the offsets that a snapshot's transactions say are in.
func spans(s *Snapshot) batch.Claims {
	in := batch.Claims{}
	for x := range s.Txns() {
		p, first := spanOf(x.AppID)
		if batch.Durable(p) && x.Version >= first {
			in[p] = in[p].Add(batch.Interval{First: first, Last: x.Version})
		}
	}
	return in
}

// timeBounds returns the least and greatest value of a timestamp column in a file, as far
// as its statistics or its partition say, and whether all rows are known to have one.
func timeBounds(f File, column string) (lo, hi time.Time, all, ok bool) {
	if v, partitioned := f.PartitionValues[column]; partitioned {
		if v == nil {
			return lo, hi, false, false
		}
		t, err := time.Parse(time.RFC3339Nano, *v)
		return t, t, true, err == nil
	}
	var stats struct {
		MinValues, MaxValues, NullCount map[string]json.RawMessage
	}
	if json.Unmarshal([]byte(f.Stats), &stats) != nil {
		return lo, hi, false, false
	}
	lo, ok1 := jsonTime(stats.MinValues[column])
	hi, ok2 := jsonTime(stats.MaxValues[column])
	// Other writers cut the rest of the millisecond off.
	return lo, hi.Add(time.Millisecond), string(stats.NullCount[column]) == "0", ok1 && ok2
}

func jsonTime(raw json.RawMessage) (time.Time, bool) {
	var text string
	if len(raw) == 0 || json.Unmarshal(raw, &text) != nil {
		return time.Time{}, false
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	return t, err == nil
}
