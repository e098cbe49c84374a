package kinesis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	ddbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	awskinesis "github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/google/uuid"
	"github.com/redpanda-data/benthos/v4/public/service"
	"golang.org/x/sync/semaphore"
)

// input is the Benthos input. One goroutine looks at the leases (see look); each shard has
// two, one that reads and one that keeps its lease.
type input struct {
	conf   config
	log    *service.Logger
	me     string
	client *awskinesis.Client
	table  *table
	room   *semaphore.Weighted // for records on their way
	out    chan handed

	mu    sync.Mutex
	stop  context.CancelFunc // guarded by mu: ends everything; nil: not connected
	ended chan struct{}      // guarded by mu: closed when everything has ended
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
	if err := joined(problems); err != nil {
		return nil, err
	}
	streams, err := c.kinesis.load(context.Background())
	if err != nil {
		return nil, err
	}
	leases, err := c.dynamo.load(context.Background())
	if err != nil {
		return nil, fmt.Errorf("dynamodb.%w", err)
	}
	me := uuid.NewString()
	return &input{
		conf: c, log: log, me: me,
		// A read that fails is tried again by the reader, with a word in the log.
		client: awskinesis.NewFromConfig(streams, func(o *awskinesis.Options) { o.Retryer = aws.NopRetryer{} }),
		table:  &table{conf: c.table, client: dynamodb.NewFromConfig(leases), me: me, lease: c.lease},
		room:   semaphore.NewWeighted(inFlightBytes),
		out:    make(chan handed),
	}, nil
}

// arnOf and nameOf say how calls name a stream.
func arnOf(stream string) *string {
	if strings.HasPrefix(stream, "arn:") {
		return &stream
	}
	return nil
}

func nameOf(stream string) *string {
	if strings.HasPrefix(stream, "arn:") {
		return nil
	}
	return &stream
}

// Connect implements service.BatchInput. It fails while the table or a stream is not there; once all
// are, errors are mended or waited for.
func (i *input) Connect(ctx context.Context) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.stop != nil {
		return nil
	}
	if err := i.table.open(ctx); err != nil {
		return err
	}
	w := &watch{input: i, held: map[name]*shard{}, done: make(chan *shard)}
	for _, c := range i.conf.streams {
		s := &state{id: c.id, only: c.shards}
		if err := i.list(ctx, s); err != nil {
			return err
		}
		for _, n := range c.shards {
			if _, ok := s.shards[shardID(n)]; !ok && len(s.names()) == 0 {
				return fmt.Errorf("streams: stream %s has no shard %s; name one that it has, or the stream alone", c.id, n)
			} else if !ok {
				i.log.Warnf("streams: stream %s has no shard %s (any more); remove it", c.id, n)
			}
		}
		w.streams = append(w.streams, s)
	}
	var running context.Context
	running, i.stop = context.WithCancel(context.WithoutCancel(ctx))
	i.ended = make(chan struct{})
	go w.run(running, i.ended)
	return nil
}

// list reads which shards a stream has, and is again on error as it was.
func (i *input) list(ctx context.Context, s *state) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	shards := map[string]listed{}
	in := &awskinesis.ListShardsInput{StreamARN: arnOf(s.id), StreamName: nameOf(s.id)}
	for {
		page, err := i.client.ListShards(ctx, in)
		if err != nil {
			return fmt.Errorf("list the shards of stream %s: %w", s.id, err)
		}
		for _, sh := range page.Shards {
			l := listed{id: aws.ToString(sh.ShardId)}
			if sh.SequenceNumberRange != nil {
				l.start = aws.ToString(sh.SequenceNumberRange.StartingSequenceNumber)
			}
			for _, p := range []*string{sh.ParentShardId, sh.AdjacentParentShardId} {
				if p != nil {
					l.parents = append(l.parents, *p)
				}
			}
			shards[l.id] = l
		}
		if page.NextToken == nil {
			s.shards = shards
			return nil
		}
		in = &awskinesis.ListShardsInput{NextToken: page.NextToken}
	}
}

// ReadBatch implements service.BatchInput.
func (i *input) ReadBatch(ctx context.Context) (service.MessageBatch, service.AckFunc, error) {
	i.mu.Lock()
	connected := i.stop != nil
	i.mu.Unlock()
	if !connected {
		return nil, nil, service.ErrNotConnected
	}
	select {
	case h := <-i.out:
		return h.msgs, h.ack, nil
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
}

// Close implements service.BatchInput: leases are given up with what is acked by now.
func (i *input) Close(ctx context.Context) error {
	i.mu.Lock()
	stop, ended := i.stop, i.ended
	i.stop = nil
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

// watch is the one goroutine that decides which shards are read here.
type watch struct {
	*input
	streams []*state
	held    map[name]*shard
	done    chan *shard // those that are not read any more
	readers sync.WaitGroup

	listAt    time.Time // when shards are to be listed again
	balanceAt time.Time // when others are to be asked for shards again
}

const (
	// lookEvery is how often leases are looked at, at least: a lease that was given up, or asked
	// for, is found within this time.
	lookEvery = time.Second
	// lookSoon is when they are looked at again while something is about to change.
	lookSoon = 200 * time.Millisecond
)

// run looks until ctx ends, and then waits until all leases have been given up.
func (w *watch) run(ctx context.Context, ended chan<- struct{}) {
	defer close(ended)
	defer w.leave(ctx)
	every := min(lookEvery, w.conf.rebalance, w.conf.lease/4)
	for failed := 0; ; {
		soon, err := w.look(ctx)
		wait := every
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			wait = retries.After(failed)
			failed++
			w.log.Warnf("%v; tried again in %s", err, wait)
		default:
			if failed = 0; soon {
				wait = min(lookSoon, every)
			}
		}
		timer := time.NewTimer(wait)
		select {
		case s := <-w.done:
			w.over(s)
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// over notes that a shard is not read any more, and those that wait to say so.
func (w *watch) over(s *shard) {
	for more := true; more; {
		delete(w.held, s.name)
		select {
		case s = <-w.done:
		default:
			more = false
		}
	}
	w.listAt = time.Time{} // it may have been closed, and have children
}

// leave waits until all leases have been given up, with those that are just being handed over
// to this process.
func (w *watch) leave(ctx context.Context) {
	w.readers.Wait()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseWithin)
	defer cancel()
	for _, s := range w.streams {
		for shard, i := range s.items {
			if i.wanted != w.me {
				continue
			}
			err := w.table.unwant(ctx, s.id, shard)
			if errors.Is(err, errLost) {
				err = w.table.release(ctx, s.id, shard, "", "")
			}
			if err != nil && !errors.Is(err, errLost) {
				w.log.Warnf("%v; the shard stands still for %s", err, w.conf.lease)
			}
		}
	}
}

// look reads the leases, and does what the planner makes of them. It reports whether
// more is to be done soon.
func (w *watch) look(ctx context.Context) (soon bool, err error) {
	now := time.Now()
	stale := !now.Before(w.listAt)
	for _, s := range w.streams {
		items, err := w.items(ctx, s.id)
		if err != nil {
			return false, err
		}
		s.see(now, w.conf.lease/2, items)
		if stale || s.unknown() {
			if err := w.list(ctx, s); err != nil {
				return false, err
			}
		}
	}
	if stale {
		w.listAt = now.Add(w.conf.rebalance)
	}
	held := make(map[name]string, len(w.held))
	for k, s := range w.held {
		held[k] = s.listed.start
	}
	p := planner{w.me, w.conf.lease}.next(now, w.streams, held, !now.Before(w.balanceAt))
	for _, k := range p.drop {
		w.held[k].lose()
	}
	for k, to := range p.yield {
		w.held[k].yield(to)
	}
	for _, k := range p.claim {
		if err := w.claim(ctx, k, now); err != nil && !errors.Is(err, errLost) {
			return false, err
		}
	}
	for _, k := range p.want {
		s := w.state(k)
		i := s.items[k.shard]
		err := w.table.want(ctx, k.stream, i)
		if err != nil && !errors.Is(err, errLost) {
			return false, err
		}
		if err == nil {
			i.wanted = w.me
			s.items[k.shard] = i
		}
	}
	for _, k := range p.forget {
		if err := w.table.forget(ctx, k.stream, w.state(k).items[k.shard]); err != nil && !errors.Is(err, errLost) {
			return false, err
		}
	}
	if len(p.want) == 0 && len(p.claim) == 0 && !p.left && !now.Before(w.balanceAt) {
		w.balanceAt = now.Add(w.conf.rebalance)
	}
	return p.left || len(p.want) > 0 || w.waits(), nil
}

// items returns a stream's leases. A table that was deleted meanwhile is made anew.
func (w *watch) items(ctx context.Context, stream string) ([]item, error) {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	items, err := w.table.items(call, stream)
	if _, gone := errors.AsType[*ddbtypes.ResourceNotFoundException](err); gone {
		if err = w.table.open(ctx); err == nil {
			items, err = w.table.items(call, stream)
		}
	}
	return items, err
}

// waits says that a process has been asked for a shard.
func (w *watch) waits() bool {
	for _, s := range w.streams {
		for _, i := range s.items {
			if i.wanted == w.me {
				return true
			}
		}
	}
	return false
}

func (w *watch) state(k name) *state {
	for _, s := range w.streams {
		if s.id == k.stream {
			return s
		}
	}
	return nil
}

// claim takes a lease and begins to read.
func (w *watch) claim(ctx context.Context, k name, now time.Time) error {
	s := w.state(k)
	l := s.shards[shardID(k.shard)]
	seen := s.items[k.shard]
	seen.shard = k.shard
	since := ""
	if !w.conf.oldest && seen.sequence == "" {
		since = s.since(k.shard, now)
	}
	fresh := since == now.UTC().Format(sinceFormat)
	// One that is on its way when the input is closed is waited for, to be given up.
	got, err := w.table.claim(context.WithoutCancel(ctx), k.stream, seen, l.start, since)
	if err != nil {
		return err
	}
	sh := newShard(w.input, k, l, got, fresh)
	w.held[k] = sh
	w.readers.Go(func() {
		sh.run(ctx)
		select {
		case w.done <- sh:
		case <-ctx.Done():
		}
	})
	return nil
}
