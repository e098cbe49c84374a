package interop

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/connectors/decode"
	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/internal/testserver"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/test/product"
)

// The rows of the guide's table: so many per country, in two commits.
var guideOrders = map[string]int{"DE": 41, "FR": 29, "IT": 17, "PL": 13}

const guideFirst = 60 // rows of version 1

// block is a piece of code of the guide that says that it can be run.
type block struct {
	language, name, code string
	line                 int
}

// guideBlocks returns the guide's code, of which a fence names language and how to run
// it: "python run". What does not run must say so in its first line.
func guideBlocks(t *testing.T, path string) []block {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []block
	var open *block
	section := ""
	for i, line := range strings.Split(string(data), "\n") {
		switch {
		case open == nil && strings.HasPrefix(line, "## "):
			section = line[3:]
		case open == nil && strings.HasPrefix(line, "```"):
			open = &block{language: line[3:], line: i + 1, name: fmt.Sprintf("%s, line %d", section, i+1)}
		case line == "```":
			out = append(out, *open)
			open = nil
		case open != nil:
			open.code += line + "\n"
		}
	}
	for _, b := range out {
		first, _, _ := strings.Cut(b.code, "\n")
		if !strings.Contains(b.language, " run") && b.language != "sh" && !strings.Contains(first, "not run in CI") {
			t.Errorf("%s:%d: code that is not run and does not say so", path, b.line)
		}
	}
	return out
}

// TestGuide runs the code of the guide, as it stands there, on a table of a project that
// `tidemill init shop` would make.
func TestGuide(t *testing.T) {
	t.Parallel()
	path := filepath.Join(product.Root(), "docs", "guides", "open-your-tables.md")
	at := onBucket(t, "tidemill")
	shop(t, at)
	env := append(os.Environ(), "HOME="+duckdbHome(t), "SPARK_LOCAL_IP=127.0.0.1", "PYTHONDONTWRITEBYTECODE=1")
	for k, v := range at.options {
		if k != "AWS_CONDITIONAL_PUT" {
			env = append(env, k+"="+v)
		}
	}
	ran := 0
	for _, b := range guideBlocks(t, path) {
		_, run, found := strings.Cut(b.language, " ")
		if !found {
			continue
		}
		ran++
		t.Run(b.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "block.py"), []byte(b.code), 0o600); err != nil {
				t.Fatal(err)
			}
			// pyarrow's threads may abort an orderly end.
			const script = "import os, runpy, sys; runpy.run_path('block.py', run_name='__main__'); sys.stdout.flush(); os._exit(0)"
			cmd := exec.CommandContext(t.Context(), testserver.Python(t), "-c", script)
			cmd.Dir, cmd.Env = dir, env
			if run == "run=spark" { // what --packages would fetch
				cmd.Env = append(env, "PYSPARK_SUBMIT_ARGS=--master local[2] --driver-memory 1g --driver-class-path "+filepath.Join(testserver.SparkJars(t), "*")+
					" --conf spark.ui.enabled=false --conf spark.driver.bindAddress=127.0.0.1 --conf spark.driver.host=127.0.0.1 --conf spark.sql.shuffle.partitions=1 pyspark-shell")
			}
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			var want []string
			if regexp.MustCompile(`(?i)group.?by`).MatchString(b.code) {
				for country, n := range guideOrders {
					want = append(want, fmt.Sprintf(`\b%s\b.*\b%d\b`, country, n))
				}
			}
			if regexp.MustCompile(`version(=| := |AsOf", )1`).MatchString(b.code) {
				want = append(want, fmt.Sprintf(`\b%d\b`, guideFirst))
			}
			if strings.Contains(b.code, "write_deltalake") {
				want = append(want, `landed in version 3\b`)
			}
			for _, w := range want {
				if !regexp.MustCompile(w).Match(out) {
					t.Errorf("nothing like %s in\n%s", w, out)
				}
			}
			if len(want) == 0 {
				t.Errorf("nothing is known of what this should print:\n%s", out)
			}
		})
	}
	if ran == 0 {
		t.Error("nothing was run")
	}
	byHand(t, at)
	t.Logf("%d blocks of the guide were run", ran)
}

// shop makes the tables orders and orders_scored with the template's columns.
func shop(t *testing.T, at *site) {
	t.Helper()
	c, err := contract.Load(filepath.Join(product.Root(), "internal", "project", "template", "tables", "orders.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	landed := decode.LandedSchema(c.ArrowSchema())
	float := arrow.PrimitiveTypes.Float64
	scored := arrow.NewSchema(append(c.ArrowSchema().Fields(), arrow.Field{Name: "log_amount", Type: float, Nullable: true}, arrow.Field{Name: "amount_per_item", Type: float, Nullable: true}), nil)
	var rows []map[string]any
	for country, n := range guideOrders {
		for i := range n {
			amount := 5 + float64(i)
			rows = append(rows, map[string]any{
				"order_id": fmt.Sprint(country, i), "customer_id": fmt.Sprint("c", i%7), "country": country, "items": 1 + i%3, "amount": amount,
				"ordered_at": time.Now().UTC().Format("2006-01-02 15:04:05.000000"), "log_amount": math.Log(amount), "amount_per_item": amount / float64(1+i%3),
				"_source": "generate/orders", "_offset": i, "_raw": "e30=",
			})
		}
	}
	for name, schema := range map[string]*arrow.Schema{"shop/orders": landed, "shop/orders_scored": scored} {
		write(t, at, name, lakehouse.CreateOptions{Schema: schema}, fromJSON(t, schema, rows[:guideFirst]), fromJSON(t, schema, rows[guideFirst:]))
	}
}

func fromJSON(t *testing.T, schema *arrow.Schema, rows []map[string]any) arrow.Record {
	t.Helper()
	var own []map[string]any
	for _, r := range rows {
		mine := map[string]any{}
		for _, f := range schema.Fields() {
			mine[f.Name] = r[f.Name]
		}
		own = append(own, mine)
	}
	data, err := json.Marshal(own)
	if err != nil {
		t.Fatal(err)
	}
	rec, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema, strings.NewReader(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// byHand looks for the row that the guide lets delta-rs land.
func byHand(t *testing.T, at *site) {
	t.Helper()
	tbl, err := lakehouse.Open(t.Context(), at, "shop/orders")
	if err != nil {
		t.Fatal(err)
	}
	if text := strings.Join(lines(ours(t, tbl, tbl.Snapshot())), "\n"); strings.Count(text, `order_id="by-hand-1"`) != 1 {
		t.Errorf("the guide's row is not in the table:\n%s", text)
	}
}

// duckdbHome is a home directory in which DuckDB finds its extensions, as INSTALL would
// leave them: CI has them from Python packages.
func duckdbHome(t *testing.T) string {
	t.Helper()
	home := t.TempDir()
	const script = `
import duckdb, duckdb_extension_delta, duckdb_extension_httpfs, os, sys
platform = duckdb.sql("PRAGMA platform").fetchone()[0]
to = os.path.join(sys.argv[1], ".duckdb", "extensions", "v" + duckdb.__version__, platform)
os.makedirs(to)
for m in (duckdb_extension_delta, duckdb_extension_httpfs):
    name = m.__name__.removeprefix("duckdb_extension_") + ".duckdb_extension"
    os.symlink(os.path.join(os.path.dirname(m.__file__), "extensions", "v" + duckdb.__version__, name), os.path.join(to, name))
`
	if out, err := exec.CommandContext(t.Context(), testserver.Python(t), "-c", script, home).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return home
}
