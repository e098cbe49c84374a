package sources

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/tidemill/tidemill/internal/testserver"
)

// again is how many of the last messages a publisher sends again that has lost count.
const again = 200

// rabbitSources are two queues of a broker that both processes take messages from. The rows of one
// are known by their key, those of the other by their message's id and their place in it.
func rabbitSources(t *testing.T) (out []source) {
	t.Helper()
	p := testserver.StartForward(t)
	r := testserver.StartRabbitMQ(t)
	p.Aim(r.Addr)
	for _, name := range []string{"rabbitmq", "rabbitmq_ids"} {
		q := r.Queue(name)
		var sent history
		publish := func(ctx context.Context, m message) error {
			return q.Send(ctx, fmt.Sprint("m", m[0]), m.lines())
		}
		out = append(out, source{
			name: name, once: true, proxy: p, rows: 2,
			input: fmt.Sprintf("  amqp_0_9:\n    urls: [%q]\n    queue: %s\n    queue_declare: {enabled: true, durable: true}\n", strings.Replace(r.URL(), r.Addr, p.Addr, 1), name),
			send: func(ctx context.Context, m message) error {
				sent.add(m)
				return publish(ctx, m)
			},
			rewind: func(t *testing.T) { t.Helper(); sent.repeat(t, publish) },
		})
	}
	out[0].kill, out[0].start = func() { r.Kill() }, func(t *testing.T) { t.Helper(); r.Start(t) }
	return out
}

// history is the messages that a publisher has sent.
type history struct {
	mu  sync.Mutex
	all []message
}

func (h *history) add(m message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, m)
}

// repeat sends the last ones once more.
func (h *history) repeat(t *testing.T, send func(context.Context, message) error) {
	t.Helper()
	h.mu.Lock()
	last := h.all[max(0, len(h.all)-again):]
	h.mu.Unlock()
	for _, m := range last {
		if err := send(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
}
