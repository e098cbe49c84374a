package kinesis

import (
	"strings"
	"testing"

	"github.com/tidemill/tidemill/internal/batch"
)

// TestPositions: two numbers that one PutRecords was answered with, and others.
func TestPositions(t *testing.T) {
	const first = "49574406612529345085480395468253889128133026889029894146"
	p := placer{shard: "s/shardId-000000000000"}
	p.resume("")
	a, b := p.at(first), p.at("49574406612529345085480395468255098053952641518204600322")
	if b.Offset != a.Offset+1 || a.Partition != b.Partition || !strings.HasPrefix(a.Partition, "s/shardId-000000000000@") || a.Void != 0 || b.Void != 0 || !a.Sparse {
		t.Errorf("%+v, then %+v", a, b)
	}
	c := p.at("49574406612529345085480395468259933757231100034903425026")
	if c.Offset != b.Offset+4 || c.Void != 3 {
		t.Errorf("%+v, four after %+v", c, b)
	}
	// A counter that was there, with another rest, and numbers that are built otherwise.
	for _, s := range []string{"49574406612529345085480395468259933757231100034903425042", "21267647932558653966460912964485513216", "12", "x"} {
		if k := p.at(s); !batch.Keyed(k.Partition) || !strings.HasSuffix(k.Partition, "/"+s) {
			t.Errorf("%s is at %+v", s, k)
		}
	}
	// Behind a checkpoint, nothing lies between; from the oldest record, nobody knows.
	p.resume(first)
	if again := p.at("49574406612529345085480395468259933757231100034903425026"); again.Offset != c.Offset || again.Void != 4 || again.Partition != c.Partition {
		t.Errorf("behind the first %+v, was %+v", again, c)
	}
	p.resume(first)
	p.resume("")
	if again := p.at("49574406612529345085480395468259933757231100034903425026"); again.Offset != c.Offset || again.Void != 0 {
		t.Errorf("from the oldest %+v, was %+v", again, c)
	}
	p.resume("")
	if again := p.at(first); again.Offset != a.Offset || again.Void != 0 {
		t.Errorf("again %+v, was %+v", again, a)
	}
	if !less("9", "10") || less("10", "9") || less("10", "10") || !less("10", "11") {
		t.Error("sequence numbers are not compared as numbers")
	}
}
