package lakehouse

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/tidemill/tidemill/lakehouse/delta"
)

const logDir = "_delta_log/"

func commitKey(version int64) string { return fmt.Sprintf("%s%020d.json", logDir, version) }

// DamagedError says that an object of a table's log is not what the protocol asks for,
// or is not there: it was cut off, edited or deleted. Nothing is written to a table
// while its log is in doubt.
type DamagedError struct {
	Object string // below the table's root
	Reason string
	Advice string
	Err    error // may be nil
}

func (e *DamagedError) Error() string {
	text := "damaged log: " + e.Object + " " + e.Reason
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	if e.Advice != "" {
		text += "; " + e.Advice
	}
	return text
}

func (e *DamagedError) Unwrap() error { return e.Err }

// restoreObject is what helps against most damage.
const restoreObject = "put the object back as it was from a backup or an older version of it in the bucket"

// readCommit reads one commit; fs.ErrNotExist when there is none.
func (t *Table) readCommit(ctx context.Context, version int64) (*delta.Commit, error) {
	data, err := t.store.Get(ctx, commitKey(version))
	if err != nil {
		return nil, fmt.Errorf("read version %d: %w", version, err)
	}
	c, err := delta.Decode(data)
	var unsupported *delta.UnsupportedError
	if err != nil && !errors.As(err, &unsupported) {
		err = &DamagedError{Object: commitKey(version), Reason: "cannot be read", Err: err, Advice: restoreObject}
	}
	if err != nil {
		return nil, fmt.Errorf("read version %d: %w", version, err)
	}
	return c, nil
}

// readCommits reads n commits from a version on, side by side. It returns those before
// the first that is not there.
func (t *Table) readCommits(ctx context.Context, from int64, n int) ([]*delta.Commit, error) {
	const parallel = 16
	commits, errs := make([]*delta.Commit, n), make([]error, n)
	var wg sync.WaitGroup
	for w := range min(n, parallel) {
		wg.Go(func() {
			for i := w; i < n; i += parallel {
				commits[i], errs[i] = t.readCommit(ctx, from+int64(i))
			}
		})
	}
	wg.Wait()
	for i, err := range errs {
		if errors.Is(err, fs.ErrNotExist) {
			return commits[:i], nil
		}
		if err != nil {
			return nil, err
		}
	}
	return commits, nil
}

// replay reads the commits of a range that is known to be there, in order.
func (t *Table) replay(ctx context.Context, first, last int64, apply func(version int64, c *delta.Commit) error) error {
	const window = 256
	for v := first; v <= last; {
		commits, err := t.readCommits(ctx, v, int(min(window, last-v+1)))
		if err != nil {
			return err
		}
		if len(commits) == 0 {
			return fmt.Errorf("read version %d: %w", v, errMissing)
		}
		for _, c := range commits {
			if err := apply(v, c); err != nil {
				return err
			}
			v++
		}
	}
	return nil
}

// errMissing: an object that a listing showed, or that must follow another, is not there.
var errMissing = fmt.Errorf("object missing: %w", fs.ErrNotExist)

// load reads the table as its log has it now.
func (t *Table) load(ctx context.Context) error {
	h, ref, err := t.newest(ctx)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.history == nil || t.history.snap.version < h.snap.version {
		t.history = h
	}
	if ref.version > t.checkpoint.version {
		t.checkpoint = checkpointMark{ref.version, t.opt.now()}
	}
	t.confirm()
	return nil
}

// newest reads the newest version, from the newest checkpoint that is whole. What the
// listing showed may be cleaned up before it is read; then it is listed again.
func (t *Table) newest(ctx context.Context) (*history, checkpointRef, error) {
	for try := 1; ; try++ {
		h, ref, err := t.newestOnce(ctx)
		if err == nil || try == 3 || !errors.Is(err, errMissing) {
			return h, ref, err
		}
	}
}

func (t *Table) newestOnce(ctx context.Context) (*history, checkpointRef, error) {
	none := checkpointRef{version: -1}
	hint := t.readHint(ctx)
	l, err := t.list(ctx, hint.version)
	if err != nil {
		return nil, none, err
	}
	if hint.version >= 0 && !l.hasCheckpoint(hint.version) { // it names what is not there
		if hint.version, err = -1, nil; true {
			l, err = t.list(ctx, -1)
		}
		if err != nil {
			return nil, none, err
		}
	}
	h, ref, err := t.build(ctx, l, -1, hint)
	var damaged *DamagedError
	if hint.version >= 0 && errors.As(err, &damaged) { // an older checkpoint may still do
		t.opt.logger.WarnContext(ctx, "checkpoint cannot be used", "table", t.root, "error", err)
		if l, err = t.list(ctx, -1); err == nil {
			h, ref, err = t.build(ctx, l, -1, hint)
		}
	}
	return h, ref, err
}

// build reads the version upTo, -1 for the newest, from what a listing showed: the
// newest checkpoint that serves, then the commits after it. A checkpoint that is damaged
// is passed over for an older one while the log still has what is needed.
func (t *Table) build(ctx context.Context, l *listing, upTo int64, hint hint) (*history, checkpointRef, error) {
	none := checkpointRef{version: -1}
	if l.empty() {
		return nil, none, fmt.Errorf("%s: %w", logDir, fs.ErrNotExist)
	}
	var first error
	for i := len(l.checkpoints) - 1; i >= -1; i-- {
		ref := none
		if i >= 0 {
			ref = l.checkpoints[i]
		}
		if upTo >= 0 && ref.version > upTo {
			continue
		}
		last, err := l.lastAfter(ref.version, upTo)
		if err == nil {
			var h *history
			if h, err = t.buildFrom(ctx, ref, last, hint); err == nil {
				return h, ref, nil
			}
		}
		var damaged *DamagedError
		if !errors.As(err, &damaged) {
			return nil, none, err
		}
		if first == nil {
			first = err
		}
		if ref.version >= 0 {
			t.opt.logger.WarnContext(ctx, "checkpoint passed over", "table", t.root, "version", ref.version, "error", err)
		}
	}
	if l.v2 >= 0 {
		return nil, none, &delta.UnsupportedError{Feature: "v2Checkpoint", Detail: fmt.Sprintf(
			"version %d has a checkpoint of that kind, and no other; have its owner write a classic checkpoint", l.v2)}
	}
	return nil, none, first
}

func (t *Table) buildFrom(ctx context.Context, ref checkpointRef, last int64, hint hint) (*history, error) {
	h := &history{live: map[string]*entry{}}
	if ref.version >= 0 {
		if err := t.readCheckpoint(ctx, h, ref, hint); err != nil {
			return nil, err
		}
	}
	return h, t.replay(ctx, ref.version+1, last, h.apply)
}
