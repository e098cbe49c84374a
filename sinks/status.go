package sinks

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/tidemill/tidemill/internal/secret"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/objstore"
)

// Told is what the process that has a sink tells of it, for people. It lies in the
// cursor, so that every process can say it; what was told since the cursor was last
// saved is lost with the process.
type Told struct {
	Process    string     `json:"process,omitempty"`    // that has the sink, or had it last
	Generation int64      `json:"generation,omitempty"` // of that process's project, with which the sink began there
	Sent       int64      `json:"sent"`                 // rows taken since the sink was new, those that were sent again included
	Refused    int64      `json:"refused"`              // rows in quarantine
	Down       bool       `json:"down,omitempty"`       // it takes no rows
	Error      string     `json:"error,omitempty"`      // the last warning or error, which it may have got over since
	ErrorAt    *time.Time `json:"error_at,omitempty"`
}

// Status is how far a sink is.
type Status struct {
	Told
	Held     bool      // a process has it, or had it when it died
	Here     bool      // this one does
	Seen     time.Time // when that process last gave a sign of life
	Version  int64     // of the scored table, up to which all rows are sent or refused; -1: none
	Versions int64     // that are not done with
	Rows     int64     // in those versions that are not done with; -1: not known without looking far
}

// rowsWithin is how many versions are looked at for the rows that a sink is behind.
const rowsWithin = 256

// ReadStatus reads how far a contract's sink is, for a process that does not run it.
// scored is nil while the table is not there.
func ReadStatus(ctx context.Context, store objstore.Store, scored *lakehouse.Table, table, sink string) (Status, error) {
	have, err := head(ctx, store, keyPrefix(table, sink), 0)
	if err != nil {
		return Status{}, fmt.Errorf("sink %s: %w", sink, err)
	}
	return statusOf(ctx, have, scored)
}

// Status says how far the sink is: from the cursor, unless it is this process that has
// it, which knows better.
func (r *Runner) Status(ctx context.Context) (Status, error) {
	scored, err := r.o.Scored(ctx)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Status{}, err
	}
	have, err := head(ctx, r.o.Store, keyPrefix(r.o.Contract.Name(), r.o.Sink.Name), 0)
	u := r.now.Load()
	if err != nil && u == nil {
		return Status{}, fmt.Errorf("sink %s: %w", r.o.Sink.Name, err)
	}
	if u != nil && (err != nil || have.Owner == r.owner) {
		have.Owner, have.At, have.Told = r.owner, r.o.Now(), r.book.tell()
		have.Position, _ = u.done.position()
	}
	s, err := statusOf(ctx, have, scored)
	s.Here = have.Owner == r.owner
	return s, err
}

func statusOf(ctx context.Context, have cursor, scored *lakehouse.Table) (Status, error) {
	s := Status{Told: have.Told, Held: have.Owner != "", Seen: have.At, Version: have.Version - 1}
	if scored == nil {
		return s, nil
	}
	var err error
	s.Versions, s.Rows, err = behind(ctx, scored, have.Position)
	return s, err
}

// behind counts what comes after a position.
func behind(ctx context.Context, scored *lakehouse.Table, at Position) (versions, rows int64, err error) {
	last := scored.Snapshot().Version()
	if versions = max(0, last-at.Version+1); versions > rowsWithin {
		return versions, -1, nil
	}
	changes, err := scored.Changes(ctx, at.Version-1, last)
	if errors.Is(err, fs.ErrNotExist) {
		return versions, -1, nil // some were cleaned up
	}
	if err != nil {
		return versions, -1, err
	}
	for i := range changes {
		for _, f := range brought(&changes[i]) {
			if f.Rows < 0 {
				return versions, -1, nil
			}
			rows += f.Rows
		}
	}
	return versions, max(0, rows-at.Row), nil
}

// brought are the files whose rows a sink sends. A commit that takes files out, and is no
// compaction, has written rows again that the table had: a rescoring, say.
func brought(c *lakehouse.Change) []lakehouse.File {
	if len(c.Removed()) > 0 {
		return nil
	}
	return c.Adds
}

// book is what a runner notes of its sink while it has it.
type book struct {
	lastError func() (text string, at time.Time) // may be nil

	mu   sync.Mutex
	told Told // guarded by mu
}

// take goes on with what another process has told.
func (b *book) take(from Told, process string, generation int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.told = from
	b.told.Process, b.told.Generation = process, generation
}

func (b *book) note(f func(*Told)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f(&b.told)
}

func (b *book) tell() Told {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lastError != nil {
		text, at := b.lastError()
		if before := b.told.ErrorAt; text != "" && (before == nil || at.After(*before)) {
			b.told.Error, b.told.ErrorAt = secret.Scrub(text), &at
		}
	}
	return b.told
}
