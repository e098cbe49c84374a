package redisstream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redpanda-data/benthos/v4/public/service"
)

// input is the Benthos input. One goroutine reads, another acks.
type input struct {
	conf    config
	log     *service.Logger
	streams []*stream
	byName  map[string]*stream

	ready []reply // of the last read, to be handed out; the reader's alone

	mu     sync.Mutex
	client redis.UniversalClient // guarded by mu; nil: not connected
	stop   context.CancelFunc    // guarded by mu: ends the acker
	ended  chan struct{}         // guarded by mu: closed when the acker has ended
}

type reply struct {
	of      *stream
	entries []redis.XMessage
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
	c, err := parse(conf)
	if err != nil {
		return nil, err
	}
	i := &input{conf: c, log: log, byName: map[string]*stream{}}
	for _, name := range c.streams {
		if i.byName[name] != nil {
			return nil, fmt.Errorf("streams: %s is there twice", name)
		}
		s := &stream{name: name, conf: &i.conf, log: log, inFlight: map[string]struct{}{}}
		i.streams, i.byName[name] = append(i.streams, s), s
	}
	return i, nil
}

// Connect implements service.BatchInput.
func (i *input) Connect(ctx context.Context) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.client != nil {
		return nil
	}
	c := i.conf.connect()
	for _, s := range i.streams {
		if err := s.open(ctx, c); err != nil {
			return errors.Join(err, c.Close())
		}
	}
	i.client, i.ended = c, make(chan struct{})
	var acking context.Context
	acking, i.stop = context.WithCancel(context.WithoutCancel(ctx))
	go i.acks(acking, c, i.ended)
	return nil
}

// acks sends acks until its context ends, and once more.
func (i *input) acks(ctx context.Context, c redis.UniversalClient, ended chan<- struct{}) {
	defer close(ended)
	tick := time.NewTicker(i.conf.commit)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			i.ack(ctx, c)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			i.ack(last, c)
			cancel()
			return
		}
	}
}

func (i *input) ack(ctx context.Context, c redis.UniversalClient) {
	for _, s := range i.streams {
		if err := s.ack(ctx, c); err != nil && ctx.Err() == nil {
			i.log.Warnf("%v; tried again", err)
		}
	}
}

// ReadBatch implements service.BatchInput: all entries of one stream in one reply.
func (i *input) ReadBatch(ctx context.Context) (service.MessageBatch, service.AckFunc, error) {
	i.mu.Lock()
	c := i.client
	i.mu.Unlock()
	if c == nil {
		return nil, nil, service.ErrNotConnected
	}
	for ctx.Err() == nil {
		if len(i.ready) > 0 {
			r := i.ready[0]
			i.ready = i.ready[1:]
			msgs, ack := r.of.batch(r.entries, true)
			return msgs, ack, nil
		}
		of, entries, err := i.missed(ctx, c)
		if err != nil {
			return nil, nil, i.lost(ctx, err)
		}
		if len(entries) > 0 {
			msgs, ack := of.batch(entries, false)
			return msgs, ack, nil
		}
		if err := i.next(ctx, c); err != nil {
			return nil, nil, i.lost(ctx, err)
		}
	}
	return nil, nil, ctx.Err()
}

// missed returns entries that were delivered before, to this member or to one that is gone.
func (i *input) missed(ctx context.Context, c redis.UniversalClient) (*stream, []redis.XMessage, error) {
	for _, s := range i.streams {
		entries, err := s.pending(ctx, c)
		if err == nil && len(entries) == 0 {
			entries, err = s.idle(ctx, c)
		}
		if err != nil || len(entries) > 0 {
			return s, entries, err
		}
	}
	return nil, nil, nil
}

// next waits for new entries.
func (i *input) next(ctx context.Context, c redis.UniversalClient) error {
	names := make([]string, 0, 2*len(i.streams))
	names = append(names, i.conf.streams...)
	for range i.streams {
		names = append(names, ">")
	}
	res, err := c.XReadGroup(ctx, &redis.XReadGroupArgs{
		Group: i.conf.group, Consumer: i.conf.consumer, Streams: names, Count: i.conf.limit, Block: i.conf.timeout,
	}).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return err
	}
	for _, r := range res {
		if s := i.byName[r.Stream]; s != nil && len(r.Messages) > 0 {
			i.ready = append(i.ready, reply{s, r.Messages})
		}
	}
	return nil
}

// lost gives the connection up. Benthos connects again, and what was in a reply that
// did not arrive is found pending then.
func (i *input) lost(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	i.log.Errorf("redis: %v", err)
	i.disconnect()
	return service.ErrNotConnected
}

func (i *input) disconnect() {
	i.mu.Lock()
	c, stop, ended := i.client, i.stop, i.ended
	i.client = nil
	i.mu.Unlock()
	if c == nil {
		return
	}
	stop()
	<-ended
	_ = c.Close() // nothing of ours is left in it
}

// Close implements service.BatchInput.
func (i *input) Close(context.Context) error {
	i.disconnect()
	return nil
}
