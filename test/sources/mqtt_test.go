package sources

import (
	"context"
	"fmt"
	"testing"

	"github.com/tidemill/tidemill/internal/testserver"
)

// mqttSource is a topic that both processes subscribe to, so that each message comes twice at least.
func mqttSource(t *testing.T) source {
	t.Helper()
	p := testserver.StartForward(t)
	m := testserver.StartMosquitto(t)
	p.Aim(m.Addr)
	topic := m.Topic("devices/1/events")
	for _, member := range []string{"a", "b"} {
		topic.Session(t, "tidemill-"+member) // or the first messages would be nobody's
	}
	var sent history
	publish := func(_ context.Context, m message) error { return topic.Send(m.lines()) }
	return source{
		name: "mqtt", once: true, proxy: p,
		input: fmt.Sprintf("  mqtt:\n    urls: [\"tcp://%s\"]\n    client_id: tidemill-${MEMBER}\n    topics: [devices/1/events]\n    connect_timeout: 2s\n", p.Addr),
		send: func(ctx context.Context, m message) error {
			sent.add(m)
			return publish(ctx, m)
		},
		// It saves its sessions when it is stopped; one that is killed has forgotten some.
		kill: func() { m.Stop() }, start: func(t *testing.T) { t.Helper(); m.Start(t) },
		rewind: func(t *testing.T) { t.Helper(); sent.repeat(t, publish) },
	}
}
