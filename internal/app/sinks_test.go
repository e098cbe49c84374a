package app

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/redis/go-redis/v9"

	"github.com/tidemill/tidemill/activities"
	"github.com/tidemill/tidemill/connectors"
	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/internal/problem"
	"github.com/tidemill/tidemill/internal/testserver"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
	"github.com/tidemill/tidemill/lakehouse/quarantine"
	"github.com/tidemill/tidemill/query"
	"github.com/tidemill/tidemill/sinks"
)

// sinksContract is the contract that the snippets of docs/sinks belong to.
const sinksContract = `table: transactions
columns:
  - {name: tx_id,   type: string,    required: true}
  - {name: card_id, type: string,    required: true}
  - {name: amount,  type: double,    required: true}
  - {name: ts,      type: timestamp, required: true}
score:
  model: fraud@champion
  output: {fraud_score: probability}
`

var yamlBlock = regexp.MustCompile("(?s)```yaml\n(.*?)```")

// pageSinks are the sinks that a page's snippets describe.
func pageSinks(t *testing.T, page string) *contract.Table {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "sinks", page+".md"))
	if err != nil {
		t.Fatal(err)
	}
	src := sinksContract + "sinks:\n"
	for _, block := range yamlBlock.FindAllStringSubmatch(string(text), -1) {
		if rest, ok := strings.CutPrefix(block[1], "sinks:\n"); ok {
			src += rest
		}
	}
	c, err := contract.Parse(page+".md", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// feed makes the scored table of sinksContract.
type feed struct {
	t      *testing.T
	store  objstore.Store
	scored *lakehouse.Table
	rows   int
}

// cards is how many cards the rows are of, in turn.
const cards = 5

func newFeed(t *testing.T) *feed {
	t.Helper()
	f := &feed{t: t, store: mem.New()}
	str, long := arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "tx_id", Type: str}, {Name: "card_id", Type: str}, {Name: "amount", Type: arrow.PrimitiveTypes.Float64},
		{Name: "ts", Type: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}},
		{Name: "fraud_score", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
		{Name: "_source", Type: str}, {Name: "_offset", Type: long}, {Name: "_landed_version", Type: long},
		{Name: "_contract", Type: str}, {Name: "_model", Type: str, Nullable: true}, {Name: "_model_version", Type: long, Nullable: true},
	}, nil)
	var err error
	if f.scored, err = lakehouse.Create(t.Context(), f.store, "transactions_scored", lakehouse.CreateOptions{Schema: schema}); err != nil {
		t.Fatal(err)
	}
	return f
}

// score commits n rows. Every third has a score above 0.9; change may set another.
func (f *feed) score(n int, change ...func(i int) float64) {
	f.t.Helper()
	b := array.NewRecordBuilder(memory.DefaultAllocator, f.scored.Snapshot().Schema())
	defer b.Release()
	for range n {
		score := 0.5
		if f.rows%3 == 0 {
			score = 0.95
		}
		for _, c := range change {
			score = c(f.rows)
		}
		b.Field(0).(*array.StringBuilder).Append(fmt.Sprintf("tx%05d", f.rows))
		b.Field(1).(*array.StringBuilder).Append(fmt.Sprintf("c%d", f.rows%cards))
		b.Field(2).(*array.Float64Builder).Append(float64(f.rows) / 4)
		b.Field(3).(*array.TimestampBuilder).Append(arrow.Timestamp(time.Now().UnixMicro()))
		b.Field(4).(*array.Float64Builder).Append(score)
		b.Field(5).(*array.StringBuilder).Append("source")
		b.Field(6).(*array.Int64Builder).Append(int64(f.rows))
		b.Field(7).(*array.Int64Builder).Append(1)
		b.Field(8).(*array.StringBuilder).Append("sha256:c")
		b.Field(9).(*array.StringBuilder).Append("fraud")
		b.Field(10).(*array.Int64Builder).Append(1)
		f.rows++
	}
	rec := b.NewRecord()
	defer rec.Release()
	files, err := f.scored.WriteFiles(f.t.Context(), rec, nil)
	if err == nil {
		_, err = f.scored.Commit(f.t.Context(), lakehouse.Commit{Adds: files, Operation: "SCORE"})
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

// ids are those of the rows for which want is true.
func (f *feed) ids(want func(i int) bool) []string {
	var out []string
	for i := range f.rows {
		if want(i) {
			out = append(out, fmt.Sprintf("tx%05d", i))
		}
	}
	return out
}

func alert(i int) bool { return i%3 == 0 }
func every(int) bool   { return true }

// run runs one of a contract's sinks until the test ends.
func (f *feed) run(c *contract.Table, sink string) {
	f.t.Helper()
	engine, err := query.Open(query.Options{})
	if err != nil {
		f.t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	conns, err := connectors.New(connectors.Options{Logger: quiet(log)})
	if err != nil {
		f.t.Fatal(err)
	}
	if ps := conns.LintSinks(c); len(ps) > 0 {
		f.t.Fatal(ps)
	}
	at := slices.IndexFunc(c.Sinks(), func(s contract.Sink) bool { return s.Name == sink })
	s := c.Sinks()[at]
	o := sinks.Options{
		Contract: c, Sink: s, Store: f.store, Logger: log,
		Scored: func(ctx context.Context) (*lakehouse.Table, error) {
			return lakehouse.Open(ctx, f.store, "transactions_scored")
		},
		Quarantine: func(ctx context.Context) (*lakehouse.Table, error) {
			return lakehouse.Create(ctx, f.store, "transactions_quarantine", lakehouse.CreateOptions{Schema: quarantine.Schema()})
		},
		Open: func() (sinks.Output, error) { return conns.OpenSink(c, s, nil) },
	}
	if s.Where != "" {
		o.Filter = sinkFilter{engine: engine, table: c, where: s.Where}
	}
	r := sinks.New(o)
	if err := r.Prepare(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(f.t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Run(ctx)
	}()
	f.t.Cleanup(func() {
		cancel()
		<-done
		if err := engine.Close(); err != nil {
			f.t.Error(err)
		}
	})
}

// await waits until a system has exactly these rows.
func await(t *testing.T, read func() (arrived, error), ids []string) arrived {
	t.Helper()
	deadline := time.After(90 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		have, err := read()
		if err == nil && slices.Equal(slices.Sorted(maps.Keys(have)), ids) {
			return have
		}
		select {
		case <-deadline:
			t.Fatalf("it has %d rows, want %d: %v\n%v", len(have), len(ids), err, slices.Sorted(maps.Keys(have)))
		case <-tick.C:
		}
	}
}

// TestSinksReachRealServers runs the snippets of docs/sinks against real servers.
func TestSinksReachRealServers(t *testing.T) {
	for _, c := range []struct {
		page, sink string
		start      target
		want       func(i int) bool
		keys       bool // rows come with their keys
		once       bool // a system that keeps one of each row
	}{
		{"kafka", "alerts", kafkaTarget, alert, true, false},
		{"rabbitmq", "alerts", rabbitTarget, alert, true, false},
		{"redis", "alerts", redisStreamTarget, alert, true, false},
		{"redis", "latest", redisHashTarget, nil, true, true},
		{"mongodb", "scores", mongoTarget, every, true, true},
		{"postgresql", "scores", postgresTarget, every, false, true},
		{"http", "webhook", httpTarget, alert, true, false},
		{"s3", "lake", s3Target, every, true, false},
	} {
		t.Run(c.page+"/"+c.sink, func(t *testing.T) {
			read := c.start(t)
			f := newFeed(t)
			table := pageSinks(t, c.page)
			if c.sink == "lake" { // a minute is long for a test
				table = shortPeriod(t)
			}
			f.run(table, c.sink)
			for range 10 {
				f.score(40)
			}
			want := c.want
			if want == nil {
				want = func(i int) bool { return i >= f.rows-cards }
			}
			have := await(t, read, f.ids(want))
			for id, keys := range have {
				for _, key := range keys {
					if c.keys && (!strings.HasPrefix(key, "transactions_scored/") || key != keys[0]) {
						t.Errorf("%s came with the keys %v", id, keys)
					}
				}
				if c.once && len(keys) != 1 {
					t.Errorf("%s is there %d times", id, len(keys))
				}
			}
		})
	}
}

func shortPeriod(t *testing.T) *contract.Table {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "sinks", "s3.md"))
	if err != nil {
		t.Fatal(err)
	}
	block := yamlBlock.FindStringSubmatch(string(text))[1]
	short := strings.Replace(block, "period: 1m", "period: 200ms", 1)
	if short == block {
		t.Fatal("the page has another period")
	}
	c, err := contract.Parse("s3.md", []byte(sinksContract+short))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestSinkPagesLint holds every snippet of docs/sinks, and the example, to what lint asks.
func TestSinkPagesLint(t *testing.T) {
	conns, err := connectors.New(connectors.Options{})
	if err != nil {
		t.Fatal(err)
	}
	engine, err := query.Open(query.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	pages, err := filepath.Glob("../../docs/sinks/*.md")
	if err != nil || len(pages) < 9 {
		t.Fatalf("found %d pages, %v", len(pages), err)
	}
	var contracts []*contract.Table
	for _, page := range pages {
		contracts = append(contracts, pageSinks(t, strings.TrimSuffix(filepath.Base(page), ".md")))
	}
	example, err := contract.Load("../../examples/sinks/tables/payments.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range append(contracts, example) {
		if len(c.Sinks()) == 0 {
			t.Errorf("%s describes no sink", c.File())
		}
		for _, p := range conns.LintSinks(c) {
			t.Error(p)
		}
		if err := activities.CheckSinks(t.Context(), engine, c); err != nil {
			t.Error(err)
		}
	}
}

// TestSinkLint tells of everything that is wrong with sinks, where it stands.
func TestSinkLint(t *testing.T) {
	src := sinksContract + `sinks:
  - {name: a, output: {redis_stream: {url: x}}}
  - name: b
    where: fraud_skore > 0.9
    columns: [tx_id]
    processors:
      - mapping: root = this.
    output:
      redis_streams:
        url: redis://localhost:6379
        steam: alerts
        batching: {count: 5}
  - name: c
    where: amount + 1
    output:
      redis_hash: {url: "${NO_SUCH_VARIABLE}", key: a, fields: {a: b}, colour: red}
  - name: d
    where: fraud_score = 'fraud'
    output:
      processors: [{mapping: root = this}]
      drop: {}
  - name: e
    where: sum(amount) > 3
    output: {drop: {}}
`
	c, err := contract.Parse("t.yaml", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	conns, err := connectors.New(connectors.Options{})
	if err != nil {
		t.Fatal(err)
	}
	engine, err := query.Open(query.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	ps := conns.LintSinks(c)
	ps.Add(problem.Of(activities.CheckSinks(t.Context(), engine, c))...)
	var got []string
	for _, p := range ps {
		got = append(got, fmt.Sprintf("%d %s: %s", p.Line, p.Field, p.Message))
	}
	for _, want := range []string{
		"11 sinks[0].output.redis_stream: there is no output redis_stream; did you mean redis_streams?",
		"16 sinks[1].processors[0].mapping: ",
		"20 sinks[1].output.redis_streams.steam: field steam not recognised; did you mean stream?",
		"21 sinks[1].output.redis_streams.batching: batches are formed by the sink; write batching beside output",
		"25 sinks[2].output.redis_hash.url: environment variable NO_SUCH_VARIABLE is not set",
		"25 sinks[2].output.redis_hash.colour: field colour not recognised",
		"29 sinks[3].output.processors: would send rows on that they fail for; write processors beside output",
		"13 sinks[1].where: \"fraud_skore\" does not exist; did you mean \"fraud_score\"?",
		"23 sinks[2].where: is of type float64, not a condition",
		"32 sinks[4].where: looks at all rows at once",
	} {
		if !slices.ContainsFunc(got, func(g string) bool { return strings.HasPrefix(g, want) }) {
			t.Errorf("lint does not say %q", want)
		}
	}
	if t.Failed() || len(got) > 12 {
		t.Errorf("it says:\n%s", strings.Join(got, "\n"))
	}
}

// TestARowThatPostgreSQLRefusesGoesToQuarantine: poison among good rows.
func TestARowThatPostgreSQLRefusesGoesToQuarantine(t *testing.T) {
	read := postgresTarget(t)
	f := newFeed(t)
	f.run(pageSinks(t, "postgresql"), "scores")
	poison := func(i int) bool { return i%37 == 5 }
	for range 3 {
		f.score(40, func(i int) float64 {
			if poison(i) {
				return -1 // the table's CHECK
			}
			return 0.5
		})
	}
	await(t, read, f.ids(func(i int) bool { return !poison(i) }))
	await(t, func() (arrived, error) {
		all := arrived{}
		q, err := lakehouse.Open(t.Context(), f.store, "transactions_quarantine")
		if err != nil {
			return nil, err
		}
		for file := range q.Snapshot().Files() {
			rec, err := q.ReadFile(t.Context(), file)
			if err != nil {
				return nil, err
			}
			for i := range int(rec.NumRows()) {
				if err := all.add(rec.Column(5).(*array.Binary).Value(i), "x"); err != nil {
					return nil, err
				}
				if msg := rec.Column(4).(*array.String).Value(i); !strings.Contains(msg, "scores_fraud_score_check") {
					return nil, fmt.Errorf("the message is %s", msg)
				}
			}
			rec.Release()
		}
		return all, nil
	}, f.ids(poison))
}

// TestASinkThatWasDownCatchesUp kills a server, and brings it back with its data.
func TestASinkThatWasDownCatchesUp(t *testing.T) {
	r := testserver.StartRedis(t)
	t.Setenv("REDIS", r.URL())
	c := redis.NewClient(&redis.Options{Addr: r.Addr})
	defer c.Close()
	read := func() (arrived, error) { return streamRows(t.Context(), c) }
	f := newFeed(t)
	f.run(pageSinks(t, "redis"), "alerts")
	f.score(60)
	await(t, read, f.ids(alert))
	r.Kill()
	other := httpTarget(t) // another sink of the same table does not notice
	f.run(pageSinks(t, "http"), "webhook")
	before := f.rows
	for range 20 {
		f.score(60)
	}
	await(t, other, f.ids(func(i int) bool { return i >= before && alert(i) }))
	r.Start(t)
	for id, keys := range await(t, read, f.ids(alert)) {
		for _, key := range keys {
			if key != keys[0] {
				t.Errorf("%s came with the keys %v", id, keys)
			}
		}
	}
}
