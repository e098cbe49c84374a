package sources

import (
	"testing"

	"github.com/tidemill/tidemill/internal/testserver"
)

// TestSources lets each source of the list go through the scenario.
func TestSources(t *testing.T) {
	all := map[string]func(*testing.T, *testserver.Forward) source{"kafka": kafkaSource, "kinesis": kinesisSource, "nats": natsSource, "postgres": postgresSource, "redis": redisSource}
	w := newWorld(t, "kafka", "kinesis", "nats", "postgres", "redis")
	for name, of := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each waits for others most of the time
			p := testserver.StartForward(t, "")
			w.scenario(t, of(t, p), p)
		})
	}
}
