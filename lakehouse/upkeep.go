package lakehouse

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Upkeep is what there is to know about the state of a table's maintenance.
type Upkeep struct {
	LogFirst   int64     // first commit that is still in the log
	LogCommits int64     // commits in the log, from it to the snapshot's
	Checkpoint int64     // newest checkpoint's version, -1: none
	VacuumedTo time.Time // tombstones up to here are of files that are deleted; zero: never vacuumed
	OrphansAt  time.Time // when orphans were last looked for; zero: never, or the note of it was lost
	// Retention is how long files stay after they were taken out of the table.
	Retention time.Duration
}

// Upkeep asks the store how far the table is maintained. It costs three small requests.
func (t *Table) Upkeep(ctx context.Context) (Upkeep, error) {
	out, err := t.upkeep(ctx)
	if err != nil {
		return Upkeep{}, fmt.Errorf("table %s: %w", t.root, err)
	}
	return out, nil
}

func (t *Table) upkeep(ctx context.Context) (Upkeep, error) {
	st, err := t.readMaintenance(ctx)
	if err != nil {
		return Upkeep{}, err
	}
	out := Upkeep{Checkpoint: t.readHint(ctx).version, LogFirst: -1, Retention: tombstoneRetention(t.Snapshot())}
	if st.VacuumedTo > 0 {
		out.VacuumedTo = time.UnixMilli(st.VacuumedTo).UTC()
	}
	if st.OrphansAt > 0 {
		out.OrphansAt = time.UnixMilli(st.OrphansAt).UTC()
	}
	for o, err := range t.store.List(ctx, logDir, "") {
		if err != nil {
			return Upkeep{}, fmt.Errorf("list the log: %w", err)
		}
		if n, ok := parseLogName(strings.TrimPrefix(o.Key, logDir)); ok && n.commit {
			out.LogFirst = n.version
			break
		}
	}
	if out.LogFirst >= 0 {
		out.LogCommits = t.Snapshot().version - out.LogFirst + 1
	}
	return out, nil
}

// CheckpointVersion returns the version of the newest checkpoint that this Table has
// written or found, -1 for none.
func (t *Table) CheckpointVersion() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.checkpoint.version
}
