package connectors

import (
	"strings"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/tidemill/tidemill/connectors/kafka"
	"github.com/tidemill/tidemill/connectors/position"
)

// joined lists the inputs whose records are put together into blocks of lines before they
// go on, where no processor wants to see them one by one: what Benthos does with a message
// costs more than all that happens to its row afterwards.
var joined = map[string]bool{"kafka_franz": true, "kafka": true}

// joinBytes is about how large a block becomes.
const joinBytes = 512 << 10

// joiner puts the messages of one batch together, in their order.
type joiner struct {
	out   service.MessageBatch
	first *service.Message // of the block
	at    Position         // of its first row
	rows  int64
	block []byte
}

// join returns the batch with rows that follow each other in a partition as one message. A
// row is what a block's line can be: an object, on one line. Anything else stays as it is.
func (s *source) join(msgs service.MessageBatch) service.MessageBatch {
	j := joiner{out: make(service.MessageBatch, 0, 8)}
	size := 0
	for _, m := range msgs {
		p, ok := s.position.Position(m)
		data, err := m.AsBytes()
		if !ok || err != nil || m.GetError() != nil || !kafka.IsLine(data) {
			j.end(s.connector)
			j.out = append(j.out, m)
			continue
		}
		if j.rows > 0 && (p.Partition != j.at.Partition || p.Offset != j.at.Offset+j.rows || len(j.block)+len(data) > joinBytes) {
			j.end(s.connector)
		}
		if j.rows == 0 {
			if size == 0 {
				size = min(joinBytes, (len(data)+1)*len(msgs))
			}
			j.first, j.at, j.block = m, p, make([]byte, 0, size)
		}
		j.block = append(append(j.block, data...), '\n')
		j.rows++
	}
	j.end(s.connector)
	return j.out
}

// end hands the block over. One of a single row is the message that it was.
func (j *joiner) end(connector string) {
	switch {
	case j.rows == 1:
		j.out = append(j.out, j.first)
	case j.rows > 1:
		j.out = append(j.out, position.Stamp(service.NewMessage(j.block), Position{
			Partition: strings.TrimPrefix(j.at.Partition, connector+"/"), Offset: j.at.Offset, PerRow: true, Rows: j.rows,
		}))
	}
	j.rows, j.first, j.block = 0, nil, nil
}
