package pgchanges

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/lakehouse/objstore"
)

// Source hands out rows: those of the snapshot, then changes. When it fails another one is
// opened, which goes on where the table's log says.
type Source struct {
	c      Config
	out    chan Batch
	cancel context.CancelFunc
	done   chan struct{} // closed when the goroutine has ended
	err    error         // why it has; read after done
}

// Open connects, makes what is missing (publication, slot), and begins to read. Errors
// say what to do; all of them may pass, so that trying again is right.
func Open(ctx context.Context, c Config) (*Source, error) {
	c = c.withDefaults()
	sql, err := c.connect(ctx, false)
	if err != nil {
		return nil, err
	}
	repl, err := c.connect(ctx, true)
	if err != nil {
		_ = sql.Close(ctx)
		return nil, err
	}
	r := &reading{c: c, sql: sql, repl: repl, out: make(chan Batch)}
	if err := r.prepare(ctx); err != nil {
		r.close(ctx)
		return nil, err
	}
	s := &Source{c: c, out: r.out, done: make(chan struct{})}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	go func() {
		defer close(s.done)
		s.err = r.run(running)
		r.close(context.WithoutCancel(ctx))
	}()
	return s, nil
}

// Next returns the next rows; an error is the source's end.
func (s *Source) Next(ctx context.Context) (Batch, error) {
	select {
	case b := <-s.out:
		return b, nil
	case <-s.done:
		return Batch{}, s.err
	case <-ctx.Done():
		return Batch{}, ctx.Err()
	}
}

// Close ends the source. What was handed out and not acked comes again.
func (s *Source) Close() {
	s.cancel()
	<-s.done
}

// reading is one connection's way through snapshot and changes.
type reading struct {
	c         Config
	db        *database
	sql, repl *pgx.Conn // sql has the lock
	partition string
	out       chan Batch

	pages     *stage    // of the slot's snapshot; nil without one
	first     *snapshot // nil: there is nothing to read, or no more
	confirmed pglogrepl.LSN
	in        batch.Intervals // offsets of changes that are in
}

func (r *reading) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_ = r.repl.Close(ctx)
	_ = r.sql.Close(ctx)
	if r.first != nil && r.first.conn != nil {
		_ = r.first.conn.Close(ctx)
	}
}

// prepare finds out where to go on.
func (r *reading) prepare(ctx context.Context) error {
	var err error
	if r.db, err = r.c.look(ctx, r.sql, r.repl); err != nil {
		return err
	}
	if err := r.c.lock(ctx, r.sql); err != nil {
		return err
	}
	if err := r.c.publish(ctx, r.sql, r.db); err != nil {
		return err
	}
	r.partition = r.c.Slot + "/" + r.db.system
	return r.resume(ctx)
}

// resume compares what the table has with what the server has.
func (r *reading) resume(ctx context.Context) error {
	changes, err := r.c.At(ctx, r.partition)
	if err != nil {
		return err
	}
	r.in = changes.In
	if n := len(r.in); n > 0 {
		if high := pglogrepl.LSN(r.in[n-1].Last >> lsnShift); high > r.db.wal { //nolint:gosec // not negative
			return fmt.Errorf("the table has changes up to %s of slot %s, and the server has written WAL only up to %s: it was restored, or another took over without having all. %s", high, r.c.Slot, r.db.wal, anew)
		}
	}
	s, err := r.c.findSlot(ctx, r.sql)
	if err != nil {
		return err
	}
	rows := Standing{}
	var staged *page
	if r.c.Snapshot {
		if rows, err = r.c.At(ctx, r.partition+"/snapshot"); err != nil {
			return err
		}
		if staged, err = r.staged(ctx); err != nil {
			return err
		}
	}
	begun := rows.Found || len(r.in) > 0
	r.c.Log.Info("going on where the table's log says", slog.String("slot", r.c.Slot), slog.Bool("slot_exists", s != nil), slog.Bool("snapshot_begun", rows.Found), slog.Bool("changes_begun", len(r.in) > 0), slog.Bool("page_on_its_way", staged != nil && !staged.acked))
	switch {
	case s == nil && begun:
		return fmt.Errorf("slot %s is gone from the server, and with it the changes since the last ones in the table. %s", r.c.Slot, anew)
	case s != nil && s.active:
		return fmt.Errorf("slot %s is in use by another connection; it is tried again", r.c.Slot)
	case s == nil:
		return r.begin(ctx, rows)
	case r.c.Snapshot && !begun && (staged == nil || staged.mark.LSN != s.confirmed && !staged.acked):
		// Nothing of its snapshot is on its way, and nobody can go back into it.
		if err := pglogrepl.DropReplicationSlot(ctx, r.repl.PgConn(), r.c.Slot, pglogrepl.DropReplicationSlotOptions{}); err != nil {
			return fmt.Errorf("drop slot %s, to begin its snapshot anew: %w", r.c.Slot, err)
		}
		return r.begin(ctx, rows)
	}
	r.confirmed = s.confirmed
	if !rows.Found && (begun || staged == nil) {
		return nil
	}
	return r.goOn(ctx, rows, staged)
}

// begin creates the slot.
func (r *reading) begin(ctx context.Context, rows Standing) error {
	if r.c.Snapshot {
		if err := r.pages.clear(ctx); err != nil {
			return err
		}
	}
	conn, m, err := r.c.create(ctx, r.repl.PgConn())
	if err != nil {
		return err
	}
	r.confirmed = m.LSN
	if r.c.Snapshot {
		r.first = r.snapshot(rows, m, nil)
		r.first.conn = conn
	}
	return nil
}

// staged returns the newest page of the slot's snapshot that another process, or this one before
// its connection was lost, has kept; nil if there is none.
func (r *reading) staged(ctx context.Context) (*page, error) {
	store, err := r.c.Pages(ctx)
	if err != nil {
		return nil, err
	}
	r.pages = &stage{store: objstore.WithPrefix(store, r.partition), log: r.c.Log}
	return r.pages.newest(ctx)
}

// goOn prepares the rest of a snapshot that another process has begun.
func (r *reading) goOn(ctx context.Context, rows Standing, staged *page) error {
	var m mark
	if rows.Found {
		if err := json.Unmarshal([]byte(rows.Cursor), &m); err != nil {
			return fmt.Errorf("the snapshot's cursor cannot be read: %w", err)
		}
		if m.Done {
			if staged != nil {
				r.pages.tidy(ctx)
			}
			return nil
		}
		if staged != nil && (staged.mark.LSN != m.LSN || staged.first <= rows.Offset) {
			r.pages.tidy(ctx) // all of it is in
			staged = nil
		}
	} else {
		m = staged.mark
	}
	if staged != nil && staged.acked {
		return nil
	}
	text, err := unpack(m.Snapshot)
	if err != nil {
		return err
	}
	first := r.snapshot(rows, m, staged)
	if first.conn, err = r.c.connect(ctx, false); err != nil {
		return err
	}
	r.first = first
	first.filter, err = visible(ctx, first.conn, text)
	return err
}

// snapshot is the snapshot from where it stands.
func (r *reading) snapshot(rows Standing, m mark, staged *page) *snapshot {
	s := &snapshot{
		c: r.c, db: r.db, held: r.sql, partition: r.partition + "/snapshot", mark: m, out: r.out,
		pages: r.pages, pending: staged,
	}
	if rows.Found {
		s.next = rows.Offset + 1
	}
	switch n := len(rows.In); {
	case staged != nil:
		// What is missing before it was acked: processors have dropped it.
		s.next, s.void = staged.first, staged.first-s.next
	case n > 0 && rows.In[n-1].Last >= s.next:
		// Part of a page is in that nobody knows any more, since somebody has deleted it: its
		// offsets are given up.
		high := rows.In[n-1].Last
		s.next, s.void = high+1, high+1-s.next
	}
	return s
}

// run reads the snapshot, then the changes.
func (r *reading) run(ctx context.Context) error {
	if r.first != nil {
		if err := r.first.run(ctx); err != nil {
			return err
		}
		_ = r.first.conn.Close(ctx)
		r.first = nil
	}
	args := []string{"proto_version '1'", "publication_names '" + quoteName(r.c.Publication) + "'"}
	if err := pglogrepl.StartReplication(ctx, r.repl.PgConn(), r.c.Slot, r.confirmed, pglogrepl.StartReplicationOptions{Mode: pglogrepl.LogicalReplication, PluginArgs: args}); err != nil {
		return fmt.Errorf("start replication from slot %s: %w", r.c.Slot, err)
	}
	s := &stream{
		c: r.c, conn: r.repl.PgConn(), types: r.db.types, partition: r.partition, include: map[Op]bool{}, tables: map[string]bool{},
		progress: &progress{flushed: r.confirmed}, relations: map[uint32]*relation{}, end: r.confirmed, last: r.before(), out: r.out,
	}
	s.reload = func(ctx context.Context) error {
		conn, err := r.c.connect(ctx, false)
		if err != nil {
			return err
		}
		return errors.Join(r.db.types.load(ctx, conn), conn.Close(ctx))
	}
	for _, op := range r.c.Include {
		s.include[op] = true
	}
	for _, t := range r.db.tables {
		s.tables[t.name] = true
	}
	return s.run(ctx)
}

// before returns the last offset before the slot's confirmed position that is in: what
// lies between has been acked, or never was.
func (r *reading) before() int64 {
	first := offsetOf(r.confirmed)
	for _, v := range slices.Backward(r.in) {
		if v.First < first {
			return min(v.Last, first-1)
		}
	}
	return -1
}

// quoteName is a publication's name in the options of START_REPLICATION: an identifier in
// a string.
func quoteName(name string) string {
	out := []byte{'"'}
	for _, c := range []byte(name) {
		switch c {
		case '"', '\'':
			out = append(out, c)
		}
		out = append(out, c)
	}
	return string(append(out, '"'))
}
