package sources

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemill/tidemill/internal/testserver"
)

func natsSource(t *testing.T) source {
	t.Helper()
	p := testserver.StartForward(t)
	n := testserver.StartNATS(t)
	p.Aim(n.Addr)
	c, err := nats.Connect(n.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	js, err := jetstream.New(c)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "IN", Subjects: []string{"in.*"}})
	if err != nil {
		t.Fatal(err)
	}
	const durable = "tidemill"
	n2 := 0
	return source{
		name: "nats", once: true, proxy: p,
		input: fmt.Sprintf("  nats_jetstream:\n    urls: [\"nats://%s\"]\n    subject: in.mine\n    durable: %s\n    ack_wait: 3s\n    limit: 20\n", p.Addr, durable),
		send: func(ctx context.Context, m message) error {
			// Others' messages leave gaps.
			if n2++; n2%3 == 0 {
				_, _ = js.Publish(ctx, "in.others", nil)
			}
			_, err := js.Publish(ctx, "in.mine", m.lines(), jetstream.WithRetryAttempts(0))
			return err
		},
		kill: n.Kill, start: func(t *testing.T) { n.Start(t) },
		rewind: func(t *testing.T) {
			eventually(t, "delete the consumer", func(ctx context.Context) error { return stream.DeleteConsumer(ctx, durable) })
		},
		left: func(ctx context.Context) (int64, error) {
			c, err := stream.Consumer(ctx, durable)
			if err != nil {
				return 0, err
			}
			info, err := c.Info(ctx)
			if err != nil {
				return 0, err
			}
			return int64(info.NumPending) + int64(info.NumAckPending), nil
		},
	}
}
