package connectors

import (
	"context"
	"errors"
	"fmt"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/compute"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/redpanda-data/benthos/v4/public/bloblang"
	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/tidemill/tidemill/connectors/decode"
	"github.com/tidemill/tidemill/lakehouse/quarantine"
)

// Replayer takes rows that come out of quarantine through hop one: repair, decoding, and
// the landed table. It is safe for concurrent use.
type Replayer struct{ tables Tables }

// NewReplayer lands rows in tables.
func NewReplayer(tables Tables) *Replayer { return &Replayer{tables} }

// ReplayRow is a row out of quarantine, with the metadata that a mapping can look at.
type ReplayRow struct {
	Offset int64 // in [quarantine.ReplaySource]; of Land only
	Raw    []byte
	Meta   [][2]string
}

// ReplayProblem says why a row cannot go in; its zero value, that it can.
type ReplayProblem struct{ Rule, Message string }

// ruleRepair is the rule of rows that a mapping could not repair.
const ruleRepair = "repair"

// repairs is what a mapping can use: what neither reads the environment nor files of the
// machine that it runs on, as whoever may start a workflow need not be allowed to.
var repairs = bloblang.GlobalEnvironment().OnlyPure()

// CompileRepair checks a mapping, for a person to read what is wrong with it.
func CompileRepair(mapping string) error {
	_, err := compileRepair(mapping)
	return err
}

func compileRepair(mapping string) (*bloblang.Executor, error) {
	if mapping == "" {
		return nil, nil
	}
	exec, err := repairs.Parse(mapping)
	if err != nil {
		if pe := (*bloblang.ParseError)(nil); errors.As(err, &pe) {
			return nil, errors.New(pe.ErrorMultiline())
		}
		return nil, err
	}
	return exec, nil
}

// Repair maps the rows' bytes and decodes them. Rows are changed in place; one that stays as
// it is, because of its problem, keeps its bytes. The record has the others, in their order;
// the caller releases it.
func (r *Replayer) Repair(ctx context.Context, table, mapping string, rows []ReplayRow) (arrow.Record, []ReplayProblem, error) {
	exec, err := compileRepair(mapping)
	if err != nil {
		return nil, nil, err
	}
	o := &output{table: table, maxRow: decode.DefaultMaxRowBytes, tables: r.tables}
	if err := o.Connect(ctx); err != nil {
		return nil, nil, err
	}
	c, err := o.current()
	if err != nil {
		return nil, nil, err
	}
	dec := c.decoder()
	defer c.giveBack(dec)
	problems := make([]ReplayProblem, len(rows))
	var keep []int32
	dropped := false
	for i := range rows {
		raw := rows[i].Raw
		if exec != nil {
			if raw, err = repaired(exec, rows[i]); err != nil {
				problems[i] = ReplayProblem{ruleRepair, "the mapping fails: " + err.Error()}
				continue
			}
		}
		good, bad := dec.Rows(), dec.Bad()
		if err := dec.Message(raw, decode.Position{Partition: quarantine.ReplaySource, First: int64(i)}); err != nil {
			dec.Reset()
			return nil, nil, fmt.Errorf("decode %d rows at once: %w", len(rows), err)
		}
		if n := dec.Rows() + dec.Bad() - good - bad; n != 1 {
			problems[i] = ReplayProblem{ruleRepair, fmt.Sprintf("its bytes are %d rows, and a row is replayed as one; let the mapping make it one JSON object", n)}
			dropped = true
			continue
		}
		rows[i].Raw = raw
		if dec.Rows() > good {
			keep = append(keep, int32(good))
		}
	}
	rec, _, bad := dec.Flush()
	for _, b := range bad {
		if problems[b.Offset] == (ReplayProblem{}) {
			problems[b.Offset] = ReplayProblem{b.Rule, b.Message}
		}
	}
	if !dropped {
		return rec, problems, nil
	}
	defer rec.Release()
	rec, err = pick(ctx, rec, keep)
	return rec, problems, err
}

// repaired runs a mapping over one row's bytes.
func repaired(exec *bloblang.Executor, row ReplayRow) ([]byte, error) {
	m := service.NewMessage(row.Raw)
	for _, kv := range row.Meta {
		m.MetaSetMut(kv[0], kv[1])
	}
	out, err := m.BloblangQuery(exec)
	if err != nil {
		return nil, err
	}
	if out == nil {
		return nil, errors.New("it deletes the row; rows that are to stay in quarantine are left out by the condition")
	}
	return out.AsBytes()
}

// pick returns some rows of a record; the caller releases them.
func pick(ctx context.Context, rec arrow.Record, rows []int32) (arrow.Record, error) {
	b := array.NewInt32Builder(memory.DefaultAllocator)
	defer b.Release()
	b.AppendValues(rows, nil)
	at := b.NewArray()
	defer at.Release()
	out, err := compute.Take(ctx, *compute.DefaultTakeOptions(), compute.NewDatumWithoutOwning(rec), compute.NewDatumWithoutOwning(at))
	if err != nil {
		return nil, fmt.Errorf("pick rows: %w", err)
	}
	return out.(*compute.RecordDatum).Value, nil
}

// Land hands rows to the same output that connectors write to, as messages at the positions
// that their offsets are: what the table has already is left out. Offsets ascend.
func (r *Replayer) Land(ctx context.Context, table string, rows []ReplayRow) (Outcome, error) {
	sum := Outcome{Quarantined: map[string]int64{}}
	o := &output{table: table, maxRow: decode.DefaultMaxRowBytes, tables: r.tables}
	if err := o.Connect(ctx); err != nil {
		return sum, err
	}
	l := *o.landing
	observe := l.Observe
	l.Observe = func(out Outcome) {
		observe(out)
		sum.Landed += out.Landed
		sum.Duplicates += out.Duplicates
		for rule, n := range out.Quarantined {
			sum.Quarantined[rule] += n
		}
	}
	o.landing = &l
	msgs := make(service.MessageBatch, len(rows))
	for i, row := range rows {
		msgs[i] = withPosition(service.NewMessage(row.Raw), &stamped{Position: Position{Partition: quarantine.ReplaySource, Offset: row.Offset}}, false)
	}
	return sum, o.WriteBatch(ctx, msgs)
}
