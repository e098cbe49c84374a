package connectors

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/tidemill/tidemill/connectors/decode"
	"github.com/tidemill/tidemill/connectors/position"
	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/internal/secret"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/quarantine"
)

// What one write to the output takes at most by default. The bytes bound a
// batch of blocks, the count a batch of single rows.
const (
	defaultPeriod   = "250ms"
	defaultCount    = 20_000
	defaultBytes    = 2 << 20
	defaultInFlight = 4
)

// Tables opens the tables that connectors land in.
type Tables interface {
	// Landing returns the table of a contract, ready for appends. It may fail
	// while the store cannot be reached; the output asks again.
	Landing(ctx context.Context, table string) (*Landing, error)
}

// Landing is everything the output needs of one table. The output does not
// close it.
type Landing struct {
	Contract   *contract.Table
	Landed     *lakehouse.Appender
	Quarantine *lakehouse.Appender
	// Table is what Landed appends to; with on_new_field: add it gets columns.
	Table *lakehouse.Table

	// Committed is told of every commit to the landed table, before the source
	// is acked. It must not block. It may keep files' records only by Retain.
	Committed func(lakehouse.Appended)
	// Observe is told what became of a write; see [Outcome]. It must not block.
	Observe func(Outcome)
	// NewFields is told of fields that the contract does not know, with on_new_field:
	// add: when a column has been added for one, and in every batch of those that
	// are ignored. May be nil.
	NewFields func(context.Context, []Field)
	// Pages is where inputs keep a page that is on its way: beside the table's data, and
	// hidden from those who read the table.
	Pages objstore.Store
	// Fault is a hook for fault injection, called with "before-ack". May be nil.
	Fault func(point string)
}

// Outcome counts the rows of one write to the output.
type Outcome struct {
	Connector          string // whose rows they are
	Landed, Duplicates int64
	Quarantined        map[string]int64 // by rule
	Extra              map[string]int64 // with on_new_field: add: rows with a value, by column that the contract does not know
	Bytes              int64            // message bytes taken in
	Decode, Total      time.Duration
}

func lakehouseSpec() *service.ConfigSpec {
	return service.NewConfigSpec().
		Stable().
		Categories("Tidemill").
		Summary("Lands rows in a Delta table, exactly once where the source has positions.").
		Description("Each message is one JSON object, several separated by newlines (NDJSON), or a JSON array of objects. Rows are checked against the contract `tables/<table>.yaml`, written as Parquet and committed to the table; rows that do not fit go to `<table>_quarantine` with their raw bytes and the reason. A message is acked only after the commits that hold its rows are durable. Rows that the table's log already has are dropped, so a source may deliver again as often as it likes.").
		Field(service.NewStringField("table").Description("The contract that the rows must fit: the name of a file in `tables/`.")).
		Field(service.NewIntField("max_in_flight").Description("How many batches may be on their way to the table at once.").Default(defaultInFlight)).
		Field(service.NewIntField("max_row_bytes").Description("A longer row goes to quarantine.").Default(decode.DefaultMaxRowBytes).Advanced()).
		Field(service.NewBatchPolicyField("batching").Description("When a batch is handed over; by default after 250ms, 20,000 messages or 2 MiB, whichever is first."))
}

type output struct {
	table  string
	maxRow int
	tables Tables

	mu       sync.Mutex
	landing  *Landing
	compiled atomic.Pointer[compiled] // set before landing is
}

func newOutput(tables Tables) service.BatchOutputConstructor {
	return func(conf *service.ParsedConfig, _ *service.Resources) (out service.BatchOutput, policy service.BatchPolicy, inFlight int, err error) {
		o := &output{tables: tables}
		if o.table, err = conf.FieldString("table"); err != nil {
			return nil, policy, 0, err
		}
		if o.maxRow, err = conf.FieldInt("max_row_bytes"); err != nil {
			return nil, policy, 0, err
		}
		if inFlight, err = conf.FieldInt("max_in_flight"); err != nil {
			return nil, policy, 0, err
		}
		if policy, err = conf.FieldBatchPolicy("batching"); err != nil {
			return nil, policy, 0, err
		}
		if policy.Period == "" {
			policy.Period = defaultPeriod
		}
		if policy.Count == 0 {
			policy.Count = defaultCount
		}
		if policy.ByteSize == 0 {
			policy.ByteSize = defaultBytes
		}
		return o, policy, inFlight, nil
	}
}

func (o *output) Connect(ctx context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.landing != nil {
		return nil
	}
	l, err := o.tables.Landing(ctx, o.table)
	if err != nil {
		return fmt.Errorf("open table %s: %w", o.table, err)
	}
	var table *arrow.Schema
	if l.Contract.OnNewField() == contract.NewFieldAdd {
		table = l.Table.Snapshot().Schema()
	}
	c, err := o.compile(l, table)
	if err != nil {
		return err
	}
	o.compiled.Store(c)
	o.landing = l
	return nil
}

// WriteBatch returns nil only when every row of the messages is durable: in
// the landed table, in the quarantine table, or there already.
func (o *output) WriteBatch(ctx context.Context, msgs service.MessageBatch) error {
	start := time.Now()
	l := o.landing
	out := Outcome{Quarantined: map[string]int64{}}
	if st, ok := positionOf(msgs[0]); ok {
		out.Connector = connectorOf(st.Partition)
	}
	for len(msgs) > 0 {
		from := time.Now()
		part, n, again, err := o.decodeNow(ctx, msgs)
		if err != nil {
			return err
		}
		out.Decode += time.Since(from)
		if again {
			continue
		}
		err = o.land(ctx, part, &out)
		if err == nil && len(part.by.extra) > 0 {
			out.Extra = part.by.countExtra(part.rec, out.Extra)
		}
		part.rec.Release()
		if err != nil {
			return err
		}
		for _, c := range part.counts {
			c.to.Count(c.rows, c.bad)
		}
		out.Bytes += part.bytes
		msgs = msgs[n:]
	}
	if l.Fault != nil {
		l.Fault("before-ack")
	}
	out.Total = time.Since(start)
	l.Observe(out)
	return nil
}

// decoded is what messages became.
type decoded struct {
	by      *compiled
	fresh   []decode.NewField
	rec     arrow.Record // the caller releases it
	runs    []batch.Run
	bad     []decode.BadRow
	settled settledSpans
	// mixed are the offsets that several rows share: some of them may be in
	// one table and some in the other.
	mixed batch.Claims
	// cursors are the last ones of the messages, by partition.
	cursors map[string]lakehouse.Cursor
	bytes   int64
	// counts are for the messages that someone waits for the numbers of.
	counts []count
}

// count is how many rows of a message did decode and did not.
type count struct {
	to        counter
	rows, bad int64
}

// elsewhere returns what another table has of rows that are alone at their
// offset. Such a row can have gone the other way under an older contract, and
// must not go this way too.
func (d decoded) elsewhere(other *lakehouse.Appender, runs []batch.Run) batch.Claims {
	out := batch.Claims{}
	for _, r := range runs {
		if _, ok := out[r.Partition]; ok || batch.Identified(r.Partition) {
			continue
		}
		s := other.Claims(r.Partition)
		for _, v := range d.mixed[r.Partition] {
			s = s.Remove(v)
		}
		out[r.Partition] = s
	}
	return out
}

// aside returns the cursors that may go with the rows that did not decode, whose commit comes
// first: not those of partitions of which some of an offset's rows are yet to land.
func (d decoded) aside() map[string]lakehouse.Cursor {
	out := maps.Clone(d.cursors)
	for _, r := range d.runs {
		if len(d.mixed[r.Partition]) > 0 {
			delete(out, r.Partition)
		}
	}
	return out
}

// decode takes messages from the front of a batch, as many as one record
// holds, and returns how many it took.
func (o *output) decode(dec *decode.Decoder, msgs service.MessageBatch) (d decoded, n int, err error) {
	d.settled = settledSpans{}
	var failed []decode.BadRow
	type reach struct {
		last int64 // offset
		by   *stamped
	}
	reached := map[string]reach{} // by partition
	byID := o.byMessageID()
	for _, m := range msgs {
		data, err := m.AsBytes()
		if err != nil {
			return d, 0, fmt.Errorf("message bytes: %w", err)
		}
		st, ok := positionOf(m)
		if !ok {
			return d, 0, errors.New("message without a source position; the lakehouse output must be run by tidemill, which wraps the input")
		}
		// A message that comes again cannot be told from one of many rows once both are
		// in a record; in the next one it is compared with what has landed. (What a
		// processor made of one message still has its very stamp.)
		at := st.at(byID)
		if r, ok := reached[at.Partition]; ok && at.Offset <= r.last && st != r.by {
			break
		}
		rowsBefore, badBefore := dec.Rows(), dec.Bad()
		c := count{to: st.counter}
		if b := st.bad; b != nil {
			failed = append(failed, decode.BadRow{
				Partition: st.Partition, Offset: st.Offset, Raw: b.raw, Class: quarantine.ClassDecode, Rule: b.rule, Message: b.message,
			})
			c.bad = 1
		} else if err := m.GetError(); err != nil {
			if registryAway(err) {
				return d, 0, fmt.Errorf("a processor of the connector failed, and will be asked again: %w", err)
			}
			if st.raw != nil {
				data = st.raw
			}
			failed = append(failed, decode.BadRow{
				Partition: at.Partition, Offset: at.Offset, Void: at.Void, Raw: data, Class: quarantine.ClassDecode, Rule: "processor_failed",
				Message: "a processor of the connector failed: " + secret.Scrub(err.Error()),
			})
			c.bad = 1
		} else if err := dec.Message(data, decode.Position{Partition: at.Partition, First: at.Offset, PerRow: at.PerRow, Void: at.Void}); err != nil {
			break // the record is full
		}
		c.rows = int64(dec.Rows() - rowsBefore)
		c.bad += int64(dec.Bad() - badBefore)
		last := at.Last()
		if at.PerRow {
			last = max(last, at.Offset+c.rows+c.bad-1)
		}
		if c.to != nil {
			d.counts = append(d.counts, c)
		}
		reached[at.Partition] = reach{last, st}
		if st.settled != nil {
			d.settled[st.Partition] = st.settled
		}
		if st.cursor.Text != "" && st.cursor.Offset >= d.cursors[st.Partition].Offset {
			if d.cursors == nil {
				d.cursors = map[string]lakehouse.Cursor{}
			}
			d.cursors[st.Partition] = st.cursor
		}
		d.bytes += int64(len(data))
		n++
	}
	d.fresh = dec.NewFields()
	d.rec, d.runs, d.bad = dec.Flush()
	d.bad = append(d.bad, failed...)
	d.mixed = shared(d.runs, d.bad)
	return d, n, nil //nolint:nilerr // a full record is no error: the rest makes another one
}

// shared returns the offsets at which there is more than one row.
func shared(runs []batch.Run, bad []decode.BadRow) batch.Claims {
	out := batch.Claims{}
	add := func(partition string, offset int64) {
		out[partition] = out[partition].Add(batch.Interval{First: offset, Last: offset})
	}
	for _, r := range runs {
		if !r.PerRow && r.Rows > 1 {
			add(r.Partition, r.First)
		}
	}
	if len(bad) == 0 {
		return out
	}
	seen := batch.ClaimsOf(runs)
	for _, b := range bad {
		if seen[b.Partition].Contains(b.Offset) {
			add(b.Partition, b.Offset)
		}
		seen[b.Partition] = seen[b.Partition].Add(batch.Interval{First: b.Offset, Last: b.Offset})
	}
	return out
}

// land commits the rows that did not decode, and then the others. A crash in
// between leaves rows in the quarantine table, where the redelivery finds them.
func (o *output) land(ctx context.Context, d decoded, out *Outcome) error {
	if err := o.quarantineRows(ctx, d, out); err != nil {
		return err
	}
	l := o.landing
	rec, runs, err := without(ctx, d.rec, d.runs, d.elsewhere(l.Quarantine, d.runs))
	if err != nil {
		return err
	}
	all := rec
	rec, runs, err = o.withoutQuarantined(ctx, all, runs)
	all.Release()
	if err != nil {
		return err
	}
	defer rec.Release()
	out.Duplicates += d.rec.NumRows() - rec.NumRows()
	if rec.NumRows() == 0 {
		return nil
	}
	done, err := l.Landed.Append(ctx, lakehouse.Append{Record: rec, Runs: runs, Settled: d.settled.claims, Cursors: d.cursors})
	if err != nil {
		return fmt.Errorf("land in %s: %w", o.table, err)
	}
	out.Landed += done.Rows
	out.Duplicates += done.Duplicates
	l.Committed(done)
	if done.Record != nil {
		done.Record.Release()
	}
	return nil
}

func (o *output) quarantineRows(ctx context.Context, d decoded, out *Outcome) error {
	if len(d.bad) == 0 {
		return nil
	}
	l := o.landing
	rows := make([]quarantine.Row, 0, len(d.bad))
	var at, runs []batch.Run
	for _, b := range d.bad {
		at = append(at, batch.Run{Partition: b.Partition, First: b.Offset, Rows: 1, Void: b.Void})
	}
	known := d.elsewhere(l.Landed, at)
	for p, s := range known {
		known[p] = s.AddSet(l.Quarantine.Claims(p))
	}
	repeated, err := o.repeated(ctx, d.bad)
	if err != nil {
		return fmt.Errorf("quarantine rows of %s: %w", o.table, err)
	}
	for i, b := range d.bad {
		if known.Overlaps(at[i:i+1]) || repeated[i] {
			out.Duplicates++
			continue
		}
		rows = append(rows, quarantine.Row{
			Source: b.Partition, Offset: b.Offset, Raw: b.Raw, Class: b.Class, Rule: b.Rule, Column: b.Column, Message: b.Message,
			LandedVersion: -1, Contract: l.Contract.Version(),
		})
		runs = batch.AppendRun(runs, at[i])
		out.Quarantined[b.Rule]++
	}
	if len(rows) == 0 {
		return nil
	}
	rec := quarantine.Record(memory.DefaultAllocator, time.Now(), rows)
	defer rec.Release()
	done, err := l.Quarantine.Append(ctx, lakehouse.Append{Record: rec, Runs: runs, Settled: d.settled.claims, Cursors: d.aside()})
	if err != nil {
		return fmt.Errorf("quarantine rows of %s: %w", o.table, err)
	}
	if done.Record != nil {
		done.Record.Release()
	}
	out.Duplicates += done.Duplicates
	return nil
}

// without leaves out the rows that claims have. The record returned is the caller's.
func without(ctx context.Context, rec arrow.Record, runs []batch.Run, claims batch.Claims) (arrow.Record, []batch.Run, error) {
	keep, kept := claims.Filter(runs)
	if keep == nil {
		rec.Retain()
		return rec, runs, nil
	}
	out, err := pick(ctx, rec, keep)
	return out, kept, err
}

func (o *output) Close(context.Context) error { return nil }

// settledSpans say what is settled of the partitions that a batch has messages of.
type settledSpans map[string]position.Settler

func (s settledSpans) claims() batch.Claims {
	c := make(batch.Claims, len(s))
	for p, t := range s {
		c[p] = t.Settled()
	}
	return c
}
