// Package position says where in its source a message stands, and hands that from
// an input to whoever lands the message.
//
// Inputs of our own stamp their messages with [Stamp]; those of Benthos are read
// by the positioners of package connectors. What a position means to a table's
// log is package batch's and lakehouse's.
//
// # Sources whose numbers have gaps
//
// Entry ids, log sequence numbers and the like are in order, but nobody knows how
// many lie between two of them. Said one by one they would fill the table's log.
// A reader that sees the whole of an ordered source, and reads x after p, knows
// that nothing lies between; it says so with [Position].Void, and the row at x
// stands for all of (p, x]. A [Follower] does the counting.
//
// That word is final, whoever else reads, crashes or delivers again: an offset
// that is void must never be that of a message. So it may not be given where the
// reader sees only some of the messages (members of a consumer group share them), nor for
// the first message after a start, before which there may be others that have
// not landed. No word, Void 0, is always right: the row then stands for its own
// offset alone.
package position

import (
	"context"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/tidemill/tidemill/internal/batch"
)

// Position says where in its source a message stands.
type Position struct {
	Partition string // see batch.Durable and batch.Keyed for what a leading ~ or # means
	Offset    int64  // of the message, or of its first row when PerRow
	PerRow    bool   // each row of the message has an offset of its own, counted from Offset
	Rows      int64  // offsets the message covers when PerRow and known before decoding; 0: one

	// End says that the partition has nothing after this message, now or later. It may not
	// go with a Settler.
	End bool

	// Void counts the offsets right before Offset that no message has, had without
	// having landed, or will ever have.
	Void int64
	// Sparse says that Void is all that is known of the offsets between messages. Of
	// other sources, small gaps are taken for offsets that hold no message as soon as
	// the messages around them are acked.
	Sparse bool
	// Settler says which offsets of the partition are done with for good, for
	// sources that know it better than the order of this process' acks. It must be
	// the same for all messages of a partition. May be nil.
	Settler Settler
	// Cursor, if not empty, is from where the source can go on behind this message, for
	// sources that have no offsets to go on from: a page token, a last key. It is kept in
	// the table's log with the rows, and the input can ask for it when it begins. Offsets
	// of such a partition count from 0, one for each row, and Rows must be known. At most
	// lakehouse.MaxCursor bytes.
	Cursor string
}

// Settler says which offsets of a partition are done with: every message in them
// has landed or was dropped by the user's processors, and none will come that has not.
// It is safe for concurrent use and does not block.
type Settler interface {
	Settled() batch.Intervals
}

// Last is the highest offset that the message is known to cover before it is decoded.
func (p Position) Last() int64 {
	if p.PerRow && p.Rows > 1 {
		return p.Offset + p.Rows - 1
	}
	return p.Offset
}

type key struct{}

// Stamp returns the message with its position.
func Stamp(m *service.Message, p Position) *service.Message {
	return m.WithContext(context.WithValue(m.Context(), key{}, p))
}

// Of returns the position that a message was stamped with. The partition is as
// the input named it, without the connector's name.
func Of(m *service.Message) (Position, bool) {
	p, ok := m.Context().Value(key{}).(Position)
	return p, ok
}

// Follower counts the void offsets between the messages of one partition that one
// reader gets in order and without leaving any out. The zero value is before the
// first message.
type Follower struct {
	last  int64
	begun bool
}

// Resume says that the reader begins right after an offset: what follows it is
// next, and nothing lies between.
func (f *Follower) Resume(after int64) { f.last, f.begun = after, true }

// Restart says that the reader cannot tell what lies before the message that is next.
func (f *Follower) Restart() { f.begun = false }

// Next returns how many offsets before x are void. One at or below an earlier
// message's is a redelivery, of which nothing new is known.
func (f *Follower) Next(x int64) (void int64) {
	switch {
	case !f.begun:
		f.last, f.begun = x, true
	case x > f.last:
		void = x - f.last - 1
		f.last = x
	}
	return void
}
