package connectors

import (
	"fmt"
	"strings"
	"testing"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
)

func generated(n int, mapping string) string {
	return fmt.Sprintf("input:\n  generate: {count: %d, interval: '', mapping: %q}\noutput:\n  lakehouse: {table: events, batching: {count: 4, period: 20ms}}\n", n, mapping)
}

// TestDedupeByKey: an input that numbers its rows per run, in several processes.
func TestDedupeByKey(t *testing.T) {
	store := mem.New()
	const with = eventsContract + "dedupe: {window: 1h}\n"
	run := func(contract string, n int, mapping string, landed, duplicates int64, quarantined string) {
		t.Helper()
		l := newLake(t, store, contract)
		l.run(generated(n, mapping))
		if l.sum.Landed != landed || l.sum.Duplicates != duplicates || fmt.Sprint(l.sum.Quarantined) != quarantined {
			t.Fatalf("%s: %+v", mapping, l.sum)
		}
	}
	run(with, 10, "root.id = counter() % 7", 7, 3, "map[]")
	run(with, 10, "root.id = counter() % 9", 2, 8, "map[]")
	run(eventsContract, 3, "root.id = 1", 3, 0, "map[]")
	run(with, 3, "root = [\"broken\", {\"id\": 100, \"name\": 5}, {\"id\": 100, \"name\": 5}].index(counter() - 1)", 0, 1, "map[not_json:1 wrong_type:1]")
	run(with, 2, "root = [\"broken\", {\"id\": 100, \"name\": 5}].index(counter() - 1)", 0, 2, "map[]")
	// A row that did not fit is in quarantine for good, whatever a newer contract thinks of it.
	newer := strings.Replace(with, "{name: name, type: string}", "{name: name, type: string}\n  - {name: size, type: long}", 1)
	run(newer, 1, "root = {\"id\": 101, \"size\": \"x\"}", 0, 0, "map[wrong_type:1]")
	run(with, 2, "root = {\"id\": 101, \"size\": \"x\"}", 0, 2, "map[]")
	if n := len(rows(t, store, "events_quarantine", "raw")); n != 3 {
		t.Errorf("%d rows in quarantine", n)
	}
}

// TestMessageIDs: ids stand for messages where the contract says so, and nowhere else.
func TestMessageIDs(t *testing.T) {
	m := service.NewMessage(nil)
	if id := messageID("in", "amqp_0_9", m); id != "" {
		t.Errorf("without an id: %s", id)
	}
	m.MetaSetMut("amqp_message_id", "m1")
	if id := messageID("in", "mqtt", m); id != "" {
		t.Errorf("of another input: %s", id)
	}
	s := &stamped{Position: Position{Partition: "~in/amqp_0_9/x", Offset: 7}, id: messageID("in", "amqp_0_9", m)}
	if !batch.Identified(s.id) || batch.Durable(s.id) || batch.Keyed(s.id) {
		t.Errorf("partition %s", s.id)
	}
	if at := s.at(false); at != s.Position {
		t.Errorf("by key: %+v", at)
	}
	if at := s.at(true); at.Partition != s.id || at.Offset != 0 || !at.PerRow {
		t.Errorf("by id: %+v", at)
	}
	c, err := contract.Parse("", []byte(eventsContract+"dedupe: {window: 1h, by: message_id}\n"))
	if err != nil {
		t.Fatal(err)
	}
	landed, bad := Dedupe(c)
	if fmt.Sprint(landed.Columns, bad.Columns) != "[_source _offset] [_source _offset]" {
		t.Errorf("compared are %v and %v", landed.Columns, bad.Columns)
	}
}

func TestLintAcks(t *testing.T) {
	e, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	for input, want := range map[string]string{
		"amqp_0_9: {urls: [amqp://h], queue: q, auto_ack: true}":                "2: input.amqp_0_9.auto_ack: acks messages before their rows are committed",
		"mqtt: {urls: [tcp://h], topics: [t]}":                                  "2: input.mqtt.client_id: missing; the broker keeps messages",
		"mqtt: {urls: [tcp://h], topics: [t], clean_session: true}":             "",
		"mqtt: {urls: [tcp://h], topics: [t], client_id: c}":                    "",
		"broker: {inputs: [{mqtt: {urls: [tcp://h], topics: [t]}}]}":            "2: input.mqtt.client_id: missing",
		"amqp_0_9: {urls: [amqp://h], queue: q, nack_reject_patterns: ['^x$']}": "",
	} {
		c, err := ParseConfig("c.yaml", []byte("input:\n  "+input+"\noutput: {lakehouse: {table: events}}\n"))
		if err != nil {
			t.Fatal(err)
		}
		ps := e.Lint(c, []string{"events"})
		if got := fmt.Sprint(ps); want == "" && len(ps) > 0 || !strings.Contains(got, want) {
			t.Errorf("%s: %s", input, got)
		}
		if _, err := c.prepared(); err != nil {
			t.Error(err)
		}
	}
}
