package pgchanges

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"
)

// mark is the cursor of a snapshot: what comes behind a page.
type mark struct {
	Snapshot string        `json:"snapshot"` // pg_snapshot of the slot's beginning; long ones compressed, see pack
	LSN      pglogrepl.LSN `json:"lsn"`      // of the slot's beginning
	Time     time.Time     `json:"time"`
	Table    string        `json:"table"` // those with lower names are read
	Key      []string      `json:"key"`   // of the last row, as text
	Rows     int64         `json:"rows"`  // of all pages
	Done     bool          `json:"done,omitempty"`
}

// same says whether both are behind the same row of a snapshot.
func (m mark) same(o mark) bool {
	return m.Table == o.Table && m.Rows == o.Rows && slices.Equal(m.Key, o.Key)
}

// maxSnapshot is how long the snapshot's text may be in a cursor, which also has a key.
const maxSnapshot = 2 << 10

// pack makes a long snapshot's text short: one with many open transactions lists them all.
func pack(snapshot string) (string, error) {
	if len(snapshot) <= 256 {
		return snapshot, nil
	}
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err != nil {
		return "", err
	}
	if _, err := io.WriteString(w, snapshot); err != nil {
		return "", err
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	out := "z" + base64.StdEncoding.EncodeToString(b.Bytes())
	if len(out) > maxSnapshot {
		return "", fmt.Errorf("the slot was created while %d transactions were open, too many to remember; it is tried again", strings.Count(snapshot, ",")+1)
	}
	return out, nil
}

func unpack(s string) (string, error) {
	packed, ok := strings.CutPrefix(s, "z")
	if !ok {
		return s, nil
	}
	b, err := base64.StdEncoding.DecodeString(packed)
	if err != nil {
		return "", fmt.Errorf("the snapshot's cursor cannot be read: %w", err)
	}
	out, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(b)), 1<<20))
	if err != nil {
		return "", fmt.Errorf("the snapshot's cursor cannot be read: %w", err)
	}
	return string(out), nil
}

// snapshot reads the rows that were there when the slot was created.
type snapshot struct {
	c         Config
	conn      *pgx.Conn // in the exported snapshot's transaction, or in none
	held      *pgx.Conn // has the lock
	db        *database
	partition string
	mark      mark  // behind the last page that is in
	next      int64 // offset
	void      int64 // offsets before it that nothing comes of any more
	pages     *stage
	pending   *page // was staged by a process that did not see it in; nil: none
	out       chan Batch
	filter    string // SQL: which row versions are the snapshot's; empty: all that are seen
}

// begin opens a connection that sees the exported snapshot, and returns the snapshot's text.
func (c Config) begin(ctx context.Context, exported string) (*pgx.Conn, string, error) {
	conn, err := c.connect(ctx, false)
	if err != nil {
		return nil, "", err
	}
	for _, sql := range []string{"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "SET TRANSACTION SNAPSHOT '" + exported + "'"} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			_ = conn.Close(ctx)
			return nil, "", fmt.Errorf("read in the slot's snapshot: %w", err)
		}
	}
	var text string
	if err := conn.QueryRow(ctx, "SELECT pg_current_snapshot()::text").Scan(&text); err != nil {
		_ = conn.Close(ctx)
		return nil, "", fmt.Errorf("read in the slot's snapshot: %w", err)
	}
	return conn, text, nil
}

// visible is the condition that a row's version is of a snapshot that cannot be gone back
// into. It is empty where transaction numbers have been used up once, which see the
// package comment.
func visible(ctx context.Context, conn *pgx.Conn, snapshot string) (string, error) {
	var next int64
	if err := conn.QueryRow(ctx, "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::int8").Scan(&next); err != nil {
		return "", fmt.Errorf("look at transaction numbers: %w", err)
	}
	if next >= 1<<32 {
		return "", nil
	}
	for _, r := range snapshot {
		if !strings.ContainsRune("0123456789:,", r) {
			return "", errors.New("the snapshot's cursor cannot be read")
		}
	}
	return "pg_visible_in_snapshot(xmin::text::xid8, '" + snapshot + "'::pg_snapshot)", nil
}

// run hands out page after page, each when the one before it has been acked. The next but one
// is read meanwhile: the last page is to know that it is the last.
func (s *snapshot) run(ctx context.Context) error {
	if s.pending != nil {
		if err := s.deliver(ctx, s.pending); err != nil {
			return err
		}
		s.pending = nil
	}
	for !s.mark.Done {
		from := s.mark
		p, err := s.behind(ctx, from)
		if err != nil {
			return err
		}
		if p == nil {
			return nil
		}
		next, err := s.behind(ctx, p.mark)
		// What was read ahead is of use as long as each page is the one that was read.
		for p != nil && err == nil && s.mark.same(from) {
			p.mark.Done = next == nil
			from = p.mark
			p, next, err = s.deliverAndRead(ctx, p, next)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// deliverAndRead delivers a page while it reads the one behind the next, and returns the two that follow.
func (s *snapshot) deliverAndRead(ctx context.Context, p, next *page) (*page, *page, error) {
	var after *page
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.deliver(ctx, p) })
	if next != nil {
		g.Go(func() (err error) {
			after, err = s.behind(ctx, next.mark)
			return err
		})
	}
	return next, after, g.Wait()
}

// behind reads the page behind a mark; nil if there is none.
func (s *snapshot) behind(ctx context.Context, m mark) (*page, error) {
	for _, t := range s.db.tables {
		if t.name < m.Table || t.name == m.Table && len(m.Key) == 0 {
			continue
		}
		p, err := s.read(ctx, t, m)
		if p != nil || err != nil {
			return p, err
		}
	}
	return nil, nil
}

// deliver stages a page, hands it out and waits for its ack. If another process has staged one in its
// place, then that one, and the mark is behind its last row.
func (s *snapshot) deliver(ctx context.Context, p *page) error {
	var err error
	if p != s.pending {
		p.first = s.next
		if p, err = s.pages.put(ctx, p); err != nil {
			return err
		}
	}
	if err := s.held.Ping(ctx); err != nil {
		return fmt.Errorf("the connection that holds the slot is gone: %w", err)
	}
	if err := s.handOut(ctx, p); err != nil {
		return err
	}
	s.mark, s.next = p.mark, p.next()
	at, err := s.c.At(ctx, s.partition)
	switch {
	case err != nil:
		return err
	case at.Found && at.Offset >= s.next-1:
		s.pages.drop(ctx, p)
	case p.mark.Done:
		return s.pages.end(ctx, p)
	default:
		s.pages.kept = p // until the next one is there
	}
	return nil
}

// handOut hands a page out and waits for its ack.
func (s *snapshot) handOut(ctx context.Context, p *page) error {
	cursor, err := json.Marshal(p.mark)
	if err != nil {
		return fmt.Errorf("encode the snapshot's cursor: %w", err)
	}
	acked := make(chan struct{})
	b := Batch{Page: true, ack: sync.OnceFunc(func() { close(acked) })}
	if s.c.Lines {
		b.Rows = []Row{{Partition: s.partition, Offset: p.first, Rows: p.rows, Data: bytes.Join(p.lines, []byte{'\n'})}}
	} else {
		for i, line := range p.lines {
			b.Rows = append(b.Rows, Row{Partition: s.partition, Offset: p.first + int64(i), Rows: 1, Data: line})
		}
	}
	b.Rows[0].Void = s.void
	b.Rows[len(b.Rows)-1].Cursor = string(cursor)
	s.void = 0
	select {
	case s.out <- b:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-acked:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// read returns the page of a table behind a mark; nil if there is none.
func (s *snapshot) read(ctx context.Context, t *table, m mark) (*page, error) {
	var params [][]byte
	if t.name == m.Table {
		for _, v := range m.Key {
			params = append(params, []byte(v))
		}
	}
	sql, oids := s.sql(t, len(params) > 0)
	if len(params) == 0 {
		oids = nil
	}
	rr := s.conn.PgConn().ExecParams(ctx, sql, params, oids, nil, nil)
	p := &page{mark: m}
	size := 0
	for rr.NextRow() {
		if size >= pageBytes {
			continue // the rest of the answer is read again as the next page
		}
		line := s.line(t, rr.Values(), p.mark)
		p.mark.Rows++
		p.mark.Table, p.mark.Key = t.name, keyOf(t, rr.Values())
		p.lines, p.rows, size = append(p.lines, line), p.rows+1, size+len(line)
	}
	if _, err := rr.Close(); err != nil {
		return nil, fmt.Errorf("read the rows of %s: %w", t.name, err)
	}
	if len(p.lines) == 0 {
		return nil, nil
	}
	return p, p.pack()
}

// sql is the query of a page, and the types of its parameters, the key.
func (s *snapshot) sql(t *table, behind bool) (string, []uint32) {
	var cols, key, params []string
	var oids []uint32
	for _, c := range t.columns {
		cols = append(cols, pgx.Identifier{c.bare}.Sanitize())
	}
	for i, c := range t.key {
		key = append(key, pgx.Identifier{c.bare}.Sanitize())
		params = append(params, "$"+strconv.Itoa(i+1))
		oids = append(oids, c.oid)
	}
	var where []string
	if behind {
		where = append(where, "("+strings.Join(key, ", ")+") > ("+strings.Join(params, ", ")+")")
	}
	if s.filter != "" {
		where = append(where, s.filter)
	}
	sql := "SELECT " + strings.Join(cols, ", ") + " FROM " + identifier(t.name)
	if len(where) > 0 {
		sql += " WHERE " + strings.Join(where, " AND ")
	}
	return sql + " ORDER BY " + strings.Join(key, ", ") + " LIMIT " + strconv.Itoa(s.c.PageRows), oids
}

func (s *snapshot) line(t *table, values [][]byte, m mark) []byte {
	dst := []byte{'{'}
	for i, v := range values {
		dst = append(dst, t.columns[i].name...)
		if v == nil {
			dst = append(dst, "null"...)
		} else {
			dst = s.db.types.value(dst, t.columns[i].oid, string(v))
		}
		dst = append(dst, ',')
	}
	return append(appendStamp(dst, t.name, OpSnapshot, stamp{m.LSN, m.Time}, m.Rows), '}')
}

func keyOf(t *table, values [][]byte) []string {
	key := make([]string, len(t.key))
	for k, col := range t.key {
		for i, c := range t.columns {
			if c.bare == col.bare {
				key[k] = string(values[i])
			}
		}
	}
	return key
}

// create makes the slot and returns the beginning of its snapshot. The connection that
// is returned sees the snapshot as long as it lives.
func (c Config) create(ctx context.Context, repl *pgconn.PgConn) (*pgx.Conn, mark, error) {
	action := "NOEXPORT_SNAPSHOT"
	if c.Snapshot {
		action = "EXPORT_SNAPSHOT"
	}
	r, err := pglogrepl.CreateReplicationSlot(ctx, repl, c.Slot, "pgoutput", pglogrepl.CreateReplicationSlotOptions{SnapshotAction: action, Mode: pglogrepl.LogicalReplication})
	if err != nil {
		return nil, mark{}, fmt.Errorf("create slot %s: %w", c.Slot, err)
	}
	m := mark{Time: time.Now()}
	if m.LSN, err = pglogrepl.ParseLSN(r.ConsistentPoint); err != nil || !c.Snapshot {
		return nil, m, err
	}
	conn, text, err := c.begin(ctx, r.SnapshotName)
	if err != nil {
		return nil, m, err
	}
	if m.Snapshot, err = pack(text); err != nil {
		_ = conn.Close(ctx)
		return nil, m, err
	}
	return conn, m, nil
}
