package query

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

// Amount is a number of files and their bytes.
type Amount struct {
	Files int
	Bytes int64
}

// Add counts one more file.
func (a *Amount) Add(bytes int64) { a.Files, a.Bytes = a.Files+1, a.Bytes+bytes }

// ReadStats says what a query reads of a table, and what not.
type ReadStats struct {
	Total       Amount // all files of the version
	ByPartition int    // files skipped by their partition values
	ByStats     int    // files skipped by their statistics
	Skipped     int64  // bytes of both
	Store       Amount // files that came from the store
	Cache       Amount // files that were on local disk already
}

// TableStats are the [ReadStats] of one reference to a table.
type TableStats struct {
	Table   string // as the statement has it
	Version int64
	ReadStats
	Took time.Duration // of choosing and fetching the files
}

// String is a line for people.
func (s TableStats) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: version %d, %s; skipped %d by partition, %d by statistics; ", s.Table, s.Version, countFiles(s.Total.Files), s.ByPartition, s.ByStats)
	b.WriteString("to read: " + countFiles(s.Total.Files-s.ByPartition-s.ByStats) + ", " + size(s.Total.Bytes-s.Skipped))
	return b.String()
}

// Reads is a line for people on where the bytes came from.
func (s TableStats) Reads() string {
	return fmt.Sprintf("%s; %s (%s) from the store, %s (%s) from the cache; %s", s, countFiles(s.Store.Files), size(s.Store.Bytes),
		countFiles(s.Cache.Files), size(s.Cache.Bytes), s.Took.Round(100*time.Microsecond))
}

func countFiles(n int) string {
	if n == 1 {
		return "1 file"
	}
	return fmt.Sprintf("%d files", n)
}

func size(bytes int64) string {
	const unit = 1024
	if bytes < unit {
		return fmt.Sprintf("%d B", bytes)
	}
	v, prefix := float64(bytes)/unit, 0
	for v >= unit && prefix < len("KMGT")-1 {
		v, prefix = v/unit, prefix+1
	}
	return fmt.Sprintf("%.1f %ciB", v, "KMGT"[prefix])
}

// Stats says, for each table of the statement, what is read of it.
func (r *Rows) Stats() []TableStats { return r.stats }

// IsPlan says whether the rows are an EXPLAIN's: two columns, of which the second is text
// of many lines that says what is read of each table, and then DuckDB's plan.
func (r *Rows) IsPlan() bool { return r.explained }

type explainKind int

const (
	noPlan   explainKind = iota
	planOnly             // EXPLAIN
	planRun              // EXPLAIN ANALYZE, which runs the statement
)

func explains(sql string) explainKind {
	rest, ok := cutWord(sql, "explain")
	if !ok {
		return noPlan
	}
	if _, ok := cutWord(rest, "analyze"); ok || strings.Contains(strings.ToLower(explainOptions.FindString(rest)), "analyze") {
		return planRun
	}
	return planOnly
}

// planRecord is a row for the result of an EXPLAIN; nil if it is not of the usual form.
func planRecord(mem memory.Allocator, schema *arrow.Schema, stats []TableStats) arrow.Record {
	if schema.NumFields() != 2 || schema.Field(0).Type.ID() != arrow.STRING || schema.Field(1).Type.ID() != arrow.STRING || len(stats) == 0 {
		return nil
	}
	lines := make([]string, len(stats))
	for i, s := range stats {
		lines[i] = s.String()
	}
	b := array.NewRecordBuilder(mem, schema)
	defer b.Release()
	b.Field(0).(*array.StringBuilder).Append("tables")
	b.Field(1).(*array.StringBuilder).Append(strings.Join(lines, "\n"))
	return b.NewRecord()
}

// WritePlan writes the rows of an EXPLAIN as the text that they are.
func WritePlan(w io.Writer, rows RecordReader) error {
	for {
		rec, err := rows.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for row := range int(rec.NumRows()) {
			for _, line := range strings.Split(strings.TrimRight(rec.Column(1).ValueStr(row), "\n"), "\n") {
				if _, err := fmt.Fprintln(w, clean(line)); err != nil {
					rec.Release()
					return err
				}
			}
		}
		rec.Release()
	}
}
