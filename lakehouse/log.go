package lakehouse

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"sync"

	"github.com/tidemill/tidemill/lakehouse/delta"
)

const logDir = "_delta_log/"

func commitKey(version int64) string { return fmt.Sprintf("%s%020d.json", logDir, version) }

// ErrCheckpointOnly says that a table's first commits are only in a checkpoint, which
// is not read yet.
var ErrCheckpointOnly = errors.New("reading a checkpoint is not supported yet")

// readCommit reads one commit; fs.ErrNotExist when there is none.
func (t *Table) readCommit(ctx context.Context, version int64) (*delta.Commit, error) {
	data, err := t.store.Get(ctx, commitKey(version))
	if err != nil {
		return nil, fmt.Errorf("read version %d: %w", version, err)
	}
	c, err := delta.Decode(data)
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

// segment is the part of a log that makes a snapshot: a checkpoint, and the commits
// that follow it without a gap.
type segment struct {
	checkpoint  int64 // version; -1: none, the commits begin at 0
	first, last int64 // commits
}

// locate finds the segment of the newest version. fs.ErrNotExist when there is no log.
//
// It lists the whole log, for without its checkpoints a snapshot needs all of it. Once
// they are read, the hint of _last_checkpoint gives the key to list from, and the
// segment's checkpoint where to begin; what is built on a segment stays as it is.
func (t *Table) locate(ctx context.Context) (segment, error) {
	s := segment{checkpoint: -1, first: -1, last: -1}
	checkpoint := int64(-1)
	for o, err := range t.store.List(ctx, logDir, "") {
		if err != nil {
			return s, fmt.Errorf("list the log: %w", err)
		}
		name := strings.TrimPrefix(o.Key, logDir)
		version, isCommit, ok := parseLogName(name)
		switch {
		case !ok:
		case !isCommit:
			checkpoint = version
		case s.first < 0 || version != s.last+1 && version != 0:
			s.first, s.last = version, version // what lies before a gap is left over from cleaning up
		default:
			s.last = version
		}
	}
	switch {
	case s.first == 0:
		return s, nil
	case checkpoint >= 0:
		return s, fmt.Errorf("the log's first commits are only in the checkpoint of version %d: %w", checkpoint, ErrCheckpointOnly)
	case s.first < 0:
		return s, fmt.Errorf("%s: %w", logDir, fs.ErrNotExist)
	}
	return s, fmt.Errorf("damaged log: version %d and those before it are missing, and there is no checkpoint", s.first-1)
}

// parseLogName reads "00000000000000000012.json" and "00000000000000000012.checkpoint.….parquet".
func parseLogName(name string) (version int64, isCommit, ok bool) {
	number, rest, _ := strings.Cut(name, ".")
	if len(number) != 20 {
		return 0, false, false
	}
	version, err := strconv.ParseInt(number, 10, 64)
	if err != nil || version < 0 {
		return 0, false, false
	}
	switch {
	case rest == "json":
		return version, true, true
	case strings.HasPrefix(rest, "checkpoint."):
		return version, false, true
	}
	return 0, false, false
}

// load reads the table as its log has it now.
func (t *Table) load(ctx context.Context) error {
	seg, err := t.locate(ctx)
	if err != nil {
		return err
	}
	h := &history{live: map[string]*entry{}}
	const window = 256
	for v := seg.first; v <= seg.last; {
		commits, err := t.readCommits(ctx, v, int(min(window, seg.last-v+1)))
		if err != nil {
			return err
		}
		if len(commits) == 0 {
			return fmt.Errorf("read version %d: it is listed and cannot be read: %w", v, errMissing)
		}
		for _, c := range commits {
			if err := h.apply(v, c); err != nil {
				return err
			}
			v++
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.history == nil || t.history.snap.version < h.snap.version {
		t.history = h
	}
	t.confirm()
	return nil
}

var errMissing = errors.New("object missing")
