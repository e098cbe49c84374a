package kinesis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/tidemill/tidemill/internal/testserver"
)

// world is the servers, and a stream in them.
type world struct {
	k      *testserver.Kinesis
	api    *kinesis.Client
	stream string
	table  string
}

func newWorld(t *testing.T, k *testserver.Kinesis, shards int32) *world {
	t.Helper()
	name := strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-"))
	w := &world{k: k, stream: name, table: "leases-" + name, api: kinesis.New(kinesis.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(k.Endpoint()), Credentials: credentials.NewStaticCredentialsProvider("key", "secret", ""),
	})}
	if _, err := w.api.CreateStream(t.Context(), &kinesis.CreateStreamInput{StreamName: &w.stream, ShardCount: &shards}); err != nil {
		t.Fatal(err)
	}
	w.active(t)
	return w
}

// active waits until the stream can be changed.
func (w *world) active(t *testing.T) {
	t.Helper()
	eventually(t, "the stream is active", func(ctx context.Context) error {
		d, err := w.api.DescribeStreamSummary(ctx, &kinesis.DescribeStreamSummaryInput{StreamName: &w.stream})
		if err == nil && d.StreamDescriptionSummary.StreamStatus != types.StreamStatusActive {
			err = fmt.Errorf("it is %s", d.StreamDescriptionSummary.StreamStatus)
		}
		return err
	})
}

// put writes records, each into the shard that its hash key says, and returns their sequence numbers.
func (w *world) put(t *testing.T, hash string, bodies ...string) (numbers []string) {
	t.Helper()
	for _, b := range bodies {
		out, err := w.api.PutRecord(t.Context(), &kinesis.PutRecordInput{StreamName: &w.stream, PartitionKey: aws.String("p"), ExplicitHashKey: &hash, Data: []byte(b)})
		if err != nil {
			t.Fatal(err)
		}
		numbers = append(numbers, *out.SequenceNumber)
	}
	return numbers
}

// Hash keys of the two halves of a stream of two shards.
const low, high = "0", "340282366920938463463374607431768211455"

// reader opens an input of the stream; it is connected.
func (w *world) reader(t *testing.T, more string) *input {
	t.Helper()
	streams := w.stream
	if rest, ok := strings.CutPrefix(more, "shards: "); ok {
		streams, more = rest, ""
	}
	conf, err := Spec().ParseYAML(fmt.Sprintf(`streams: [%q]
region: us-east-1
endpoint: %s
credentials: {id: key, secret: secret}
dynamodb: {table: %s, create: true, region: us-east-1, endpoint: %s, credentials: {id: key, secret: secret}}
commit_period: 20ms
rebalance_period: 50ms
lease_period: 1s
%s`, streams, w.k.Endpoint(), w.table, w.k.DynamoEndpoint(), more), nil)
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

// vanish ends an input as a kill does: nothing is written down, and the leases stay.
func vanish(i *input) {
	i.leases.c.table.name = "not-this-one"
	i.stop()
	<-i.ended
}

type record struct{ body, shard, number string }

// take reads until there are n records, and returns them with what acks each batch.
func take(t *testing.T, i *input, n int) (out []record, acks []func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for len(out) < n {
		msgs, ack, err := i.ReadBatch(ctx)
		if err != nil {
			t.Fatalf("%d of %d records: %v", len(out), n, err)
		}
		acks = append(acks, func() {
			if err := ack(t.Context(), nil); err != nil {
				t.Error(err)
			}
		})
		for _, m := range msgs {
			data, err := m.AsBytes()
			if err != nil {
				t.Fatal(err)
			}
			shard, _ := m.MetaGet("kinesis_shard")
			number, _ := m.MetaGet("kinesis_sequence_number")
			out = append(out, record{string(data), shard, number})
		}
	}
	return out, acks
}

func bodies(rs []record) (out []string) {
	for _, r := range rs {
		out = append(out, r.body)
	}
	return out
}

func (w *world) want(t *testing.T, i *input, bodiesInOrder ...string) []func() {
	t.Helper()
	got, acks := take(t, i, len(bodiesInOrder))
	if !slices.Equal(bodies(got), bodiesInOrder) {
		t.Fatalf("read %v, want %v", bodies(got), bodiesInOrder)
	}
	for _, ack := range acks {
		ack()
	}
	return acks
}

// lease waits until the table says something of a shard.
func (w *world) lease(t *testing.T, i *input, shard int, what string, is func(lease) bool) {
	t.Helper()
	table := leases{c: config{table: tableConfig{name: w.table}}, db: i.leases.db}
	eventually(t, what, func(ctx context.Context) error {
		have, err := table.of(ctx, w.stream)
		if err != nil {
			return err
		}
		if l := have[shardID(strconv.Itoa(shard))]; !is(l) {
			return fmt.Errorf("it is %+v", l)
		}
		return nil
	})
}

func eventually(t *testing.T, what string, try func(context.Context) error) {
	t.Helper()
	testserver.Eventually(t, what, 30*time.Second, try)
}

// TestReadable: a shard waits for those that it came out of.
func TestReadable(t *testing.T) {
	closed := &types.SequenceNumberRange{EndingSequenceNumber: aws.String("9")}
	shards := map[string]types.Shard{
		"a": {SequenceNumberRange: closed}, "b": {SequenceNumberRange: closed, ParentShardId: aws.String("forgotten")},
		"split":  {ParentShardId: aws.String("a")},
		"merged": {ParentShardId: aws.String("a"), AdjacentParentShardId: aws.String("b")},
	}
	for _, c := range []struct {
		have map[string]lease
		want string
	}{
		{nil, "ab"},
		{map[string]lease{"a": {sequence: "5"}}, "ab"},
		{map[string]lease{"a": {sequence: shardEnd}}, "ab split"},
		{map[string]lease{"b": {sequence: shardEnd}}, "ab"},
		{map[string]lease{"a": {sequence: shardEnd}, "b": {sequence: shardEnd}}, "ab split merged"},
	} {
		for id := range shards {
			if got := readable(shards, c.have, id, false); got != strings.Contains(c.want, id) {
				t.Errorf("%s with %v: %v", id, c.have, got)
			}
			if !readable(shards, c.have, id, true) {
				t.Errorf("%s, which the config names, waits for others", id)
			}
		}
	}
}

func TestInput(t *testing.T) {
	k := testserver.StartKinesis(t)
	for name, test := range map[string]func(*testing.T, *testserver.Kinesis){
		"GoesOn":          testGoesOn,
		"Acks":            testAcks,
		"TakenOver":       testTakenOver,
		"Balanced":        testBalanced,
		"NamedShards":     testNamedShards,
		"SplitAndMerge":   testSplitAndMerge,
		"SplitUnread":     testSplitUnread,
		"Newest":          testNewest,
		"NumberIsUnknown": testNumberIsUnknown,
		"TableDeleted":    testTableDeleted,
		"StreamMadeAnew":  testStreamMadeAnew,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, k)
		})
	}
}

// What is acked when an input is closed is not read again, and the shard is free at once.
func testGoesOn(t *testing.T, k *testserver.Kinesis) {
	w := newWorld(t, k, 1)
	w.put(t, low, "a", "b")
	i := w.reader(t, "lease_period: 1h") // its successor does not wait for that
	w.want(t, i, "a", "b")
	if err := i.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.put(t, low, "c")
	w.want(t, w.reader(t, "lease_period: 1h"), "c")
}

// No ack moves what is written down past a record that is not acked.
func testAcks(t *testing.T, k *testserver.Kinesis) {
	w := newWorld(t, k, 1)
	i := w.reader(t, "")
	var numbers []string
	var acks []func()
	for _, b := range []string{"a", "b", "c"} {
		numbers = append(numbers, w.put(t, low, b)...)
		_, ack := take(t, i, 1)
		acks = append(acks, ack...)
	}
	acks[0]()
	w.lease(t, i, 0, "a is written down", func(l lease) bool { return l.sequence == numbers[0] })
	acks[2]()
	if err := i.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.want(t, w.reader(t, ""), "b", "c")
}

// A shard whose reader is gone is taken over, though nothing was ever written down of it.
func testTakenOver(t *testing.T, k *testserver.Kinesis) {
	w := newWorld(t, k, 1)
	i := w.reader(t, "commit_period: 1h")
	w.lease(t, i, 0, "it has the shard", func(l lease) bool { return l.owner == i.leases.self && l.sequence == "" })
	vanish(i)
	w.put(t, low, "a")
	w.want(t, w.reader(t, ""), "a")
}

// A second process gets its share, of shards without a record too, and both go on from what was acked.
func testBalanced(t *testing.T, k *testserver.Kinesis) {
	w := newWorld(t, k, 4)
	hashes := []string{"0", "90000000000000000000000000000000000000", "180000000000000000000000000000000000000", high}
	a := w.reader(t, "")
	for s := range hashes {
		w.lease(t, a, s, "the first has all", func(l lease) bool { return l.owner == a.leases.self })
	}
	w.put(t, hashes[0], "old")
	w.want(t, a, "old")
	b := w.reader(t, "")
	eventually(t, "each has two", func(ctx context.Context) error {
		have, err := a.leases.of(ctx, w.stream)
		if err != nil {
			return err
		}
		n := map[string]int{}
		for _, l := range have {
			n[l.owner]++
		}
		if n[a.leases.self] != 2 || n[b.leases.self] != 2 {
			return fmt.Errorf("%v", n)
		}
		return nil
	})
	for s, h := range hashes {
		w.put(t, h, fmt.Sprint("new", s))
	}
	got := map[string]bool{}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	type result struct {
		msgs service.MessageBatch
		err  error
	}
	read := make(chan result)
	for _, i := range []*input{a, b} {
		go func() {
			for ctx.Err() == nil {
				msgs, ack, err := i.ReadBatch(ctx)
				if err == nil {
					err = ack(ctx, nil)
				}
				select {
				case read <- result{msgs, err}:
				case <-ctx.Done():
				}
			}
		}()
	}
	for len(got) < len(hashes) {
		r := <-read
		if r.err != nil {
			t.Fatalf("%v of 4: %v", got, r.err)
		}
		for _, m := range r.msgs {
			body, _ := m.AsBytes()
			if string(body) != "old" { // which may come again: its ack was not yet written down
				got[string(body)] = true
			}
		}
	}
}

// A shard that the config names is taken over like any other.
func testNamedShards(t *testing.T, k *testserver.Kinesis) {
	w := newWorld(t, k, 2)
	w.put(t, low, "mine")
	w.put(t, high, "another's")
	i := w.reader(t, "shards: "+w.stream+":0")
	w.want(t, i, "mine")
	w.lease(t, i, 0, "it is written down", func(l lease) bool { return l.sequence != "" })
	vanish(i)
	w.put(t, low, "more")
	w.want(t, w.reader(t, "shards: "+w.stream+":0"), "more")
}

// Resharding while a process reads: what comes out is read behind what it came out of.
func testSplitAndMerge(t *testing.T, k *testserver.Kinesis) {
	w := newWorld(t, k, 1)
	i := w.reader(t, "")
	w.put(t, low, "1", "2")
	got, acks := take(t, i, 2)
	if !slices.Equal(bodies(got), []string{"1", "2"}) {
		t.Fatalf("read %v", bodies(got))
	}
	w.split(t, 0)
	w.put(t, low, "3")
	w.put(t, high, "4")
	for _, ack := range acks {
		ack()
	}
	got, acks = take(t, i, 2)
	for _, ack := range acks {
		ack()
	}
	w.lease(t, i, 0, "the parent is at its end", func(l lease) bool { return l.sequence == shardEnd && l.owner == "" })
	if _, err := w.api.MergeShards(t.Context(), &kinesis.MergeShardsInput{StreamName: &w.stream, ShardToMerge: aws.String(shardID("1")), AdjacentShardToMerge: aws.String(shardID("2"))}); err != nil {
		t.Fatal(err)
	}
	w.active(t)
	w.put(t, low, "5")
	more, acks := take(t, i, 1)
	acks[0]()
	all := append(bodies(got), bodies(more)...)
	if slices.Sort(all[:2]); !slices.Equal(all, []string{"3", "4", "5"}) {
		t.Errorf("then %v", all)
	}
	w.lease(t, i, 3, "the merged shard is read", func(l lease) bool { return l.sequence == more[0].number })
}

// A shard that is closed while nobody reads has what it had.
func testSplitUnread(t *testing.T, k *testserver.Kinesis) {
	w := newWorld(t, k, 1)
	w.put(t, low, "1")
	i := w.reader(t, "")
	w.want(t, i, "1")
	if err := i.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.put(t, low, "2", "3")
	w.split(t, 0)
	w.put(t, low, "4")
	i = w.reader(t, "")
	w.want(t, i, "2", "3")
	w.want(t, i, "4")
	w.lease(t, i, 1, "4 is written down", func(l lease) bool { return l.sequence != "" })
	vanish(i)
	w.put(t, low, "5")
	w.want(t, w.reader(t, "lease_period: 100ms"), "5") // and not the parent's once more
}

func (w *world) split(t *testing.T, shard int) {
	t.Helper()
	if _, err := w.api.SplitShard(t.Context(), &kinesis.SplitShardInput{StreamName: &w.stream, ShardToSplit: aws.String(shardID(strconv.Itoa(shard))), NewStartingHashKey: aws.String("170141183460469231731687303715884105728")}); err != nil {
		t.Fatal(err)
	}
	w.active(t)
}

// From now on means from when a process first said so, whoever reads later.
func testNewest(t *testing.T, k *testserver.Kinesis) {
	w := newWorld(t, k, 1)
	w.put(t, low, "before")
	for first := time.Now(); time.Since(first) < 5*time.Millisecond; { // the server's times are of whole ms
	}
	i := w.reader(t, "start_from_oldest: false")
	w.lease(t, i, 0, "it has the shard", func(l lease) bool { return l.owner != "" && l.from != "" })
	vanish(i)
	w.put(t, low, "after")
	w.split(t, 0)
	w.put(t, low, "in a child")
	i = w.reader(t, "start_from_oldest: false")
	w.want(t, i, "after")
	w.want(t, i, "in a child")
}

// A sequence number that the stream does not know, as of another one that had its name.
func testNumberIsUnknown(t *testing.T, k *testserver.Kinesis) {
	w := newWorld(t, k, 1)
	i := w.reader(t, "")
	w.lease(t, i, 0, "it has the shard", func(l lease) bool { return l.owner != "" })
	if err := i.leases.renew(t.Context(), w.stream, shardID("0"), "49574406612529345085480395468253889128133026889029894146"); err != nil {
		t.Fatal(err)
	}
	vanish(i)
	w.put(t, low, "a")
	w.want(t, w.reader(t, "lease_period: 100ms"), "a")
}

// A stream that is deleted and made anew is read from its beginning, by whoever read the one before it
// and by others, though its shards have the names of those that have been read to their ends.
func testStreamMadeAnew(t *testing.T, k *testserver.Kinesis) {
	w := newWorld(t, k, 1)
	w.put(t, low, "1")
	i := w.reader(t, "")
	w.want(t, i, "1")
	w.split(t, 0)
	w.put(t, low, "2")
	w.want(t, i, "2")
	w.lease(t, i, 0, "the parent is at its end", func(l lease) bool { return l.sequence == shardEnd })
	anew := func() {
		if _, err := w.api.DeleteStream(t.Context(), &kinesis.DeleteStreamInput{StreamName: &w.stream}); err != nil {
			t.Fatal(err)
		}
		gone := time.Now().Unix()
		eventually(t, "the stream is made anew", func(ctx context.Context) error {
			if time.Now().Unix() == gone { // numbers tell streams apart by the second
				return errors.New("too early")
			}
			_, err := w.api.CreateStream(ctx, &kinesis.CreateStreamInput{StreamName: &w.stream, ShardCount: aws.Int32(1)})
			return err
		})
		w.active(t)
	}
	anew()
	w.put(t, low, "3")
	w.want(t, i, "3")
	w.lease(t, i, 1, "the other shards are forgotten", func(l lease) bool { return l == lease{} })
	if err := i.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	anew()
	w.put(t, low, "4")
	w.want(t, w.reader(t, ""), "4")
}

// A table of leases that is deleted is made anew, and the stream read from its oldest record.
func testTableDeleted(t *testing.T, k *testserver.Kinesis) {
	w := newWorld(t, k, 1)
	w.put(t, low, "a")
	i := w.reader(t, "")
	w.want(t, i, "a")
	if _, err := i.leases.db.DeleteTable(t.Context(), &dynamodb.DeleteTableInput{TableName: &w.table}); err != nil {
		t.Fatal(err)
	}
	w.want(t, i, "a")
}
