package lakehouse

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tidemill/tidemill/lakehouse/delta"
)

// VersionError says that a version of a table cannot be had, and which can.
type VersionError struct {
	Table            string
	Wanted           string // "version 12", "2026-01-01T00:00:00Z"
	Earliest, Latest int64
	EarliestTime     time.Time // of Earliest; zero when not known
}

func (e *VersionError) Error() string {
	text := fmt.Sprintf("table %s has no %s: versions %d to %d can be read", e.Table, e.Wanted, e.Earliest, e.Latest)
	if !e.EarliestTime.IsZero() {
		text += fmt.Sprintf(", the first of %s", e.EarliestTime.UTC().Format(time.RFC3339Nano))
	}
	return text + "; older ones are gone once delta.logRetentionDuration has passed"
}

// Commits returns the first and the last version whose commits are in the log. Those
// before the first were cleaned up, and are in a checkpoint; first is beyond last when all
// were.
func (t *Table) Commits(ctx context.Context) (first, last int64, err error) {
	l, err := t.list(ctx, -1)
	if err != nil {
		return 0, 0, fmt.Errorf("table %s: %w", t.root, err)
	}
	_, last = l.readable()
	if len(l.runs) == 0 {
		return last + 1, last, nil
	}
	return l.lowest(), last, nil
}

// At returns the snapshot of one version, a *VersionError when it is not there, or not
// any more. Files that the table has lost since then may have been vacuumed. It costs
// a listing of the log, a checkpoint and up to an hour of commits.
func (t *Table) At(ctx context.Context, version int64) (*Snapshot, error) {
	if s := t.Snapshot(); s.version == version {
		return s, nil
	}
	if version > t.Snapshot().version {
		if _, err := t.Refresh(ctx); err != nil {
			return nil, err
		}
	}
	if s := t.Snapshot(); s.version == version {
		return s, nil
	}
	s, err := t.at(ctx, version)
	if err != nil {
		return nil, fmt.Errorf("version %d of table %s: %w", version, t.root, err)
	}
	return s, nil
}

func (t *Table) at(ctx context.Context, version int64) (*Snapshot, error) {
	for try := 1; ; try++ {
		l, err := t.list(ctx, -1)
		if err != nil {
			return nil, err
		}
		earliest, latest := l.readable()
		if version < earliest || version > latest {
			return nil, &VersionError{Table: t.root, Wanted: fmt.Sprintf("version %d", version), Earliest: earliest, Latest: latest}
		}
		h, _, err := t.build(ctx, l, version, hint{-1, -1})
		if err == nil {
			return h.snap, nil
		}
		if try == 3 || !errors.Is(err, errMissing) {
			return nil, err
		}
	}
}

// readable returns the first and last version that a log can give: those of its last
// stretch of commits, from 0 or from a checkpoint on.
func (l *listing) readable() (earliest, latest int64) {
	earliest = l.lowest()
	latest = earliest - 1
	if len(l.runs) > 0 {
		latest = l.runs[len(l.runs)-1].last
	}
	found := earliest == 0 && len(l.runs) > 0
	for _, c := range l.checkpoints {
		if !found && c.version >= earliest-1 {
			earliest, found = c.version, true
		}
		latest = max(latest, c.version)
	}
	return earliest, latest
}

// AsOf returns the snapshot of the last version that was committed at or before a time,
// a *VersionError when the log does not go back that far. A commit's time is that of its
// object in the store, as other readers have it, and never before the commit it follows.
func (t *Table) AsOf(ctx context.Context, at time.Time) (*Snapshot, error) {
	s, err := t.Refresh(ctx)
	if err != nil {
		return nil, err
	}
	if s.Configuration()["delta.enableInCommitTimestamps"] == "true" {
		return nil, fmt.Errorf("table %s: %w", t.root, &delta.UnsupportedError{
			Feature: "inCommitTimestamp", Detail: "the table's versions have times of their own; ask for a version by its number",
		})
	}
	l, err := t.list(ctx, -1)
	if err != nil {
		return nil, fmt.Errorf("table %s: %w", t.root, err)
	}
	earliest, latest := l.readable()
	version, first, last := int64(-1), time.Time{}, time.Time{}
	for o, err := range t.store.List(ctx, logDir, "") {
		if err != nil {
			return nil, fmt.Errorf("table %s: list the log: %w", t.root, err)
		}
		n, ok := parseLogName(strings.TrimPrefix(o.Key, logDir))
		if !ok || n.version < earliest || !n.commit && n.version != earliest {
			continue
		}
		if o.ModTime.After(last) {
			last = o.ModTime
		}
		if first.IsZero() {
			first = last
		}
		if last.After(at) {
			break
		}
		version = n.version
	}
	if version < 0 {
		return nil, fmt.Errorf("table %s: %w", t.root, &VersionError{
			Table: t.root, Wanted: "version as old as " + at.UTC().Format(time.RFC3339Nano), Earliest: earliest, Latest: latest, EarliestTime: first,
		})
	}
	return t.At(ctx, version)
}
