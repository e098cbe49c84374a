package races

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/internal/secret"
	"github.com/tidemill/tidemill/internal/testserver"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/objstore/s3"
)

const root = "t"

// retention is the shortest that a table here has: readers and writers must be done with
// a file, or a version, within it. It leaves room for a machine that is busy.
const retention = 6 * time.Second

var schema = arrow.NewSchema([]arrow.Field{
	{Name: "id", Type: arrow.PrimitiveTypes.Int64},
	{Name: "ts", Type: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}, Nullable: true},
	{Name: batch.ColSource, Type: arrow.BinaryTypes.String},
	{Name: batch.ColOffset, Type: arrow.PrimitiveTypes.Int64},
}, nil)

// endpoint is where the tables are, as a child process is told.
type endpoint struct{ addr, access, secret, bucket string }

func (e endpoint) store(ctx context.Context) (*s3.Store, error) {
	return s3.New(ctx, s3.Config{Endpoint: e.addr, Bucket: e.bucket, AccessKey: e.access, SecretKey: secret.New(e.secret), CreateBucket: true})
}

func startStore(t *testing.T) (endpoint, objstore.Store) {
	t.Helper()
	m := testserver.StartMinIO(t)
	e := endpoint{m.Addr, m.AccessKey, m.SecretKey.Reveal(), "lake"}
	s, err := e.store(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return e, s
}

func create(t *testing.T, s objstore.Store) *lakehouse.Table {
	t.Helper()
	keep := fmt.Sprintf("interval %d milliseconds", retention.Milliseconds())
	tbl, err := lakehouse.Create(t.Context(), s, root, lakehouse.CreateOptions{Schema: schema, Configuration: map[string]string{
		"delta.checkpointInterval": "20", "delta.logRetentionDuration": keep, "delta.deletedFileRetentionDuration": keep,
	}})
	if err != nil {
		t.Fatal(err)
	}
	return tbl
}

// seeded returns the run's random numbers and prints where they come from.
func seeded(t *testing.T) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("TIDEMILL_RACES_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("TIDEMILL_RACES_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 3))
}

// length is how long a test runs.
func length(t *testing.T) time.Duration {
	text := os.Getenv("TIDEMILL_RACES")
	if text == "" {
		return 30 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func record(partition int, first int64, n int) arrow.Record {
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	now := time.Now().UnixMicro()
	for i := range int64(n) {
		b.Field(0).(*array.Int64Builder).Append(rowID(partition, first+i))
		if partition >= old {
			b.Field(1).(*array.TimestampBuilder).Append(arrow.Timestamp(i))
		} else {
			b.Field(1).(*array.TimestampBuilder).Append(arrow.Timestamp(now - (first*7919+i)%1_000_000))
		}
		b.Field(2).(*array.StringBuilder).Append(source(partition))
		b.Field(3).(*array.Int64Builder).Append(first + i)
	}
	return b.NewRecord()
}

// Partitions from old on bring rows of 1970, which expire as soon as somebody looks.
const old = 100

var expired = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func source(partition int) string             { return "s/" + strconv.Itoa(partition) }
func rowID(partition int, offset int64) int64 { return int64(partition)<<40 | offset }

// ledger knows what must be in the table.
type ledger struct {
	mu    sync.Mutex
	acked map[int]batch.Intervals // by partition
}

func (l *ledger) ack(partition int, first int64, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if partition >= old { // they may be there, and may be gone
		return
	}
	if l.acked == nil {
		l.acked = map[int]batch.Intervals{}
	}
	l.acked[partition] = l.acked[partition].Add(batch.Interval{First: first, Last: first + int64(n) - 1})
}

// now returns the rows that are acked by now, by partition.
func (l *ledger) now() map[int]batch.Intervals {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[int]batch.Intervals{}
	for p, set := range l.acked {
		out[p] = append(batch.Intervals(nil), set...)
	}
	return out
}

// check reads a snapshot and returns what is wrong: rows twice, acked rows that it lacks,
// files that are gone.
func check(ctx context.Context, tbl *lakehouse.Table, s *lakehouse.Snapshot, acked map[int]batch.Intervals) (rows int64, err error) {
	seen := map[int]batch.Intervals{}
	for f := range s.Files() {
		rec, err := tbl.ReadFile(ctx, f)
		if err != nil {
			return rows, fmt.Errorf("version %d: %w", s.Version(), err)
		}
		ids := rec.Column(0).(*array.Int64).Int64Values()
		for _, id := range ids {
			p, off := int(id>>40), id&(1<<40-1)
			if seen[p].Contains(off) {
				rec.Release()
				return rows, fmt.Errorf("version %d: row %d of %s is in it twice, again in %s", s.Version(), off, source(p), f.Path)
			}
			seen[p] = seen[p].Add(batch.Interval{First: off, Last: off})
			if p < old {
				rows++
			}
		}
		rec.Release()
	}
	for p, set := range acked {
		for _, v := range set {
			if !seen[p].Covers(v) {
				return rows, fmt.Errorf("version %d: of %s the rows %d to %d were acked, and some are not in it: %v", s.Version(), source(p), v.First, v.Last, seen[p])
			}
		}
	}
	return rows, nil
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }
