package connectors

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemill/tidemill/internal/testserver"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/objstore/faulty"
	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
)

// TestGraceExpires: brokers without positions, whose messages are known by their keys.
func TestGraceExpires(t *testing.T) {
	t.Run("RabbitMQ", func(t *testing.T) {
		r := testserver.StartRabbitMQ(t)
		q := r.Queue("grace")
		graceExpires(t, fmt.Sprintf("input:\n  amqp_0_9: {urls: [%q], queue: grace, queue_declare: {enabled: true, durable: true}}\n", r.URL()),
			func(ctx context.Context, body []byte) error { return q.Send(ctx, "", body) })
	})
	t.Run("MQTT", func(t *testing.T) {
		m := testserver.StartMosquitto(t)
		d := m.Topic("devices/1/events")
		graceExpires(t, fmt.Sprintf("input:\n  mqtt: {urls: [%q], client_id: grace, topics: [devices/+/events]}\n", m.URL()),
			func(_ context.Context, body []byte) error { return d.Send(body) })
	})
}

// graceExpires stops a connector whose commit hangs, for longer than it has to stop. Its
// messages come again to another, and the commit that hung goes through after all.
func graceExpires(t *testing.T, input string, send func(ctx context.Context, body []byte) error) {
	t.Helper()
	const deduped = eventsContract + "dedupe: {window: 1h}\n"
	inner := mem.New()
	hangs, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	slow := faulty.New(inner, faulty.Options{Hook: func(_ context.Context, call faulty.Call, w faulty.When) error {
		if call.Op == faulty.PutIfAbsent && w == faulty.Before && strings.HasPrefix(call.Key, "events/") && !strings.HasSuffix(call.Key, "00.json") {
			once.Do(func() { close(hangs) })
			<-goOn
		}
		return nil
	}})
	run := func(store objstore.Store, grace time.Duration) (stop func()) {
		e, err := New(Options{Tables: newLake(t, store, deduped)})
		if err != nil {
			t.Fatal(err)
		}
		conf, err := ParseConfig("connectors/in.yaml", []byte(input+"output:\n  lakehouse: {table: events, batching: {period: 10ms}}\n"))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- e.Run(ctx, conf, grace) }()
		return func() {
			cancel()
			select {
			case <-ended: // with or without what it could not finish
			case <-time.After(time.Minute):
				t.Error("the connector does not stop")
			}
		}
	}
	publish := func(id int) {
		t.Helper()
		if err := send(t.Context(), fmt.Appendf(nil, `{"id": %d}`, id)); err != nil {
			t.Fatal(err)
		}
	}
	stop := run(slow, 200*time.Millisecond)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for hanging := false; !hanging; { // MQTT keeps messages only for a session that there is
		publish(0)
		select {
		case <-hangs:
			hanging = true
		case <-tick.C:
		}
	}
	const n = 50
	for id := 1; id < n; id++ {
		publish(id)
	}
	stop()
	stop = run(inner, time.Second)
	waitFor(t, "what came again", func() bool { return countRows(t, inner, "events") >= n })
	close(goOn)
	publish(n)
	waitFor(t, "the last row", func() bool { return countRows(t, inner, "events") > n })
	stop()
	seen := map[string]int{}
	for _, id := range rows(t, inner, "events", "id") {
		seen[id]++
	}
	for id := range n + 1 {
		if k := seen[strconv.Itoa(id)]; k != 1 {
			t.Errorf("%d is in %d times", id, k)
		}
	}
}
