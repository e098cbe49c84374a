package interop

import (
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemill/tidemill/lakehouse"
)

// quirks holds on to what readers get wrong, whoever wrote the table, and what the
// guide therefore says and other tests leave out. One that fails here has been repaired:
// then the guide and the tests can ask for more.
func quirks(t *testing.T, e *engines) {
	at := e.at
	t.Run("deltalake's Arrow dataset loses rows of files without bounds", func(t *testing.T) {
		tbl := write(t, at, "unbounded", lakehouse.CreateOptions{}, record(samples(unordered, 1)))
		if err := tbl.AddColumns(t.Context(), arrow.NewSchema(append(sampleSchema.Fields(), laterField), nil)); err != nil {
			t.Fatal(err)
		}
		appendTo(t, tbl, withLater(record(samples(common, 50)), true))
		records := ours(t, tbl, tbl.Snapshot())
		for _, c := range []condition{{Column: "d", Op: "<", Type: "double", Value: "10", literal: 10.0}, {Column: "later", Op: "IS NULL", Type: "string"}} {
			for _, r := range e.all(t, "datafusion", "duckdb", "polars", "deltalake") {
				want := c.matching(records, r.nanLast)
				got := r.matching(t, "unbounded", []condition{c})[0]
				if right := slices.Equal(got, want); right != (r.name != "deltalake") {
					t.Errorf("%s: %s: %v, of %v", r.name, c, got, want)
				}
			}
		}
	})
	t.Run("deltalake reads negative decimals of partitions with two signs", func(t *testing.T) {
		rows := samples(past, 30)[:2]
		write(t, at, "negative", lakehouse.CreateOptions{PartitionBy: []string{"fee"}}, record(rows))
		e.fails(t, "deltalake", "negative", "is not a valid decimal128 number", nil)
		for _, r := range e.all(t, "duckdb", "polars", "spark") {
			_, got := r.scan(t, "negative", nil)
			sameLines(t, r.name, lines(got), lines([]arrow.Record{record(rows)}))
		}
	})
	t.Run("Polars does not filter on a struct with a list", func(t *testing.T) {
		e.Readers(t).must(t, "write", args{"table": "nested", "uri": at.uri("nested"), "options": at.options}, nil)
		c := []condition{{Column: "place.n", Op: "=", Type: "long", Value: "1", literal: int64(1)}}
		e.fails(t, "polars", "nested", "structs do not have the same number of fields", c)
		for _, r := range e.all(t, "datafusion", "duckdb") {
			if got := r.matching(t, "nested", c)[0]; !slices.Equal(got, []int64{1}) {
				t.Errorf("%s: %v", r.name, got)
			}
		}
	})
}

// fails expects an engine to fail with a text, in a scan or in a filter.
func (e *engines) fails(t *testing.T, engine, table, text string, cs []condition) {
	t.Helper()
	r := e.all(t, engine)[0]
	a, call := r.args(table, nil), "scan"
	a["out"] = t.TempDir() + "/rows.arrow"
	if cs != nil {
		a, call = r.args(table, nil), "matching"
		a["filters"] = cs
	}
	if err := r.process.ask(call, a, nil); err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("%s: %v", engine, err)
	}
}
