package activities

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"golang.org/x/sync/errgroup"

	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/quarantine"
)

// outcome is what became of a range: files that are stored and not yet
// committed, and rows for the quarantine table.
type outcome struct {
	in     int64 // landed rows that were taken
	scored int64
	files  []lakehouse.File
	bad    []quarantine.Row
	before []string // rules of rows that an attempt which was cut off has quarantined
	poison []Part   // rows to be recovered; they count as taken and neither scored nor quarantined
	events []int64
	warned map[string]int64
	obs    Scored
}

func (o *outcome) quarantined() int64 { return int64(len(o.bad) + len(o.before)) }

func (o *outcome) recovering() (n int64) {
	for _, p := range o.poison {
		n += p.To - p.From
	}
	return n
}

func (o *outcome) warnings() (n int64) {
	for _, w := range o.warned {
		n += w
	}
	return n
}

// process checks, scores and writes the rows of a range, pieces side by side.
func (a *Activities) process(ctx context.Context, s *state, w work, poison poisonPolicy) (*outcome, error) {
	if len(w.segments) > 0 {
		defer a.load.begin()()
	}
	out := &outcome{warned: map[string]int64{}}
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallelism())
	for _, segs := range pieces(w.segments) {
		g.Go(func() error {
			p := &piece{a: a, s: s, segments: segs, skip: w.skip, poison: poison, out: outcome{warned: map[string]int64{}}}
			if err := p.run(ctx); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			out.merge(&p.out)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return out, nil
}

func (o *outcome) merge(p *outcome) {
	o.in += p.in
	o.scored += p.scored
	o.files = append(o.files, p.files...)
	o.bad = append(o.bad, p.bad...)
	o.before = append(o.before, p.before...)
	o.poison = append(o.poison, p.poison...)
	o.events = append(o.events, p.events...)
	for k, n := range p.warned {
		o.warned[k] += n
	}
	o.obs.Read += p.obs.Read
	o.obs.Check += p.obs.Check
	o.obs.Score += p.obs.Score
	o.obs.Write += p.obs.Write
}

// piece is a part of a range, worked on by one goroutine.
type piece struct {
	a        *Activities
	s        *state
	segments []segment
	skip     skipped
	poison   poisonPolicy
	out      outcome

	origin []origin       // where each of the piece's rows landed, by segment
	raw    []arrow.Record // landed records of the segments, for what must be quarantined
}

// origin says where the rows from ordinal first on landed.
type origin struct {
	segment
	first int64
}

func (p *piece) run(ctx context.Context) error {
	defer func() { releaseAll(p.raw) }()
	clock := p.a.o.Now
	start := clock()
	recs, err := p.read(ctx)
	if err != nil {
		return err
	}
	defer func() { releaseAll(recs) }()
	read := clock()
	p.out.obs.Read = read.Sub(start)
	if len(recs) == 0 {
		return nil
	}

	res, err := p.s.plan.Run(ctx, recs)
	if err != nil {
		return fmt.Errorf("check %s: %w", p.s.name, err)
	}
	defer res.Release()
	for _, f := range res.Failed {
		p.quarantine(f.Row, quarantine.Row{Class: f.Class, Rule: f.Rule, Column: f.Column, Message: f.Message})
	}
	for k, n := range res.Warnings {
		p.out.warned[k] += n
	}
	checked := clock()
	p.out.obs.Check = checked.Sub(read)
	if len(res.Passed) == 0 {
		return nil
	}

	rec, err := concat(p.a.mem, res.Passed)
	if err != nil {
		return err
	}
	defer rec.Release()
	final, err := p.score(ctx, rec)
	if err != nil {
		return err
	}
	defer releaseAll(final)
	scored := clock()
	p.out.obs.Score = scored.Sub(checked)
	if err := p.write(ctx, final); err != nil {
		return err
	}
	p.out.obs.Write = clock().Sub(scored)
	return nil
}

// read returns the rows to be checked, one record per segment: the contract's
// columns and those of workSchema.
func (p *piece) read(ctx context.Context) (recs []arrow.Record, err error) {
	defer func() {
		if err != nil {
			releaseAll(recs)
		}
	}()
	next := int64(0)
	for _, seg := range p.segments {
		landed, err := p.landed(ctx, seg)
		if err != nil {
			return recs, err
		}
		p.raw = append(p.raw, landed)
		p.origin = append(p.origin, origin{seg, next})
		rec, err := p.work(landed, seg, next)
		if err != nil {
			return recs, err
		}
		next += seg.to - seg.from
		p.out.in += seg.to - seg.from
		if rec.NumRows() == 0 {
			rec.Release()
			continue
		}
		recs = append(recs, rec)
	}
	return recs, nil
}

// landed returns a segment's rows from the worker's memory or from the store.
func (p *piece) landed(ctx context.Context, seg segment) (arrow.Record, error) {
	key := p.s.name + "/" + seg.file.Path
	rec := p.a.o.Cache.Get(key)
	if rec == nil {
		var err error
		if rec, err = p.s.landed.ReadFile(ctx, seg.file); err != nil {
			return nil, fmt.Errorf("landed version %d: %w", seg.version, err)
		}
		if seg.to-seg.from < rec.NumRows() {
			p.a.o.Cache.Put(key, rec) // for the file's other pieces
		}
	}
	if seg.from == 0 && seg.to == rec.NumRows() {
		return rec, nil
	}
	defer rec.Release()
	if seg.to > rec.NumRows() {
		return nil, fmt.Errorf("landed file %s has %d rows, its log entry says %d", seg.file.Path, rec.NumRows(), seg.file.Rows)
	}
	return rec.NewSlice(seg.from, seg.to), nil
}

// work brings landed rows into the form of workSchema, without the skipped ones.
func (p *piece) work(landed arrow.Record, seg segment, first int64) (arrow.Record, error) {
	schema := p.s.work
	n := int(landed.NumRows())
	cols := make([]arrow.Array, 0, schema.NumFields())
	for _, f := range schema.Fields()[:schema.NumFields()-2] {
		at := landed.Schema().FieldIndices(f.Name)
		switch {
		case len(at) > 0:
			cols = append(cols, landed.Column(at[0]))
		case f.Nullable:
			// It landed before the table had the column, or by a connector that does not know of it.
			null := array.MakeArrayOfNull(p.a.mem, f.Type, n)
			defer null.Release()
			cols = append(cols, null)
		default:
			return nil, fmt.Errorf("landed file %s has no column %s", seg.file.Path, f.Name)
		}
	}
	version := constantLong(p.a.mem, seg.version, n)
	defer version.Release()
	rows := ordinals(p.a.mem, first, n)
	defer rows.Release()
	rec := array.NewRecord(schema, append(cols, version, rows), int64(n))
	skip := p.skip[seg.file.Path]
	if len(skip) == 0 {
		return rec, nil
	}
	defer rec.Release()
	return filter(p.a.mem, rec, func(i int) bool {
		rule, done := skip[seg.from+int64(i)]
		if done {
			p.out.before = append(p.out.before, rule)
		}
		return !done
	})
}

// quarantine adds a landed row, by its ordinal in the piece, with what is known of it.
func (p *piece) quarantine(row int64, q quarantine.Row) {
	seg, i := p.locate(row)
	landed := p.raw[seg]
	if raw, err := column[*array.Binary](landed, batch.ColRaw); err == nil {
		q.Raw = append([]byte{}, raw.Value(int(i))...)
	}
	if src, err := column[*array.String](landed, batch.ColSource); err == nil {
		q.Source = string(append([]byte{}, src.Value(int(i))...))
	}
	if off, err := column[*array.Int64](landed, batch.ColOffset); err == nil {
		q.Offset = off.Value(int(i))
	}
	o := p.origin[seg]
	q.LandedVersion, q.LandedFile, q.LandedRow = o.version, o.file.Path, o.from+i
	q.Contract = p.s.contract.Version()
	if p.s.model != nil && q.Class == quarantine.ClassScore {
		q.Model, q.ModelVersion = p.s.model.Name, int64(p.s.model.Version)
	}
	p.out.bad = append(p.out.bad, q)
}

// locate finds the segment of a row of the piece, and the row's place in it.
func (p *piece) locate(row int64) (segment int, at int64) {
	i := len(p.origin) - 1
	for p.origin[i].first > row {
		i--
	}
	return i, row - p.origin[i].first
}

// write stores the scored rows as files of the scored table.
func (p *piece) write(ctx context.Context, recs []arrow.Record) error {
	if len(recs) == 0 {
		return nil
	}
	rec, err := concat(p.a.mem, recs)
	if err != nil {
		return err
	}
	defer rec.Release()
	files, err := p.s.scored.WriteFiles(ctx, rec, nil)
	if err != nil {
		return fmt.Errorf("write %s%s: %w", p.s.name, Suffix, err)
	}
	p.a.o.Fault("after-scored-put")
	p.out.files = files
	p.out.scored = rec.NumRows()
	if name := p.s.contract.EventTime(); name != "" {
		if ts, err := column[*array.Timestamp](rec, name); err == nil {
			for i, v := range ts.TimestampValues() {
				if ts.IsValid(i) {
					p.out.events = append(p.out.events, int64(v))
				}
			}
		}
	}
	return nil
}

// latencies counts how old events were when their rows became queryable.
func (o *outcome) latencies(now time.Time) {
	for _, us := range o.events {
		o.obs.Latency.Add(now.Sub(time.UnixMicro(us)))
	}
}

func releaseAll(recs []arrow.Record) {
	for _, r := range recs {
		r.Release()
	}
}

// concat joins records of one schema; a single one is passed on.
func concat(mem memory.Allocator, recs []arrow.Record) (arrow.Record, error) {
	if len(recs) == 1 {
		recs[0].Retain()
		return recs[0], nil
	}
	schema := recs[0].Schema()
	cols := make([]arrow.Array, schema.NumFields())
	defer func() {
		for _, c := range cols {
			if c != nil {
				c.Release()
			}
		}
	}()
	rows := int64(0)
	for _, r := range recs {
		rows += r.NumRows()
	}
	for i := range cols {
		parts := make([]arrow.Array, len(recs))
		for j, r := range recs {
			parts[j] = r.Column(i)
		}
		var err error
		if cols[i], err = array.Concatenate(parts, mem); err != nil {
			return nil, fmt.Errorf("join records: %w", err)
		}
	}
	return array.NewRecord(schema, cols, rows), nil
}
