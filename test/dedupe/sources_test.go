package dedupe

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/tidemill/tidemill/internal/testserver"
)

// publisher sends messages until it is stopped, and notes those that the broker has
// answered for. What it is not sure of it sends again, as publishers do.
type publisher struct {
	send func(ctx context.Context, id, body string) error // returns when the broker has answered
	stop func()
	mu   sync.Mutex
	sent []string
}

func (p *publisher) start(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	p.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(p.stop)
	for lane := range 4 {
		wg.Go(func() {
			tick := time.NewTicker(2 * time.Millisecond)
			defer tick.Stop()
			for n := 0; ctx.Err() == nil; n++ {
				id := fmt.Sprintf("%d-%d", lane, n)
				body := fmt.Sprintf(`{"id": %q, "n": %d}`, id, n)
				// What was begun is finished, or nobody would know whether to expect it.
				for p.send(context.WithoutCancel(ctx), id, body) != nil {
					<-tick.C
				}
				p.mu.Lock()
				p.sent = append(p.sent, id)
				p.mu.Unlock()
				<-tick.C
			}
		})
	}
}

func (p *publisher) so() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.sent)
}

// more waits until that many more messages have been answered for.
func (p *publisher) more(t *testing.T, n int, proc *testserver.Process) {
	t.Helper()
	want := p.so() + n
	eventually(t, "messages are taken by the broker", proc, func(context.Context) error {
		if n := p.so(); n < want {
			return fmt.Errorf("%d of %d", n, want)
		}
		return nil
	})
}

// lands waits until everything is in that has been published by now.
func (p *project) lands(t *testing.T, pub *publisher, proc *testserver.Process) {
	t.Helper()
	want := pub.so()
	eventually(t, "published messages land", proc, func(context.Context) error {
		if n := len(p.column(t, "events", "id")); n < want {
			return fmt.Errorf("%d of %d", n, want)
		}
		return nil
	})
}

// survive kills the product around its commit and takes the broker away, while messages
// come in, and compares. second, if not nil, starts another process beside each that dies:
// it gets what that one had not acked.
func survive(t *testing.T, p *project, pub *publisher, second func() *testserver.Process, restart func()) {
	t.Helper()
	proc := p.run(t, "")
	eventually(t, "the first message", proc, func(ctx context.Context) error {
		if err := pub.send(ctx, "first", `{"id": "first"}`); err != nil {
			return err
		}
		if p.column(t, "events", "id")["first"] == 0 {
			return errors.New("it has not landed")
		}
		return nil
	})
	// Bytes that do not fit, one of them too long: each is in quarantine once, whoever dies.
	bad := []string{"poison", `{"id": 1}`, `{"id": "` + strings.Repeat("x", 20_000) + `"}`}
	for i, body := range bad {
		if err := pub.send(t.Context(), fmt.Sprint("bad", i), body); err != nil {
			t.Fatal(err)
		}
	}
	pub.start(t)
	pub.more(t, 200, proc)
	proc.Kill()
	if second != nil {
		defer second().Stop()
	}
	for _, point := range []string{"before-ack:1", "after-commit:3", "before-commit:2", "before-ack:4"} {
		proc = p.run(t, point)
		dies(t, proc)
	}
	proc = p.run(t, "")
	p.lands(t, pub, proc)
	restart()
	pub.more(t, 200, proc)
	p.lands(t, pub, proc)
	proc.Stop() // with what it has taken in
	if proc.State().ExitCode() != 0 {
		t.Errorf("it ended with %s\n%s", proc.State(), proc.Output())
	}
	pub.more(t, 50, proc)
	pub.stop()
	proc = p.run(t, "")
	p.once(t, proc, "events", "id", append(pub.sent, "first"))
	p.once(t, proc, "events_quarantine", "raw", bad)
	t.Logf("%d messages", len(pub.sent))
}

// queue publishes to a RabbitMQ queue, and connects again when it has to.
type queue struct {
	r    *testserver.RabbitMQ
	name string
	mu   sync.Mutex
	ch   *amqp.Channel // nil: not connected
}

func (q *queue) yaml() string {
	return fmt.Sprintf("input:\n  amqp_0_9:\n    urls: [%q]\n    queue: %s\n    queue_declare: {enabled: true, durable: true}\n", q.r.URL(), q.name)
}

func (q *queue) channel() (*amqp.Channel, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ch != nil && !q.ch.IsClosed() {
		return q.ch, nil
	}
	conn, err := amqp.Dial(q.r.URL())
	if err != nil {
		return nil, err
	}
	ch, err := conn.Channel()
	if err == nil {
		err = ch.Confirm(false)
	}
	if err == nil {
		_, err = ch.QueueDeclare(q.name, true, false, false, false, nil)
	}
	q.ch = ch
	return ch, err
}

func (q *queue) send(ctx context.Context, id, body string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	ch, err := q.channel()
	if err != nil {
		return err
	}
	m := amqp.Publishing{DeliveryMode: amqp.Persistent, MessageId: id, Body: []byte(body)}
	c, err := ch.PublishWithDeferredConfirmWithContext(ctx, "", q.name, false, false, m)
	if err != nil {
		return err
	}
	if ok, err := c.WaitContext(ctx); err != nil || !ok {
		return fmt.Errorf("confirmed: %v, %w", ok, err)
	}
	return nil
}

func TestRabbitMQ(t *testing.T) {
	r := testserver.StartRabbitMQ(t)
	t.Run("ByMessageID", func(t *testing.T) { messageIDs(t, &queue{r: r, name: "ids"}) })
	t.Run("GraceExpires", func(t *testing.T) {
		q := &queue{r: r, name: "grace"}
		graceExpires(t, q.yaml(), q.send)
	})
	t.Run("ByKey", func(t *testing.T) {
		q := &queue{r: r, name: "events"}
		p := newProject(t, "key: [id]\ndedupe: {window: 1h}\n", q.yaml())
		other := func() *testserver.Process { return p.run(t, "") }
		survive(t, p, &publisher{send: q.send}, other, func() {
			r.Kill()
			r.Start(t)
		})
	})
}

// messageIDs: two equal rows of two messages are two rows, and a message that comes
// again is one.
func messageIDs(t *testing.T, q *queue) {
	t.Helper()
	p := newProject(t, "dedupe: {window: 1h, by: message_id}\n", q.yaml())
	want := map[string]int{}
	for i := range 300 {
		id := fmt.Sprint(i % 100)
		want[id]++
		if err := q.send(t.Context(), fmt.Sprint("m", i), fmt.Sprintf("{\"id\": %q}\n{\"id\": \"second\"}", id)); err != nil {
			t.Fatal(err)
		}
		want["second"]++
	}
	for _, point := range []string{"before-ack:1", "after-commit:1"} {
		dies(t, p.run(t, point))
	}
	proc := p.run(t, "")
	sum := func(m map[string]int) (n int) {
		for _, k := range m {
			n += k
		}
		return n
	}
	var got map[string]int
	eventually(t, "all rows", proc, func(context.Context) error {
		if got = p.column(t, "events", "id"); sum(got) < sum(want) {
			return fmt.Errorf("%d of %d", sum(got), sum(want))
		}
		return nil
	})
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// topic publishes to an MQTT broker with QoS 1.
type topic struct {
	m  *testserver.Mosquitto
	mu sync.Mutex
	c  mqtt.Client
}

func (p *topic) client() (mqtt.Client, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.c != nil && p.c.IsConnectionOpen() {
		return p.c, nil
	}
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(p.m.URL()).SetClientID("device").SetAutoReconnect(false))
	if err := wait(c.Connect()); err != nil {
		return nil, err
	}
	p.c = c
	return c, nil
}

func wait(t mqtt.Token) error {
	if !t.WaitTimeout(5 * time.Second) {
		return errors.New("no answer")
	}
	return t.Error()
}

func (p *topic) send(_ context.Context, _, body string) error {
	c, err := p.client()
	if err != nil {
		return err
	}
	return wait(c.Publish("devices/1/events", 1, false, body))
}

func TestMQTT(t *testing.T) {
	m := testserver.StartMosquitto(t)
	yaml := func(client string) string {
		return fmt.Sprintf("input:\n  mqtt: {urls: [%q], client_id: %s, topics: [devices/+/events]}\n", m.URL(), client)
	}
	d := &topic{m: m}
	t.Run("GraceExpires", func(t *testing.T) { graceExpires(t, yaml("grace"), d.send) })
	p := newProject(t, "key: [id]\ndedupe: {window: 1h}\n", yaml("tidemill"))
	survive(t, p, &publisher{send: d.send}, nil, func() {
		m.Stop() // and saves its sessions
		m.Start(t)
	})
}
