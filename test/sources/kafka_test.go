package sources

import (
	"context"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemill/tidemill/internal/testserver"
)

func kafkaSource(t *testing.T) source {
	t.Helper()
	p := testserver.StartForward(t)
	k := testserver.StartKafkaBehind(t, p.Addr)
	p.Aim(k.Addr)
	const topic, group, partitions = "in", "tidemill", 4
	k.CreateTopic(t, topic, partitions)
	c := k.Client(t)
	admin := kadm.NewClient(c)
	to := int32(0)
	return source{
		name: "kafka", once: true, proxy: p,
		input: fmt.Sprintf("  kafka_franz:\n    seed_brokers: [%q]\n    topics: [%s]\n    consumer_group: %s\n    session_timeout: 1500ms\n    heartbeat_interval: 300ms\n    rebalance_timeout: 3s\n    commit_period: 200ms\n    fetch_max_wait: 100ms\n    metadata_max_age: 5s\n", p.Addr, topic, group),
		send: func(ctx context.Context, m message) error {
			to = (to + 1) % partitions
			return c.ProduceSync(ctx, &kgo.Record{Topic: topic, Partition: to, Value: m.lines()}).FirstErr()
		},
		kill: k.Kill, start: func(t *testing.T) { k.Start(t) },
		rewind: func(t *testing.T) {
			all := kadm.Offsets{}
			for n := range int32(partitions) {
				all.AddOffset(topic, n, 0, -1)
			}
			// The broker refuses until it has noticed that the members are dead.
			eventually(t, "rewind the group", func(ctx context.Context) error { return admin.CommitAllOffsets(ctx, group, all) })
		},
		left: func(ctx context.Context) (n int64, err error) {
			lag, err := admin.Lag(ctx, group)
			if err != nil {
				return 0, err
			}
			if err := lag.Error(); err != nil {
				return 0, err
			}
			return lag[group].Lag.Total(), nil
		},
	}
}
