package lakehouse

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
	"sync"
	"time"

	"github.com/tidemill/tidemill/lakehouse/delta"
)

// VacuumOptions say what Vacuum looks for.
type VacuumOptions struct {
	MaintainOptions
	// Orphans asks for the whole table to be listed, to find files that no commit ever
	// named: of writers that died or lost a race. Seldom is enough.
	Orphans bool
	DryRun  bool // count, and delete nothing
}

// Vacuumed says what Vacuum found, and deleted unless it was a dry run.
type Vacuumed struct {
	Expired int   // files taken out of the table longer ago than its retention
	Orphans int   // files that no version in retention names
	Bytes   int64 // of them, as far as it is known
	Listed  int   // objects looked at in the search for orphans
}

// Vacuum deletes the files that no version within the table's
// delta.deletedFileRetentionDuration has: those whose tombstones are older than that,
// and with Orphans those that are in no version and were stored longer ago than that.
// A reader of the newest version, and of any version in retention, never misses a file.
//
// Ages are by the store's clock, or ours if that is behind. Names that begin with "_" or
// "." are never touched.
//
// Fault points: "vacuum-before-delete" before each file, "vacuum-after-delete" after it.
func (t *Table) Vacuum(ctx context.Context, o VacuumOptions) (Vacuumed, error) {
	out, err := t.vacuum(ctx, o)
	if err != nil {
		return out, fmt.Errorf("vacuum table %s: %w", t.root, err)
	}
	return out, nil
}

func (t *Table) vacuum(ctx context.Context, o VacuumOptions) (out Vacuumed, err error) {
	if err := t.Snapshot().meta.unwritable; err != nil {
		return out, err
	}
	// The store's time first: what is committed after it is not old enough.
	now, err := t.storeNow(ctx)
	if err != nil {
		return out, err
	}
	s, err := t.Refresh(ctx)
	if err == nil {
		err = s.meta.unwritable
	}
	if err != nil {
		return out, err
	}
	st, err := t.readMaintenance(ctx)
	if err != nil {
		return out, err
	}
	v := &vacuuming{t: t, o: o, cutoff: now.Add(-tombstoneRetention(s)), named: newPathSet(), held: map[string]struct{}{}}
	if err := v.collect(ctx, s, st); err != nil {
		return out, err
	}
	if err := v.deleteAll(ctx, v.expired); err != nil {
		return v.out, err
	}
	v.out.Expired = len(v.expired)
	if o.Orphans {
		orphans, err := v.orphans(ctx)
		if err == nil {
			err = v.deleteAll(ctx, orphans)
		}
		if err != nil {
			return v.out, err
		}
		v.out.Orphans = len(orphans)
	}
	return v.out, v.note(ctx, now)
}

// note writes down how far the table is vacuumed.
func (v *vacuuming) note(ctx context.Context, now time.Time) error {
	if v.o.DryRun || len(v.held) > 0 && !v.o.Orphans {
		return nil
	}
	st, err := v.t.readMaintenance(ctx)
	if err != nil {
		return err
	}
	if len(v.held) == 0 {
		st.VacuumedTo = max(st.VacuumedTo, v.cutoff.UnixMilli())
	}
	if v.o.Orphans {
		st.OrphansAt = max(st.OrphansAt, now.UnixMilli())
	}
	return v.t.writeMaintenance(ctx, st)
}

type vacuuming struct {
	t       *Table
	o       VacuumOptions
	cutoff  time.Time
	named   *pathSet            // files in the table or in retention; only for orphans
	held    map[string]struct{} // files that a follower has yet to read
	expired []victim
	out     Vacuumed
}

type victim struct {
	path string
	size int64
}

// collect finds out which files are named by what.
func (v *vacuuming) collect(ctx context.Context, s *Snapshot, st *maintenance) error {
	if v.o.Hold < s.version {
		changes, err := v.t.Changes(ctx, v.o.Hold, s.version)
		if err != nil {
			return err
		}
		for _, c := range changes {
			for _, f := range c.Adds {
				v.held[f.Path] = struct{}{}
			}
		}
	}
	live := make(map[string]struct{}, s.files)
	for f := range s.Files() {
		live[f.Path] = struct{}{}
		delete(v.held, f.Path)
		v.named.add(f.Path)
	}
	return v.t.tombstones(ctx, s, live, func(r delta.Remove) error {
		path, err := delta.DecodePath(r.Path)
		if err != nil {
			return err
		}
		_, held := v.held[path]
		switch {
		case held || r.DeletionTimestamp > v.cutoff.UnixMilli():
			v.named.add(path)
		case r.DeletionTimestamp > st.VacuumedTo:
			v.expired = append(v.expired, victim{path, r.Size})
		}
		return nil
	})
}

// orphans lists the table and returns the files that nothing names.
func (v *vacuuming) orphans(ctx context.Context) ([]victim, error) {
	var out []victim
	for o, err := range v.t.store.List(ctx, "", "") {
		if err != nil {
			return nil, fmt.Errorf("list the table: %w", err)
		}
		v.out.Listed++
		if v.out.Listed%1000 == 0 {
			v.o.progress(int64(v.out.Listed), 0)
			if err := v.o.pace(ctx, 0); err != nil {
				return nil, err
			}
		}
		if hidden(o.Key) || o.ModTime.After(v.cutoff) || v.named.has(o.Key) {
			continue
		}
		out = append(out, victim{o.Key, o.Size})
	}
	return out, nil
}

// hidden says whether a path is not a data file's. Directories of partitions may begin
// with an underscore, as the column's name does.
func hidden(path string) bool {
	segments := strings.Split(path, "/")
	for i, s := range segments {
		dir := i < len(segments)-1
		if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "_") && !(dir && strings.Contains(s, "=")) {
			return true
		}
	}
	return false
}

// deleteAll deletes files, several at a time.
func (v *vacuuming) deleteAll(ctx context.Context, files []victim) error {
	for _, f := range files {
		v.out.Bytes += f.size
	}
	if v.o.DryRun {
		return nil
	}
	const parallel = 8
	for at := 0; at < len(files); at += parallel {
		start := v.t.opt.now()
		chunk := files[at:min(at+parallel, len(files))]
		errs := make([]error, len(chunk))
		var wg sync.WaitGroup
		for i, f := range chunk {
			wg.Go(func() {
				v.o.fault("vacuum-before-delete")
				errs[i] = v.t.store.Delete(ctx, f.path)
				v.o.fault("vacuum-after-delete")
			})
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
		v.o.progress(int64(at+len(chunk)), int64(len(files)))
		if err := v.o.pace(ctx, v.t.opt.now().Sub(start)); err != nil {
			return err
		}
	}
	return nil
}

// pathSet is a set of paths that takes 8 bytes for each. Two paths that have one hash
// make it say yes where it should say no: a left-over file is then kept.
type pathSet struct {
	seed maphash.Seed
	set  map[uint64]struct{}
}

func newPathSet() *pathSet { return &pathSet{maphash.MakeSeed(), map[uint64]struct{}{}} }

func (p *pathSet) add(path string) { p.set[maphash.String(p.seed, path)] = struct{}{} }
func (p *pathSet) has(path string) bool {
	_, ok := p.set[maphash.String(p.seed, path)]
	return ok
}
