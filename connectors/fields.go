package connectors

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/tidemill/tidemill/connectors/decode"
	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/internal/recycle"
)

// maxNewColumns is how many columns on_new_field: add gives a table at most, so
// that a source which makes up names cannot make it unreadable.
const maxNewColumns = 100

// Field is a field that the contract does not know, as on_new_field: add met it
// in one batch.
type Field struct {
	Name    string
	Type    arrow.DataType // of the column; of an ignored field: what it would be
	Rows    int64          // of the batch that have it
	Example string         // a value, as it stands in the row
	Source  string         // the partition it came from
	Ignored string         // why there is no column for it; "" when one was added
}

// compiled is what an output decodes with: the contract's columns and what the
// table has beside them.
type compiled struct {
	table    *arrow.Schema // the landed table's when it was compiled; nil where that does not matter
	extra    []arrow.Field // columns of the table beside the contract's, filled from fields
	plan     *decode.Plan
	decoders chan *decode.Decoder // that nobody uses just now
}

// spareDecoders is how many decoders are kept. They know how large a batch's columns become,
// so they are not left to a pool that the garbage collector empties.
const spareDecoders = 8

func (c *compiled) decoder() *decode.Decoder {
	select {
	case d := <-c.decoders:
		return d
	default:
		return c.plan.NewDecoder(recycle.Shared)
	}
}

// giveBack is for a decoder that holds no rows.
func (c *compiled) giveBack(d *decode.Decoder) {
	select {
	case c.decoders <- d:
	default:
	}
}

func (o *output) compile(l *Landing, table *arrow.Schema) (*compiled, error) {
	opts := decode.Options{MaxRowBytes: o.maxRow, Derived: derived(l.Contract)}
	c := &compiled{table: table, decoders: make(chan *decode.Decoder, spareDecoders)}
	switch l.Contract.OnNewField() {
	case contract.NewFieldQuarantine:
		opts.OnNewField = decode.Quarantine
	case contract.NewFieldAdd:
		opts.OnNewField = decode.Add
		c.extra = extraColumns(l.Contract, table)
		opts.Extra = c.extra
	}
	var err error
	if c.plan, err = decode.NewPlan(l.Contract.ArrowSchema(), opts); err != nil {
		return nil, fmt.Errorf("table %s: %w", o.table, err)
	}
	return c, nil
}

// current returns what fits the landed table as it is now: it may have got
// columns, by this process or another.
func (o *output) current() (*compiled, error) {
	c := o.compiled.Load()
	if c.table == nil {
		return c, nil
	}
	now := o.landing.Table.Snapshot().Schema()
	if c.table == now {
		return c, nil
	}
	c, err := o.compile(o.landing, now)
	if err == nil {
		o.compiled.Store(c)
	}
	return c, err
}

// decodeNow decodes messages from the front of a batch with what the landed table
// has now. If new fields gave it columns, nothing comes back but again: the same
// messages have to be decoded with these.
func (o *output) decodeNow(ctx context.Context, msgs service.MessageBatch) (part decoded, n int, again bool, err error) {
	c, err := o.current()
	if err != nil {
		return part, 0, false, err
	}
	dec := c.decoder()
	defer c.giveBack(dec)
	part, n, err = o.decode(dec, msgs)
	if err != nil {
		dec.Reset()
		return part, 0, false, err
	}
	part.by = c
	if len(part.fresh) > 0 {
		again, err = o.learn(ctx, c, part.fresh)
		if again || err != nil {
			part.rec.Release()
		}
	}
	return part, n, again, err
}

// extraColumns are a landed table's columns that fields may fill beside the
// contract's: those that on_new_field: add has added, and those that an earlier
// contract had.
func extraColumns(c *contract.Table, table *arrow.Schema) []arrow.Field {
	own := LandedSchema(c)
	var out []arrow.Field
	for _, f := range table.Fields() {
		if !own.HasField(f.Name) && f.Nullable && columnName.MatchString(f.Name) && decode.Takes(f.Type) {
			out = append(out, f)
		}
	}
	return out
}

// columnName is what a contract could name a column.
var columnName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]{0,127}$`)

// refuse says why a table cannot get a column for a field, "" when it can, or
// has it already.
func refuse(name string, have *arrow.Schema, beside int) string {
	if !columnName.MatchString(name) {
		return "its name cannot be a column's: those are letters, digits and _, begin with a letter, and have at most 128 characters"
	}
	for _, f := range have.Fields() {
		switch {
		case f.Name == name && f.Nullable:
			return ""
		case strings.EqualFold(f.Name, name):
			return fmt.Sprintf("the table has the column %s, and readers cannot tell the two apart", f.Name)
		}
	}
	if beside >= maxNewColumns {
		return fmt.Sprintf("the table has %d columns that the contract does not know, and gets no more; put into the contract what is needed", beside)
	}
	return ""
}

// learn gives the landed table columns for new fields, as far as it takes them,
// and reports whether it has got columns since c was compiled: rows that were
// decoded with c are then to be decoded again. What another process adds at the
// same time stands; the type is that of whoever was first.
func (o *output) learn(ctx context.Context, c *compiled, fresh []decode.NewField) (again bool, err error) {
	l := o.landing
	var told []Field
	choose := func(have *arrow.Schema) (add []arrow.Field) {
		told = told[:0]
		beside := len(extraColumns(l.Contract, have))
		for _, f := range fresh {
			field := Field{Name: f.Name, Type: f.Type, Rows: f.Rows, Example: f.Example, Source: f.Partition, Ignored: refuse(f.Name, have, beside)}
			switch {
			case field.Ignored == "" && have.HasField(f.Name):
				continue
			case field.Ignored == "" && slices.ContainsFunc(add, func(a arrow.Field) bool { return strings.EqualFold(a.Name, f.Name) }):
				field.Ignored = "another new field differs from it only by case" // it is said again, of the column
			case field.Ignored == "":
				add = append(add, arrow.Field{Name: f.Name, Type: f.Type, Nullable: true})
				beside++
			}
			told = append(told, field)
		}
		return add
	}
	if len(choose(l.Table.Snapshot().Schema())) > 0 {
		if err := l.Table.Extend(ctx, choose); err != nil {
			return false, fmt.Errorf("add columns for new fields to %s: %w", o.table, err)
		}
	}
	again = l.Table.Snapshot().Schema() != c.table
	if again { // what is ignored is met again
		told = slices.DeleteFunc(told, func(f Field) bool { return f.Ignored != "" })
	}
	if l.NewFields != nil && len(told) > 0 {
		l.NewFields(ctx, told)
	}
	return again, nil
}

// countExtra counts the rows that have a value in a column beside the contract's.
func (c *compiled) countExtra(rec arrow.Record, into map[string]int64) map[string]int64 {
	first := int(rec.NumCols()) - len(c.extra)
	for i, f := range c.extra {
		col := rec.Column(first + i)
		if n := col.Len() - col.NullN(); n > 0 {
			if into == nil {
				into = map[string]int64{}
			}
			into[f.Name] += int64(n)
		}
	}
	return into
}

// LandedSchema is what the landed table of a contract has.
func LandedSchema(c *contract.Table) *arrow.Schema {
	return decode.LandedSchema(c.ArrowSchema(), derived(c)...)
}

func derived(c *contract.Table) (out []decode.Derived) {
	for _, d := range c.Derived() {
		out = append(out, decode.Derived(d))
	}
	return out
}
