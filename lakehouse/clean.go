package lakehouse

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/tidemill/tidemill/lakehouse/objstore"
)

// Cleaned says what CleanLog did.
type Cleaned struct {
	Commits     int
	Checkpoints int
	First       int64 // version that the log begins with now
}

// CleanLog deletes the commits and checkpoints that are older than the table's
// delta.logRetentionDuration and that no version within it needs: those before the
// newest checkpoint at or before the cut-off, the oldest first, so that whatever is left
// when it stops is a log without a gap. The checkpoint is read and checked before
// anything is deleted. Ages are by the store's clock.
//
// Fault points: "clean-before-delete" before each object, "clean-after-delete" after it.
func (t *Table) CleanLog(ctx context.Context, o MaintainOptions) (Cleaned, error) {
	out, err := t.cleanLog(ctx, o)
	if err != nil {
		return out, fmt.Errorf("clean up the log of table %s: %w", t.root, err)
	}
	return out, nil
}

func (t *Table) cleanLog(ctx context.Context, o MaintainOptions) (Cleaned, error) {
	s, err := t.Refresh(ctx)
	if err == nil {
		err = s.meta.unwritable
	}
	if err != nil {
		return Cleaned{}, err
	}
	now, err := t.storeNow(ctx)
	if err != nil {
		return Cleaned{}, err
	}
	old, err := t.logBefore(ctx, now.Add(-logRetention(s)), o.Hold)
	if err != nil || len(old) == 0 {
		return Cleaned{First: -1}, err
	}
	keep, err := t.goodCheckpoint(ctx, old)
	if err != nil {
		return Cleaned{First: -1}, err
	}
	out := Cleaned{First: keep}
	total := int64(0)
	for _, x := range old {
		if x.version < keep {
			total++
		}
	}
	start := t.opt.now()
	for i, x := range old {
		if x.version >= keep {
			break
		}
		o.fault("clean-before-delete")
		if err := t.store.Delete(ctx, x.key); err != nil {
			return out, err
		}
		o.fault("clean-after-delete")
		if x.commit {
			out.Commits++
		} else {
			out.Checkpoints++
		}
		if i%64 == 63 {
			o.progress(int64(i+1), total)
			if err := o.pace(ctx, t.opt.now().Sub(start)); err != nil {
				return out, err
			}
			start = t.opt.now()
		}
	}
	return out, nil
}

// logObject is an object of the log.
type logObject struct {
	logName
	key  string
	time time.Time
}

// logBefore returns the log's objects up to a time and a version, oldest first. It reads
// no further than that: the log's end may be long.
func (t *Table) logBefore(ctx context.Context, cutoff time.Time, upTo int64) ([]logObject, error) {
	var out []logObject
	for o, err := range t.store.List(ctx, logDir, "") {
		if err != nil {
			return nil, fmt.Errorf("list the log: %w", err)
		}
		n, ok := parseLogName(strings.TrimPrefix(o.Key, logDir))
		if !ok {
			continue
		}
		if n.version > upTo || n.commit && o.ModTime.After(cutoff) {
			break
		}
		out = append(out, logObject{n, o.Key, o.ModTime})
	}
	// A checkpoint is listed before the commit of its version, by which its age goes: that
	// of a version after the cut-off would take away the one that was the newest then.
	for len(out) > 0 && !out[len(out)-1].commit {
		out = out[:len(out)-1]
	}
	return out, nil
}

// goodCheckpoint returns the version of the newest of our checkpoints that reads as what
// it says it is, -1 when there is none.
func (t *Table) goodCheckpoint(ctx context.Context, old []logObject) (int64, error) {
	for i := len(old) - 1; i >= 0; i-- {
		x := old[i]
		if x.commit || x.v2 || x.parts != 1 {
			continue
		}
		h := &history{live: map[string]*entry{}}
		own, err := t.checkCheckpoint(ctx, h, checkpointRef{version: x.version, keys: []string{x.key}, time: x.time})
		var damaged *DamagedError
		switch {
		case err == nil && own:
			return x.version, nil
		case err == nil, errors.Is(err, errMissing): // another writer's, or thinned out meanwhile
		case errors.As(err, &damaged):
			t.opt.logger.WarnContext(ctx, "damaged checkpoint; the log in front of it stays", slog.String("table", t.root), slog.Any("error", err))
		case objstore.Retryable(err) || ctx.Err() != nil:
			return -1, err
		}
	}
	return -1, nil
}
