package connectors

import (
	"context"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/tidemill/tidemill/connectors/decode"
	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
)

// TestStopWithReadAhead: an input that always has more is stopped while a batch
// has been read that nobody will ack; that must not take all of the grace.
func TestStopWithReadAhead(t *testing.T) {
	l := newLake(t, mem.New(), eventsContract)
	e, err := New(Options{Tables: l})
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseConfig("connectors/in.yaml", []byte("input:\n  generate: {interval: 1ms, mapping: 'root.id = counter()'}\noutput:\n  lakehouse: {table: events, batching: {count: 10}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- e.Run(ctx, c, time.Hour) }()
		tick := time.NewTicker(5 * time.Millisecond)
		for before, now := l.landings(), 0; now < before+3; now = l.landings() {
			<-tick.C
		}
		tick.Stop()
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(time.Minute):
			t.Fatal("the connector waits for what nobody will ack")
		}
	}
}

func (l *lake) landings() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.commits
}

// TestRedeliveryInOneBatch hands the output batches that hold a message and,
// right after it, the same message delivered again, as when a client sends a
// request anew before the first answer is out.
func TestRedeliveryInOneBatch(t *testing.T) {
	at := func(partition string, offset int64, perRow bool) *stamped {
		return &stamped{Position: Position{Partition: partition, Offset: offset, PerRow: perRow}}
	}
	split := at("c/t/1", 4, false)
	for _, c := range []struct {
		name            string
		stamps          []*stamped
		bodies          []string
		landed, refused int
	}{
		{"one row with a key", []*stamped{at("#k", 0, true), at("#k", 0, true)}, []string{`{"id":1}`, `{"id":1}`}, 1, 0},
		{"rows with a key", []*stamped{at("#k", 0, true), at("#k", 0, true)}, []string{"{\"id\":1}\n{\"id\":2}\n{\"id\":\n", "{\"id\":1}\n{\"id\":2}\n{\"id\":\n"}, 2, 1},
		{"rows at one offset", []*stamped{at("c/t/1", 4, false), at("c/t/1", 4, false)}, []string{`[{"id":1},{"id":2}]`, `[{"id":1},{"id":2}]`}, 2, 0},
		{"bad rows", []*stamped{at("c/t/1", 4, false), at("c/t/1", 4, false)}, []string{`{`, `{`}, 0, 1},
		{"from an earlier offset on", []*stamped{at("c/t/1", 4, false), at("c/t/1", 5, false), at("c/t/1", 4, false), at("c/t/1", 5, false), at("c/t/1", 6, false)},
			[]string{`{"id":4}`, `{"id":5}`, `{"id":4}`, `{"id":5}`, `{"id":6}`}, 3, 0},
		{"a block that begins at another's end", []*stamped{at("c/f", 0, true), at("c/f", 1, true)}, []string{"{\"id\":0}\n{\"id\":1}", "{\"id\":1}\n{\"id\":2}"}, 3, 0},
		{"one message that a processor split", []*stamped{split, split}, []string{`{"id":1}`, `{"id":2}`}, 2, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			store := mem.New()
			o := &output{table: "events", maxRow: decode.DefaultMaxRowBytes, tables: newLake(t, store, eventsContract)}
			if err := o.Connect(t.Context()); err != nil {
				t.Fatal(err)
			}
			var msgs service.MessageBatch
			for i, s := range c.stamps {
				msgs = append(msgs, withPosition(service.NewMessage([]byte(c.bodies[i])), s, false))
			}
			if err := o.WriteBatch(t.Context(), msgs); err != nil {
				t.Fatal(err)
			}
			if got := rows(t, store, "events", "id"); len(got) != c.landed {
				t.Errorf("landed %q, want %d rows", got, c.landed)
			}
			if got := rows(t, store, "events_quarantine", "rule"); len(got) != c.refused {
				t.Errorf("quarantined %q, want %d rows", got, c.refused)
			}
		})
	}
}
