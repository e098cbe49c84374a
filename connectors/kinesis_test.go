package connectors

import (
	"strings"
	"testing"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/tidemill/tidemill/internal/batch"
)

// TestKinesisPosition: two numbers that one PutRecords was answered with, and others.
func TestKinesisPosition(t *testing.T) {
	p := positioners["aws_kinesis"]("in")
	at := func(sequence string) Position {
		t.Helper()
		m := service.NewMessage(nil)
		m.MetaSetMut("kinesis_stream", "s")
		m.MetaSetMut("kinesis_shard", "shardId-000000000000")
		m.MetaSetMut("kinesis_sequence_number", sequence)
		got, ok := p.Position(m)
		if !ok {
			t.Fatalf("%s has no position", sequence)
		}
		return got
	}
	a, b := at("49574406612529345085480395468253889128133026889029894146"), at("49574406612529345085480395468255098053952641518204600322")
	if b.Offset != a.Offset+1 || a.Partition != b.Partition || !strings.HasPrefix(a.Partition, "in/s/shardId-000000000000@") || a.Void != 0 || b.Void != 0 || !a.Sparse {
		t.Errorf("%+v, then %+v", a, b)
	}
	if c := at("49574406612529345085480395468259933757231100034903425026"); c.Offset != b.Offset+4 || c.Void != 3 {
		t.Errorf("%+v, four after %+v", c, b)
	}
	if again := at("49574406612529345085480395468253889128133026889029894146"); again.Offset != a.Offset || again.Void != 0 {
		t.Errorf("again %+v, was %+v", again, a)
	}
	// The counter of the one before with another rest, and numbers that are built otherwise.
	for _, s := range []string{"49574406612529345085480395468253889128133026889029894162", "21267647932558653966460912964485513216", "12", "x"} {
		if k := at(s); !batch.Keyed(k.Partition) || !strings.HasSuffix(k.Partition, "/"+s) {
			t.Errorf("%s is at %+v", s, k)
		}
	}
	if _, ok := p.Position(service.NewMessage(nil)); ok {
		t.Error("a message without metadata has a position")
	}
}
