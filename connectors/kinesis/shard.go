package kinesis

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskinesis "github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/tidemill/tidemill/connectors/paging"
	"github.com/tidemill/tidemill/connectors/position"
)

const (
	// pollEvery is how long a shard is left alone between two reads: AWS allows five a second,
	// for all who read it.
	pollEvery = 250 * time.Millisecond
	// readRecords and AWS' own limit of 10 MiB bound what one read returns.
	readRecords = 5000
	readBytes   = 10<<20 + readRecords*recordBytes
	// recordBytes is what a record takes beside its data, as a message.
	recordBytes = 1 << 10
	// inFlightBytes is what all records on their way may take: five reads at once, none of them acked.
	inFlightBytes = 5 * readBytes
	// handOverRecords and handOverBytes bound a batch.
	handOverRecords = 2000
	handOverBytes   = 500_000
	// releaseWithin bounds the last write of a lease.
	releaseWithin = 3 * time.Second
)

var retries = paging.Backoff{Min: 250 * time.Millisecond, Max: 5 * time.Second}

// handed is a batch on its way to whoever reads the input.
type handed struct {
	msgs service.MessageBatch
	ack  service.AckFunc
}

// shard is one that this process has the lease of.
type shard struct {
	name
	in     *input
	listed listed
	from   item // the lease as it was claimed
	fresh  bool // it is the first one ever

	asked chan string   // has room for one: who wants the shard
	lost  chan struct{} // closed when the lease is known to be another's
	lose  func()        // closes lost, once
	ended chan struct{} // closed when the reader has got everything there is and will be

	unacked ledger
}

func newShard(in *input, k name, l listed, from item, fresh bool) *shard {
	s := &shard{name: k, in: in, listed: l, from: from, fresh: fresh, asked: make(chan string, 1), lost: make(chan struct{}), ended: make(chan struct{})}
	s.lose = sync.OnceFunc(func() { close(s.lost) })
	s.unacked.init()
	if s.from.sequence != "" && less(s.from.sequence, l.start) {
		s.from.sequence = "" // of a stream that had this name before
	}
	return s
}

// yield tells the shard that a process wants it.
func (s *shard) yield(to string) {
	select {
	case s.asked <- to:
	default: // it knows
	}
}

// run reads the shard and keeps its lease until ctx ends, the lease is lost or handed over, or all
// has been read and acked.
func (s *shard) run(ctx context.Context) {
	reading, stop := context.WithCancel(ctx)
	read := make(chan struct{})
	go func() {
		defer close(read)
		s.read(reading)
	}()
	to, keep := s.keep(ctx)
	stop()
	<-read
	if !keep {
		return
	}
	if to != "" {
		s.drain(ctx)
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseWithin)
	defer cancel()
	err := errLost
	if to != "" {
		err = s.in.table.release(last, s.stream, s.shard, s.unacked.acked(), to)
	}
	if errors.Is(err, errLost) { // or whoever wanted it has gone
		err = s.in.table.release(last, s.stream, s.shard, s.unacked.acked(), "")
	}
	if err != nil && !errors.Is(err, errLost) {
		s.in.log.Warnf("stream %s: give up shard %s: %v; it stands still for %s", s.stream, s.shard, err, s.in.conf.lease)
	}
}

// keep renews the lease, and returns when it is to be given up: with whom to hand it to, if
// somebody asked, and false when there is nothing left to give up.
func (s *shard) keep(ctx context.Context) (to string, keep bool) {
	every := min(s.in.conf.commit, s.in.conf.lease/4)
	tick := time.NewTicker(every)
	defer tick.Stop()
	renewed, written := time.Now(), ""
	for {
		ended := s.ended
		if s.unacked.len() > 0 {
			ended = nil // and is looked at again when that changes
		}
		select {
		case <-ctx.Done():
			return "", true
		case <-s.lost:
			return "", false
		case to := <-s.asked:
			return to, true
		case <-ended:
			return "", !s.finish(ctx)
		case <-s.unacked.forKeeper:
		case <-tick.C:
			acked := s.unacked.acked()
			if acked == written && time.Since(renewed) < s.in.conf.lease/4-every/2 {
				continue
			}
			now, err := s.in.table.renew(ctx, s.stream, s.shard, acked)
			switch {
			case errors.Is(err, errLost):
				s.in.log.Warnf("stream %s: another process has taken shard %s, since it saw no sign of this one for %s", s.stream, s.shard, s.in.conf.lease)
				return "", false
			case err != nil && ctx.Err() == nil:
				s.in.log.Warnf("stream %s: %v; tried again", s.stream, err) // nobody else can change the table either, or has
			case now.wanted != "" && err == nil:
				return now.wanted, true
			case err == nil:
				renewed, written = time.Now(), acked
			}
		}
	}
}

// finish notes that the shard has been read to its end, and reports whether it is noted or
// the shard another's.
func (s *shard) finish(ctx context.Context) bool {
	for n := 0; ; n++ {
		err := s.in.table.finish(ctx, s.stream, s.shard, s.unacked.acked(), s.listed.start)
		switch {
		case err == nil:
			s.in.log.Infof("stream %s: shard %s is closed, and read to its end", s.stream, s.shard)
			return true
		case errors.Is(err, errLost):
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		wait := retries.After(n)
		s.in.log.Warnf("stream %s: %v; tried again in %s", s.stream, err, wait)
		if paging.Sleep(ctx, wait) != nil {
			return false
		}
	}
}

// drain waits for what is on its way, for a while.
func (s *shard) drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, min(s.in.conf.grace, s.in.conf.lease/2))
	defer cancel()
	for s.unacked.len() > 0 {
		select {
		case <-s.unacked.forKeeper:
		case <-s.lost:
			return
		case <-ctx.Done():
			return
		}
	}
}

// read reads until ctx ends or the shard does.
func (s *shard) read(ctx context.Context) {
	place := placer{shard: s.stream + "/" + s.shard}
	place.resume(s.from.sequence)
	r := reader{shard: s, after: s.from.sequence, place: &place}
	for n := 0; ctx.Err() == nil; {
		records, end, err := r.next(ctx)
		if err == nil {
			n = 0
			if s.hand(ctx, records, r.taken, &place) && end {
				close(s.ended)
				return
			}
			_ = paging.Sleep(ctx, pollEvery-time.Since(r.asked)) // its error is ctx's
			continue
		}
		if ctx.Err() != nil {
			return
		}
		wait := retries.After(n)
		n++
		s.in.log.Warnf("stream %s: read shard %s: %v; tried again in %s", s.stream, s.shard, err, wait)
		_ = paging.Sleep(ctx, wait)
	}
}

// hand hands records over, for which so much room was taken, and reports whether all were accepted.
func (s *shard) hand(ctx context.Context, records []types.Record, taken int64, place *placer) bool {
	for len(records) > 0 {
		most, err := s.unacked.room(ctx, s.in.conf.limit)
		if err != nil {
			s.in.room.Release(taken)
			return false
		}
		n, size := 0, 0
		for n < min(len(records), most, handOverRecords) && size < handOverBytes {
			size += len(records[n].Data)
			n++
		}
		b := &flight{last: aws.ToString(records[n-1].SequenceNumber), records: n, bytes: min(cost(records[:n]), taken)}
		taken -= b.bytes
		msgs := make(service.MessageBatch, n)
		for i := range msgs {
			msgs[i] = s.message(&records[i], place)
		}
		records = records[n:]
		s.unacked.add(b)
		select {
		case s.in.out <- handed{msgs, s.acker(b)}:
		case <-ctx.Done():
			s.unacked.takeBack()
			s.in.room.Release(b.bytes + taken)
			return false
		}
	}
	return true
}

func (s *shard) message(r *types.Record, place *placer) *service.Message {
	m := service.NewMessage(r.Data)
	sequence := aws.ToString(r.SequenceNumber)
	m.MetaSetMut("kinesis_stream", s.stream)
	m.MetaSetMut("kinesis_shard", s.shard)
	if r.PartitionKey != nil {
		m.MetaSetMut("kinesis_partition_key", *r.PartitionKey)
	}
	m.MetaSetMut("kinesis_sequence_number", sequence)
	return position.Stamp(m, place.at(sequence))
}

func (s *shard) acker(b *flight) service.AckFunc {
	return func(_ context.Context, res error) error {
		if res == nil && s.unacked.ack(b) { // what is rejected comes again, from memory
			s.in.room.Release(b.bytes)
		}
		return nil
	}
}

func cost(records []types.Record) (n int64) {
	for i := range records {
		n += int64(len(records[i].Data)) + recordBytes
	}
	return n
}

// reader reads the records of a shard, in order.
type reader struct {
	shard    *shard
	after    string // the last that was read; "" before the first
	iterator *string
	asked    time.Time // when the shard was read last
	taken    int64     // room that its records have
	place    *placer
}

// next returns records, or none, and whether there will be no more behind them. Room for
// them has been taken.
func (r *reader) next(ctx context.Context) (records []types.Record, end bool, err error) {
	if r.iterator == nil {
		if r.iterator, err = r.begin(ctx); err != nil {
			return nil, false, err
		}
	}
	in := r.shard.in
	if err := in.room.Acquire(ctx, readBytes); err != nil {
		return nil, false, err
	}
	r.taken = 0
	defer func() { in.room.Release(readBytes - r.taken) }()
	r.asked = time.Now()
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	res, err := in.client.GetRecords(call, &awskinesis.GetRecordsInput{ShardIterator: r.iterator, Limit: aws.Int32(readRecords), StreamARN: arnOf(r.shard.stream)})
	if err != nil {
		return nil, false, r.failed(err)
	}
	if n := len(res.Records); n > 0 {
		r.after = aws.ToString(res.Records[n-1].SequenceNumber)
	}
	r.taken = min(cost(res.Records), readBytes) // more than that only servers that are not AWS hand out
	r.iterator = res.NextShardIterator
	return res.Records, res.NextShardIterator == nil, nil
}

// failed says what to make of an error of GetRecords: nil, if another iterator mends it.
func (r *reader) failed(err error) error {
	_, expired := errors.AsType[*types.ExpiredIteratorException](err)
	_, invalid := errors.AsType[*types.InvalidArgumentException](err)
	_, gone := errors.AsType[*types.ResourceNotFoundException](err)
	if expired || invalid || gone {
		r.iterator = nil
	}
	if expired {
		return nil
	}
	return err
}

// begin returns an iterator behind what was read last.
func (r *reader) begin(ctx context.Context) (*string, error) {
	s := r.shard
	in := &awskinesis.GetShardIteratorInput{StreamARN: arnOf(s.stream), StreamName: nameOf(s.stream), ShardId: &s.listed.id}
	switch {
	case r.after != "":
		in.ShardIteratorType, in.StartingSequenceNumber = types.ShardIteratorTypeAfterSequenceNumber, &r.after
	case s.from.since == "" || s.in.conf.oldest:
		in.ShardIteratorType = types.ShardIteratorTypeTrimHorizon
	case s.fresh:
		in.ShardIteratorType = types.ShardIteratorTypeLatest
	default:
		since, err := time.Parse(time.RFC3339Nano, s.from.since)
		if err != nil {
			return nil, fmt.Errorf("%s in the table of leases: %w", attrSince, err)
		}
		in.ShardIteratorType, in.Timestamp = types.ShardIteratorTypeAtTimestamp, &since
	}
	it, err := s.in.iterator(ctx, in)
	if _, invalid := errors.AsType[*types.InvalidArgumentException](err); invalid {
		switch in.ShardIteratorType {
		case types.ShardIteratorTypeAfterSequenceNumber:
			s.in.log.Warnf("stream %s: shard %s has nothing at %s any more (%v); it is read from its oldest record", s.stream, s.shard, r.after, err)
			in.ShardIteratorType, in.StartingSequenceNumber = types.ShardIteratorTypeTrimHorizon, nil
			r.place.resume("")
		case types.ShardIteratorTypeAtTimestamp: // it lies in the future, by AWS' clock
			in.ShardIteratorType, in.Timestamp = types.ShardIteratorTypeLatest, nil
		default:
			return nil, err
		}
		it, err = s.in.iterator(ctx, in)
	}
	return it, err
}

func (i *input) iterator(ctx context.Context, in *awskinesis.GetShardIteratorInput) (*string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	res, err := i.client.GetShardIterator(ctx, in)
	if err != nil {
		return nil, err
	}
	if res.ShardIterator == nil {
		return nil, errors.New("no iterator came")
	}
	return res.ShardIterator, nil
}
