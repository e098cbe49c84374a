package lakehouse

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// NoHold is the MaintainOptions.Hold of a table that nobody follows.
const NoHold int64 = math.MaxInt64

// MaintainOptions are what all maintenance has in common. The zero value of Hold holds
// everything but version 0; use NoHold where nobody follows the table.
type MaintainOptions struct {
	// Hold is the last version that all followers of the table have read. Commits after
	// it are not cleaned up, and files that came after it are neither rewritten, expired
	// nor deleted.
	Hold int64
	// Keep, if not nil, says which files must stay as they are.
	Keep func(File) bool
	// Pace, if not nil, is called between pieces of work with the time that the last one
	// took; it returns when the next may begin, or with the context's error.
	Pace func(ctx context.Context, worked time.Duration) error
	// Progress, if not nil, is told how much of the work is done; the unit is the step's.
	Progress func(done, total int64)
	// Fault, if not nil, is called at the named points of the step; tests crash there.
	Fault func(point string)
}

func (o *MaintainOptions) fault(point string) {
	if o.Fault != nil {
		o.Fault(point)
	}
}

func (o *MaintainOptions) progress(done, total int64) {
	if o.Progress != nil {
		o.Progress(done, total)
	}
}

func (o *MaintainOptions) pace(ctx context.Context, worked time.Duration) error {
	if o.Pace == nil {
		return ctx.Err()
	}
	return o.Pace(ctx, worked)
}

// mayTouch says whether a file may be rewritten or expired.
func (o *MaintainOptions) mayTouch(f File) bool {
	return f.Version <= o.Hold && (o.Keep == nil || !o.Keep(f))
}

// maintenance is what those who maintain a table tell each other, in an object of its
// log that other writers ignore. It may be lost, or go back when two write at once: it
// saves work, and nothing else hangs on it.
type maintenance struct {
	VacuumedTo  int64  `json:"vacuumedTo"`  // ms: tombstones up to here are of files that are deleted
	OrphansAt   int64  `json:"orphansAt"`   // ms: when orphans were last looked for
	Checkpoints []mark `json:"checkpoints"` // that we wrote and that are there, ascending
}

type mark struct {
	Version int64 `json:"version"`
	At      int64 `json:"at"` // ms
}

const (
	maintenanceKey = logDir + "_tidemill_maintenance"
	clockKey       = logDir + "_tidemill_clock"
)

func (t *Table) readMaintenance(ctx context.Context) (*maintenance, error) {
	st := &maintenance{}
	data, err := t.store.Get(ctx, maintenanceKey)
	if errors.Is(err, fs.ErrNotExist) {
		return st, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, st); err != nil {
		t.opt.logger.WarnContext(ctx, "the notes of maintenance cannot be read and begin anew", slog.String("table", t.root), slog.Any("error", err))
		return &maintenance{}, nil
	}
	return st, nil
}

func (t *Table) writeMaintenance(ctx context.Context, st *maintenance) error {
	data, err := json.Marshal(st)
	if err != nil {
		return err
	}
	return t.store.Put(ctx, maintenanceKey, data)
}

func (st *maintenance) noteCheckpoint(version int64, now time.Time) {
	st.Checkpoints = slices.DeleteFunc(st.Checkpoints, func(m mark) bool { return m.Version == version })
	st.Checkpoints = append(st.Checkpoints, mark{version, now.UnixMilli()})
	slices.SortFunc(st.Checkpoints, func(a, b mark) int { return int(a.Version - b.Version) })
}

// forgottenAfter is how long after its retention a tombstone is remembered though nobody
// has vacuumed the table.
const forgottenAfter = 7 * 24 * time.Hour

// tombstoneCutoff returns the time, in ms, before which tombstones need not be
// remembered: they are past retention, and their files deleted or long due.
func (st *maintenance) tombstoneCutoff(now time.Time, retention time.Duration) int64 {
	past := now.Add(-retention)
	return max(min(past.UnixMilli(), st.VacuumedTo), past.Add(-forgottenAfter).UnixMilli())
}

// checkpointsKept is for how long all checkpoints are kept; of older ones the first of
// each hour stays, so that an old version is never more than an hour of commits away.
const checkpointsKept = 10 * time.Minute

// thinCheckpoints deletes checkpoints that newer ones make up for. All of their commits
// are still there, so no version becomes unreadable.
func (t *Table) thinCheckpoints(ctx context.Context, st *maintenance) error {
	now := t.opt.now()
	var kept []mark
	var errs []error
	lastHour := int64(-1)
	for i, m := range st.Checkpoints {
		hour := m.At / time.Hour.Milliseconds()
		first := hour != lastHour
		lastHour = hour
		if first || i >= len(st.Checkpoints)-3 || now.Sub(time.UnixMilli(m.At)) < checkpointsKept {
			kept = append(kept, m)
			continue
		}
		if err := t.store.Delete(ctx, checkpointKey(m.Version)); err != nil {
			errs = append(errs, err)
			kept = append(kept, m)
		}
	}
	st.Checkpoints = kept
	return errors.Join(append(errs, t.writeMaintenance(ctx, st))...)
}

// storeNow returns the time by the store's clock, which objects are stamped with, or by
// ours if that is behind: whoever deletes by age must not be misled by a clock that
// was set forward.
func (t *Table) storeNow(ctx context.Context) (time.Time, error) {
	if err := t.store.Put(ctx, clockKey, []byte(t.opt.now().UTC().Format(time.RFC3339Nano))); err != nil {
		return time.Time{}, fmt.Errorf("ask the store for its time: %w", err)
	}
	o, err := t.store.Stat(ctx, clockKey)
	if err != nil {
		return time.Time{}, fmt.Errorf("ask the store for its time: %w", err)
	}
	ours, theirs := t.opt.now(), o.ModTime
	if d := ours.Sub(theirs).Abs(); d > time.Minute {
		t.opt.logger.WarnContext(ctx, "this machine's clock and the store's differ; the earlier of the two counts",
			slog.String("table", t.root), slog.Duration("difference", d), slog.Time("store", theirs))
	}
	if theirs.Before(ours) {
		return theirs, nil
	}
	return ours, nil
}

// Retention of tables that do not say, as Delta has it.
const (
	defaultTombstoneRetention = 7 * 24 * time.Hour
	defaultLogRetention       = 30 * 24 * time.Hour
)

// tombstoneRetention is how long files stay after they were taken out of the table.
func tombstoneRetention(s *Snapshot) time.Duration {
	return retentionOf(s, "delta.deletedFileRetentionDuration", defaultTombstoneRetention)
}

// FileRetention is how long a file can still be read after a later version took it out
// of the table: until then it is not vacuumed.
func (s *Snapshot) FileRetention() time.Duration { return tombstoneRetention(s) }

// logRetention is how long commits stay.
func logRetention(s *Snapshot) time.Duration {
	return max(retentionOf(s, "delta.logRetentionDuration", defaultLogRetention), tombstoneRetention(s))
}

func retentionOf(s *Snapshot, property string, otherwise time.Duration) time.Duration {
	if d, ok := parseInterval(s.Configuration()[property]); ok {
		return d
	}
	return otherwise
}

var (
	intervalPart = regexp.MustCompile(`^\s*(\d+)\s+(week|day|hour|minute|second|millisecond|microsecond)s?\b`)
	units        = map[string]time.Duration{
		"week": 7 * 24 * time.Hour, "day": 24 * time.Hour, "hour": time.Hour, "minute": time.Minute,
		"second": time.Second, "millisecond": time.Millisecond, "microsecond": time.Microsecond,
	}
)

// parseInterval reads an interval as table properties have it: "interval 1 days 12 hours".
func parseInterval(text string) (d time.Duration, ok bool) {
	rest := strings.ToLower(strings.TrimSpace(text))
	rest = strings.TrimPrefix(rest, "interval")
	for {
		m := intervalPart.FindStringSubmatch(rest)
		if m == nil {
			return d, ok && strings.TrimSpace(rest) == ""
		}
		n, err := strconv.ParseInt(m[1], 10, 64)
		if err != nil || n > int64(math.MaxInt64/units[m[2]]) {
			return 0, false
		}
		d, ok, rest = d+time.Duration(n)*units[m[2]], true, rest[len(m[0]):]
	}
}
