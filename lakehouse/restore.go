package lakehouse

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"sync"

	"github.com/apache/arrow/go/v17/arrow"
)

// Restored says what Restore did.
type Restored struct {
	Version int64 // the new one
	From    int64 // the version that was current
	To      int64 // the version whose rows the table has again
	Added   int   // files
	Removed int   // files
}

// Restore gives the table the rows again that it had at a version, as a new version.
// Columns stay as they are now. The files must still be there; those that were vacuumed
// are an error, and nothing is changed.
//
// Only rows go back. Source offsets and cursors that came in since then are remembered: rows that a
// restore takes out do not come in again by themselves. Followers see no new rows.
func (t *Table) Restore(ctx context.Context, version int64) (Restored, error) {
	out, err := t.restore(ctx, version)
	if err != nil {
		return out, fmt.Errorf("restore table %s to version %d: %w", t.root, version, err)
	}
	return out, nil
}

func (t *Table) restore(ctx context.Context, version int64) (Restored, error) {
	if _, err := t.Refresh(ctx); err != nil {
		return Restored{}, err
	}
	to, err := t.At(ctx, version)
	if err != nil {
		return Restored{}, err
	}
	out, back, err := t.restoreCommit(ctx, to)
	if err != nil || len(back) == 0 {
		return out, err
	}
	// Vacuuming may have taken a file between the look and the commit.
	if missing := t.present(ctx, back); missing != nil {
		undo, err := t.At(ctx, out.From)
		if err == nil {
			_, _, err = t.restoreCommit(ctx, undo)
		}
		return out, errors.Join(missing, err)
	}
	return out, nil
}

func (t *Table) restoreCommit(ctx context.Context, to *Snapshot) (out Restored, back []File, err error) {
	out = Restored{To: to.version}
	out.Version, err = t.commit(ctx, func(s *Snapshot) (*Commit, error) {
		out.From = s.version
		if err := canRestore(to, s); err != nil {
			return nil, err
		}
		d := diffFiles(to, s)
		back = d.Removed
		out.Added, out.Removed = len(d.Removed), len(d.Added)
		if out.Added+out.Removed == 0 {
			return nil, nil
		}
		if err := t.present(ctx, back); err != nil {
			return nil, err
		}
		txns, err := settle(s, d.Added)
		c := &Commit{
			Adds: back, Removes: d.Added, Txns: txns, Operation: opRestore,
			Parameters: map[string]string{"version": strconv.FormatInt(to.version, 10)},
		}
		if err == nil {
			err = t.carrier(ctx, s, c)
		}
		if err == nil {
			err = t.judge(s, s, c)
		}
		return c, err
	})
	return out, back, err
}

func canRestore(to, s *Snapshot) error {
	if to.TableID() != s.TableID() || !slices.Equal(to.PartitionBy(), s.PartitionBy()) {
		return &ConflictError{"it was made anew, or partitioned otherwise, since then"}
	}
	for _, f := range to.Schema().Fields() {
		i := s.Schema().FieldIndices(f.Name)
		if len(i) == 0 || !sameType(s.Schema().Field(i[0]).Type, f.Type) {
			return &ConflictError{"column " + f.Name + " was changed since then"}
		}
	}
	return nil
}

// present returns an error that names files which are not in the store.
func (t *Table) present(ctx context.Context, files []File) error {
	const parallel = 16
	errs := make([]error, len(files))
	var wg sync.WaitGroup
	for w := range min(parallel, len(files)) {
		wg.Go(func() {
			for i := w; i < len(files); i += parallel {
				_, err := t.store.Stat(ctx, files[i].Path)
				if errors.Is(err, fs.ErrNotExist) {
					err = fmt.Errorf("file %s is gone; it was vacuumed after delta.deletedFileRetentionDuration: %w", files[i].Path, err)
				}
				errs[i] = err
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err // the first will do: there may be thousands
		}
	}
	return nil
}

// Diff is what differs between two versions of a table.
type Diff struct {
	From, To       int64
	Added, Removed []File // in To and not in From, and the other way round
	Columns        []arrow.Field
	Commits        []Change // between them, as far as they are in the log; of To's side of From
}

// Diff compares two versions, the second usually the later one.
func (t *Table) Diff(ctx context.Context, from, to int64) (Diff, error) {
	a, err := t.At(ctx, from)
	if err != nil {
		return Diff{}, err
	}
	b, err := t.At(ctx, to)
	if err != nil {
		return Diff{}, err
	}
	d := diffFiles(a, b)
	for _, f := range b.Schema().Fields() {
		if len(a.Schema().FieldIndices(f.Name)) == 0 {
			d.Columns = append(d.Columns, f)
		}
	}
	if from < to {
		d.Commits, err = t.Changes(ctx, from, to)
	}
	return d, err
}

// diffFiles returns the files of b that a lacks, and those of a that b lacks.
func diffFiles(a, b *Snapshot) Diff {
	d := Diff{From: a.version, To: b.version}
	in := make(map[string]struct{}, a.files)
	for f := range a.Files() {
		in[f.Path] = struct{}{}
	}
	for f := range b.Files() {
		if _, both := in[f.Path]; both {
			delete(in, f.Path)
		} else {
			d.Added = append(d.Added, f)
		}
	}
	for f := range a.Files() {
		if _, only := in[f.Path]; only {
			d.Removed = append(d.Removed, f)
		}
	}
	return d
}
