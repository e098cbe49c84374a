package pgchanges

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

const (
	// lsnShift makes offsets of commit positions; see the package comment.
	lsnShift = 13
	// roomy is how many changes of a transaction have offsets before the next commit's.
	roomy = 40 << lsnShift
	// statusEvery is how often the server is told how far the table has come. It ends
	// connections that are silent for wal_sender_timeout, a minute.
	statusEvery = time.Second
)

func offsetOf(lsn pglogrepl.LSN) int64 { return int64(lsn) << lsnShift } //nolint:gosec // below 2^50

// progress is up to where the server may forget: what was handed out, in order, and
// what of it has been acked.
type progress struct {
	mu      sync.Mutex
	pending []*handed     // guarded by mu: not acked, or behind one that is not
	flushed pglogrepl.LSN // guarded by mu
}

// handed is a batch that was handed out. All transactions that end at or before after
// were handed out with it or earlier.
type handed struct {
	after pglogrepl.LSN
	acked bool
}

func (p *progress) hand(after pglogrepl.LSN) *handed {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := &handed{after: after}
	p.pending = append(p.pending, h)
	return h
}

func (p *progress) ack(h *handed) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h.acked = true
	n := 0
	for n < len(p.pending) && p.pending[n].acked {
		p.flushed = max(p.flushed, p.pending[n].after)
		n++
	}
	p.pending = slices.Delete(p.pending, 0, n)
}

// idle notes that there was nothing to hand out up to a position.
func (p *progress) idle(at pglogrepl.LSN) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.pending); n > 0 {
		p.pending[n-1].after = max(p.pending[n-1].after, at)
	} else {
		p.flushed = max(p.flushed, at)
	}
}

func (p *progress) get() pglogrepl.LSN {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.flushed
}

// Batch is some rows that were handed out together.
type Batch struct {
	Rows []Row
	Page bool // of the snapshot: the next source may not be opened before it is acked
	ack  func()
}

// Ack says that the rows are durable.
func (b Batch) Ack() { b.ack() }

// stream reads changes from the slot and makes rows of them, in its own goroutine.
type stream struct {
	c         Config
	conn      *pgconn.PgConn
	types     *types
	reload    func(context.Context) error // reads types anew
	partition string
	include   map[Op]bool
	tables    map[string]bool // schema.table
	progress  *progress

	relations map[uint32]*relation
	inTx      bool
	at        stamp
	end       pglogrepl.LSN // of the last transaction that was read whole
	index     int64         // of the next change in its transaction
	last      int64         // offset of the last change; what lies between it and the next is void

	rows   []Row
	bytes  int
	out    chan Batch
	status time.Time // when the server was told last
}

// run reads until the context ends or the connection fails.
func (s *stream) run(ctx context.Context) error {
	for {
		if err := s.tell(false); err != nil {
			return err
		}
		// What was read waits for more only as long as more is there already.
		wait := statusEvery
		if len(s.rows) > 0 {
			wait = 5 * time.Millisecond
		}
		short, cancel := context.WithTimeout(ctx, wait)
		m, err := s.conn.ReceiveMessage(short)
		cancel()
		switch {
		case ctx.Err() != nil:
			_ = s.tell(true) // if it fails, the server sends again what is in
			return ctx.Err()
		case err != nil && pgconn.Timeout(err):
			if err := s.hand(ctx); err != nil {
				return err
			}
			continue
		case err != nil:
			return fmt.Errorf("read changes: %w", err)
		}
		switch m := m.(type) {
		case *pgproto3.ErrorResponse:
			return fmt.Errorf("read changes: %w", pgconn.ErrorResponseToPgError(m))
		case *pgproto3.CopyData:
			if err := s.message(ctx, m.Data); err != nil {
				return err
			}
		case *pgproto3.CopyDone:
			return errors.New("read changes: the server has ended the stream")
		}
		if len(s.rows) >= s.c.BatchRows || s.bytes >= batchBytes {
			if err := s.hand(ctx); err != nil {
				return err
			}
		}
	}
}

// hand hands out what was read, and keeps the connection alive until it is taken.
func (s *stream) hand(ctx context.Context) error {
	if len(s.rows) == 0 {
		return nil
	}
	h := s.progress.hand(s.end)
	b := Batch{Rows: s.rows, ack: func() { s.progress.ack(h) }}
	s.rows, s.bytes = nil, 0
	tick := time.NewTicker(statusEvery)
	defer tick.Stop()
	for {
		select {
		case s.out <- b:
			return nil
		case <-ctx.Done():
			_ = s.tell(true)
			return ctx.Err()
		case <-tick.C:
			if err := s.tell(false); err != nil {
				return err
			}
		}
	}
}

// tell tells the server up to where it may forget.
func (s *stream) tell(now bool) error {
	if !now && time.Since(s.status) < statusEvery {
		return nil
	}
	s.status = time.Now()
	flushed := s.progress.get()
	err := pglogrepl.SendStandbyStatusUpdate(context.Background(), s.conn, pglogrepl.StandbyStatusUpdate{WALWritePosition: flushed})
	if err != nil {
		return fmt.Errorf("tell the server how far it is: %w", err)
	}
	return nil
}

func (s *stream) message(ctx context.Context, data []byte) error {
	switch data[0] {
	case pglogrepl.PrimaryKeepaliveMessageByteID:
		k, err := pglogrepl.ParsePrimaryKeepaliveMessage(data[1:])
		if err != nil {
			return fmt.Errorf("read changes: %w", err)
		}
		// All that was committed before the position has been sent.
		if !s.inTx && len(s.rows) == 0 {
			s.end = max(s.end, k.ServerWALEnd)
			s.progress.idle(s.end)
		}
		if k.ReplyRequested {
			return s.tell(true)
		}
	case pglogrepl.XLogDataByteID:
		x, err := pglogrepl.ParseXLogData(data[1:])
		if err != nil {
			return fmt.Errorf("read changes: %w", err)
		}
		m, err := pglogrepl.Parse(x.WALData)
		if err != nil {
			return fmt.Errorf("read changes: %w", err)
		}
		return s.logical(ctx, m)
	}
	return nil
}

func (s *stream) logical(ctx context.Context, m pglogrepl.Message) error {
	switch m := m.(type) {
	case *pglogrepl.BeginMessage:
		s.inTx, s.index, s.at = true, 0, stamp{m.FinalLSN, m.CommitTime}
	case *pglogrepl.CommitMessage:
		s.inTx, s.end = false, m.TransactionEndLSN
		if len(s.rows) == 0 {
			s.progress.idle(s.end)
		}
	case *pglogrepl.RelationMessage:
		s.relations[m.RelationID] = relationOf(m)
		for _, c := range m.Columns {
			if _, ok := s.types.known[c.DataType]; !ok && c.DataType >= firstUserOID {
				return s.reload(ctx) // made since, perhaps an array or a domain
			}
		}
	case *pglogrepl.InsertMessage:
		return s.change(m.RelationID, OpInsert, m.Tuple, nil, false)
	case *pglogrepl.UpdateMessage:
		return s.change(m.RelationID, OpUpdate, m.NewTuple, m.OldTuple, m.OldTupleType == 'K')
	case *pglogrepl.DeleteMessage:
		return s.change(m.RelationID, OpDelete, nil, m.OldTuple, m.OldTupleType == 'K')
	case *pglogrepl.TruncateMessage:
		for _, id := range m.RelationIDs {
			if err := s.change(id, OpTruncate, nil, nil, false); err != nil {
				return err
			}
		}
	}
	return nil
}

const firstUserOID = 16384

// change makes a row of a change. Its number counts whether or not it becomes one.
func (s *stream) change(relation uint32, op Op, row, old *pglogrepl.TupleData, keyOnly bool) error {
	r, ok := s.relations[relation]
	if !ok {
		return fmt.Errorf("read changes: the server has not described table %d", relation)
	}
	index := s.index
	s.index++
	switch {
	case !s.tables[r.name]: // the publication has more
		return nil
	case !s.include[op]:
		if op == OpTruncate {
			s.c.Log.Warn("a table was truncated; its rows stay in the lake, for truncate is not in include", "table", r.name, "slot", s.c.Slot)
		}
		return nil
	}
	at := Row{Partition: s.partition, Offset: offsetOf(s.at.lsn) + index, Sparse: true, Rows: 1}
	if index < s.c.room {
		at.Void = max(at.Offset-s.last-1, 0)
		s.last = max(s.last, at.Offset)
	} else {
		at.Partition, at.Offset, at.Sparse = fmt.Sprintf("%s/tx/%X", s.partition, uint64(s.at.lsn)), index-s.c.room, false
	}
	at.Data = s.types.change(nil, r, op, s.at, index, row, old, keyOnly)
	s.rows = append(s.rows, at)
	s.bytes += len(at.Data)
	return nil
}
