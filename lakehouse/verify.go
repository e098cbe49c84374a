package lakehouse

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"time"
)

// Verified is what Verify found.
type Verified struct {
	Version     int64
	Commits     int
	Checkpoints int
	Files       int
	Problems    []Problem
}

// Problem is something about a table that is not as it should be.
type Problem struct {
	Object   string // below the table's root
	Message  string
	Advice   string
	Harmless bool // nothing is wrong with the newest version
}

func (p Problem) String() string {
	text := p.Object + ": " + p.Message
	if p.Advice != "" {
		text += "; " + p.Advice
	}
	return text
}

// clockStep is by how much the time that a commit says may differ from its object's.
const clockStep = time.Minute

// Verify looks at all that a table is made of, without changing anything: whether the
// log has no gap and every commit can be read, whether the checkpoints hold what the
// commits say, whether every file of the newest version is there with its size, and
// whether the clocks of the writers went right. What it finds is in the result; an
// error means that it could not look.
func (t *Table) Verify(ctx context.Context) (Verified, error) {
	v := &verifying{t: t}
	l, err := t.list(ctx, -1)
	if err == nil {
		v.out.Checkpoints = len(l.checkpoints)
		for _, r := range l.runs {
			v.out.Commits += int(r.last - r.first + 1)
		}
		v.log(l)
		v.hint(ctx, l)
		if err = v.versions(ctx, l); err == nil {
			err = v.files(ctx)
		}
	}
	if err == nil {
		err = v.clocks(ctx)
	}
	if err != nil {
		return v.out, fmt.Errorf("verify table %s: %w", t.root, err)
	}
	return v.out, nil
}

type verifying struct {
	t    *Table
	snap *Snapshot // nil if it cannot be read
	out  Verified
}

func (v *verifying) add(p Problem) { v.out.Problems = append(v.out.Problems, p) }

// note takes an error in as a problem if it is one of the log.
func (v *verifying) note(err error, harmless bool) error {
	var d *DamagedError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &d):
		message := d.Reason
		if d.Err != nil {
			message += ": " + d.Err.Error()
		}
		v.add(Problem{d.Object, message, d.Advice, harmless})
		return nil
	}
	return err
}

func (v *verifying) log(l *listing) {
	for i := 1; i < len(l.runs); i++ {
		gap := l.runs[i-1].last + 1
		newest := int64(-1)
		if n := len(l.checkpoints); n > 0 {
			newest = l.checkpoints[n-1].version
		}
		v.add(Problem{commitKey(gap), fmt.Sprintf("is missing, with all up to version %d", l.runs[i].first-1), restoreObject, newest >= gap})
	}
}

func (v *verifying) hint(ctx context.Context, l *listing) {
	_, err := v.t.store.Stat(ctx, hintKey)
	switch h := v.t.readHint(ctx); {
	case err != nil: // none, which is right for a new table
	case h.version < 0:
		v.add(Problem{hintKey, "cannot be read", "readers list the log instead; the next checkpoint writes it anew", true})
	case !l.hasCheckpoint(h.version):
		v.add(Problem{hintKey, fmt.Sprintf("names a checkpoint of version %d, which is not there", h.version), "readers list the log instead; the next checkpoint writes it anew", true})
	}
}

// versions goes through the log once and compares every checkpoint with it.
func (v *verifying) versions(ctx context.Context, l *listing) error {
	earliest, latest := l.readable()
	at := checkpointRef{version: -1}
	var h *history
	for _, c := range append([]checkpointRef{at}, l.checkpoints...) {
		if h == nil {
			if c.version < 0 && earliest != 0 {
				continue
			}
			fresh, err := v.t.buildFrom(ctx, c, c.version, hint{-1, -1})
			if err == nil && c.version >= 0 {
				h = fresh
			} else if err == nil {
				h = &history{live: map[string]*entry{}}
			}
			if err := v.note(err, c.version != latest); err != nil {
				return err
			}
			at = c
			continue
		}
		if err := v.compare(ctx, h, &at, c); err != nil {
			return err
		}
	}
	if h != nil {
		err := v.t.replay(ctx, at.version+1, latest, h.apply)
		if err == nil {
			v.snap = h.snap
		}
		if errors.Is(err, errMissing) {
			err = nil // told already
		}
		if err := v.note(err, false); err != nil {
			return err
		}
	}
	v.out.Version = latest
	return nil
}

// compare brings a history up to a checkpoint and compares the two.
func (v *verifying) compare(ctx context.Context, h *history, at *checkpointRef, c checkpointRef) error {
	err := v.t.replay(ctx, at.version+1, c.version, h.apply)
	if errors.Is(err, errMissing) { // cleaned up in between, or a gap that is told already
		return nil
	}
	if err := v.note(err, false); err != nil || h.snap == nil || h.snap.version != c.version {
		return err
	}
	*at = c
	have, err := v.t.buildFrom(ctx, c, c.version, hint{-1, -1})
	if err != nil {
		return v.note(err, true)
	}
	d := diffFiles(h.snap, have.snap)
	if len(d.Added)+len(d.Removed) > 0 || !sameTxns(h.snap, have.snap) {
		v.add(Problem{c.keys[0], fmt.Sprintf("holds %d files that version %d does not have, lacks %d, or has other transactions", len(d.Added), c.version, len(d.Removed)),
			"delete it; the commits say what is right", false})
	}
	return nil
}

func sameTxns(a, b *Snapshot) bool {
	n := 0
	for x := range a.Txns() {
		if have, ok := b.Txn(x.AppID); !ok || have != x.Version {
			return false
		}
		n++
	}
	for range b.Txns() {
		n--
	}
	return n == 0
}

// files looks whether the files of the newest version are there.
func (v *verifying) files(ctx context.Context) error {
	if v.snap == nil {
		return nil
	}
	var files []File
	for f := range v.snap.Files() {
		files = append(files, f)
	}
	v.out.Files = len(files)
	const parallel = 16
	problems, errs := make([]string, len(files)), make([]error, len(files))
	var wg sync.WaitGroup
	for w := range min(parallel, len(files)) {
		wg.Go(func() {
			for i := w; i < len(files); i += parallel {
				o, err := v.t.store.Stat(ctx, files[i].Path)
				switch {
				case errors.Is(err, fs.ErrNotExist):
					problems[i] = "is missing, and the table has it"
				case err != nil:
					errs[i] = err
				case o.Size != files[i].Size:
					problems[i] = fmt.Sprintf("has %d bytes, the log says %d", o.Size, files[i].Size)
				}
			}
		})
	}
	wg.Wait()
	for i, p := range problems {
		if p != "" {
			v.add(Problem{files[i].Path, p, fmt.Sprintf("%s; or restore a version without it, its rows came with version %d or before", restoreObject, files[i].Version), false})
		}
	}
	return errors.Join(errs...)
}

// clocks compares what commits say of their time with when the store got them.
func (v *verifying) clocks(ctx context.Context) error {
	if v.snap == nil {
		return nil
	}
	const look = 100 // the newest; a clock that is wrong now is
	first := max(0, v.snap.version-look+1)
	times := map[int64]time.Time{}
	for o, err := range v.t.store.List(ctx, logDir, fmt.Sprintf("%s%020d", logDir, first)) {
		if err != nil {
			return fmt.Errorf("list the log: %w", err)
		}
		if n, ok := parseLogName(strings.TrimPrefix(o.Key, logDir)); ok && n.commit {
			times[n.version] = o.ModTime
		}
	}
	worst, at := time.Duration(0), int64(-1)
	for version := first; version <= v.snap.version; version++ {
		stored, ok := times[version]
		if !ok {
			continue
		}
		c, err := v.t.readCommit(ctx, version)
		if err != nil || c.Info == nil {
			continue
		}
		if d := time.UnixMilli(c.Info.Timestamp).Sub(stored); d.Abs() > max(clockStep, worst.Abs()) {
			worst, at = d, version
		}
	}
	if at >= 0 {
		v.add(Problem{commitKey(at), fmt.Sprintf("says a time that is %s off the store's", worst.Round(time.Second)),
			"if the table was not copied, set the writer's clock; nothing is deleted too early by it, for ages go by the store's clock", true})
	}
	return nil
}
