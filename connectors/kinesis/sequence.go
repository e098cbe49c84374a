package kinesis

import (
	"math/big"
	"strconv"

	"github.com/tidemill/tidemill/connectors/position"
)

// A sequence number of Kinesis is 47 hexadecimal digits, which stand, from the left,
// for: 2; the second in which the shard was made (9) and the last digit of its number (1); a
// counter of the shard (16, the first at most 7); a byte; a time in seconds (9);
// the shard's number (8); the version, 2. The counter grows with every record, by one
// within a PutRecords and by more between. So it is the offset, and what stands before
// it goes into the partition's name: it is another one for a shard of a stream that
// was made anew.
const (
	digits       = 47
	counterBegin = 11
	counterEnd   = 27
)

// offsetOf takes a sequence number apart: what it has of the shard, and the counter.
// It refuses those that are not written as above.
func offsetOf(sequence string) (made string, offset int64, ok bool) {
	n, ok := new(big.Int).SetString(sequence, 10)
	if !ok {
		return "", 0, false
	}
	hex := n.Text(16)
	if len(hex) != digits || hex[0] != '2' || hex[digits-1] != '2' {
		return "", 0, false
	}
	offset, err := strconv.ParseInt(hex[counterBegin:counterEnd], 16, 64)
	if err != nil {
		return "", 0, false
	}
	return hex[1:counterBegin], offset, true
}

// less compares two sequence numbers, which have no leading zeros.
func less(a, b string) bool {
	if len(a) != len(b) {
		return len(a) < len(b)
	}
	return a < b
}

// placer gives the records of one shard their positions, in the order in which one
// reader gets them: nothing lies between two of them.
//
// How sequence numbers are built is what one sees, not what AWS promises. So the counter
// is checked against the record before: where it does not grow, and for numbers that are
// built otherwise, the whole number is an idempotency key.
type placer struct {
	shard string // stream and shard, as they are in the config
	made  string
	name  string // of the partition
	last  int64  // offset of the record before, or -1
	pos   position.Follower
}

// resume says that what is read next follows a record, and that all up to it has landed. Without
// one, what lies before the next is not known.
func (p *placer) resume(sequence string) {
	p.last = -1
	p.pos.Restart()
	if made, at, ok := offsetOf(sequence); ok {
		p.of(made)
		p.last = at
		p.pos.Resume(at)
	}
}

func (p *placer) of(made string) { p.made, p.name = made, p.shard+"@"+made }

func (p *placer) at(sequence string) position.Position {
	made, at, ok := offsetOf(sequence)
	if ok && made != p.made {
		p.of(made)
		p.last = -1
		p.pos.Restart()
	}
	if !ok || at <= p.last {
		p.pos.Restart()
		return position.Position{Partition: "#" + p.shard + "/" + sequence, PerRow: true}
	}
	p.last = at
	return position.Position{Partition: p.name, Offset: at, Void: p.pos.Next(at), Sparse: true}
}
