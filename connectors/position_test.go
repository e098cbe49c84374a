package connectors

import (
	"math/rand/v2"
	"testing"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/tidemill/tidemill/internal/batch"
)

// TestTrackerNeverSettlesWhatIsOpen acks deliveries in random order, with
// gaps and redeliveries, and compares with a plain account of what is acked.
func TestTrackerNeverSettlesWhatIsOpen(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 3))
		tr := &tracker{}
		type delivered struct {
			offset int64
			ack    func()
		}
		var open []delivered
		acked := map[int64]bool{}
		seen := map[int64]bool{}
		next := int64(1000)
		check := func() {
			s := tr.Settled()
			for o := range seen {
				if s.Contains(o) && !acked[o] {
					t.Fatalf("seed %d: %d is settled and was not acked; settled %v", seed, o, s)
				}
			}
			if s.Contains(999) || s.Contains(next) {
				t.Fatalf("seed %d: settled %v reaches beyond what was delivered", seed, s)
			}
		}
		for range 200 {
			switch k := r.IntN(10); {
			case k < 5:
				if r.IntN(8) == 0 {
					next += r.Int64N(5) // a gap, as transaction markers leave
				}
				seen[next] = true
				open = append(open, delivered{next, tr.deliver(next, next)})
				next++
			case k < 6 && len(open) > 0: // a redelivery, as after a rebalance
				d := open[r.IntN(len(open))]
				tr.deliver(d.offset, d.offset)()
			case len(open) > 0:
				i := r.IntN(len(open))
				open[i].ack()
				acked[open[i].offset] = true
				open = append(open[:i], open[i+1:]...)
			}
			check()
		}
		for _, d := range open {
			d.ack()
			acked[d.offset] = true
		}
		check()
		s := tr.Settled()
		if len(s) != 1 || s[0].Last != next-1 {
			t.Fatalf("seed %d: all is acked up to %d, settled %v", seed, next-1, s)
		}
	}
}

func TestTrackerKeepsLargeGapsOpen(t *testing.T) {
	tr := &tracker{}
	tr.deliver(10, 10)()
	tr.deliver(10+maxGap+1, 10+maxGap+1)()
	want := batch.Intervals{{First: 10, Last: 10}, {First: 10 + maxGap + 1, Last: 10 + maxGap + 1}}
	if got := tr.Settled(); len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Fatalf("settled %v, want %v", got, want)
	}
}

// TestTrackerOfASparseSource: what the source says nothing of stays open, however
// small, and what it calls void is settled with the message behind it, however large.
func TestTrackerOfASparseSource(t *testing.T) {
	tr := &tracker{sparse: true}
	first := tr.deliver(10, 10)
	tr.deliver(12, 12)()
	first()
	if got := tr.Settled(); len(got) != 2 || got[0] != (batch.Interval{First: 10, Last: 10}) || got[1] != (batch.Interval{First: 12, Last: 12}) {
		t.Fatalf("11 may still come; settled %v", got)
	}
	tr.deliver(13, 5_000_000)()
	if got := tr.Settled(); len(got) != 2 || got[1] != (batch.Interval{First: 12, Last: 5_000_000}) {
		t.Fatalf("nothing lies between 12 and 5,000,000; settled %v", got)
	}
}

// A file that has grown is read again in larger blocks: what is new in one is
// open until that block is acked, however early the next one is.
func TestTrackerKeepsTheRestOfALargerBlockOpen(t *testing.T) {
	tr := &tracker{}
	old := tr.deliver(0, 9)
	grown := tr.deliver(0, 19)
	tr.deliver(20, 29)()
	old()
	if got := tr.Settled(); len(got) != 1 || got[0] != (batch.Interval{First: 0, Last: 9}) {
		t.Fatalf("settled %v while rows 10 to 19 are open", got)
	}
	grown()
	if got := tr.Settled(); len(got) != 1 || got[0] != (batch.Interval{First: 0, Last: 29}) {
		t.Fatalf("all is acked up to 29, settled %v", got)
	}
}

func TestKafkaPosition(t *testing.T) {
	p := positioners["kafka_franz"]("orders")
	m := service.NewMessage(nil)
	m.MetaSetMut("kafka_topic", "t")
	m.MetaSetMut("kafka_partition", 3)
	m.MetaSetMut("kafka_offset", 42)
	got, ok := p.Position(m)
	if want := (Position{Partition: "orders/t/3", Offset: 42}); !ok || got != want {
		t.Fatalf("got %+v %v, want %+v", got, ok, want)
	}
	if _, ok := p.Position(service.NewMessage(nil)); ok {
		t.Fatal("a message without metadata has a position")
	}
}

func TestFilePositionCountsMessages(t *testing.T) {
	p := positioners["file"]("in")
	for want := range int64(3) {
		m := service.NewMessage(nil)
		m.MetaSetMut("path", "a.csv")
		if got, ok := p.Position(m); !ok || got != (Position{Partition: "in/a.csv", Offset: want}) {
			t.Fatalf("message %d is at %+v", want, got)
		}
	}
}
