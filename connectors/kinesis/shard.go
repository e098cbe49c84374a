package kinesis

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/redpanda-data/benthos/v4/public/service"
)

const (
	// pace is how often a shard is asked for records: AWS answers five times a second.
	pace = 200 * time.Millisecond
	// askFor bounds the records of an answer; it has at most 10 MB.
	askFor = 10_000
	// handOver is how many of them go on as one batch.
	handOver = 2_000

	firstRetry, lastRetry = 300 * time.Millisecond, 5 * time.Second
)

// span is a batch that is on its way.
type span struct {
	last string // sequence number of its last record
	done bool
}

// shard is one that this process reads.
type shard struct {
	in     *input
	of     *stream
	id     string
	cancel context.CancelFunc
	ended  chan struct{} // closed when it is not read any more

	at   string // sequence number of the last record that was read; run's own
	from string // with none, when to begin; run's own

	mu      sync.Mutex
	waiting []*span // guarded by mu: in their order, not done, or behind one that is not
	acked   string  // guarded by mu
	closed  bool    // guarded by mu: all records have been read, and there will be no more

	// The following are the coordinator's own.
	written string    // the last sequence number in the table
	renewed time.Time // when the table was last told
}

// run reads until ctx ends, or the shard.
func (s *shard) run(ctx context.Context) {
	defer close(s.ended)
	retry, iterator := firstRetry, ""
	for ctx.Err() == nil {
		next := time.After(pace)
		if !s.in.room.acquire(ctx) {
			return
		}
		records, following, err := s.ask(ctx, iterator)
		s.in.room.release(1)
		var expired *types.ExpiredIteratorException
		switch {
		case ctx.Err() != nil:
			return
		case errors.As(err, &expired):
			iterator = ""
			continue
		case err != nil:
			iterator = "" // it may be one of a stream that was deleted and made anew
			s.in.log.Warnf("stream %s, shard %s: %v; tried again", s.of.id, s.id, err)
			select {
			case <-time.After(retry):
			case <-ctx.Done():
			}
			retry = min(2*retry, lastRetry)
			continue
		}
		retry = firstRetry
		for len(records) > 0 {
			n := min(handOver, len(records))
			if !s.hand(ctx, records[:n]) {
				return
			}
			records = records[n:]
		}
		if iterator = following; iterator == "" {
			s.mu.Lock()
			s.closed = true
			s.mu.Unlock()
			s.in.wake()
			return
		}
		select {
		case <-next:
		case <-ctx.Done():
		}
	}
}

// ask gets the next records, and what to ask for those behind them with, "" behind the last.
func (s *shard) ask(ctx context.Context, iterator string) (records []types.Record, following string, err error) {
	if iterator == "" {
		if iterator, err = s.begin(ctx); err != nil {
			return nil, "", err
		}
	}
	out, err := s.in.api.GetRecords(ctx, &kinesis.GetRecordsInput{StreamARN: &s.of.arn, ShardIterator: &iterator, Limit: aws.Int32(askFor)})
	if err != nil {
		return nil, "", err
	}
	return out.Records, aws.ToString(out.NextShardIterator), nil
}

// begin returns an iterator behind the last record that was read.
func (s *shard) begin(ctx context.Context) (string, error) {
	in := &kinesis.GetShardIteratorInput{StreamARN: &s.of.arn, ShardId: &s.id, ShardIteratorType: types.ShardIteratorTypeTrimHorizon}
	if s.at != "" {
		in.ShardIteratorType, in.StartingSequenceNumber = types.ShardIteratorTypeAfterSequenceNumber, &s.at
	} else if at, err := time.Parse(time.RFC3339Nano, s.from); err == nil {
		in.ShardIteratorType, in.Timestamp = types.ShardIteratorTypeAtTimestamp, &at
	}
	out, err := s.in.api.GetShardIterator(ctx, in)
	var invalid *types.InvalidArgumentException
	if errors.As(err, &invalid) && s.at != "" {
		// A number of another stream of this name, or one whose record has expired.
		s.in.log.Warnf("stream %s, shard %s: the record %s is not there any more; reading on from the oldest", s.of.id, s.id, s.at)
		s.at, s.from = "", ""
		return s.begin(ctx)
	}
	if err != nil {
		return "", err
	}
	return aws.ToString(out.ShardIterator), nil
}

// hand puts records on their way, and reports whether somebody took them.
func (s *shard) hand(ctx context.Context, records []types.Record) bool {
	msgs := make(service.MessageBatch, len(records))
	size := 0
	for i, r := range records {
		m := service.NewMessage(r.Data)
		m.MetaSetMut("kinesis_stream", s.of.id)
		m.MetaSetMut("kinesis_shard", s.id)
		if r.PartitionKey != nil {
			m.MetaSetMut("kinesis_partition_key", *r.PartitionKey)
		}
		m.MetaSetMut("kinesis_sequence_number", aws.ToString(r.SequenceNumber))
		msgs[i] = m
		size += len(r.Data)
	}
	last := aws.ToString(records[len(records)-1].SequenceNumber)
	sp := &span{last: last}
	s.mu.Lock()
	s.waiting = append(s.waiting, sp)
	s.mu.Unlock()
	s.in.room.add(size)
	b := batch{msgs, func() { s.done(sp); s.in.room.add(-size) }}
	select {
	case s.in.out <- b:
		s.at = last
		return true
	case <-ctx.Done():
		s.in.room.add(-size)
		return false
	}
}

// done takes note that a batch is acked.
func (s *shard) done(sp *span) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sp.done = true
	for len(s.waiting) > 0 && s.waiting[0].done {
		s.acked = s.waiting[0].last
		s.waiting = s.waiting[1:]
	}
	if s.closed && len(s.waiting) == 0 {
		s.in.wake()
	}
}

// state is up to where the shard is acked, and whether that is all of it.
func (s *shard) state() (acked string, all bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acked, s.closed && len(s.waiting) == 0
}

// room bounds what has been read and is not acked.
type room struct {
	mu      sync.Mutex
	bytes   int           // guarded by mu
	asking  int           // guarded by mu: answers that are awaited
	changed chan struct{} // guarded by mu: closed when there is more of it
}

// Of all shards of an input together. An answer, of which at most 10 MB come, counts as a small one until it
// is there.
const (
	roomBytes  = 48 << 20
	answerSize = 2 << 20
)

func newRoom() *room { return &room{changed: make(chan struct{})} }

// acquire waits until one more answer may come, or ctx ends.
func (r *room) acquire(ctx context.Context) bool {
	for {
		r.mu.Lock()
		if r.bytes+(r.asking+1)*answerSize <= roomBytes || r.bytes == 0 && r.asking == 0 {
			r.asking++
			r.mu.Unlock()
			return true
		}
		changed := r.changed
		r.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// release says that answers have come.
func (r *room) release(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asking -= n
	r.more()
}

// add counts bytes that are on their way, or not any more.
func (r *room) add(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bytes += n
	if n < 0 {
		r.more()
	}
}

func (r *room) more() {
	close(r.changed)
	r.changed = make(chan struct{})
}
