package kinesis

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
)

// TestReads: what a record has beside its bytes, and where another process goes on when one
// is closed, which is long before its lease would be over.
func TestReads(t *testing.T) {
	w := newWorld(t, 1)
	w.put(lowest, "a", "b", "c")
	one := w.join("lease_period: 10m")
	got := one.take(3)
	w.same(got, "a", "b", "c")
	for i, r := range got.reads {
		if r.shard != shardNo(0) || r.keyed || !strings.HasPrefix(r.part, "in/"+shardNo(0)+"@") || i > 0 && (r.off <= got.reads[i-1].off || r.off-r.void != got.reads[i-1].off+1) {
			t.Errorf("%+v", got.reads)
		}
	}
	two := w.join("lease_period: 10m")
	got.ack(w)
	one.close()
	w.put(lowest, "d")
	next := two.take(1)
	w.same(next, "d")
	if r, last := next.reads[0], got.reads[2]; r.part != last.part || r.off-r.void != last.off+1 {
		t.Errorf("after %+v: %+v", last, r)
	}
	next.ack(w)
	two.close()
	i := w.lease(shardNo(0))
	if i.owner != "" || i.timeout != "" || i.wanted != "" || i.sequence == "" {
		t.Errorf("after all have gone, the lease is %+v", i)
	}
	if !two.room.TryAcquire(inFlightBytes) {
		t.Error("room is taken though all is acked")
	}
}

// TestMetadata: the same as of Benthos' input.
func TestMetadata(t *testing.T) {
	w := newWorld(t, 1)
	w.put(lowest, "a")
	const arn = "arn:aws:kinesis:us-east-1:000000000000:stream/in"
	m := w.join("streams: ['" + arn + "']")
	msgs, _, err := m.ReadBatch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	if err := msgs[0].MetaWalk(func(k, v string) error { got[k] = v; return nil }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 4 || got["kinesis_stream"] != arn || got["kinesis_shard"] != shardNo(0) || got["kinesis_partition_key"] != "p" || len(got["kinesis_sequence_number"]) != 56 {
		t.Errorf("%v", got)
	}
}

// TestAcksOutOfOrder: a checkpoint never moves past a record that is not acked.
func TestAcksOutOfOrder(t *testing.T) {
	w := newWorld(t, 1)
	one := w.join("")
	w.put(lowest, "a")
	first := one.take(1)
	w.put(lowest, "b")
	next := one.take(1)
	next.ack(w)
	one.close()
	if i := w.lease(shardNo(0)); i.sequence != "" {
		t.Errorf("the lease is at %s, and the first record is not acked", i.sequence)
	}
	two := w.join("")
	again := two.take(2)
	w.same(again, "a", "b")
	if again.reads[0].off != first.reads[0].off || again.reads[1].off != next.reads[0].off {
		t.Errorf("%+v again, were %+v and %+v", again.reads, first.reads, next.reads)
	}
	w.put(lowest, "c")
	third := two.take(1)
	third.ack(w)
	again.ack(w)
	two.close()
	w.put(lowest, "d")
	w.same(w.join("").take(1), "d")
}

// TestVanishes: a shard that never had a record, and so no checkpoint, is taken over from a process
// that is gone without a word; so is one that is named in the config.
func TestVanishes(t *testing.T) {
	for name, streams := range map[string]string{"shared": "", "named": "streams: ['in:shardId-000000000000,in:1']"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 2)
			shards := []string{shardNo(0), shardNo(1)}
			if streams != "" {
				shards[1] = "1" // as the config calls it
			}
			one := w.join(streams)
			w.owned(one, shards...)
			one.vanish()
			two := w.join(streams)
			w.owned(two, shards...)
			w.put(lowest, "a")
			w.put(highest, "b")
			got := two.take(2).bodies()
			if slices.Sort(got); !slices.Equal(got, []string{"a", "b"}) {
				t.Errorf("read %v", got)
			}
		})
	}
}

// TestBalances: of idle shards without checkpoints, a process that joins gets its share from
// the other, though no lease ends; and what is on its way there is acked first.
func TestBalances(t *testing.T) {
	w := newWorld(t, 4)
	const long = "lease_period: 10m\nsteal_grace_period: 1m"
	one := w.join(long)
	w.owned(one, shardNo(0), shardNo(1), shardNo(2), shardNo(3))
	for _, hash := range []string{lowest, second, middle, highest} {
		w.put(hash, "old")
	}
	old := one.take(4)
	two := w.join(long)
	owners := func() (out map[string]int) {
		out = map[string]int{}
		for s := range 4 {
			i := w.lease(shardNo(s))
			out[i.owner]++
			if i.wanted != "" { // it waits for what is on its way
				old.ack(w)
			}
		}
		return out
	}
	w.until("each has two", func() error {
		if n := owners(); n[one.me] != 2 || n[two.me] != 2 {
			return fmt.Errorf("%v", n)
		}
		return nil
	})
	for hash, body := range map[string]string{lowest: "a", highest: "d"} {
		w.put(hash, body)
		from := one
		if s := map[string]int{lowest: 0, highest: 3}[hash]; w.lease(shardNo(s)).owner == two.me {
			from = two
		}
		got := from.take(1)
		w.same(got, body)
		got.ack(w)
	}
	// A third one takes one of each at most, and nothing moves between these.
	before := [4]string{}
	for s := range 4 {
		before[s] = w.lease(shardNo(s)).owner
	}
	three := w.join(long)
	w.until("the third has one", func() error {
		if owners()[three.me] != 1 {
			return errNotYet
		}
		return nil
	})
	moved := 0
	for s := range 4 {
		if now := w.lease(shardNo(s)).owner; now != before[s] {
			moved++
		}
	}
	if moved != 1 {
		t.Errorf("%d shards have moved, want 1", moved)
	}
	// Who leaves gives up its shards at once.
	one.close()
	three.close()
	w.owned(two, shardNo(0), shardNo(1), shardNo(2), shardNo(3))
}

// TestWaits: whoever is asked for a shard keeps it until what is on its way is acked.
func TestWaits(t *testing.T) {
	w := newWorld(t, 2)
	const long = "lease_period: 10m\nsteal_grace_period: 5m"
	one := w.join(long)
	w.put(lowest, "a")
	w.put(highest, "b")
	old := one.take(2)
	var lists atomic.Int32
	count := func(call string) string {
		if call == "ListShards" {
			lists.Add(1)
		}
		return ""
	}
	w.fault.Store(&count)
	two := w.join(long)
	owners := func() string { return w.lease(shardNo(0)).owner + w.lease(shardNo(1)).owner }
	w.until("it has asked, and both have looked often since", func() error {
		if w.lease(shardNo(0)).wanted+w.lease(shardNo(1)).wanted != two.me {
			lists.Store(0)
		}
		if lists.Load() < 16 {
			return errNotYet
		}
		return nil
	})
	if owners() != one.me+one.me {
		t.Fatal("the shard was handed over with records that are not acked")
	}
	old.ack(w)
	w.until("it is handed over", func() error {
		if owners() == one.me+one.me {
			return errNotYet
		}
		return nil
	})
	for n, hash := range []string{lowest, highest} {
		from := one
		if w.lease(shardNo(n)).owner == two.me {
			from = two
		}
		w.put(hash, hash)
		w.same(from.take(1), hash)
	}
}

// TestWithdraws: a process that leaves takes back what it has asked for, so that no shard is handed to
// nobody.
func TestWithdraws(t *testing.T) {
	w := newWorld(t, 2)
	const long = "lease_period: 10m\nsteal_grace_period: 1m"
	one := w.join(long)
	w.put(lowest, "a")
	w.put(highest, "b")
	old := one.take(2)
	two := w.join(long)
	w.until("it has asked", func() error {
		if w.lease(shardNo(0)).wanted+w.lease(shardNo(1)).wanted != two.me {
			return errNotYet
		}
		return nil
	})
	two.close()
	for n := range 2 {
		if i := w.lease(shardNo(n)); i.wanted != "" || i.owner == two.me {
			t.Errorf("after it has gone: %+v", i)
		}
	}
	old.ack(w)
	for _, hash := range []string{lowest, highest} {
		w.put(hash, hash)
		w.same(one.take(1), hash)
	}
}

// TestLimit: no more records of a shard are on their way than checkpoint_limit says.
func TestLimit(t *testing.T) {
	w := newWorld(t, 1)
	w.put(lowest, numbers("", 10)...)
	m := w.join("checkpoint_limit: 3")
	for n := 0; n < 9; n += 3 {
		got := m.take(3)
		w.same(got, numbers("", 10)[n:n+3]...)
		got.ack(w)
	}
	w.same(m.take(1), "9")
}

// TestLedger: what is acked, in whatever order, and how much room that makes.
func TestLedger(t *testing.T) {
	l := &ledger{}
	l.init()
	a, b, c := &flight{last: "1", records: 2}, &flight{last: "2", records: 1}, &flight{last: "3", records: 3}
	for _, f := range []*flight{a, b, c} {
		l.add(f)
	}
	l.takeBack()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if n, err := l.room(over, 3); err == nil {
		t.Errorf("room for %d beside three of three", n)
	}
	for i, step := range []struct {
		ack  *flight
		upTo string
		room int
	}{{b, "", 0}, {a, "2", 3}} {
		if !l.ack(step.ack) || l.ack(step.ack) || l.acked() != step.upTo {
			t.Errorf("step %d: acked up to %q, want %q", i, l.acked(), step.upTo)
		}
		if n, _ := l.room(over, 3); n != step.room {
			t.Errorf("step %d: room for %d, want %d", i, n, step.room)
		}
	}
	if l.len() != 0 {
		t.Errorf("%d are pending", l.len())
	}
}

// TestForeignLease: nothing that a process writes changes a lease that another has by now.
func TestForeignLease(t *testing.T) {
	w := newWorld(t, 1)
	m := w.join("")
	w.owned(m, shardNo(0))
	m.close()
	at := func(me string) *table { return &table{conf: m.conf.table, client: w.db, me: me, lease: time.Hour} }
	one, two := at("one"), at("two")
	free := w.lease(shardNo(0))
	seen, err := one.claim(t.Context(), stream, free, "1", "")
	if err != nil || seen.owner != "one" {
		t.Fatal(err, seen)
	}
	alive, err := one.renew(t.Context(), stream, shardNo(0), "5")
	if err != nil || alive.sequence != "5" || alive.timeout == seen.timeout {
		t.Fatal(err, alive)
	}
	for what, write := range map[string]func() error{
		"claim it as free":      func() error { _, err := two.claim(t.Context(), stream, free, "1", ""); return err },
		"claim it as seen last": func() error { _, err := two.claim(t.Context(), stream, seen, "1", ""); return err },
		"renew":                 func() error { _, err := two.renew(t.Context(), stream, shardNo(0), "9"); return err },
		"release":               func() error { return two.release(t.Context(), stream, shardNo(0), "9", "") },
		"hand over":             func() error { return one.release(t.Context(), stream, shardNo(0), "9", "two") }, // which has not asked
		"finish":                func() error { return two.finish(t.Context(), stream, shardNo(0), "9", "1") },
		"take back a request":   func() error { return two.unwant(t.Context(), stream, shardNo(0)) },
		"forget it as free":     func() error { return two.forget(t.Context(), stream, free) },
		"forget it as seen":     func() error { return two.forget(t.Context(), stream, seen) },
	} {
		if err := write(); !errors.Is(err, errLost) {
			t.Errorf("%s: %v", what, err)
		}
		if now := w.lease(shardNo(0)); now != alive {
			t.Errorf("%s: the lease is %+v, was %+v", what, now, alive)
		}
	}
	if err := one.finish(t.Context(), stream, shardNo(0), "7", "1"); err != nil {
		t.Fatal(err)
	}
	if _, err := two.claim(t.Context(), stream, w.lease(shardNo(0)), "1", ""); !errors.Is(err, errLost) {
		t.Errorf("claim what was read to its end: %v", err)
	}
	if _, err := two.claim(t.Context(), stream, w.lease(shardNo(0)), "2", ""); err != nil {
		t.Errorf("claim a shard of that name in another stream: %v", err)
	}
}

// TestLost: a process whose lease another has taken stops reading, does not touch the lease any more, and
// begins where that stands when it gets it back.
func TestLost(t *testing.T) {
	w := newWorld(t, 1)
	one := w.join("")
	w.put(lowest, "a")
	first := one.take(1)
	first.ack(w)
	w.until("checkpointed", func() error {
		if w.lease(shardNo(0)).sequence == "" {
			return errNotYet
		}
		return nil
	})
	at := w.lease(shardNo(0)).sequence
	w.put(lowest, "b")
	next := one.take(1)
	w.usurp(shardNo(0), "another")
	// It gets the shard back when the other has given no sign for a lease_period, and then has what it
	// had not acked a second time: it has stopped reading in between.
	again := one.take(1)
	w.same(again, "b")
	if i := w.lease(shardNo(0)); i.owner != one.me || i.sequence != at {
		t.Errorf("the lease is %+v, was at %s", i, at)
	}
	next.ack(w) // of the lease that was lost
	w.put(lowest, "c")
	third := one.take(1)
	w.same(third, "c")
	third.ack(w)
	one.close()
	if i := w.lease(shardNo(0)); i.sequence != at {
		t.Errorf("the lease is at %s, was at %s, and b was not acked since", i.sequence, at)
	}
}

// TestReshards: of shards that were split or merged, all is read before what is in their children, while
// somebody reads and while nobody does.
func TestReshards(t *testing.T) {
	const many = readRecords + 300 // more than one read
	for name, c := range map[string]struct {
		shards   int32
		reshard  func(w *world)
		parents  []string
		children map[string]string // by hash key
	}{
		"split": {1, func(w *world) { w.split(shardNo(0)) }, []string{lowest}, map[string]string{shardNo(1): lowest, shardNo(2): highest}},
		"merge": {2, func(w *world) { w.merge(shardNo(0), shardNo(1)) }, []string{lowest, highest}, map[string]string{shardNo(2): lowest}},
	} {
		for _, away := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, away %v", name, away), func(t *testing.T) {
				w := newWorld(t, c.shards)
				m := w.join("")
				for _, hash := range c.parents {
					w.put(hash, "first")
				}
				m.take(len(c.parents)).ack(w)
				if away {
					m.close()
				}
				for _, hash := range c.parents {
					w.put(hash, numbers("p", many)...)
				}
				c.reshard(w)
				for _, hash := range c.children {
					w.put(hash, numbers("c", 10)...)
				}
				if away {
					m = w.join("")
				}
				parents := m.take(many * len(c.parents))
				for _, r := range parents.reads {
					if !strings.HasPrefix(r.body, "p") {
						t.Fatalf("%s of %s was read before the last of the parents", r.body, r.shard)
					}
				}
				parents.ack(w)
				children := m.take(10 * len(c.children))
				for _, r := range children.reads {
					if c.children[r.shard] == "" {
						t.Errorf("%s of %s", r.body, r.shard)
					}
				}
				children.ack(w)
				for n := range int(c.shards) {
					if i := w.lease(shardNo(n)); i.end == "" || i.owner != "" {
						t.Errorf("of the parent the table says %+v", i)
					}
				}
				// Nobody reads the parents again.
				m.close()
				again := w.join("")
				for _, hash := range c.children {
					w.put(hash, "last")
				}
				for _, r := range again.take(len(c.children)).reads {
					if r.body != "last" {
						t.Errorf("%s of %s again", r.body, r.shard)
					}
				}
			})
		}
	}
}

// TestAnew: a stream that is deleted and made anew, with shards of the same names, is
// read from its beginning; what the table says of the old ones does not count.
func TestAnew(t *testing.T) {
	w := newWorld(t, 1)
	m := w.join("")
	w.put(lowest, "a")
	old := m.take(1)
	old.ack(w)
	w.split(shardNo(0))
	w.until("the end of the old one is noted", func() error {
		if w.lease(shardNo(0)).end == "" {
			return errNotYet
		}
		return nil
	})
	w.anew()
	w.put(lowest, "b")
	now := m.take(1)
	w.same(now, "b")
	if now.reads[0].part == old.reads[0].part {
		t.Errorf("both are %s", now.reads[0].part)
	}
	w.until("the leases of the old shards are gone", func() error {
		if i := w.lease(shardNo(2)); i.shard != "" {
			return fmt.Errorf("%+v", i)
		}
		return nil
	})
}

// TestAnewAway: the same while nobody reads, with a first shard that is closed before anybody looks, as
// the one of its name was.
func TestAnewAway(t *testing.T) {
	w := newWorld(t, 1)
	m := w.join("")
	w.put(lowest, "a")
	m.take(1).ack(w)
	w.split(shardNo(0))
	w.until("the end of the old one is noted", func() error {
		if w.lease(shardNo(0)).end == "" {
			return errNotYet
		}
		return nil
	})
	m.close()
	w.anew()
	w.put(lowest, "b", "c")
	w.split(shardNo(0))
	w.put(lowest, "d")
	m = w.join("")
	parent := m.take(2)
	w.same(parent, "b", "c")
	parent.ack(w)
	w.same(m.take(1), "d")
}

// TestFaults: what Kinesis refuses for a while, or has forgotten, does not end the reading.
func TestFaults(t *testing.T) {
	w := newWorld(t, 1)
	m := w.join("")
	w.put(lowest, "a")
	got := m.take(1)
	w.same(got, "a")
	got.ack(w)
	for kind, call := range map[string]string{
		"ProvisionedThroughputExceededException": "GetRecords", "ExpiredIteratorException": "GetRecords", "InternalFailure": "GetRecords",
		"LimitExceededException": "ListShards", "ResourceNotFoundException": "GetRecords",
	} {
		var left atomic.Int32
		left.Store(2)
		fault := func(c string) string {
			switch {
			case kind == "ExpiredIteratorException" && c == "GetShardIterator":
				left.Store(0) // that is what mends it, and nothing else
			case kind == "ExpiredIteratorException" && c == call && left.Load() > 0, c == call && left.Add(-1) >= 0:
				return kind
			}
			return ""
		}
		w.fault.Store(&fault)
		w.until(kind+" was met", func() error {
			if left.Load() > 0 {
				return errNotYet
			}
			return nil
		})
		w.put(lowest, kind)
		got := m.take(1)
		w.same(got, kind)
		got.ack(w)
	}
	// A checkpoint that the shard has no more.
	all := w.join("") // waits until the other one has gone
	var trimmed atomic.Bool
	fault := func(c string) string {
		if c == "GetShardIterator" && trimmed.CompareAndSwap(false, true) {
			return "InvalidArgumentException"
		}
		return ""
	}
	w.fault.Store(&fault)
	m.close()
	if w.lease(shardNo(0)).sequence == "" {
		t.Fatal("nothing is checkpointed")
	}
	if got := all.take(6); got.reads[0].body != "a" || got.reads[0].keyed {
		t.Errorf("from the oldest record: %+v", got.reads)
	}
}

// TestListsAllPages: the list of shards comes in pages.
func TestListsAllPages(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
		body := make([]byte, 1000)
		n, _ := in.Body.Read(body)
		out.Header().Set("Content-Type", "application/x-amz-json-1.1")
		switch asked := string(body[:n]); {
		case strings.Contains(asked, "NextToken") && !strings.Contains(asked, "StreamName"):
			fmt.Fprint(out, `{"Shards":[{"ShardId":"b","ParentShardId":"a","SequenceNumberRange":{"StartingSequenceNumber":"2"}}]}`)
		default:
			fmt.Fprint(out, `{"NextToken":"t","Shards":[{"ShardId":"a","SequenceNumberRange":{"StartingSequenceNumber":"1"}}]}`)
		}
	}))
	defer srv.Close()
	conf, err := Spec().ParseYAML("streams: [s]\nregion: r\nendpoint: "+srv.URL+"\ncredentials: {id: a, secret: b}\ndynamodb: {table: t}", nil)
	if err != nil {
		t.Fatal(err)
	}
	i, err := open(conf, service.MockResources().Logger())
	if err != nil {
		t.Fatal(err)
	}
	s := &state{id: "s"}
	if err := i.list(t.Context(), s); err != nil || len(s.shards) != 2 || s.shards["b"].start != "2" || !slices.Equal(s.shards["b"].parents, []string{"a"}) {
		t.Errorf("%v, %+v", err, s.shards)
	}
}

// TestNewest: with start_from_oldest: false, a shard without a checkpoint goes on with what came
// since a process read it first, and so do the shards that it becomes.
func TestNewest(t *testing.T) {
	w := newWorld(t, 1)
	w.put(lowest, "old")
	var reads atomic.Int32
	count := func(call string) string {
		if call == "GetRecords" {
			reads.Add(1)
		}
		return ""
	}
	w.fault.Store(&count)
	const newest = "start_from_oldest: false"
	one := w.join(newest)
	w.until("it reads", func() error {
		if reads.Load() < 2 {
			return errNotYet
		}
		return nil
	})
	w.put(lowest, "a")
	w.same(one.take(1), "a")
	one.vanish()
	w.put(lowest, "b")
	two := w.join(newest)
	w.same(two.take(2), "a", "b")
	two.close()
	w.split(shardNo(0))
	w.put(lowest, "c")
	w.put(highest, "d")
	three := w.join(newest)
	got := three.take(2)
	w.same(got, "a", "b")
	got.ack(w)
	children := three.take(2).bodies()
	if slices.Sort(children); !slices.Equal(children, []string{"c", "d"}) {
		t.Errorf("of the children: %v", children)
	}
}
