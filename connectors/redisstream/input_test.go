package redisstream

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/tidemill/tidemill/connectors/position"
	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/internal/testserver"
)

func TestOffsets(t *testing.T) {
	last := int64(-1)
	for _, id := range []string{"0-0", "0-1", "0-1048575", "1-0", "5-7", "1760000000000-0", "1760000000000-1", "8796093022207-1048575"} {
		o, ok := offsetOf(id)
		if !ok || o <= last || idOf(o) != id {
			t.Errorf("%s: offset %d %v after %d, and back %s", id, o, ok, last, idOf(o))
		}
		last = o
	}
	for _, id := range []string{"", "5", "5-", "-5", "a-1", "1-1048576", "8796093022208-0", "18446744073709551615-18446744073709551615", "1--1"} {
		if o, ok := offsetOf(id); ok {
			t.Errorf("%q has offset %d", id, o)
		}
	}
}

// member opens an input of a group; it is connected.
func member(t *testing.T, r *testserver.Redis, more string) *input {
	t.Helper()
	conf, err := Spec().ParseYAML(fmt.Sprintf("url: %s\nstreams: [a, b]\ncommit_period: 10ms\ntimeout: 50ms\n%s", r.URL(), more), nil)
	if err != nil {
		t.Fatal(err)
	}
	i, err := open(conf, service.MockResources().Logger())
	if err != nil {
		t.Fatal(err)
	}
	if err := i.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = i.Close(context.Background()) })
	return i
}

type read struct {
	body, part string
	off, void  int64
	perRow     bool
}

// take reads until there are n messages, and returns them with what acks all.
func take(t *testing.T, i *input, n int) (out []read, ack func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var acks []service.AckFunc
	for len(out) < n {
		msgs, a, err := i.ReadBatch(ctx)
		if err != nil {
			t.Fatalf("%d of %d messages: %v", len(out), n, err)
		}
		acks = append(acks, a)
		for _, m := range msgs {
			b, err := m.AsBytes()
			p, ok := position.Of(m)
			if err != nil || !ok {
				t.Fatal(err, ok)
			}
			out = append(out, read{string(b), p.Partition, p.Offset, p.Void, p.PerRow})
		}
	}
	return out, func() {
		for _, a := range acks {
			if err := a(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func add(t *testing.T, c *redis.Client, stream, id string, kv ...string) {
	t.Helper()
	if err := c.XAdd(t.Context(), &redis.XAddArgs{Stream: stream, ID: id, Values: kv}).Err(); err != nil {
		t.Fatal(err)
	}
}

// until polls until a condition holds.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for tick := time.NewTicker(5 * time.Millisecond); !ok(); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("not within 30 s: " + what)
		}
	}
}

func TestReads(t *testing.T) {
	r := testserver.StartRedis(t)
	c := redis.NewClient(&redis.Options{Addr: r.Addr})
	defer c.Close()
	at := func(ms, seq int64) int64 { return ms<<seqBits | seq }
	add(t, c, "a", "5-1", "body", `{"id":1}`)
	add(t, c, "a", "5-3", "body", `{"id":2}`, "who", "me")
	add(t, c, "a", "9-0", "other", "x")
	add(t, c, "a", "10-0", "body", "gone")
	add(t, c, "a", "11-0", "body", `{"id":3}`)
	add(t, c, "a", "9000000000000-7", "body", `{"id":4}`)
	if err := c.XDel(t.Context(), "a", "10-0").Err(); err != nil {
		t.Fatal(err)
	}
	i := member(t, r, "client_id: one")
	got, ack := take(t, i, 5)
	want := []read{
		{`{"id":1}`, "a", at(5, 1), 0, false},
		{`{"id":2}`, "a", at(5, 3), 1, false},
		{`{"other":"x"}`, "a", at(9, 0), at(9, 0) - at(5, 3) - 1, false},
		{`{"id":3}`, "a", at(11, 0), at(11, 0) - at(9, 0) - 1, false},
		{`{"id":4}`, "#a/9000000000000-7", 0, 0, true}, // too large: an idempotency key
	}
	if !slices.Equal(got, want) {
		t.Fatalf("read\n%+v, want\n%+v", got, want)
	}
	s := i.byName["a"]
	if v := s.floor.Settled(); len(v) > 0 {
		t.Fatalf("settled %v before an ack", v)
	}
	ack()
	until(t, "all acked", func() bool {
		p, err := c.XPending(t.Context(), "a", "tidemill").Result()
		return err == nil && p.Count == 0
	})
	add(t, c, "b", "7-0", "body", `{"id":5}`)
	got, ackB := take(t, i, 1)
	if want := []read{{`{"id":5}`, "b", at(7, 0), 0, false}}; !slices.Equal(got, want) {
		t.Fatalf("read %+v, want %+v", got, want)
	}
	b := i.byName["b"]
	until(t, "b's account is asked", func() bool { at, ok := b.floor.At(); return ok && at == 0 || at > 0 })
	if v := b.floor.Settled(); len(v) > 0 {
		t.Fatalf("settled %v of b while its entry is open", v)
	}
	ackB()
	until(t, "b is settled", func() bool {
		return slices.Equal(b.floor.Settled(), batch.Intervals{{First: 1, Last: at(7, 0)}})
	})
}

// TestComesAgain: what was not acked comes again, to the same member at once, to
// another once it has been idle; what was acked does not.
func TestComesAgain(t *testing.T) {
	r := testserver.StartRedis(t)
	c := redis.NewClient(&redis.Options{Addr: r.Addr})
	defer func() { _ = c.Close() }()
	for n := range 6 {
		add(t, c, "a", fmt.Sprintf("%d-0", n+1), "body", fmt.Sprint(n))
	}
	bodies := func(in []read) string {
		var out []string
		for _, x := range in {
			out = append(out, x.body)
			if x.void != 0 && len(out) == 1 {
				t.Errorf("the first message says that %d before it are void", x.void)
			}
		}
		return strings.Join(out, " ")
	}
	one := member(t, r, "client_id: one\nlimit: 2")
	_, ack := take(t, one, 2)
	open, ackOpen := take(t, one, 2)
	if got := bodies(open); got != "2 3" {
		t.Fatal(got)
	}
	ack()
	until(t, "acked up to the second", func() bool { at, _ := one.byName["a"].floor.At(); return idOf(at+1) == "3-0" })
	// Dies: nothing of it is closed in good order.
	again := member(t, r, "client_id: one\nlimit: 2")
	got, _ := take(t, again, 2)
	if bodies(got) != "2 3" || got[1].void != 0 {
		t.Fatalf("the member that came back reads %+v", got)
	}
	if rest, _ := take(t, again, 2); bodies(rest) != "4 5" || rest[1].void == 0 {
		t.Fatalf("then it reads %+v", rest)
	}
	other := member(t, r, "client_id: other\nclaim_after: 50ms")
	got, _ = take(t, other, 4)
	if bodies(got) != "2 3 4 5" || slices.ContainsFunc(got, func(x read) bool { return x.void != 0 }) {
		t.Fatalf("another member reads %+v", got)
	}
	// The first one lives after all; the server dies with what it was about to be told.
	r.Kill()
	ackOpen()
	r.Start(t)
	until(t, "the member finds its server again and acks", func() bool {
		if one.Connect(t.Context()) != nil {
			return false
		}
		at, _ := one.byName["a"].floor.At()
		return idOf(at+1) == "5-0"
	})
}

func TestRefusesConfig(t *testing.T) {
	for conf, want := range map[string]string{
		"streams: []":                           "streams",
		"streams: [a, a]":                       "twice",
		"streams: [a]\nconsumer_group: ''":      "consumer_group",
		"streams: [a]\nlimit: 0":                "limit",
		"streams: [a]\nkind: failover":          "master",
		"streams: [a]\nurl: 'http://u:pw@h:1/'": "url: is not one",
	} {
		if !strings.Contains(conf, "url:") {
			conf += "\nurl: redis://localhost:6379"
		}
		c, err := Spec().ParseYAML(conf, nil)
		if err == nil {
			_, err = open(c, service.MockResources().Logger())
		}
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "pw") {
			t.Errorf("%q: %v, want %q", conf, err, want)
		}
	}
}
