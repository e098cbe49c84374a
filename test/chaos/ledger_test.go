package chaos

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"golang.org/x/sync/errgroup"

	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/quarantine"
)

// found is one row of the scored or the quarantine table.
type found struct {
	class   string // scored, or the class of the quarantine's error
	at      position
	landed  bool   // the row went through the landed table
	problem string // what is wrong with the row itself
}

// ledger is what the tables hold, read from their files.
type ledger struct {
	mu      sync.Mutex
	landed  map[int64][]position
	rows    map[int64][]found
	strange []string // rows whose event cannot be told
	counts  map[string]int64
	ancient int64 // rows that are to expire
}

// readLedger reads every file of the three tables' newest snapshots.
func readLedger(ctx context.Context, store objstore.Store) (*ledger, error) {
	l := &ledger{landed: map[int64][]position{}, rows: map[int64][]found{}, counts: map[string]int64{}}
	for name, read := range map[string]func(arrow.Record) error{
		table: l.readLanded, table + "_scored": l.readScored, table + quarantine.Suffix: l.readQuarantine,
	} {
		t, err := lakehouse.Open(ctx, store, name)
		if err != nil {
			return nil, err
		}
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(8)
		for f := range t.Snapshot().Files() {
			g.Go(func() error {
				rec, err := t.ReadFile(ctx, f)
				if err != nil {
					return err
				}
				defer rec.Release()
				l.mu.Lock()
				defer l.mu.Unlock()
				l.counts[name] += rec.NumRows()
				return read(rec)
			})
		}
		if err := g.Wait(); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return l, nil
}

// expires says whether an event is not to be judged, since it may be gone already.
func (l *ledger) expires(table string, id int64) bool {
	if id < firstAncient {
		return false
	}
	l.ancient++
	l.counts[table]--
	return true
}

func column[T arrow.Array](rec arrow.Record, name string) T {
	return rec.Column(rec.Schema().FieldIndices(name)[0]).(T)
}

func positionAt(rec arrow.Record, i int) position {
	source := strings.Clone(column[*array.String](rec, batch.ColSource).Value(i))
	if strings.HasPrefix(source, "file/") {
		source, _, _ = strings.Cut(source, "@")
	}
	return position{source, column[*array.Int64](rec, batch.ColOffset).Value(i)}
}

func (l *ledger) readLanded(rec arrow.Record) error {
	for i := range int(rec.NumRows()) {
		id := column[*array.Int64](rec, "id").Value(i)
		if l.expires(table, id) {
			continue
		}
		l.landed[id] = append(l.landed[id], positionAt(rec, i))
	}
	return nil
}

func (l *ledger) readScored(rec arrow.Record) error {
	for i := range int(rec.NumRows()) {
		id := column[*array.Int64](rec, "id").Value(i)
		if l.expires(table+"_scored", id) {
			continue
		}
		f := found{class: scored, at: positionAt(rec, i), landed: true}
		score := column[*array.Float32](rec, "score")
		switch {
		case !score.IsValid(i) || float64(score.Value(i)) != scoreOf(id):
			f.problem = fmt.Sprintf("score %s, want %v", score.ValueStr(i), scoreOf(id))
		case column[*array.Float64](rec, "amount").Value(i) != float64(amountOf(id)):
			f.problem = "amount of another event"
		case column[*array.Int64](rec, batch.ColModelVersion).Value(i) != 1 || column[*array.String](rec, batch.ColModel).Value(i) != "linear":
			f.problem = "no model named"
		case len(column[*array.String](rec, batch.ColModelSHA256).Value(i)) != 64 || column[*array.String](rec, batch.ColContract).Value(i) == "":
			f.problem = "cannot be explained: no hash or contract"
		case column[*array.Int64](rec, batch.ColLandedVersion).IsNull(i):
			f.problem = "no landed version"
		}
		l.rows[id] = append(l.rows[id], f)
	}
	return nil
}

func (l *ledger) readQuarantine(rec arrow.Record) error {
	for i := range int(rec.NumRows()) {
		raw := column[*array.Binary](rec, "raw").Value(i)
		id, err := idOf(raw)
		if err != nil {
			l.strange = append(l.strange, err.Error())
			continue
		}
		f := found{
			class: strings.Clone(column[*array.String](rec, "class").Value(i)), at: positionAt(rec, i),
			landed: column[*array.Int64](rec, "landed_version").IsValid(i),
		}
		switch {
		case string(raw) != string(lineOf(id)):
			f.problem = fmt.Sprintf("raw bytes %q, want %q", raw, lineOf(id))
		case column[*array.String](rec, "rule").Value(i) == "" || column[*array.String](rec, "message").Value(i) == "":
			f.problem = "no reason"
		case column[*array.String](rec, "contract").Value(i) == "":
			f.problem = "no contract"
		}
		l.rows[id] = append(l.rows[id], f)
	}
	return nil
}

// complaints collects errors by kind: how many, and the first few.
type complaints map[string][]string

func (c complaints) add(kind string, id int64, format string, args ...any) {
	c[kind] = append(c[kind], fmt.Sprintf("event %d %s", id, fmt.Sprintf(format, args...)))
}

// judge compares what was sent with what the tables hold.
func (l *ledger) judge(t *testing.T, sent map[int64]position) {
	t.Helper()
	c := complaints{}
	for id, at := range sent {
		l.judgeEvent(c, id, at)
	}
	for id := range l.rows {
		if _, ok := sent[id]; !ok {
			c.add("never sent", id, "is in the tables: %+v", l.rows[id])
		}
	}
	for id := range l.landed {
		if _, ok := sent[id]; !ok {
			c.add("never sent", id, "landed")
		}
	}
	if len(l.strange) > 0 {
		c["not an event"] = append(c["not an event"], l.strange...)
	}
	for kind, list := range c {
		slices.Sort(list)
		t.Errorf("%s: %d\n  %s", kind, len(list), strings.Join(list[:min(8, len(list))], "\n  "))
	}
	in := int64(len(sent))
	out := l.counts[table+"_scored"] + l.counts[table+quarantine.Suffix]
	if in != out {
		t.Errorf("in %d != scored %d + quarantined %d", in, l.counts[table+"_scored"], l.counts[table+quarantine.Suffix])
	}
}

func (l *ledger) judgeEvent(c complaints, id int64, at position) {
	want := classOf(id)
	rows := l.rows[id]
	switch {
	case len(rows) == 0:
		c.add("lost", id, "sent at %v, landed at %v", at, l.landed[id])
		return
	case len(rows) > 1:
		c.add("doubled", id, "sent at %v: %+v", at, rows)
		return
	}
	r := rows[0]
	if r.class != want {
		c.add("in the wrong table", id, "is %s, want %s", r.class, want)
	}
	if r.at != at {
		c.add("wrong position", id, "is %v, want %v", r.at, at)
	}
	if r.problem != "" {
		c.add("damaged", id, "%s", r.problem)
	}
	landed := l.landed[id]
	switch wantLanded := want != quarantine.ClassDecode; {
	case r.landed != wantLanded:
		c.add("wrong hop", id, "%+v", r)
	case wantLanded && (len(landed) != 1 || landed[0] != at):
		c.add("landed wrongly", id, "sent at %v, landed at %v", at, landed)
	case !wantLanded && len(landed) != 0:
		c.add("landed wrongly", id, "does not decode and landed at %v", landed)
	}
}
