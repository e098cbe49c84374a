package redisstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/tidemill/tidemill/connectors/position"
)

// stream is one stream of the input.
type stream struct {
	name string
	conf *config
	log  *service.Logger

	// Of the reader alone.
	backlog string    // own pending entries after this id are read before new ones; "" when there are none
	claim   string    // where the next look for others' idle entries begins
	claimAt time.Time // when it is due

	floor position.Floor

	mu       sync.Mutex
	inFlight map[string]struct{} // guarded by mu: ids that were handed out and are not acked
	acked    []string            // guarded by mu: ids to be acked
}

// ackAtOnce bounds one XACK.
const ackAtOnce = 1000

// open makes the group, if need be, and learns where it stands.
func (s *stream) open(ctx context.Context, c redis.UniversalClient) error {
	// A group that was lost begins again where all was acked last.
	from := "$"
	if at, ok := s.floor.At(); ok {
		from = idOf(max(at, 0))
	} else if s.conf.oldest {
		from = "0"
	}
	var err error
	if s.conf.create {
		err = c.XGroupCreateMkStream(ctx, s.name, s.conf.group, from).Err()
	} else {
		err = c.XGroupCreate(ctx, s.name, s.conf.group, from).Err()
	}
	if err != nil && !strings.HasPrefix(err.Error(), "BUSYGROUP") {
		return fmt.Errorf("make consumer group %s of stream %s: %w", s.conf.group, s.name, err)
	}
	at, ok, err := s.account(ctx, c)
	if err != nil {
		return err
	}
	if ok {
		s.floor.Begin(at)
	}
	// Whatever was in a reply that got lost is pending.
	s.backlog, s.claim = "0", "0-0"
	return nil
}

// account returns the offset up to which every entry was delivered to a member of the
// group and acked: the one before the lowest pending entry, or, with none, the last
// that was delivered. The order of the two questions matters: what was delivered
// before the first and is not pending at the second has been acked.
func (s *stream) account(ctx context.Context, c redis.UniversalClient) (at int64, ok bool, err error) {
	groups, err := c.XInfoGroups(ctx, s.name).Result()
	if err != nil {
		return 0, false, fmt.Errorf("state of stream %s: %w", s.name, err)
	}
	for _, g := range groups {
		if g.Name == s.conf.group {
			at, ok = offsetOf(g.LastDeliveredID)
		}
	}
	if !ok {
		return 0, false, nil
	}
	p, err := c.XPending(ctx, s.name, s.conf.group).Result()
	if err != nil {
		return 0, false, fmt.Errorf("pending entries of stream %s: %w", s.name, err)
	}
	if p.Count > 0 {
		low, fits := offsetOf(p.Lower)
		if !fits {
			return 0, false, nil
		}
		at = min(at, low-1)
	}
	return at, true, nil
}

// pending reads this member's own entries that are not acked, from before a restart
// or a lost connection. It returns nil when there are none left.
func (s *stream) pending(ctx context.Context, c redis.UniversalClient) ([]redis.XMessage, error) {
	for s.backlog != "" {
		res, err := c.XReadGroup(ctx, &redis.XReadGroupArgs{
			Group: s.conf.group, Consumer: s.conf.consumer, Streams: []string{s.name, s.backlog}, Count: s.conf.limit, Block: -1,
		}).Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			return nil, err
		}
		var got []redis.XMessage
		if len(res) > 0 {
			got = res[0].Messages
		}
		if len(got) == 0 {
			s.backlog = ""
			return nil, nil
		}
		s.backlog = got[len(got)-1].ID
		if got = s.fresh(got); len(got) > 0 {
			return got, nil
		}
	}
	return nil, nil
}

// idle takes over entries that members of the group have not acked for long.
func (s *stream) idle(ctx context.Context, c redis.UniversalClient) ([]redis.XMessage, error) {
	if s.conf.claimAfter <= 0 || time.Now().Before(s.claimAt) {
		return nil, nil
	}
	got, next, err := c.XAutoClaim(ctx, &redis.XAutoClaimArgs{
		Stream: s.name, Group: s.conf.group, Consumer: s.conf.consumer, MinIdle: s.conf.claimAfter, Start: s.claim, Count: s.conf.limit,
	}).Result()
	switch {
	case err != nil && strings.Contains(err.Error(), "unknown command"):
		s.log.Warnf("stream %s: the server has no XAUTOCLAIM (Redis 6.2); what a dead member of the group had comes back only with its name", s.name)
		s.claimAt = time.Now().Add(24 * time.Hour)
		return nil, nil
	case err != nil && !errors.Is(err, redis.Nil):
		return nil, err
	}
	if s.claim = next; next == "0-0" || next == "" {
		s.claim, s.claimAt = "0-0", time.Now().Add(s.conf.claimAfter/2)
	}
	return s.fresh(got), nil
}

// fresh leaves out what is on its way already, and gives up what was deleted from the stream.
func (s *stream) fresh(in []redis.XMessage) []redis.XMessage {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := in[:0]
	for _, e := range in {
		if _, ok := s.inFlight[e.ID]; ok {
			continue
		}
		if e.Values == nil {
			s.log.Warnf("stream %s: entry %s was deleted from the stream before it had landed", s.name, e.ID)
			s.acked = append(s.acked, e.ID)
			continue
		}
		out = append(out, e)
	}
	return out
}

// batch makes messages of entries. With whole, they are a reply that has all entries
// of the stream from its first to its last.
func (s *stream) batch(entries []redis.XMessage, whole bool) (service.MessageBatch, service.AckFunc) {
	msgs := make(service.MessageBatch, len(entries))
	ids := make([]string, len(entries))
	var between position.Follower
	for i, e := range entries {
		ids[i] = e.ID
		m := service.NewMessage(s.body(e))
		m.MetaSetMut("redis_stream", e.ID) // Benthos calls it so
		m.MetaSetMut("redis_stream_name", s.name)
		for k, v := range e.Values {
			if k != s.conf.bodyKey {
				m.MetaSetMut(k, v)
			}
		}
		p := position.Position{Partition: s.name, Sparse: true, Settler: &s.floor}
		offset, ok := offsetOf(e.ID)
		switch {
		case !ok: // too large for an offset: remembered by name, as an idempotency key
			p = position.Position{Partition: "#" + s.name + "/" + e.ID, PerRow: true}
			between.Restart()
		case whole:
			p.Offset, p.Void = offset, between.Next(offset)
		default:
			p.Offset = offset
		}
		msgs[i] = position.Stamp(m, p)
	}
	s.mu.Lock()
	for _, id := range ids {
		s.inFlight[id] = struct{}{}
	}
	s.mu.Unlock()
	return msgs, func(_ context.Context, res error) error {
		if res == nil {
			s.done(ids)
		}
		return nil // what is rejected comes again, from memory
	}
}

// body returns the bytes of an entry's rows.
func (s *stream) body(e redis.XMessage) []byte {
	if v, ok := e.Values[s.conf.bodyKey].(string); ok {
		return []byte(v)
	}
	b, err := json.Marshal(e.Values)
	if err != nil { // texts cannot fail
		return nil
	}
	return b
}

func (s *stream) done(ids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.acked = append(s.acked, ids...)
}

// ack sends the acks that have gathered; those that fail are kept. Then it looks how far
// the group has come.
func (s *stream) ack(ctx context.Context, c redis.UniversalClient) error {
	for {
		s.mu.Lock()
		ids := s.acked[:min(len(s.acked), ackAtOnce)]
		s.mu.Unlock()
		if len(ids) == 0 {
			break
		}
		if err := c.XAck(ctx, s.name, s.conf.group, ids...).Err(); err != nil {
			return fmt.Errorf("ack entries of stream %s: %w", s.name, err)
		}
		s.mu.Lock()
		for _, id := range ids {
			delete(s.inFlight, id)
		}
		if s.acked = s.acked[len(ids):]; len(s.acked) == 0 {
			s.acked = nil
		}
		s.mu.Unlock()
	}
	at, ok, err := s.account(ctx, c)
	if ok {
		s.floor.Raise(at)
	}
	return err
}
