package connectors

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/internal/problem"
	"github.com/tidemill/tidemill/internal/testserver"
)

func sampleOf(t *testing.T, conf string, o SampleOptions) (*Sample, error) {
	t.Helper()
	return sampleWith(t, Options{}, conf, o)
}

func sampleWith(t *testing.T, with Options, conf string, o SampleOptions) (*Sample, error) {
	t.Helper()
	e, c := linted(t, with, conf)
	if o.Within == 0 {
		o.Within = time.Minute
	}
	return e.Sample(t.Context(), c, o)
}

// decoded counts the rows of a sample that would land, and those that would not.
func decodedOf(t *testing.T, s *Sample) (good, bad int) {
	t.Helper()
	c, err := contract.Parse("tables/events.yaml", []byte(eventsContract))
	if err != nil {
		t.Fatal(err)
	}
	d, err := s.Decode(c)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Release()
	for _, r := range d.Records {
		good += int(r.NumRows())
	}
	return good, len(d.Bad)
}

const lakehouseOut = "output:\n  lakehouse: {table: events}\n"

// TestSampleKafka reads a topic that a consumer group works on, and finds the group
// where it was, with nothing that another group has committed.
func TestSampleKafka(t *testing.T) {
	k := testserver.StartKafka(t)
	k.CreateTopic(t, "events", 2)
	client := k.Client(t)
	for i := range 50 {
		r := &kgo.Record{Topic: "events", Partition: int32(i % 2), Value: fmt.Appendf(nil, `{"id": %d}`, i)}
		if i == 3 {
			r.Value = []byte("broken")
		}
		if err := client.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	admin := kadm.NewClient(client)
	var at kadm.Offsets
	at.AddOffset("events", 0, 7, -1)
	at.AddOffset("events", 1, 5, -1)
	if err := admin.CommitAllOffsets(t.Context(), "team", at); err != nil {
		t.Fatal(err)
	}
	for _, input := range []string{"kafka_franz: {seed_brokers: [%q], topics: [events], consumer_group: team}", "kafka: {addresses: [%q], topics: [events], consumer_group: team}"} {
		s, err := sampleOf(t, "input:\n  "+fmt.Sprintf(input, k.Addr)+"\n"+lakehouseOut, SampleOptions{Rows: 50})
		if err != nil {
			t.Fatal(err)
		}
		if good, bad := decodedOf(t, s); !s.Complete || good != 49 || bad != 1 {
			t.Errorf("%s: %d rows and %d bad ones, complete %v, %s", input, good, bad, s.Complete, s.LastWord)
		}
		msgs, err := s.Messages()
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for _, m := range msgs {
			seen[fmt.Sprintf("%s:%d", m.Source, m.Offset)] = true
		}
		if len(seen) != 50 || !seen["in/events/1:24"] {
			t.Errorf("positions %v", seen)
		}
		if len(s.Notes) != 1 || !strings.Contains(s.Notes[0], "team-try-") {
			t.Errorf("notes %q", s.Notes)
		}
	}
	groups, err := admin.ListGroups(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range groups.Groups() {
		offsets, err := admin.FetchOffsets(t.Context(), g)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		offsets.Each(func(o kadm.OffsetResponse) { got = append(got, fmt.Sprintf("%d:%d", o.Partition, o.At)) })
		slices.Sort(got)
		want := ""
		if g == "team" {
			want = "0:7 1:5"
		}
		if strings.Join(got, " ") != want {
			t.Errorf("group %s has committed %v, want %q", g, got, want)
		}
	}
}

// TestSampleStreams reads a Redis stream and a JetStream stream that have consumers,
// and finds those where they were.
func TestSampleStreams(t *testing.T) {
	r := testserver.StartRedis(t)
	c := redis.NewClient(&redis.Options{Addr: r.Addr})
	defer c.Close()
	n := testserver.StartNATS(t)
	nc, err := nats.Connect(n.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	if err != nil {
		t.Fatal(err)
	}
	team, err := stream.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "team", AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if err := c.XAdd(t.Context(), &redis.XAddArgs{Stream: "s", Values: []string{"body", fmt.Sprintf(`{"id": %d}`, i)}}).Err(); err != nil {
			t.Fatal(err)
		}
		if _, err := js.Publish(t.Context(), "s", fmt.Appendf(nil, `{"id": %d}`, i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.XGroupCreate(t.Context(), "s", "team", "0").Err(); err != nil {
		t.Fatal(err)
	}
	for _, input := range []string{
		fmt.Sprintf("redis_streams: {url: %q, streams: [s], consumer_group: team}", r.URL()),
		fmt.Sprintf("nats_jetstream: {urls: [%q], stream: S, durable: team}", n.URL()),
	} {
		s, err := sampleOf(t, "input:\n  "+input+"\n"+lakehouseOut, SampleOptions{Rows: 10})
		if err != nil {
			t.Fatal(err)
		}
		if good, bad := decodedOf(t, s); good != 10 || bad != 0 || len(s.Notes) != 1 {
			t.Errorf("%s: %d rows and %d bad ones, notes %q, %s", input, good, bad, s.Notes, s.LastWord)
		}
	}
	groups, err := c.XInfoGroups(t.Context(), "s").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range groups {
		if g.Name == "team" && (g.Pending != 0 || g.LastDeliveredID != "0-0") {
			t.Errorf("the group was moved: %+v", g)
		}
	}
	info, err := team.Info(t.Context())
	if err != nil || info.NumPending != 10 || info.NumAckPending != 0 || info.Delivered.Consumer != 0 {
		t.Errorf("the consumer was moved: %+v, %v", info, err)
	}
}

// TestSampleQueue: a queue has its messages again.
func TestSampleQueue(t *testing.T) {
	r := testserver.StartRabbitMQ(t)
	conn, err := amqp.Dial(r.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ch.QueueDeclare("q", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	const n = 30
	if err := ch.Confirm(false); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		sent, err := ch.PublishWithDeferredConfirmWithContext(t.Context(), "", "q", false, false, amqp.Publishing{Body: fmt.Appendf(nil, `{"id": %d}`, i)})
		if err != nil {
			t.Fatal(err)
		}
		sent.Wait()
	}
	s, err := sampleOf(t, fmt.Sprintf("input:\n  amqp_0_9: {urls: [%q], queue: q}\n", r.URL())+lakehouseOut, SampleOptions{Rows: 20})
	if err != nil {
		t.Fatal(err)
	}
	if good, bad := decodedOf(t, s); good != 20 || bad != 0 || len(s.Notes) != 1 {
		t.Errorf("%d rows and %d bad ones, notes %q, %s", good, bad, s.Notes, s.LastWord)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for left := 0; left != n; {
		q, err := ch.QueueDeclarePassive("q", true, false, false, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		left = q.Messages
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%d of %d messages are in the queue", left, n)
		}
	}
}

// TestSampleHTTP: who posts is told that nothing was kept.
func TestSampleHTTP(t *testing.T) {
	mux := NewMux()
	srv := httptest.NewServer(mux)
	defer srv.Close()
	type answer struct {
		s   *Sample
		err error
	}
	done := make(chan answer, 1)
	go func() {
		s, err := sampleWith(t, Options{Mux: mux}, "input:\n  http_server: {path: /events}\n"+lakehouseOut, SampleOptions{Rows: 3})
		done <- answer{s, err}
	}()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for status := http.StatusNotFound; status == http.StatusNotFound; <-tick.C { // until the input listens
		res, err := http.Post(srv.URL+"/events", "application/json", strings.NewReader("{\"id\":1}\nbroken\n{\"id\":2}"))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if status = res.StatusCode; status < 300 {
			t.Fatalf("answered %d: the sender takes the rows for landed", status)
		}
	}
	a := <-done
	if a.err != nil {
		t.Fatal(a.err)
	}
	if good, bad := decodedOf(t, a.s); good != 2 || bad != 1 || len(a.s.Notes) != 1 {
		t.Errorf("%d rows and %d bad ones, notes %q", good, bad, a.s.Notes)
	}
}

func TestSampleFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.ndjson")
	if err := os.WriteFile(path, []byte("{\"id\":1}\n{\"id\":2}\n{\"id\":3}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	conf := fmt.Sprintf("input:\n  file: {paths: [%q], delete_on_finish: true}\npipeline: {processors: [{mapping: 'root = if this.id == 2 { deleted() } else { this }'}]}\n", path) + lakehouseOut
	s, err := sampleOf(t, conf, SampleOptions{Rows: 100})
	if err != nil {
		t.Fatal(err)
	}
	if good, bad := decodedOf(t, s); !s.Ended || s.Complete || good != 2 || bad != 0 {
		t.Errorf("%d rows and %d bad ones: %+v", good, bad, s)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the file is gone: %v", err)
	}
	if s, err = sampleOf(t, conf, SampleOptions{Rows: 1}); err != nil || !s.Complete || s.Rows != 1 {
		t.Errorf("one row: %+v, %v", s, err)
	}
}

func TestSampleRefuses(t *testing.T) {
	for _, input := range []string{"redis_list: {url: 'redis://localhost:1', key: k}", "broker: {inputs: [{generate: {mapping: root = 1}}, {redis_list: {url: 'redis://localhost:1', key: k}}]}"} {
		_, err := sampleOf(t, "input:\n  "+input+"\n"+lakehouseOut, SampleOptions{Rows: 1})
		if ps := problem.Of(err); len(ps) != 1 || ps[0].Field != "input.redis_list" || ps[0].Line != 2 {
			t.Errorf("%s: %v", input, err)
		}
	}
}

// TestSampleHidesSecrets makes inputs fail with secrets in their config.
func TestSampleHidesSecrets(t *testing.T) {
	t.Setenv("TIDEMILL_TEST_SECRET", "hunter-from-env")
	for _, input := range []string{
		"http_client: {url: 'http://user:hunter-in-url@127.0.0.1:1/x?token=${TIDEMILL_TEST_SECRET}', headers: {Authorization: '${TIDEMILL_TEST_SECRET}'}, retries: 0}",
		"redis_streams: {url: 'redis://:hunter-in-url@127.0.0.1:1', streams: [a]}",
		"amqp_0_9: {urls: ['amqp://user:hunter-in-url@127.0.0.1:1/'], queue: q}",
	} {
		s, err := sampleOf(t, "input:\n  "+input+"\n"+lakehouseOut, SampleOptions{Rows: 1, Within: 1500 * time.Millisecond})
		if err != nil {
			t.Fatalf("%s: %v", input, err)
		}
		if s.LastWord == "" && !strings.HasPrefix(input, "redis") || strings.Contains(s.LastWord+strings.Join(s.Notes, " "), "hunter") {
			t.Errorf("%s: said %q, notes %q", input, s.LastWord, s.Notes)
		}
	}
}

// TestMock replaces processors by their labels and places, and leaves the connector
// itself alone.
func TestMock(t *testing.T) {
	c, err := ParseConfig("connectors/in.yaml", []byte("input:\n  stdin: {}\npipeline:\n  processors:\n    - {label: ask, http: {url: 'http://127.0.0.1:1'}}\n    - mapping: root = this.b\n"+lakehouseOut))
	if err != nil {
		t.Fatal(err)
	}
	e, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	mocked := c
	for name, mapping := range map[string]string{"ask": `root.b.id = this.id`, "/pipeline/processors/1": `root = this.b.assign({"name": "mock"})`} {
		if mocked, err = mocked.Mock(name, map[string]any{"mapping": mapping}); err != nil {
			t.Fatal(err)
		}
	}
	s, err := e.Sample(t.Context(), mocked, SampleOptions{Given: [][]Given{{{Data: []byte(`{"id":1}`)}}}, Within: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	msgs, err := s.Messages()
	if err != nil || len(msgs) != 1 || string(msgs[0].Data) != `{"id":1,"name":"mock"}` {
		t.Errorf("%+v %v", msgs, err)
	}
	if _, err := c.Mock("none", map[string]any{"mapping": "root = this"}); err == nil {
		t.Error("a label that is not there")
	}
}
