package jetstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/tidemill/tidemill/connectors/position"
	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/internal/testserver"
)

type world struct {
	t  *testing.T
	n  *testserver.NATS
	js jetstream.JetStream
}

func newWorld(t *testing.T) world {
	t.Helper()
	n := testserver.StartNATS(t)
	c, err := nats.Connect(n.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	js, err := jetstream.New(c)
	if err != nil {
		t.Fatal(err)
	}
	w := world{t, n, js}
	w.make()
	return w
}

func (w world) make() {
	w.t.Helper()
	if _, err := w.js.CreateStream(w.t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}}); err != nil {
		w.t.Fatal(err)
	}
}

func (w world) publish(subject string, bodies ...string) {
	w.t.Helper()
	for _, b := range bodies {
		if _, err := w.js.Publish(w.t.Context(), subject, []byte(b)); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w world) member(more string) *input {
	w.t.Helper()
	conf, err := Spec().ParseYAML(fmt.Sprintf("urls: [%s]\nstream: S\n%s", w.n.URL(), more), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	i, err := open(conf, service.MockResources().Logger())
	if err != nil {
		w.t.Fatal(err)
	}
	if err := i.Connect(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = i.Close(context.Background()) })
	return i
}

type read struct {
	body      string
	off, void int64
}

// take reads until there are n messages; it connects again as Benthos would.
func (w world) take(i *input, n int) (out []read, part string, ack func()) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 40*time.Second)
	defer cancel()
	var acks []service.AckFunc
	for len(out) < n {
		msgs, a, err := i.ReadBatch(ctx)
		if errors.Is(err, service.ErrNotConnected) {
			w.until("connected again", func() bool { return i.Connect(ctx) == nil })
			continue
		}
		if err != nil {
			w.t.Fatalf("%d of %d messages: %v", len(out), n, err)
		}
		acks = append(acks, a)
		for _, m := range msgs {
			b, err := m.AsBytes()
			p, ok := position.Of(m)
			if err != nil || !ok {
				w.t.Fatal(err, ok)
			}
			part = p.Partition
			out = append(out, read{string(b), p.Offset, p.Void})
		}
	}
	return out, part, func() {
		for _, a := range acks {
			if err := a(w.t.Context(), nil); err != nil {
				w.t.Fatal(err)
			}
		}
	}
}

// until polls until a condition holds.
func (w world) until(what string, ok func() bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	for tick := time.NewTicker(5 * time.Millisecond); !ok(); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			w.t.Fatal("not within 30 s: " + what)
		}
	}
}

func settled(i *input, part string) batch.Intervals {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.floors[part].Settled()
}

func TestReads(t *testing.T) {
	w := newWorld(t)
	w.publish("s.a", "1", "2")
	w.publish("s.b", "x", "x")
	w.publish("s.a", "5")
	i := w.member("subject: s.a\ndurable: d")
	got, part, ack := w.take(i, 3)
	if want := []read{{"1", 1, 0}, {"2", 2, 0}, {"5", 5, 2}}; !slices.Equal(got, want) {
		t.Fatalf("read %v, want %v", got, want)
	}
	if !strings.HasPrefix(part, "S@") || !strings.HasSuffix(part, "/s.a") {
		t.Errorf("partition %s", part)
	}
	if v := settled(i, part); len(v) > 0 {
		t.Errorf("settled %v before an ack", v)
	}
	ack()
	w.until("settled", func() bool { return slices.Equal(settled(i, part), batch.Intervals{{First: 1, Last: 5}}) })
	// All subjects are another source, with other gaps.
	all := w.member("durable: all")
	if got, other, _ := w.take(all, 5); other == part || got[4] != (read{"5", 5, 0}) {
		t.Errorf("all subjects of the stream are %s, the last message %v", other, got[4])
	}
}

// TestShares: two members of one consumer never say that what the other got is void,
// and a message that was not acked comes again without a word about what lies before it.
func TestShares(t *testing.T) {
	w := newWorld(t)
	one, two := w.member("durable: d\nack_wait: 300ms\nlimit: 1"), w.member("durable: d\nack_wait: 300ms\nlimit: 1")
	sent := map[string]bool{}
	for n := range 40 {
		sent[fmt.Sprint(n)] = true
		w.publish("s.a", fmt.Sprint(n))
	}
	mine := map[int64]bool{} // what one got
	for len(mine) < 10 {
		got, _, _ := w.take(one, 1)
		mine[got[0].off] = true
		for o := got[0].off - got[0].void; o < got[0].off; o++ {
			t.Errorf("%d is void for %v; the stream has no gaps", o, got[0])
		}
	}
	if err := one.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for len(sent) > 0 {
		got, _, ack := w.take(two, 1)
		if got[0].void != 0 {
			t.Errorf("%v: the stream has no gaps", got[0])
		}
		delete(sent, got[0].body)
		ack()
	}
}

// TestRefusesConsumers: those that say of messages that they are done before they are.
func TestRefusesConsumers(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]jetstream.ConsumerConfig{
		"explicit": {Durable: "none", AckPolicy: jetstream.AckNonePolicy},
		"push":     {Durable: "push", AckPolicy: jetstream.AckExplicitPolicy, DeliverSubject: "d"},
	} {
		var err error
		if c.DeliverSubject == "" {
			_, err = w.js.CreateConsumer(t.Context(), "S", c)
		} else {
			_, err = w.js.CreatePushConsumer(t.Context(), "S", c)
		}
		if err != nil {
			t.Fatal(err)
		}
		conf, err := Spec().ParseYAML(fmt.Sprintf("urls: [%s]\nstream: S\ndurable: %s", w.n.URL(), c.Durable), nil)
		if err != nil {
			t.Fatal(err)
		}
		i, err := open(conf, service.MockResources().Logger())
		if err != nil {
			t.Fatal(err)
		}
		if err := i.Connect(t.Context()); err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "name another in durable") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestServerForgets: a restarted server has lost the consumer without a name, and a
// stream that is made anew is another source.
func TestServerForgets(t *testing.T) {
	w := newWorld(t)
	i := w.member("")
	w.publish("s.a", "1", "2")
	_, part, ack := w.take(i, 2)
	ack()
	w.until("settled", func() bool { return slices.Equal(settled(i, part), batch.Intervals{{First: 1, Last: 2}}) })
	w.n.Kill()
	w.n.Start(t)
	w.until("published", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := w.js.Publish(ctx, "s.a", []byte("3"))
		return err == nil
	})
	got, again, _ := w.take(i, 1)
	if got[0].body != "3" || again != part {
		t.Errorf("after a restart: %v of %s, want 3 of %s", got, again, part)
	}
	if err := w.js.DeleteStream(t.Context(), "S"); err != nil {
		t.Fatal(err)
	}
	w.make()
	w.publish("s.a", "new")
	if got, other, _ := w.take(i, 1); got[0] != (read{"new", 1, 0}) || other == part {
		t.Errorf("of a stream that was made anew: %v of %s, before %s", got, other, part)
	}
}

func TestRefusesConfig(t *testing.T) {
	for conf, want := range map[string]string{
		"urls: []\nstream: S":                                  "urls",
		"urls: [u]":                                            "stream, subject",
		"stream: S\ndurable: a\nqueue: b":                      "durable, queue",
		"stream: S\nbind: true":                                "bind",
		"stream: S\nlimit: 0":                                  "limit",
		"stream: S\nauth: {nkey: hush}":                        "auth.nkey",
		"stream: S\nauth: {token: hush, user: u, password: p}": "2 ways",
	} {
		if !strings.Contains(conf, "urls") {
			conf = "urls: [nats://127.0.0.1:1]\n" + conf
		}
		c, err := Spec().ParseYAML(conf, nil)
		if err == nil {
			_, err = open(c, service.MockResources().Logger())
		}
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%q: %v, want %q", conf, err, want)
		}
	}
}
