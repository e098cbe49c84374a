// Package batch holds the vocabulary that every layer shares: the names of the
// system columns and the source positions of rows.
//
// A source position is a partition (a stable name of one ordered part of a
// source: a Kafka topic partition, a file) and an offset in it. A table's log
// remembers which offsets are in; see [Intervals] and [Claims]. Nothing here
// does I/O, knows a table, or imports anything above the standard library.
package batch

import "strings"

// System columns. Their names begin with an underscore, which contracts may
// not use. The first three follow the contract's columns in a landed table,
// the others follow the features and scores in a scored table.
const (
	ColSource = "_source" // string: source partition the row came from
	ColOffset = "_offset" // long: its offset there; NDJSON rows of one message share it
	ColRaw    = "_raw"    // binary: the row's bytes as they came in

	ColRow           = "_row"            // long: ordinal within the rows being checked; never stored
	ColLandedVersion = "_landed_version" // long: landed table version the row was committed in
	ColContract      = "_contract"       // string: contract version that checked it
	ColModel         = "_model"          // string: model name, null when the contract has no score
	ColModelVersion  = "_model_version"  // long
	ColModelSHA256   = "_model_sha256"   // string: hex
)

// Durable says whether the source can deliver a partition's offsets again
// after a restart, so that the log must remember them.
func Durable(partition string) bool {
	return !strings.HasPrefix(partition, "~") && !strings.HasPrefix(partition, "#")
}

// Keyed says whether a partition stands for one idempotency key: remembered
// in the tags of the files that hold its rows, for as long as those are
// recent, and never as a transaction.
func Keyed(partition string) bool { return strings.HasPrefix(partition, "#") }

// IdentifiedPrefix begins a partition that stands for one message by the id that its
// publisher gave it. It is not durable: where a contract dedupes by message id, tables are
// asked for the rows of such a partition, else it does not occur.
const IdentifiedPrefix = "~#"

// Identified says whether a partition stands for one message.
func Identified(partition string) bool { return strings.HasPrefix(partition, IdentifiedPrefix) }

// Run says where consecutive rows of a record came from.
type Run struct {
	Partition string
	First     int64 // offset of the first row
	Rows      int   // rows in the run, at least 1
	PerRow    bool  // true: row i has offset First+i; false: all rows have offset First
	Void      int64 // offsets right before First that no row has, nor ever will; see [Run.Claim]
}

// Offset returns the offset of row i of the run, 0 <= i < Rows.
func (r Run) Offset(i int) int64 {
	if r.PerRow {
		return r.First + int64(i)
	}
	return r.First
}

// Interval returns the offsets that the run's rows have.
func (r Run) Interval() Interval {
	if r.PerRow {
		return Interval{r.First, r.First + int64(r.Rows) - 1}
	}
	return Interval{r.First, r.First}
}

// Claim returns the offsets that are in once the run's rows are: those of the rows
// and the void ones before them, since no row will ever ask for these. Whether a row
// is in is asked of its own offset only.
func (r Run) Claim() Interval {
	v := r.Interval()
	v.First -= r.Void
	return v
}

// Row returns row i of the run as a run of its own.
func (r Run) Row(i int) Run {
	one := Run{Partition: r.Partition, First: r.Offset(i), Rows: 1, PerRow: r.PerRow}
	if one.First == r.First {
		one.Void = r.Void
	}
	return one
}

// AppendRun adds rows to a list of runs, joining them to the last run where
// the positions go on from there.
func AppendRun(runs []Run, r Run) []Run {
	if n := len(runs); n > 0 {
		l := &runs[n-1]
		if l.Partition == r.Partition {
			switch {
			case (l.PerRow || l.Rows == 1) && (r.PerRow || r.Rows == 1) && l.First+int64(l.Rows) == r.First && r.Void == 0:
				l.PerRow = true
				l.Rows += r.Rows
				return runs
			case (!l.PerRow || l.Rows == 1) && (!r.PerRow || r.Rows == 1) && l.First == r.First:
				l.PerRow = false
				l.Rows += r.Rows
				l.Void = max(l.Void, r.Void)
				return runs
			}
		}
	}
	return append(runs, r)
}

// Rows counts the rows of all runs.
func Rows(runs []Run) int {
	n := 0
	for _, r := range runs {
		n += r.Rows
	}
	return n
}
