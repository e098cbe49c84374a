package e2e

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/test/product"
)

// TestPlan plans edits of a project that runs, and finds that nothing has changed by it.
func TestPlan(t *testing.T) {
	model, err := os.ReadFile(filepath.Join(product.Root(), "models", "testdata", "zscore.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	const columns = "columns:\n  - {name: n, type: long, required: true}\n  - {name: value, type: double}\n"
	files := product.Project{
		"tidemill.yaml":        "project: planned\nmaintenance: {every: off}\nmodels:\n  - {name: machine, file: models/zscore.onnx}\n",
		"models/zscore.onnx":   string(model),
		"connectors/rows.yaml": httpConnector("rows"),
		"connectors/idle.yaml": httpConnector("idle"),
		"tables/rows.yaml":     "table: rows\n" + columns,
		"tables/idle.yaml":     "table: idle\n" + columns,
	}
	r := startReloader(t, files)
	var rows strings.Builder
	for i := range 300 {
		fmt.Fprintf(&rows, "{\"n\": %d, \"value\": %d, \"note\": \"x\"}\n", i, i%10-1) // 30 of each
	}
	r.Until(t, func() error {
		code, err := product.Post(t.Context(), r.HTTP+"/rows", "", []byte(rows.String()))
		if err == nil && code != 200 {
			err = fmt.Errorf("status %d", code)
		}
		return err
	})
	r.count("rows_scored", 300)
	tables := func() map[string]int64 {
		var list []struct {
			Name    string
			Version int64
		}
		decode(t, r.b.Must(t, "-C", r.dir, "table", "list", "--json"), &list)
		out := map[string]int64{}
		for _, x := range list {
			if !strings.HasPrefix(x.Name, "idle") { // whose pipeline still sets its tables up
				out[x.Name] = x.Version
			}
		}
		return out
	}
	before := tables()

	score := "score: {model: machine@champion, inputs: [value], output: {anomaly: score}}\n"
	for name, c := range map[string]struct {
		file, text string
		code       int
		says       []string
	}{
		"nothing":   {"tables/rows.yaml", "# a comment\ntable: rows\n" + columns, 0, []string{"nothing would change"}},
		"connector": {"connectors/rows.yaml", httpConnector("rows") + "# more\n", 0, []string{"connector rows: restart, its file has changed"}},
		"new connector": {"connectors/other.yaml", strings.Replace(httpConnector("rows"), "/rows", "/other", 1), 0,
			[]string{"connector other: start, it is new"}},
		"check": {"tables/rows.yaml", "table: rows\n" + columns + "checks: [{name: positive, expr: \"value > 0\"}]\n", 1, []string{
			"+ checks.positive", "of 300 recent rows 60 would now be quarantined by positive, 0 before", "connector rows: restart, the contract of rows has changed"}},
		"warning": {"tables/rows.yaml", "table: rows\n" + columns + "checks: [{name: positive, expr: \"value > 0\", on_fail: warn}]\n", 0, []string{
			"of 300 recent rows 60 would now be warned of by positive, 0 before"}},
		"required": {"tables/rows.yaml", "table: rows\n" + columns + "on_new_field: quarantine\n", 1, []string{
			"~ on_new_field \"ignore\" → \"quarantine\"", "of 300 recent rows 300 would now be quarantined by unknown_column of note, 0 before"}},
		"column": {"tables/rows.yaml", "table: rows\n" + columns + "  - {name: note, type: string}\n", 0, []string{
			"the tables get the column note string", "of 300 recent rows all would pass"}},
		"type": {"tables/rows.yaml", "table: rows\n" + strings.Replace(columns, "value, type: double", "value, type: string", 1), 1, []string{
			"~ columns.value", "refused: ", "tables/rows.yaml:4: columns[1].type", "keeps its type"}},
		"model":     {"tables/rows.yaml", "table: rows\n" + columns + score, 0, []string{"+ score ", "all would pass, scored by machine@1"}},
		"no model":  {"tables/rows.yaml", "table: rows\n" + columns + strings.Replace(score, "machine@champion", "nosuch@champion", 1), 1, []string{"refused: ", "score.model"}},
		"bad":       {"tables/rows.yaml", "table: rows\n" + columns + "checks: [{name: a, expr: \"nosuch > 0\"}]\n", 3, []string{"checks[0].expr", "nosuch"}},
		"new table": {"tables/more.yaml", "table: more\n" + columns, 0, []string{"table more: new"}},
		"removed":   {"connectors/idle.yaml", "", 0, []string{"connector idle: stop, its file is gone"}},
	} {
		edited := files.Write(t, "edited")
		path := filepath.Join(edited, c.file)
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if c.text == "" {
			_ = os.Remove(path)
		}
		got := r.b.Run(t, "plan", edited, "--running", r.dir)
		if got.Code != c.code {
			t.Errorf("%s: exit code %d, want %d\n%s", name, got.Code, c.code, got.Output())
		}
		for _, want := range c.says {
			if !strings.Contains(got.Output(), want) {
				t.Errorf("%s: it does not say %q:\n%s", name, want, got.Output())
			}
		}
	}
	if after := tables(); !maps.Equal(after, before) {
		t.Errorf("planning changed the tables: before %v, after %v", before, after)
	}
	if s := r.status(); s.Generation != 1 || s.Refused != nil {
		t.Errorf("planning changed what runs: %+v", s)
	}
	var p struct {
		Breaks bool
		Tables []struct {
			Replay struct{ Rows, Decoded int64 }
		}
	}
	edited := files.Write(t, "edited")
	if err := os.WriteFile(filepath.Join(edited, "tables/rows.yaml"), []byte("table: rows\n"+columns+"checks: [{name: positive, expr: \"value > 0\"}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := r.b.Run(t, "plan", edited, "--running", r.dir, "--json", "-n", "100")
	decode(t, got.Stdout, &p)
	if got.Code != 1 || !p.Breaks || len(p.Tables) != 1 || p.Tables[0].Replay.Rows != 100 || p.Tables[0].Replay.Decoded != 100 {
		t.Errorf("plan --json -n 100: exit code %d, %s", got.Code, got.Output())
	}
}
