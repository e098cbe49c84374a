package kafka

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemill/tidemill/internal/testserver"
)

func TestReader(t *testing.T) {
	k := testserver.StartKafka(t)
	for name, test := range map[string]func(*testing.T, *testserver.Kafka){
		"values": testValues, "offsets": testOffsets, "rebalance": testRebalance, "gaps": testGaps,
	} {
		t.Run(name, func(t *testing.T) { test(t, k) })
	}
}

func open(t *testing.T, k *testserver.Kafka, topics ...string) *Reader {
	t.Helper()
	r, err := Open(t.Context(), kgo.SeedBrokers(k.Addr), kgo.ConsumerGroup(t.Name()), kgo.ConsumeTopics(topics...),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.HeartbeatInterval(100*time.Millisecond), kgo.FetchMaxWait(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(context.WithoutCancel(t.Context())) })
	return r
}

// rows is what a block stands for: values by offset.
func (b Block) rows() map[int64]string {
	if b.Rows == 0 {
		return map[int64]string{b.First: string(b.Data)}
	}
	out := map[int64]string{}
	for i, line := range slices.Collect(strings.Lines(string(b.Data))) {
		out[b.First+int64(i)] = strings.TrimSuffix(line, "\n")
	}
	if int64(len(out)) != b.Rows {
		out[-1] = fmt.Sprintf("%d lines in a block of %d rows", len(out), b.Rows)
	}
	return out
}

// patience is how long rows may be missing.
const patience = time.Minute

// read reads until it has so many rows, and returns them by partition and offset.
func read(t *testing.T, r *Reader, n int) (map[string]map[int64]string, []*Batch) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	got, batches := map[string]map[int64]string{}, []*Batch{}
	for n > 0 {
		b, err := r.Next(ctx)
		if err != nil {
			t.Fatalf("%d rows are missing: %v", n, err)
		}
		batches = append(batches, b)
		for _, block := range b.Blocks {
			if got[block.Partition] == nil {
				got[block.Partition] = map[int64]string{}
			}
			rows := block.rows()
			n -= len(rows)
			maps.Copy(got[block.Partition], rows)
		}
	}
	return got, batches
}

// testValues: what a reader hands over is what was produced, whatever codec it came in, and
// stays so while others are read into memory that was used before.
func testValues(t *testing.T, k *testserver.Kafka) {
	k.CreateTopic(t, "values", 3)
	want := map[string]map[int64]string{}
	n := 0
	for i, codec := range []kgo.CompressionCodec{kgo.NoCompression(), kgo.SnappyCompression(), kgo.GzipCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()} {
		c := k.Client(t, kgo.ProducerBatchCompression(codec))
		recs := make([]*kgo.Record, 4000)
		for j := range recs {
			value := fmt.Sprintf(`{"codec":%d,"n":%d,"text":%q}`, i, j, strings.Repeat("x", j%300))
			switch j {
			case 100:
				value = "{\n  \"lines\": 3\n}"
			case 101:
				value = `[{"a":1},{"a":2}]`
			case 102:
				value = ""
			case 103:
				value = `{"long":"` + strings.Repeat("y", 900_000) + `"}`
			case 104:
				value = "{"
			}
			recs[j] = &kgo.Record{Topic: "values", Partition: int32(j % 3), Value: []byte(value)}
		}
		if err := c.ProduceSync(t.Context(), recs...).FirstErr(); err != nil {
			t.Fatal(err)
		}
		for _, rec := range recs {
			name := fmt.Sprintf("values/%d", rec.Partition)
			if want[name] == nil {
				want[name] = map[int64]string{}
			}
			want[name][rec.Offset] = string(rec.Value)
			n++
		}
	}
	r := open(t, k, "values")
	got := map[string]map[int64]string{}
	blocks, held := 0, []*Batch{}
	for rows := 0; rows < n; {
		b, err := r.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, b)
		for _, block := range b.Blocks {
			rows += max(1, int(block.Rows))
			blocks++
		}
		// What is done is overwritten by what comes; what is not must not be.
		if len(held) < 2 && rows < n {
			continue
		}
		for _, b := range held {
			for _, block := range b.Blocks {
				if got[block.Partition] == nil {
					got[block.Partition] = map[int64]string{}
				}
				maps.Copy(got[block.Partition], block.rows())
			}
			b.Done()
		}
		held = held[:0]
	}
	for name, rows := range want {
		if !maps.Equal(got[name], rows) {
			for o, v := range rows {
				if got[name][o] != v {
					t.Fatalf("%s at %d: %.80q, want %.80q", name, o, got[name][o], v)
				}
			}
			t.Fatalf("%s: %d rows, want %d", name, len(got[name]), len(rows))
		}
	}
	if blocks > n/20 {
		t.Errorf("%d rows came as %d blocks", n, blocks)
	}
}

func produce(t *testing.T, c *kgo.Client, topic string, partition int32, from, to int) {
	t.Helper()
	var recs []*kgo.Record
	for i := from; i < to; i++ {
		recs = append(recs, &kgo.Record{Topic: topic, Partition: partition, Value: fmt.Appendf(nil, `{"n":%d}`, i)})
	}
	if err := c.ProduceSync(t.Context(), recs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

func committed(t *testing.T, k *testserver.Kafka, topic string, partition int32) int64 {
	t.Helper()
	all, err := kadm.NewClient(k.Client(t)).FetchOffsets(t.Context(), t.Name())
	if err != nil {
		t.Fatal(err)
	}
	o, ok := all.Lookup(topic, partition)
	if !ok {
		return 0
	}
	return o.At
}

// testOffsets: the group's offset follows the first row that is not done, in whatever order
// batches are.
func testOffsets(t *testing.T, k *testserver.Kafka) {
	k.CreateTopic(t, "acks", 1)
	c := k.Client(t)
	r := open(t, k, "acks")
	var batches []*Batch
	for i := range 3 {
		produce(t, c, "acks", 0, 10*i, 10*i+10)
		_, got := read(t, r, 10)
		batches = append(batches, got...)
	}
	if len(batches) != 3 {
		t.Fatalf("%d batches, want 3", len(batches))
	}
	batches[2].Done()
	if err := r.client.CommitMarkedOffsets(t.Context()); err != nil {
		t.Fatal(err)
	}
	if at := committed(t, k, "acks", 0); at != 0 {
		t.Errorf("with the last of three batches done, the group is at %d, want 0", at)
	}
	batches[0].Done()
	r.Close(t.Context())
	if at := committed(t, k, "acks", 0); at != 10 {
		t.Errorf("with the first and the last of three batches done, the group is at %d, want 10", at)
	}
	got, _ := read(t, open(t, k, "acks"), 20)
	if _, ok := got["acks/0"][9]; ok || len(got["acks/0"]) != 20 {
		t.Errorf("the next member reads %v, want 10 to 29", slices.Sorted(maps.Keys(got["acks/0"])))
	}
}

// testRebalance: another member gets what the first had not done, and the first one's late
// word does not move an offset that is the other's.
func testRebalance(t *testing.T, k *testserver.Kafka) {
	k.CreateTopic(t, "shared", 2)
	c := k.Client(t)
	first := open(t, k, "shared")
	for p := range int32(2) {
		produce(t, c, "shared", p, 0, 50)
	}
	_, held := read(t, first, 100)

	ctx, stop := context.WithCancel(t.Context())
	polling := make(chan struct{})
	go func() { // a member gives partitions away while it polls, or not
		defer close(polling)
		for ctx.Err() == nil {
			_, _ = first.Next(ctx)
		}
	}()
	second := open(t, k, "shared")
	got, _ := read(t, second, 50)
	stop()
	<-polling
	if len(got) != 1 {
		t.Fatalf("the second member has %d partitions, want one of the two", len(got))
	}
	for _, b := range held {
		b.Done()
	}
	first.Close(t.Context())
	for p := range int32(2) {
		_, moved := got[fmt.Sprintf("shared/%d", p)]
		want := map[bool]int64{true: 0, false: 50}[moved]
		if at := committed(t, k, "shared", p); at != want {
			t.Errorf("the group is at %d of partition %d (taken away: %v), want %d", at, p, moved, want)
		}
	}
}

// testGaps: markers of transactions have offsets, too, which no row of a block may get.
func testGaps(t *testing.T, k *testserver.Kafka) {
	k.CreateTopic(t, "tx", 1)
	c := k.Client(t, kgo.TransactionalID("tests"))
	want := map[int64]string{}
	offset := int64(0)
	for i := range 5 {
		if err := c.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		produce(t, c, "tx", 0, 10*i, 10*i+10)
		commit := kgo.TransactionEndTry(i != 2)
		if err := c.EndTransaction(t.Context(), commit); err != nil {
			t.Fatal(err)
		}
		for j := range 10 {
			if commit {
				want[offset] = fmt.Sprintf(`{"n":%d}`, 10*i+j)
			}
			offset++
		}
		offset++ // the marker
	}
	r, err := Open(t.Context(), kgo.SeedBrokers(k.Addr), kgo.ConsumerGroup(t.Name()), kgo.ConsumeTopics("tx"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close(context.WithoutCancel(t.Context()))
	got, _ := read(t, r, len(want))
	if !maps.Equal(got["tx/0"], want) {
		t.Errorf("got %v, want %v", got["tx/0"], want)
	}
}

func TestIsLine(t *testing.T) {
	for text, want := range map[string]bool{`{}`: true, `{"a":1}`: true, ``: false, `{`: false, "{\n}": false, `[{}]`: false, `{"a":1} `: false} {
		if got := IsLine([]byte(text)); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}
