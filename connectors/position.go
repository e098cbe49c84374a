package connectors

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/tidemill/tidemill/connectors/position"
	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/lakehouse"
)

// Position says where in its source a message stands.
type Position = position.Position

// connectorOf is the connector that a source partition is of: its name begins all of them.
func connectorOf(partition string) string {
	name, _, _ := strings.Cut(strings.TrimLeft(partition, "~#"), "/")
	return name
}

// A Positioner finds the position of the messages of one kind of input. It is
// called for every message in the order in which the input hands them over,
// from one goroutine. It returns false for a message without a position, whose
// rows are then numbered for this run only and not deduplicated after a restart.
type Positioner interface {
	Position(m *service.Message) (Position, bool)
}

// NewPositioner builds a Positioner for one input of a connector.
type NewPositioner func(connector string) Positioner

// positioners says, by the name of the Benthos input, how its messages are
// positioned when the input did not stamp them itself (see package position).
// Inputs that do neither work too; their rows are numbered per run.
var positioners = map[string]NewPositioner{
	"kafka_franz": kafkaPositioner,
	"kafka":       kafkaPositioner,
	"file":        filePositioner,
}

type positionFunc func(m *service.Message) (Position, bool)

func (f positionFunc) Position(m *service.Message) (Position, bool) { return f(m) }

// kafkaPositioner reads topic, partition and offset from the metadata that
// both Kafka inputs set.
func kafkaPositioner(connector string) Positioner {
	type key struct {
		topic     string
		partition int64
	}
	ids := map[key]string{}
	return positionFunc(func(m *service.Message) (Position, bool) {
		topic, ok := m.MetaGet("kafka_topic")
		partition, ok2 := metaInt(m, "kafka_partition")
		offset, ok3 := metaInt(m, "kafka_offset")
		if !ok || !ok2 || !ok3 {
			return Position{}, false
		}
		id, ok := ids[key{topic, partition}]
		if !ok {
			id = fmt.Sprintf("%s/%s/%d", connector, topic, partition)
			ids[key{topic, partition}] = id
		}
		return Position{Partition: id, Offset: offset}, true
	})
}

// filePositioner counts the messages of scanners that do not number rows
// themselves (csv, chunker …) per path.
func filePositioner(connector string) Positioner {
	next := map[string]int64{}
	return positionFunc(func(m *service.Message) (Position, bool) {
		path, ok := m.MetaGet("path")
		if !ok {
			return Position{}, false
		}
		n := next[path]
		next[path] = n + 1
		return Position{Partition: connector + "/" + path, Offset: n}, true
	})
}

func metaInt(m *service.Message, name string) (int64, bool) {
	v, ok := m.MetaGetMut(name)
	if !ok {
		return 0, false
	}
	switch n := v.(type) {
	case int:
		return int64(n), true
	case int32:
		return int64(n), true
	case int64:
		return n, true
	case string:
		i, err := strconv.ParseInt(n, 10, 64)
		return i, err == nil
	}
	return 0, false
}

// positionKey finds a message's position in its context, which survives processors
// that replace content and metadata; countKey who wants to know how many rows there
// were in it.
type (
	positionKey struct{}
	countKey    struct{}
	unreadKey   struct{}
)

// counter is told of a message's rows when they are durable.
type counter interface{ Count(rows, quarantined int64) }

// stamped is what travels with a message from the wrapped input to the output.
type stamped struct {
	Position
	id      string           // partition of its own, by its publisher's id; usually ""
	settled position.Settler // nil: nobody says
	cursor  lakehouse.Cursor // the last one that the partition had, up to this message
	counter counter          // may be nil
	bad     *unread          // instead of a row: the input could not read it
	raw     []byte           // as the source had it, where processors come; nil: nobody has its bytes
}

// unread is a part of a source that gives no row, as it goes to quarantine.
type unread struct {
	rule, message string
	raw           []byte
}

// positionMeta is the metadata that has the position of a message on its way
// through processors. Benthos' own (mapping, for one) deal out the contexts of a
// batch's messages anew, by their places in it, so that behind a message that
// they drop every other one would have the position of its neighbour. The
// context has it where a processor drops all metadata.
const positionMeta = "_tidemill_position"

// MarshalJSON is for mappings that put all metadata into the row.
func (s *stamped) MarshalJSON() ([]byte, error) {
	return json.Marshal(fmt.Sprintf("%s:%d", s.Partition, s.Offset))
}

func withPosition(m *service.Message, s *stamped, processors bool) *service.Message {
	m = m.WithContext(context.WithValue(m.Context(), positionKey{}, s))
	if processors {
		m.MetaSetMut(positionMeta, s)
	}
	return m
}

func positionOf(m *service.Message) (*stamped, bool) {
	if v, ok := m.MetaGetMut(positionMeta); ok {
		if s, ok := v.(*stamped); ok {
			return s, true
		}
	}
	s, ok := m.Context().Value(positionKey{}).(*stamped)
	return s, ok
}

// maxGap is how many offsets a source may skip between two messages it hands
// over one after the other for them to count as settled together. Transaction
// markers and compaction leave small gaps. A larger one is more likely a
// consumer that was moved, and the offsets in between must stay open in case
// it is moved back.
const maxGap = 1000

// tracker follows one partition of one running input: what was handed over,
// in order, and up to where all of it has been acked.
type tracker struct {
	sparse  bool // no gap is closed by itself, see position.Position
	mu      sync.Mutex
	pending []delivery // in order of offsets; the front is the first not acked
	head    int        // index of the front in pending
	highest int64      // highest offset handed over; meaningless before the first
	begun   bool
	settled batch.Intervals
	end     int64 // where the partition ends, when ended
	ended   bool
}

type delivery struct {
	first, last int64
	acked       bool
}

// deliver notes a message that covers first to last (with the void offsets before
// it) and returns the function to call when it is acked. What is at or below the highest offset seen is a
// redelivery: whoever handled it first settles it.
func (t *tracker) deliver(first, last int64) func() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.begun && last <= t.highest {
		return func() {}
	}
	// A block can begin with rows that were there before, when a file has grown.
	if t.begun && first-t.highest <= t.reach() {
		first = t.highest + 1
	}
	t.begun, t.highest = true, last
	t.pending = append(t.pending, delivery{first: first, last: last})
	return func() { t.ack(first) }
}

// reach is how far behind the highest offset the next message may begin to count
// as following it.
func (t *tracker) reach() int64 {
	if t.sparse {
		return 1
	}
	return maxGap
}

func (t *tracker) ack(first int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	lo, hi := t.head, len(t.pending)
	for lo < hi {
		if mid := (lo + hi) / 2; t.pending[mid].first < first {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	t.pending[lo].acked = true
	for t.head < len(t.pending) && t.pending[t.head].acked {
		d := t.pending[t.head]
		t.settled = t.settled.Add(batch.Interval{First: d.first, Last: d.last})
		t.head++
	}
	if t.head > 1024 && t.head > len(t.pending)/2 {
		t.pending = append(t.pending[:0], t.pending[t.head:]...)
		t.head = 0
	}
}

// close notes that the partition has no offsets from end on. That is so whatever
// becomes of those before it, so the commit that holds the last ones can say it.
func (t *tracker) close(end int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end, t.ended = end, true
}

// Settled returns the spans of offsets that are done with for good: every
// message in them was acked, or there is none.
func (t *tracker) Settled() batch.Intervals {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := append(batch.Intervals(nil), t.settled...)
	if t.ended {
		s = s.Add(batch.Interval{First: t.end, Last: batch.EndOffset})
	}
	return s
}
