package kafka

import (
	"bytes"
	"unsafe"

	"github.com/klauspost/compress/s2"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/internal/recycle"
)

// IsLine says whether bytes look like an object on one line. One that is broken all the
// same stays a row by itself: what follows a closing brace in JSON is never an opening one.
func IsLine(data []byte) bool {
	return len(data) > 1 && data[0] == '{' && data[len(data)-1] == '}' && bytes.IndexByte(data, '\n') < 0
}

// buffer holds a block.
type buffer struct{ data []byte }

// pooledBytes is how large a block is at least for its memory to be kept: a source with few
// records at a time has many small ones.
const pooledBytes = 64 << 10

// Of what is kept between two uses: about what is in use at a time.
var (
	buffers recycle.Shelf[*buffer]
	room    = &recycle.Room{Bytes: 8 << 20}
)

const bufferBytes = blockBytes + blockBytes/8

// newBuffer returns an empty one with room for so many bytes.
func newBuffer(size int) *buffer {
	if size >= pooledBytes {
		if b, ok := buffers.Take(room); ok {
			if cap(b.data) >= size {
				return b
			}
			buffers.Give(room, b, bufferBytes)
		} else if size <= bufferBytes {
			return &buffer{make([]byte, 0, bufferBytes)}
		}
	}
	return &buffer{make([]byte, 0, size)}
}

func (b *buffer) release() {
	if cap(b.data) == bufferBytes {
		b.data = b.data[:0]
		buffers.Give(room, b, bufferBytes)
	}
}

// giveBack gives records' memory back to the client; nothing of them may be used any more.
func giveBack(records []*kgo.Record) {
	for _, rec := range records {
		rec.Recycle()
	}
}

// recycled is the memory that the clients take records apart in, shared by all.
var recycled = new(memory)

// memory implements kgo's PoolDecompressBytes, PoolKRecords and PoolRecords.
type memory struct {
	bytes    recycle.Shelf[[]byte]
	kRecords recycle.Shelf[[]kmsg.Record]
	records  recycle.Shelf[[]kgo.Record]
}

// expansion is how much larger than its compressed form a batch is taken to be where it
// does not say; if it is larger still, the codec grows it.
const expansion = 4

func (m *memory) GetDecompressBytes(compressed []byte, codec kgo.CompressionCodecType) []byte {
	want := expansion * len(compressed)
	if codec == kgo.CodecSnappy {
		if n, err := s2.DecodedLen(compressed); err == nil {
			want = n
		}
	}
	return take(&m.bytes, min(want, maxGuess))
}

// maxGuess bounds what is made ready before anybody has looked at what a codec says.
const maxGuess = 8 << 20

func (m *memory) PutDecompressBytes(b []byte)     { give(&m.bytes, b, 1) }
func (m *memory) GetKRecords(n int) []kmsg.Record { return take(&m.kRecords, n) }
func (m *memory) PutKRecords(r []kmsg.Record)     { give(&m.kRecords, r, kRecordBytes) }
func (m *memory) GetRecords(n int) []kgo.Record   { return take(&m.records, n) }
func (m *memory) PutRecords(r []kgo.Record)       { give(&m.records, r, recordBytes) }

const (
	kRecordBytes = int(unsafe.Sizeof(kmsg.Record{}))
	recordBytes  = int(unsafe.Sizeof(kgo.Record{}))
)

// take returns an empty slice with room for n.
func take[T any](from *recycle.Shelf[[]T], n int) []T {
	s, ok := from.Take(room)
	if ok && cap(s) >= n {
		return s[:0]
	}
	// One that is too small is let go: batches are of about the same size.
	return make([]T, 0, n+n/8)
}

func give[T any](to *recycle.Shelf[[]T], s []T, size int) { to.Give(room, s[:0], cap(s)*size) }
