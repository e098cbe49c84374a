package contention

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/internal/hist"
	"github.com/tidemill/tidemill/internal/secret"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/objstore/s3"
)

// writerEnv makes the test binary be a process of writers.
const writerEnv = "TIDEMILL_TEST_CONTENTION_WRITER"

func TestMain(m *testing.M) {
	if os.Getenv(writerEnv) == "" {
		os.Exit(m.Run())
	}
	if err := write(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

const (
	table       = "tables/t"
	bucket      = "contention"
	rowsPerTime = 8 // in one append
)

// job is what a process of writers reads from its input.
type job struct {
	Endpoint  string
	AccessKey string
	SecretKey string
	Process   int
	Processes int
	Writers   int   // of this process: goroutines that append one record after the other
	Appenders int   // that they share; each commits by itself
	Versions  int64 // they stop when the log has as many
}

// done is what it prints in the end.
type done struct {
	Writers   []writerDone
	Commits   int64 // versions that this process made
	Conflicts int64 // commits planned again
	Errors    int64 // appends that failed and were repeated
}

type writerDone struct {
	Appends    int64
	Rows       int64
	Duplicates int64
	MaxWait    time.Duration
	P50, P99   time.Duration
	Acked      map[string][][2]int64
}

func write() error {
	var j job
	if err := json.NewDecoder(os.Stdin).Decode(&j); err != nil {
		return err
	}
	ctx := context.Background()
	store, err := open(ctx, j.Endpoint, j.AccessKey, secret.New(j.SecretKey))
	if err != nil {
		return err
	}
	var d done
	d.Writers = make([]writerDone, j.Writers)
	errs := make([]error, j.Writers)
	var commits, conflicts, failures atomic.Int64
	var apps []*lakehouse.Appender
	var wg sync.WaitGroup
	for a := range j.Appenders {
		tbl, err := lakehouse.Open(ctx, store, table)
		if err != nil {
			return err
		}
		app := lakehouse.NewAppender(tbl, lakehouse.AppenderOptions{Metrics: lakehouse.Metrics{
			Committed: func(time.Duration, int, int64, int64) { commits.Add(1) },
			Conflict:  func() { conflicts.Add(1) },
		}})
		apps = append(apps, app)
		for w := a; w < j.Writers; w += j.Appenders {
			wg.Go(func() { d.Writers[w], errs[w] = j.writer(ctx, w, tbl, app, &failures) })
		}
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	for _, app := range apps { // an append returns before its commit is counted
		if err := app.Close(ctx); err != nil {
			return err
		}
	}
	d.Commits, d.Conflicts, d.Errors = commits.Load(), conflicts.Load(), failures.Load()
	return json.NewEncoder(os.Stdout).Encode(d)
}

func open(ctx context.Context, endpoint, key string, secretKey secret.String) (objstore.Store, error) {
	for try := 1; ; try++ {
		s, err := s3.New(ctx, s3.Config{Endpoint: endpoint, Bucket: bucket, AccessKey: key, SecretKey: secretKey, CreateBucket: true})
		if err == nil {
			return objstore.Retry(s, objstore.RetryPolicy{Base: 5 * time.Millisecond, Attempts: 10}), nil
		}
		if try == 10 || !objstore.Retryable(err) {
			return nil, err
		}
	}
}

// partition is the name of the source that a writer reads.
func partition(process, writer int) string { return fmt.Sprintf("w/%d/%d", process, writer) }

// writer appends what its source has, batch after batch, until the log is long enough.
// Each third time it delivers, beside that, what belongs to a writer of the next
// process: half of the batch that this one is at, and half of the next, so that it comes
// earlier, later or at the same time as the other's own.
func (j job) writer(ctx context.Context, w int, tbl *lakehouse.Table, app *lakehouse.Appender, failures *atomic.Int64) (writerDone, error) {
	var d writerDone
	var waits hist.Histogram
	acked := batch.Claims{}
	own, others := partition(j.Process, w), partition((j.Process+1)%j.Processes, w)
	for k := int64(0); tbl.Snapshot().Version() < j.Versions; k++ {
		deliveries := []batch.Run{{Partition: own, First: k * rowsPerTime, Rows: rowsPerTime, PerRow: true}}
		if k%3 == 2 {
			deliveries = append(deliveries, batch.Run{Partition: others, First: k*rowsPerTime + rowsPerTime/2, Rows: rowsPerTime, PerRow: true})
		}
		for _, run := range deliveries {
			start := time.Now()
			out, err := deliver(ctx, app, run, failures)
			if err != nil {
				return d, err
			}
			took := time.Since(start)
			waits.Add(took)
			d.MaxWait = max(d.MaxWait, took)
			d.Appends++
			d.Rows += out.Rows
			d.Duplicates += out.Duplicates
			acked[run.Partition] = acked[run.Partition].Add(run.Interval())
		}
	}
	d.P50, d.P99 = waits.Quantile(0.5), waits.Quantile(0.99)
	d.Acked = map[string][][2]int64{}
	for p, set := range acked {
		for _, v := range set {
			d.Acked[p] = append(d.Acked[p], [2]int64{v.First, v.Last})
		}
	}
	return d, nil
}

// deliver appends a run until it is acked, as a source does that gets no ack.
func deliver(ctx context.Context, app *lakehouse.Appender, run batch.Run, failures *atomic.Int64) (lakehouse.Appended, error) {
	rec := record(run)
	defer rec.Release()
	for try := 1; ; try++ {
		out, err := app.Append(ctx, lakehouse.Append{Record: rec, Runs: []batch.Run{run}})
		if err == nil {
			if out.Record != nil {
				out.Record.Release()
			}
			return out, nil
		}
		failures.Add(1)
		if try == 20 {
			return out, err
		}
	}
}

func schema() *arrow.Schema {
	return arrow.NewSchema([]arrow.Field{
		{Name: "text", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: batch.ColSource, Type: arrow.BinaryTypes.String},
		{Name: batch.ColOffset, Type: arrow.PrimitiveTypes.Int64},
	}, nil)
}

func record(r batch.Run) arrow.Record {
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema())
	defer b.Release()
	for i := range r.Rows {
		b.Field(0).(*array.StringBuilder).Append(fmt.Sprint("row ", r.Offset(i)))
		b.Field(1).(*array.StringBuilder).Append(r.Partition)
		b.Field(2).(*array.Int64Builder).Append(r.Offset(i))
	}
	return b.NewRecord()
}
