package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

// How much is handed over at once: a block of about blockBytes is what the decoder takes
// in one go, a batch of about batchBytes what is read before the reader waits for whoever
// takes it.
const (
	blockBytes = 512 << 10
	batchBytes = 2 << 20
)

// Block is one or more records of a partition that follow each other without a gap.
type Block struct {
	// Data is each record's value with a line's end after it; of Rows 0, the value of one
	// record, as it is. It is valid until the batch is done.
	Data      []byte
	Partition string // topic/number
	First     int64  // offset of the first record
	Rows      int64  // 0: one record whose value is not an object on one line
}

// Batch is what [Reader.Next] hands over. Its blocks are in the order of each partition.
type Batch struct {
	Blocks []Block
	spans  []*span
	bufs   []*buffer
	reader *Reader
}

// Done says that all rows of the batch are safe: the group's offset may move on, and the
// blocks' memory is used again. It is called once, or never.
func (b *Batch) Done() {
	b.reader.done(b.spans)
	for _, buf := range b.bufs {
		buf.release()
	}
	b.Blocks, b.spans, b.bufs = nil, nil, nil
}

// span is what one batch has of a partition.
type span struct {
	of   *partition
	next kgo.EpochOffset // behind its last record
	done bool
}

// partition is one that the group has given us, until it is taken away.
type partition struct {
	topic  string
	number int32
	name   string

	// The following are guarded by Reader.mu.
	waiting []*span // in their order: not done, or behind one that is not
	revoked bool
}

// fetched is what one answer of a broker has of a partition.
type fetched struct {
	of      *partition
	records []*kgo.Record
}

// Reader is one member of a consumer group. Next and Close are for one goroutine each.
type Reader struct {
	client *kgo.Client
	rest   []fetched // read and not yet handed over

	mu    sync.Mutex
	owned map[string]map[int32]*partition // guarded by mu: by topic
}

// Open joins the group. The options say where the brokers are, what to read and as which
// group; what concerns memory, commits and the group's changes is added. It fails when no
// broker answers.
func Open(ctx context.Context, opts ...kgo.Opt) (*Reader, error) {
	r := &Reader{owned: map[string]map[int32]*partition{}}
	client, err := kgo.NewClient(append(slices.Clone(opts),
		kgo.WithPools(recycled),
		kgo.AutoCommitMarks(),
		kgo.OnPartitionsAssigned(r.assigned),
		kgo.OnPartitionsRevoked(r.revoked),
		kgo.OnPartitionsLost(r.lost),
	)...)
	if err != nil {
		return nil, err
	}
	if err := client.Ping(ctx); err != nil {
		client.Close()
		return nil, fmt.Errorf("reach the brokers: %w", err)
	}
	r.client = client
	return r, nil
}

func (r *Reader) assigned(_ context.Context, _ *kgo.Client, given map[string][]int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for topic, numbers := range given {
		if r.owned[topic] == nil {
			r.owned[topic] = map[int32]*partition{}
		}
		for _, n := range numbers {
			r.owned[topic][n] = &partition{topic: topic, number: n, name: topic + "/" + strconv.Itoa(int(n))}
		}
	}
}

// revoked commits what is done of partitions that another member is to have. What is still
// on its way comes to that one again, and no ack of ours may move its offset.
func (r *Reader) revoked(ctx context.Context, c *kgo.Client, taken map[string][]int32) {
	r.lost(ctx, c, taken)
	_ = c.CommitMarkedOffsets(ctx) // else the other member reads more of them again
}

func (r *Reader) lost(_ context.Context, _ *kgo.Client, taken map[string][]int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for topic, numbers := range taken {
		for _, n := range numbers {
			if p := r.owned[topic][n]; p != nil {
				p.revoked = true
				delete(r.owned[topic], n)
			}
		}
	}
}

// Next waits for records and returns them as blocks, at most about 2 MiB of them, more if
// one record is longer. The error is ctx's, or says what the brokers refuse; the reader can
// be asked again, after a while.
func (r *Reader) Next(ctx context.Context) (*Batch, error) {
	for {
		if len(r.rest) == 0 {
			if err := r.poll(ctx); err != nil {
				return nil, err
			}
		}
		if b := r.batch(); len(b.Blocks) > 0 {
			return b, nil
		}
	}
}

func (r *Reader) poll(ctx context.Context) error {
	fetches := r.client.PollFetches(ctx)
	if err := ctx.Err(); err != nil {
		return err
	}
	var failed error
	fetches.EachError(func(topic string, number int32, err error) {
		var lost *kgo.ErrDataLoss
		if failed == nil && !errors.As(err, &lost) { // of which the client says more in its log
			failed = fmt.Errorf("topic %s, partition %d: %w", topic, number, err)
		}
	})
	if failed != nil && fetches.Empty() {
		return failed // of partitions that others' records stood beside it comes again
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		// One that was taken away since is another member's, and so are its offsets.
		if of := r.owned[p.Topic][p.Partition]; of != nil && len(p.Records) > 0 {
			r.rest = append(r.rest, fetched{of, p.Records})
		}
	})
	return nil
}

// batch puts together what has been read, from its front.
func (r *Reader) batch() *Batch {
	b := &Batch{reader: r}
	size := 0
	for len(r.rest) > 0 && size < batchBytes {
		f := &r.rest[0]
		taken := 0
		if !r.gone(f.of) {
			s := &span{of: f.of}
			for taken < len(f.records) && size < batchBytes {
				n, bytes := b.add(f.of.name, f.records[taken:])
				last := f.records[taken+n-1]
				s.next = kgo.EpochOffset{Epoch: last.LeaderEpoch, Offset: last.Offset + 1}
				giveBack(f.records[taken : taken+n])
				taken += n
				size += bytes
			}
			b.spans = append(b.spans, s)
		} else {
			giveBack(f.records)
			taken = len(f.records)
		}
		f.records = f.records[taken:]
		if len(f.records) == 0 {
			r.rest = r.rest[1:]
		}
	}
	if len(r.rest) == 0 {
		r.rest = nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range b.spans {
		s.of.waiting = append(s.of.waiting, s)
	}
	return b
}

func (r *Reader) gone(p *partition) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return p.revoked
}

// add makes a block of the first records and returns how many it took, and their bytes.
func (b *Batch) add(name string, records []*kgo.Record) (n, size int) {
	first := records[0]
	for _, rec := range records {
		if rec.Offset != first.Offset+int64(n) || !IsLine(rec.Value) || n > 0 && size+len(rec.Value) > blockBytes {
			break
		}
		size += len(rec.Value) + 1
		n++
	}
	if n < 2 {
		buf := newBuffer(len(first.Value))
		buf.data = append(buf.data, first.Value...)
		b.bufs = append(b.bufs, buf)
		b.Blocks = append(b.Blocks, Block{Data: buf.data, Partition: name, First: first.Offset})
		return 1, len(first.Value)
	}
	buf := newBuffer(size)
	for _, rec := range records[:n] {
		buf.data = append(append(buf.data, rec.Value...), '\n')
	}
	b.bufs = append(b.bufs, buf)
	b.Blocks = append(b.Blocks, Block{Data: buf.data, Partition: name, First: first.Offset, Rows: int64(n)})
	return n, size
}

// done marks spans, and moves the group's offsets behind what is done without a gap.
func (r *Reader) done(spans []*span) {
	r.mu.Lock()
	defer r.mu.Unlock()
	marks := map[string]map[int32]kgo.EpochOffset{}
	for _, s := range spans {
		s.done = true
		p, moved, to := s.of, false, kgo.EpochOffset{}
		for len(p.waiting) > 0 && p.waiting[0].done {
			moved, to = true, p.waiting[0].next
			p.waiting = p.waiting[1:]
		}
		if !moved || p.revoked {
			continue
		}
		if marks[p.topic] == nil {
			marks[p.topic] = map[int32]kgo.EpochOffset{}
		}
		marks[p.topic][p.number] = to
	}
	if len(marks) > 0 {
		// Under the lock: once a partition is revoked, none of its offsets may be marked.
		r.client.MarkCommitOffsets(marks)
	}
}

// Close commits the offsets of what is done, and leaves the group. It gives up waiting for
// the brokers when ctx ends; what goes on then ends by itself.
func (r *Reader) Close(ctx context.Context) {
	_ = r.client.CommitMarkedOffsets(ctx) // else the next member reads more of them again
	left := make(chan struct{})
	go func() {
		r.client.Close()
		close(left)
	}()
	select {
	case <-left:
	case <-ctx.Done():
	}
}
