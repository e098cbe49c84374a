package contract

import (
	"fmt"
	"slices"
	"time"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemill/tidemill/internal/problem"
)

// Table is one table contract. It is immutable and valid: [Parse], [Load] and
// [LoadDir] are the only ways to get one. Slices that its methods return may
// be changed at the top level; what they point to may not.
type Table struct {
	file         string
	name         string
	columns      []Column
	key          []string
	dedupe       *Dedupe
	eventTime    string
	partitions   []partition
	clusterBy    []string // as the file has it; nil: the default
	retention    time.Duration
	onNewField   NewField
	checks       []Check
	features     string
	featuresLine int
	score        *Score
	sinks        []Sink

	schema  *arrow.Schema
	json    []byte
	version string
	lines   map[string]position // field path -> where it stands in the file
}

type position struct{ line, column int }

// Column is one column of the landed table.
type Column struct {
	Name     string
	Type     Type
	Required bool // false: rows may lack it or hold null
}

// Derived is a column that Tidemill adds to the landed and the scored table: the
// day, in UTC, of a timestamp column; null where that is null. Its type is date.
type Derived struct {
	Name   string // Source and "_date"
	Source string // a column of type timestamp
}

// partition is an entry of partition_by.
type partition struct {
	column string
	day    bool // of the timestamp column
}

// table is the column of the table by which it is partitioned.
func (p partition) table() string {
	if p.day {
		return p.column + "_date"
	}
	return p.column
}

// String returns the entry as contracts write it.
func (p partition) String() string {
	if p.day {
		return "date(" + p.column + ")"
	}
	return p.column
}

// NewField says what happens to a row with a field that is not a column.
type NewField string

const (
	NewFieldIgnore     NewField = "ignore"     // the field is dropped; the default
	NewFieldAdd        NewField = "add"        // the tables get a nullable column for it
	NewFieldQuarantine NewField = "quarantine" // the row goes to the quarantine table
)

// OnFail says what happens to rows that fail a check.
type OnFail string

const (
	OnFailQuarantine OnFail = "quarantine" // the default of expr checks
	OnFailWarn       OnFail = "warn"       // rows pass, the failure is counted; the only one for freshness
)

// Check is one rule that rows, or the batch as a whole, must meet. Either Expr
// or Freshness is set.
type Check struct {
	Name      string
	Expr      string        // SQL boolean expression over a row; false fails, null passes as in an SQL CHECK
	Freshness time.Duration // the batch's newest event_time may be at most this old; > 0
	OnFail    OnFail
}

// Isolation says where a model runs.
type Isolation string

const (
	IsolationProcess Isolation = "process" // a supervised child process; the default
	IsolationNone    Isolation = "none"    // in the worker's own process, for trusted models
)

// Score says which model scores the rows and how columns and tensors meet.
type Score struct {
	Model     string   // "fraud@champion" (name@alias) or "fraud@3" (name@version)
	Inputs    []string // columns or features, in the order given; empty: matched by name against the model's signature
	Outputs   []Output // columns to add, in the order given; at least one
	Isolation Isolation
}

// Output is one column that scoring adds.
type Output struct {
	Column string
	Tensor string // name of the model's output
	Index  int    // column of that output, -1: it has one value a row
}

// Name is the table's name: [a-z][a-z0-9_]*.
func (t *Table) Name() string { return t.name }

// File is the name under which the contract was read.
func (t *Table) File() string { return t.file }

// Columns are the contract's columns in file order. System columns are not among them.
func (t *Table) Columns() []Column { return slices.Clone(t.columns) }

// Column finds a column by its exact name.
func (t *Table) Column(name string) (Column, bool) {
	for _, c := range t.columns {
		if c.Name == name {
			return c, true
		}
	}
	return Column{}, false
}

// Key are the columns whose values tell rows apart; nil when the contract has none.
func (t *Table) Key() []string { return slices.Clone(t.key) }

// EventTime is the timestamp column that says when a row happened, or "".
func (t *Table) EventTime() string { return t.eventTime }

// PartitionBy are the table's columns that it is partitioned by, outermost first:
// the contract's, and derived ones.
func (t *Table) PartitionBy() []string {
	var names []string
	for _, p := range t.partitions {
		names = append(names, p.table())
	}
	return names
}

// Derived are the columns that the tables have beside the contract's, for
// partition_by: date(…).
func (t *Table) Derived() []Derived {
	var out []Derived
	for _, p := range t.partitions {
		if p.day {
			out = append(out, Derived{Name: p.table(), Source: p.column})
		}
	}
	return out
}

// ClusterBy are the columns that compacted files are sorted by: event_time,
// unless the contract names others; nil when there is neither. None of them is
// a partition column.
func (t *Table) ClusterBy() []string {
	if t.clusterBy == nil && t.eventTime != "" {
		return []string{t.eventTime}
	}
	return slices.Clone(t.clusterBy)
}

// Retention is how long rows are kept, by their event time; 0: for ever.
// Otherwise it is at least an hour, and there is an event time.
func (t *Table) Retention() time.Duration { return t.retention }

// OnNewField says what happens to a row with a field that is not a column.
func (t *Table) OnNewField() NewField { return t.onNewField }

// Checks are the contract's checks in file order.
func (t *Table) Checks() []Check { return slices.Clone(t.checks) }

// Features is the SQL that derives features from the relation "batch", or "".
func (t *Table) Features() string { return t.features }

// FeaturesLine is the line of the file on which Features begins, so that line
// n of the SQL (from 1) stands at FeaturesLine()+n-1; 0 without features.
func (t *Table) FeaturesLine() int { return t.featuresLine }

// Score says how rows are scored; nil when they are not.
func (t *Table) Score() *Score {
	if t.score == nil {
		return nil
	}
	s := *t.score
	s.Inputs, s.Outputs = slices.Clone(s.Inputs), slices.Clone(s.Outputs)
	return &s
}

// Version is "sha256:" and the first 16 hex digits of the hash of [Table.JSON].
// Comments, layout, quoting, the order of fields and defaults that are spelled
// out do not change it, nor do sinks: they change no row.
func (t *Table) Version() string { return t.version }

// ArrowSchema holds the contract's columns in order, without system columns.
// A field is nullable when its column is not required.
func (t *Table) ArrowSchema() *arrow.Schema { return t.schema }

// JSON is the contract's canonical form: fields in a fixed order, defaults
// filled in, no file name, and no sinks, which change no row and may hold
// secrets. But for those, [Parse] reads it back to an equal contract.
func (t *Table) JSON() ([]byte, error) { return slices.Clone(t.json), nil }

// Problem makes a problem of this contract's file. It stands at the line of
// the field, a path such as "checks[1].expr" or "score.model", or of the
// nearest field around it that the file has.
func (t *Table) Problem(field, format string, args ...any) problem.Problem {
	at := t.position(field)
	return problem.Problem{File: t.file, Line: at.line, Column: at.column, Field: field, Message: fmt.Sprintf(format, args...)}
}

func (t *Table) position(field string) position {
	for path := field; ; {
		if at, ok := t.lines[path]; ok {
			return at
		}
		i := len(path) - 1
		for i >= 0 && path[i] != '.' && path[i] != '[' {
			i--
		}
		if i < 0 {
			return t.lines[""]
		}
		path = path[:i]
	}
}
