package sources

import (
	"context"
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/tidemill/tidemill/internal/testserver"
)

func redisSource(t *testing.T) source {
	t.Helper()
	p := testserver.StartForward(t)
	r := testserver.StartRedis(t)
	p.Aim(r.Addr)
	// A command whose answer got lost is not repeated by the client: that would send a message twice.
	c := redis.NewClient(&redis.Options{Addr: r.Addr, MaxRetries: -1})
	t.Cleanup(func() { _ = c.Close() })
	const stream, group = "in", "tidemill-redis"
	return source{
		name: "redis", once: true, proxy: p,
		input: fmt.Sprintf("  redis_streams:\n    url: redis://%s\n    streams: [%s]\n    client_id: ${MEMBER}\n    limit: 20\n    timeout: 100ms\n    claim_after: 3s\n", p.Addr, stream),
		send: func(ctx context.Context, m message) error {
			return c.XAdd(ctx, &redis.XAddArgs{Stream: stream, Values: []any{"body", m.lines()}}).Err()
		},
		kill: r.Kill, start: func(t *testing.T) { r.Start(t) },
		rewind: func(t *testing.T) {
			if err := c.XGroupSetID(t.Context(), stream, group, "0").Err(); err != nil {
				t.Fatal(err)
			}
		},
		left: func(ctx context.Context) (int64, error) {
			gs, err := c.XInfoGroups(ctx, stream).Result()
			if err != nil || len(gs) != 1 {
				return 0, fmt.Errorf("%d groups: %w", len(gs), err)
			}
			info, err := c.XInfoStream(ctx, stream).Result()
			if err != nil {
				return 0, err
			}
			n := gs[0].Pending
			if gs[0].LastDeliveredID != info.LastGeneratedID {
				n++
			}
			return n, nil
		},
	}
}
