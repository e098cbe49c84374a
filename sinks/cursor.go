package sinks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/tidemill/tidemill/lakehouse/objstore"
)

// Position is the next row to send: all rows of earlier versions are done with, and
// those of Version before Row.
type Position struct {
	Version int64 `json:"version"`
	Row     int64 `json:"row"`
}

// before says whether a position comes before another.
func (p Position) before(q Position) bool {
	return p.Version < q.Version || p.Version == q.Version && p.Row < q.Row
}

// cursor is what one object of a sink says.
type cursor struct {
	N     int64  `json:"n"`     // the object's number, from 1
	Owner string `json:"owner"` // process that has the sink; "": none
	Table string `json:"table"` // id of the scored table; "": it was not there yet
	Position
	At time.Time `json:"at"` // for people
	Told
}

const (
	// leaseFor is after what time without a sign of life a sink's owner is gone.
	leaseFor = 10 * time.Second
	// keptObjects is how many of a sink's objects stay: a process that slept is to find
	// what came after its own.
	keptObjects = 32
)

// errLost: another process has the sink.
var errLost = errors.New("another process has taken the sink over")

// lease is one process' hold on a sink's cursor.
type lease struct {
	store  objstore.Store
	prefix string // of the sink's objects
	owner  string
	now    func() time.Time
	book   *book // nil: what was told stays

	cur   cursor
	saved time.Time // when cur was written by us
}

func newLease(store objstore.Store, table, sink, owner string, now func() time.Time) *lease {
	return &lease{store: store, prefix: keyPrefix(table, sink), owner: owner, now: now}
}

func keyPrefix(table, sink string) string { return "_tidemill/sinks/" + table + "/" + sink + "/" }

func (l *lease) key(n int64) string { return fmt.Sprintf("%s%020d.json", l.prefix, n) }

// head returns the newest of a sink's objects, zero if there is none.
func head(ctx context.Context, store objstore.Store, prefix string, after int64) (cursor, error) {
	start := ""
	if after > 0 {
		start = fmt.Sprintf("%s%020d.json", prefix, after-1)
	}
	last := ""
	for o, err := range store.List(ctx, prefix, start) {
		if err != nil {
			return cursor{}, fmt.Errorf("list the cursor: %w", err)
		}
		last = o.Key
	}
	if last == "" {
		return cursor{}, nil
	}
	data, err := store.Get(ctx, last)
	if err != nil {
		return cursor{}, fmt.Errorf("read the cursor: %w", err)
	}
	var c cursor
	n, numberErr := strconv.ParseInt(strings.TrimSuffix(strings.TrimPrefix(last, prefix), ".json"), 10, 64)
	if err := json.Unmarshal(data, &c); err != nil || numberErr != nil || c.N != n {
		return cursor{}, fmt.Errorf("read the cursor: %s is not what a sink writes; delete it, and the one before it counts", last)
	}
	return c, nil
}

// acquire takes the sink: at once when nobody has it, otherwise when its owner has shown
// no sign of life for a while. took is told what the last owner has told.
func (l *lease) acquire(ctx context.Context, took func(Told)) error {
	var seen int64 = -1
	var since time.Time
	for {
		have, err := head(ctx, l.store, l.prefix, 0)
		if err != nil {
			return err
		}
		switch {
		case have.Owner == "", have.Owner == l.owner, have.N == seen && l.now().Sub(since) >= leaseFor:
			l.cur = have
			took(have.Told)
			err := l.put(ctx, have.Position, have.Table, l.owner)
			if !errors.Is(err, errLost) {
				return err
			}
			seen = -1
		case have.N != seen:
			seen, since = have.N, l.now()
		}
		if err := sleep(ctx, time.Second); err != nil {
			return err
		}
	}
}

// save writes the position, or with the one that is there a sign of life. errLost: the
// sink is another's now.
func (l *lease) save(ctx context.Context, p Position, table string) error {
	if l.now().Sub(l.saved) > leaseFor/2 { // others may think that we are gone, and what they wrote be cleaned up
		have, err := head(ctx, l.store, l.prefix, l.cur.N)
		if err != nil {
			return err
		}
		if have.N != l.cur.N {
			return errLost
		}
	}
	return l.put(ctx, p, table, l.owner)
}

// release gives the sink up.
func (l *lease) release(ctx context.Context, p Position, table string) error {
	return l.put(ctx, p, table, "")
}

func (l *lease) put(ctx context.Context, p Position, table, owner string) error {
	next := cursor{N: l.cur.N + 1, Owner: owner, Table: table, Position: p, At: l.now().UTC(), Told: l.cur.Told}
	if l.book != nil {
		next.Told = l.book.tell()
	}
	data, err := json.Marshal(next)
	if err != nil {
		return fmt.Errorf("encode the cursor: %w", err)
	}
	key := l.key(next.N)
	for attempt := 0; ; attempt++ {
		err := l.store.PutIfAbsent(ctx, key, data)
		if err == nil {
			break
		}
		have, getErr := l.store.Get(ctx, key)
		if getErr == nil {
			if string(have) == string(data) {
				break
			}
			return errLost
		}
		if !errors.Is(getErr, fs.ErrNotExist) || attempt == 4 || ctx.Err() != nil {
			return fmt.Errorf("write the cursor: %w", err)
		}
		if err := sleep(ctx, time.Duration(attempt+1)*20*time.Millisecond); err != nil {
			return err
		}
	}
	l.cur, l.saved = next, l.now()
	if old := next.N - keptObjects; old > 0 {
		_ = l.store.Delete(ctx, l.key(old)) // it does no harm where it is
	}
	return nil
}

// sleep waits, or returns the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
