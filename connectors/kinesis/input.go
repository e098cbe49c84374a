package kinesis

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/redpanda-data/benthos/v4/public/service"
)

// stream is one that is read, wholly or some of its shards.
type stream struct {
	source
	arn  string
	held map[string]*shard // that this process reads, by id
	seen map[string]sight  // of others' leases, by shard
}

// sight is since when another's lease has been as it is.
type sight struct {
	owner, timeout string
	since          time.Time
}

// batch is what a shard hands over.
type batch struct {
	msgs service.MessageBatch
	done func()
}

// input is the Benthos input. One goroutine, the coordinator, holds the leases; each
// shard that it holds has one that reads it.
type input struct {
	c       config
	log     *service.Logger
	room    *room
	out     chan batch
	api     *kinesis.Client
	leases  *leases
	streams []*stream
	woken   chan struct{} // something is to be written down before the next tick

	mu    sync.Mutex
	stop  context.CancelFunc // guarded by mu; nil: not connected
	ended chan struct{}      // closed when the coordinator has ended
}

// New makes the input.
func New(conf *service.ParsedConfig, res *service.Resources) (service.BatchInput, error) {
	i, err := open(conf, res.Logger())
	if err != nil {
		return nil, err
	}
	return service.AutoRetryNacksBatchedToggled(conf, i)
}

func open(conf *service.ParsedConfig, log *service.Logger) (*input, error) {
	c, problems := parse(conf)
	if len(problems) > 0 {
		return nil, joined(problems)
	}
	at, err := c.kinesis.load(context.Background())
	if err != nil {
		return nil, err
	}
	table, err := c.dynamo.load(context.Background())
	if err != nil {
		return nil, fmt.Errorf("dynamodb.%w", err)
	}
	i := &input{c: c, log: log, room: newRoom(), out: make(chan batch), woken: make(chan struct{}, 1), api: kinesis.NewFromConfig(at)}
	i.leases = &leases{c: c, db: dynamodb.NewFromConfig(table), self: rand.Text()}
	for _, s := range c.streams {
		i.streams = append(i.streams, &stream{source: s, held: map[string]*shard{}, seen: map[string]sight{}})
	}
	return i, nil
}

// Connect implements service.BatchInput.
func (i *input) Connect(ctx context.Context) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.stop != nil {
		return nil
	}
	for _, s := range i.streams {
		in := &kinesis.DescribeStreamSummaryInput{StreamName: &s.id}
		if strings.HasPrefix(s.id, "arn:") {
			in = &kinesis.DescribeStreamSummaryInput{StreamARN: &s.id}
		}
		out, err := i.api.DescribeStreamSummary(ctx, in)
		if err != nil {
			return fmt.Errorf("stream %s: %w", s.id, err)
		}
		s.arn = aws.ToString(out.StreamDescriptionSummary.StreamARN)
	}
	if err := i.leases.open(ctx); err != nil {
		return err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	i.stop, i.ended = stop, make(chan struct{})
	go i.coordinate(running, i.ended)
	return nil
}

// ReadBatch implements service.BatchInput.
func (i *input) ReadBatch(ctx context.Context) (service.MessageBatch, service.AckFunc, error) {
	select {
	case b := <-i.out:
		done := sync.OnceFunc(b.done)
		return b.msgs, func(_ context.Context, res error) error {
			if res == nil {
				done()
			}
			return nil
		}, nil
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
}

// Close implements service.BatchInput.
func (i *input) Close(ctx context.Context) error {
	i.mu.Lock()
	stop, ended := i.stop, i.ended
	i.mu.Unlock()
	if stop == nil {
		return nil
	}
	stop()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// wake has the coordinator look at its shards at once.
func (i *input) wake() {
	select {
	case i.woken <- struct{}{}:
	default:
	}
}

// coordinate holds leases until ctx ends, and gives them up then.
func (i *input) coordinate(ctx context.Context, ended chan<- struct{}) {
	defer close(ended)
	tick := time.NewTicker(min(i.c.commit, i.c.lease/4))
	defer tick.Stop()
	var looked time.Time
	for ctx.Err() == nil {
		finished := false
		for _, s := range i.streams {
			finished = i.keep(ctx, s) || finished
		}
		if finished || time.Since(looked) >= i.c.rebalance {
			looked = time.Now()
			for _, s := range i.streams {
				if err := i.look(ctx, s); err != nil && ctx.Err() == nil {
					i.log.Errorf("stream %s: %v; tried again in %s", s.id, err, i.c.rebalance)
				}
			}
		}
		select {
		case <-tick.C:
		case <-i.woken:
		case <-ctx.Done():
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	for _, s := range i.streams {
		for id, sh := range s.held {
			i.drop(s, id)
			acked, all := sh.state()
			if all {
				acked = shardEnd
			}
			if err := i.leases.release(last, s.id, id, acked); err != nil && !errors.Is(err, errLost) {
				i.log.Warnf("stream %s, shard %s: write down where it stands: %v; what was acked last comes once more, and is dropped", s.id, id, err)
			}
		}
	}
}

// keep writes down where a stream's shards stand, and reports whether one has come to its
// end, so that there may be others to begin.
func (i *input) keep(ctx context.Context, s *stream) (finished bool) {
	for id, sh := range s.held {
		acked, all := sh.state()
		var err error
		switch {
		case all:
			err = i.leases.release(ctx, s.id, id, shardEnd)
		case acked != sh.written && time.Since(sh.renewed) >= i.c.commit, time.Since(sh.renewed) >= i.c.lease/4:
			err = i.leases.renew(ctx, s.id, id, acked)
		default:
			continue
		}
		switch {
		case errors.Is(err, errLost):
			i.log.Infof("stream %s, shard %s: another process reads it from now on", s.id, id)
			i.drop(s, id)
		case err != nil:
			if ctx.Err() == nil {
				i.log.Warnf("stream %s, shard %s: write down where it stands: %v; tried again", s.id, id, err)
			}
		case all:
			i.drop(s, id)
			finished = true
		default:
			sh.written, sh.renewed = acked, time.Now()
		}
	}
	return finished
}

// drop stops reading a shard.
func (i *input) drop(s *stream, id string) {
	sh := s.held[id]
	sh.cancel()
	<-sh.ended
	delete(s.held, id)
}

// look takes shards that are to be had.
func (i *input) look(ctx context.Context, s *stream) error {
	shards, err := i.list(ctx, s)
	if err != nil {
		return err
	}
	have, err := i.leases.of(ctx, s.id)
	var missing interface{ ErrorCode() string }
	if errors.As(err, &missing) && missing.ErrorCode() == "ResourceNotFoundException" {
		return errors.Join(err, i.leases.open(ctx)) // somebody has deleted the table
	}
	if err != nil {
		return err
	}
	if err := i.sweep(ctx, s, shards, have); err != nil {
		return err
	}
	from := i.startAt(have)
	owned := map[string][]string{} // shards by their owners, those that live
	free := false
	for id := range shards {
		l := have[id]
		if finished(shards, have, id) || !readable(shards, have, id, s.shards != nil) {
			continue
		}
		switch {
		case s.held[id] != nil:
			owned[i.leases.self] = append(owned[i.leases.self], id)
		case l.owner == "" || l.owner == i.leases.self || s.expired(l, i.c.lease):
			free = true
			if err := i.take(ctx, s, id, l, from); err != nil {
				return err
			}
		default:
			owned[l.owner] = append(owned[l.owner], id)
		}
	}
	if free || s.shards != nil {
		return nil // who has what is seen the next time
	}
	return i.balance(ctx, s, owned, have, from)
}

// sweep gives up what Kinesis does not know any more, when the records' time is over.
func (i *input) sweep(ctx context.Context, s *stream, shards map[string]types.Shard, have map[string]lease) error {
	if len(shards) == 0 || s.shards != nil {
		return nil
	}
	for id, l := range have {
		if _, known := shards[id]; known {
			continue
		}
		if s.held[id] != nil {
			i.drop(s, id)
			if err := i.leases.release(ctx, s.id, id, ""); err != nil && !errors.Is(err, errLost) {
				return err
			}
			l.owner = ""
		}
		if l.owner == "" {
			if err := i.leases.forget(ctx, s.id, id); err != nil {
				return err
			}
		}
	}
	return nil
}

// balance takes shards of the process that has most, until neither has more than one more.
func (i *input) balance(ctx context.Context, s *stream, owned map[string][]string, have map[string]lease, from string) error {
	most := ""
	for owner, ids := range owned {
		if owner != i.leases.self && len(ids) > len(owned[most]) {
			most = owner
		}
	}
	mine := len(owned[i.leases.self])
	for n := range (len(owned[most]) - mine) / 2 {
		if err := i.take(ctx, s, owned[most][n], have[owned[most][n]], from); err != nil {
			return err
		}
	}
	return nil
}

// take claims a shard and begins to read it, if nobody was faster.
func (i *input) take(ctx context.Context, s *stream, id string, l lease, from string) error {
	if l.sequence == shardEnd {
		l.sequence = "" // of a shard of another stream that had this name
	}
	if l.sequence != "" {
		from = ""
	} else if l.from != "" {
		from = l.from
	}
	if err := i.leases.claim(ctx, s.id, id, l, from); errors.Is(err, errLost) {
		return nil
	} else if err != nil {
		return fmt.Errorf("shard %s: %w", id, err)
	}
	delete(s.seen, id)
	reading, cancel := context.WithCancel(ctx)
	sh := &shard{in: i, of: s, id: id, cancel: cancel, ended: make(chan struct{}),
		at: l.sequence, from: from, acked: l.sequence, written: l.sequence, renewed: time.Now()}
	s.held[id] = sh
	i.log.Debugf("stream %s, shard %s: reading from %q", s.id, id, l.sequence)
	go sh.run(reading)
	return nil
}

// expired says whether an owner has shown no life for so long. What another's clock says counts only where
// it is far off, as when a process starts that has seen nothing yet.
func (s *stream) expired(l lease, period time.Duration) bool {
	was, ok := s.seen[l.shard]
	if !ok || was.owner != l.owner || was.timeout != l.timeout {
		was = sight{l.owner, l.timeout, time.Now()}
		s.seen[l.shard] = was
	}
	until, err := time.Parse(time.RFC3339Nano, l.timeout)
	return time.Since(was.since) >= period || err != nil || time.Since(until) >= period
}

// startAt is from when on a stream of which nothing is written down is read: since a
// process first said so, or now; "" from its oldest record.
func (i *input) startAt(have map[string]lease) (from string) {
	if i.c.oldest {
		return ""
	}
	for _, l := range have {
		if l.from != "" && (from == "" || l.from < from) {
			from = l.from
		}
	}
	if from == "" {
		from = time.Now().UTC().Format(fromLayout)
	}
	return from
}

// fromLayout is such that texts are in the order of their times.
const fromLayout = "2006-01-02T15:04:05.000000000Z"

// finished says whether a shard has been read to its end. One that is open has none: then the lease is one of
// a stream that was deleted.
func finished(shards map[string]types.Shard, have map[string]lease, id string) bool {
	r := shards[id].SequenceNumberRange
	return have[id].sequence == shardEnd && r != nil && r.EndingSequenceNumber != nil
}

// readable says whether a shard's turn has come: all that it came out of has been read.
func readable(shards map[string]types.Shard, have map[string]lease, id string, explicit bool) bool {
	sh := shards[id]
	for _, parent := range []*string{sh.ParentShardId, sh.AdjacentParentShardId} {
		if parent == nil || explicit {
			continue
		}
		if _, known := shards[*parent]; known && !finished(shards, have, *parent) {
			return false
		}
	}
	return true
}

// list returns the shards that are to be read, open and closed, by id.
func (i *input) list(ctx context.Context, s *stream) (map[string]types.Shard, error) {
	out := map[string]types.Shard{}
	for in := (&kinesis.ListShardsInput{StreamARN: &s.arn}); in != nil; {
		page, err := i.api.ListShards(ctx, in)
		if err != nil {
			return nil, fmt.Errorf("list the shards: %w", err)
		}
		for _, sh := range page.Shards {
			out[aws.ToString(sh.ShardId)] = sh
		}
		in = nil
		if page.NextToken != nil {
			in = &kinesis.ListShardsInput{NextToken: page.NextToken}
		}
	}
	if s.shards == nil {
		return out, nil
	}
	named := map[string]types.Shard{}
	for _, id := range s.shards {
		sh, ok := out[id]
		if !ok {
			return nil, fmt.Errorf("streams: there is no shard %s", id)
		}
		named[id] = sh
	}
	return named, nil
}
