package kinesis

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	awskinesis "github.com/aws/aws-sdk-go-v2/service/kinesis"
	kintypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/tidemill/tidemill/connectors/position"
	"github.com/tidemill/tidemill/internal/testserver"
)

const (
	stream = "in"
	leases = "leases"
	lowest = "0" // hash key of the first shard
	// highest is the hash key of the last shard, middle that of the second of two or the third of four.
	second  = "85070591730234615865843651857942052864"
	highest = "340282366920938463463374607431768211455"
	middle  = "170141183460469231731687303715884105728"
	within  = 60 * time.Second
)

var login = credentials.NewStaticCredentialsProvider("key", "secret", "")

// world is the two servers with a stream.
type world struct {
	*testing.T
	k  *testserver.Kinesis
	c  *awskinesis.Client
	db *dynamodb.Client
	// fault answers a request of members in the place of Kinesis, unless it returns "": with the type
	// of an error.
	fault atomic.Pointer[func(call string) string]
	front string // Kinesis as members reach it
}

func newWorld(t *testing.T, shards int32) *world {
	t.Helper()
	k := testserver.StartKinesis(t)
	w := &world{
		T: t, k: k,
		c:  awskinesis.New(awskinesis.Options{Region: "us-east-1", BaseEndpoint: aws.String(k.Endpoint()), Credentials: login}),
		db: dynamodb.New(dynamodb.Options{Region: "us-east-1", BaseEndpoint: aws.String(k.DynamoEndpoint()), Credentials: login}),
	}
	to, err := url.Parse(k.Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	pass := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }}
	srv := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
		_, call, _ := strings.Cut(in.Header.Get("X-Amz-Target"), ".")
		if f := w.fault.Load(); f != nil {
			if kind := (*f)(call); kind != "" {
				out.Header().Set("Content-Type", "application/x-amz-json-1.1")
				out.WriteHeader(http.StatusBadRequest)
				fmt.Fprintf(out, `{"__type":%q,"message":"made up"}`, kind)
				return
			}
		}
		pass.ServeHTTP(out, in)
	}))
	t.Cleanup(srv.Close)
	w.front = srv.Listener.Addr().String()
	w.make(shards)
	return w
}

func (w *world) make(shards int32) {
	w.Helper()
	if _, err := w.c.CreateStream(w.Context(), &awskinesis.CreateStreamInput{StreamName: aws.String(stream), ShardCount: &shards}); err != nil {
		w.Fatal(err)
	}
	w.active()
}

// anew deletes the stream, and makes another one of one shard in its place. Sequence numbers tell shards
// apart by the second in which they were made.
func (w *world) anew() {
	w.Helper()
	if _, err := w.c.DeleteStream(w.Context(), &awskinesis.DeleteStreamInput{StreamName: aws.String(stream)}); err != nil {
		w.Fatal(err)
	}
	gone := time.Now().Unix()
	w.until("the stream is made anew", func() error {
		if time.Now().Unix() == gone {
			return errNotYet
		}
		_, err := w.c.CreateStream(w.Context(), &awskinesis.CreateStreamInput{StreamName: aws.String(stream), ShardCount: aws.Int32(1)})
		return err
	})
	w.active()
}

func (w *world) active() {
	w.Helper()
	w.until("the stream is active", func() error {
		d, err := w.c.DescribeStreamSummary(w.Context(), &awskinesis.DescribeStreamSummaryInput{StreamName: aws.String(stream)})
		if err == nil && d.StreamDescriptionSummary.StreamStatus != kintypes.StreamStatusActive {
			err = fmt.Errorf("it is %s", d.StreamDescriptionSummary.StreamStatus)
		}
		return err
	})
}

func (w *world) until(what string, try func() error) {
	w.Helper()
	testserver.Eventually(w, what, within, func(context.Context) error { return try() })
}

// put sends records to the shard that has a hash key.
func (w *world) put(hash string, bodies ...string) {
	w.Helper()
	for part := range slices.Chunk(bodies, 500) {
		in := &awskinesis.PutRecordsInput{StreamName: aws.String(stream)}
		for _, b := range part {
			in.Records = append(in.Records, kintypes.PutRecordsRequestEntry{Data: []byte(b), PartitionKey: aws.String("p"), ExplicitHashKey: &hash})
		}
		res, err := w.c.PutRecords(w.Context(), in)
		if err != nil || *res.FailedRecordCount > 0 {
			w.Fatal(err, res)
		}
	}
}

func (w *world) split(shard string) {
	w.Helper()
	if _, err := w.c.SplitShard(w.Context(), &awskinesis.SplitShardInput{StreamName: aws.String(stream), ShardToSplit: &shard, NewStartingHashKey: aws.String(middle)}); err != nil {
		w.Fatal(err)
	}
	w.active()
}

func (w *world) merge(a, b string) {
	w.Helper()
	if _, err := w.c.MergeShards(w.Context(), &awskinesis.MergeShardsInput{StreamName: aws.String(stream), ShardToMerge: &a, AdjacentShardToMerge: &b}); err != nil {
		w.Fatal(err)
	}
	w.active()
}

// member is one process' input, with ways to the servers that can be cut.
type member struct {
	*input
	w    *world
	ways []*testserver.Forward
}

// join connects another process. Its leases are short; more has fields that come last.
func (w *world) join(more string) *member {
	w.Helper()
	m := &member{w: w, ways: []*testserver.Forward{testserver.StartForward(w, w.front), testserver.StartForward(w, strings.TrimPrefix(w.k.DynamoEndpoint(), "http://"))}}
	fields := fmt.Sprintf("region: us-east-1\nendpoint: http://%s\ncredentials: {id: key, secret: secret}\ndynamodb: {table: %s, create: true, region: us-east-1, endpoint: http://%s, credentials: {id: key, secret: secret}}\n", m.ways[0].Addr, leases, m.ways[1].Addr)
	for _, field := range []string{"streams: [in]", "commit_period: 100ms", "rebalance_period: 200ms", "lease_period: 1s"} {
		name, _, _ := strings.Cut(field, ":")
		if !strings.Contains(more, name) {
			fields += field + "\n"
		}
	}
	conf, err := Spec().ParseYAML(fields+more, nil)
	if err != nil {
		w.Fatal(err)
	}
	if m.input, err = open(conf, service.MockResources().Logger()); err != nil {
		w.Fatal(err)
	}
	if err := m.Connect(w.Context()); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(m.close)
	return m
}

func (m *member) close() {
	m.w.Helper()
	if err := m.Close(context.Background()); err != nil {
		m.w.Error(err)
	}
}

// vanish takes a member out of the world as if its process were gone: it neither reads, nor renews
// its leases, nor gives them up.
func (m *member) vanish() {
	for _, f := range m.ways {
		f.Cut()
	}
}

type read struct {
	body, shard, part string
	off, void         int64
	keyed             bool
}

// took is what a member has read.
type took struct {
	reads []read
	acks  []service.AckFunc
}

func (t *took) bodies() (out []string) {
	for _, r := range t.reads {
		out = append(out, r.body)
	}
	return out
}

func (t *took) ack(w *world) {
	w.Helper()
	for _, a := range t.acks {
		if err := a(w.Context(), nil); err != nil {
			w.Fatal(err)
		}
	}
}

// take reads until there are n messages.
func (m *member) take(n int) *took {
	m.w.Helper()
	ctx, cancel := context.WithTimeout(m.w.Context(), within)
	defer cancel()
	out := &took{}
	for len(out.reads) < n {
		msgs, a, err := m.ReadBatch(ctx)
		if err != nil {
			m.w.Fatalf("%d of %d messages: %v", len(out.reads), n, err)
		}
		out.acks = append(out.acks, a)
		for _, msg := range msgs {
			b, err := msg.AsBytes()
			p, ok := position.Of(msg)
			shard, _ := msg.MetaGet("kinesis_shard")
			if err != nil || !ok {
				m.w.Fatal(err, ok)
			}
			out.reads = append(out.reads, read{string(b), shard, p.Partition, p.Offset, p.Void, p.PerRow})
		}
	}
	return out
}

// lease returns what the table has of a shard.
func (w *world) lease(shard string) item {
	w.Helper()
	res, err := w.db.GetItem(w.Context(), &dynamodb.GetItemInput{TableName: aws.String(leases), ConsistentRead: aws.Bool(true), Key: key(stream, shard)})
	if err != nil {
		w.Fatal(err)
	}
	return parseItem(res.Item)
}

// owned waits until a shard is a member's.
func (w *world) owned(m *member, shards ...string) {
	w.Helper()
	for _, s := range shards {
		w.until(s+" has its owner", func() error {
			if i := w.lease(s); i.owner != m.me {
				return fmt.Errorf("is %+v, want %s", i, m.me)
			}
			return nil
		})
	}
}

// usurp writes another owner into a lease.
func (w *world) usurp(shard, owner string) {
	w.Helper()
	if _, err := w.db.UpdateItem(w.Context(), &dynamodb.UpdateItemInput{
		TableName: aws.String(leases), Key: key(stream, shard), UpdateExpression: aws.String("SET ClientID = :o, LeaseTimeout = :t"),
		ExpressionAttributeValues: map[string]types.AttributeValue{":o": text(owner), ":t": text(time.Now().Format(time.RFC3339Nano))},
	}); err != nil {
		w.Fatal(err)
	}
}

// same fails the test unless the bodies are these, in this order.
func (w *world) same(got *took, want ...string) {
	w.Helper()
	if !slices.Equal(got.bodies(), want) {
		w.Fatalf("read %v, want %v", got.bodies(), want)
	}
}

func numbers(prefix string, n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf("%s%d", prefix, i))
	}
	return out
}

func shardNo(n int) string { return fmt.Sprintf("shardId-%012d", n) }

var errNotYet = errors.New("not yet")
