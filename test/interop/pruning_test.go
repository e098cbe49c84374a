package interop

import (
	"fmt"
	"slices"
	"testing"

	"github.com/tidemill/tidemill/lakehouse"
)

// readsAll are the columns by which an engine skips nothing, as the guide says.
var readsAll = map[string][]string{
	"deltalake":  {"place.zip", "place.since"},
	"datafusion": {"flag"},
	"duckdb":     {"ts", "place.zip", "place.since"},
	"spark":      {"flag"},
}

// pruning takes all files but one out of the store. Whoever still answers a filter that
// only matches rows of that file has skipped the others by their statistics.
func pruning(t *testing.T, e *engines) {
	first, others := samples(past, 1), samples(common, 100)
	for i := range first {
		first[i].text, others[i].text = ref(fmt.Sprint("a", i)), ref(fmt.Sprint("漢", i))
	}
	here, gone := record(first), record(others)
	tbl := write(t, e.at, "pruned", lakehouse.CreateOptions{}, here)
	kept := slices.Collect(tbl.Snapshot().Files())[0].Path
	write(t, e.at, "pruned", lakehouse.CreateOptions{}, gone)
	write(t, e.at, "pruned", lakehouse.CreateOptions{}, gone)
	s, err := tbl.Refresh(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for f := range s.Files() {
		if f.Path != kept {
			if err := e.at.Delete(t.Context(), "pruned/"+f.Path); err != nil {
				t.Fatal(err)
			}
		}
	}
	cs := []condition{
		{Column: "id", Op: "<", Value: "50"}, {Column: "text", Op: "<", Value: "b"}, {Column: "big", Op: "<", Value: "0"}, {Column: "mid", Op: "<", Value: "0"},
		{Column: "small", Op: "<", Value: "0"}, {Column: "tiny", Op: "<", Value: "0"}, {Column: "d", Op: "<", Value: "0"}, {Column: "f", Op: "<", Value: "0"},
		{Column: "flag", Op: "=", Value: "false"}, {Column: "ts", Op: "<", Value: "1970-01-01T00:00:00.000000Z"}, {Column: "day", Op: "<", Value: "1970-01-01"},
		{Column: "price", Op: "<", Value: "0.0000000000"}, {Column: "fee", Op: "<", Value: "0.00"}, {Column: "place.zip", Op: "<", Value: "0"},
		{Column: "place.since", Op: "<", Value: "1970-01-01T00:00:00.000000Z"},
	}
	for _, r := range e.all(t, everyEngine...) {
		var reads []string
		for _, c := range cs {
			col, _ := column(here, c.Column)
			c.Type = deltaType(col.DataType())
			a := r.args("pruned", nil)
			a["filters"] = []condition{c}
			if err := r.process.ask("matching", a, nil); err != nil {
				reads = append(reads, c.Column)
			}
		}
		if !slices.Equal(reads, readsAll[r.name]) {
			t.Errorf("%s does not skip files by %v, it was known of %v", r.name, reads, readsAll[r.name])
		}
		t.Logf("%s skips files by %d of %d columns", r.name, len(cs)-len(reads), len(cs))
	}
}
