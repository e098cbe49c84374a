package app

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/internal/ortlib"
	"github.com/tidemill/tidemill/internal/problem"
	"github.com/tidemill/tidemill/internal/testserver"
)

var silent = slog.New(slog.DiscardHandler)

// needsRuntime skips where models cannot be run; in CI they must be.
func needsRuntime(t *testing.T) {
	t.Helper()
	if _, err := ortlib.Find(); err != nil {
		testserver.Missing(t, "%v", err)
	}
}

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// edit replaces a text in a file, which must have it.
func edit(t *testing.T, file, from, to string) {
	t.Helper()
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(src), from) {
		t.Fatalf("no %q in %s", from, file)
	}
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(src), from, to)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// fraud copies the example, to be changed.
func fraud(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("../../examples/fraud")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestConnectorTestsOfExamples runs the unit tests that people copy from: those of the
// examples and of a new project.
func TestConnectorTestsOfExamples(t *testing.T) {
	needsRuntime(t)
	shop := filepath.Join(t.TempDir(), "shop")
	if _, err := Init(shop); err != nil {
		t.Fatal(err)
	}
	if err := Lint(t.Context(), shop); err != nil {
		t.Errorf("a new project: %v", err)
	}
	projects, err := filepath.Glob("../../examples/*/tidemill.yaml")
	if err != nil || len(projects) < 2 {
		t.Fatalf("%v %v", projects, err)
	}
	paths := []string{shop, "../../examples"}
	for _, p := range projects {
		paths = append(paths, filepath.Dir(p))
	}
	results, err := TestConnectors(t.Context(), TestOptions{Paths: paths, Logger: silent})
	if err != nil {
		t.Fatal(err)
	}
	tested := map[string]int{}
	for _, r := range results {
		tested[filepath.Base(r.Connector)]++
		if !r.Passed {
			t.Errorf("%s", r.Text())
		}
	}
	if tested["orders.yaml"] < 2 || tested["transactions.yaml"] < 4 {
		t.Errorf("ran %v", tested)
	}
}

// TestConnectorTestsFail: a connector or contract that does something else than its
// tests say is found, with the lines of what differs.
func TestConnectorTestsFail(t *testing.T) {
	needsRuntime(t)
	dir := fraud(t)
	edit(t, filepath.Join(dir, "tables/transactions.yaml"), "amount > 0", "amount > 100")
	edit(t, filepath.Join(dir, "tables/transactions.yaml"), "hour(ts) AS", "hour(ts) + 10 AS")
	results, err := TestConnectors(t.Context(), TestOptions{Paths: []string{dir}, Logger: silent, Run: "is scored$|is fraud$"})
	if err != nil || len(results) != 2 {
		t.Fatalf("%v %v", results, err)
	}
	small, large := results[0].Text(), results[1].Text()
	for _, want := range []string{"transactions_test.yaml:18: scored[0]  (did not come)", `"tx_id":"t-1"`, "quarantined[0]  (was not expected: check \"positive_amount\""} {
		if results[0].Passed || !strings.Contains(small, want) {
			t.Errorf("no %q in\n%s", want, small)
		}
	}
	if results[1].Passed || !strings.Contains(large, "scored[0].fraud_score\n        - 0.9986\n        + ") {
		t.Errorf("got\n%s", large)
	}
}

// TestConnectorTestFeatures runs what Benthos' own tests have: mocks, metadata, the
// environment, several batches, and what comes out of the processors.
func TestConnectorTestFeatures(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"tidemill.yaml": "project: p\n",
		"tables/t.yaml": "table: t\ncolumns:\n  - {name: id, type: long, required: true}\n  - {name: city, type: string}\n  - {name: region, type: string}\n",
		"connectors/t.yaml": `input:
  kafka_franz: {seed_brokers: ["${BROKERS:localhost:9092}"], topics: [t], consumer_group: g}
  processors:
    - mapping: |
        root = this
        root.region = env("REGION")
        root.id = @kafka_offset
pipeline:
  threads: 4
  processors:
    - label: lookup
      http: {url: "http://127.0.0.1:1/"}
    - mapping: root = if this.drop.or(false) { deleted() }
output:
  lakehouse: {table: t}
tests:
  - name: in the connector's own file
    environment: {REGION: eu}
    mocks:
      lookup: {mapping: 'root = this.assign({"city": "Ulm"})'}
    input_batches:
      - [{content: '{}', metadata: {kafka_topic: t, kafka_partition: 0, kafka_offset: 7}}, {content: '{"drop": true}', metadata: {kafka_topic: t, kafka_partition: 0, kafka_offset: 8}}]
      - [{content: '{}', metadata: {kafka_topic: t, kafka_partition: 0, kafka_offset: 9}}]
    output_batches:
      - - json_contains: {id: 7}
          metadata_equals: {kafka_topic: t}
      - - bloblang: this.id == 9 && @kafka_offset == 9
    scored:
      - {id: 7, city: Ulm, region: eu}
      - {id: 9}
`,
		"connectors/t_test.yaml": `tests:
  - name: a processor fails
    mocks: {/pipeline/processors/0: {noop: {}}}
    input_batch: [{content: 'no JSON', metadata: {kafka_offset: 1}}]
    quarantined: [{rule: processor_failed}]
  - name: a mock of nothing
    mocks: {nobody: {mapping: root = this}}
    input_batch: [{content: '{}'}]
    scored: []
`,
		"connectors/u_test.yaml": "tests: [{name: a, input_batch: [], scored: []}]\n",
	})
	edit(t, filepath.Join(dir, "connectors/t.yaml"), `root = if this.drop.or(false) { deleted() }`, `root = if this.drop.or(false) { deleted() } else { this }`)
	err := Lint(t.Context(), dir)
	if ps := problem.Of(err); len(ps) != 1 || !strings.Contains(ps[0].Error(), "u_test.yaml: tests ") {
		t.Errorf("lint: %v", err)
	}
	if _, err := TestConnectors(t.Context(), TestOptions{Paths: []string{dir}, Logger: silent}); problem.Of(err) == nil {
		t.Errorf("tests of no connector: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "connectors/u_test.yaml")); err != nil {
		t.Fatal(err)
	}
	results, err := TestConnectors(t.Context(), TestOptions{Paths: []string{dir}, Logger: silent})
	if err != nil || len(results) != 3 {
		t.Fatalf("%v %v", results, err)
	}
	for i, r := range results[:2] {
		if i == 0 && !r.Passed {
			t.Errorf("%s", r.Text())
		}
	}
	if r := results[2]; r.Passed || !strings.Contains(r.Error, "t_test.yaml:7: mocks.nobody: the connector has no processor") {
		t.Errorf("%s", r.Text())
	}
}

// TestLintModels holds contracts against the signatures of model files.
func TestLintModels(t *testing.T) {
	dir := fraud(t)
	if unchecked, err := LintWith(t.Context(), LintOptions{Dir: dir}); err != nil || unchecked != nil {
		t.Fatalf("%v, unchecked %v", err, unchecked)
	}
	table := filepath.Join(dir, "tables/transactions.yaml")
	edit(t, table, "inputs: [log_amount, hour_of_day,", "inputs: [log_amont, merchant,")
	edit(t, table, "probabilities[1]", "probability")
	edit(t, table, "amount > 0", "amont > 0")
	edit(t, filepath.Join(dir, "connectors/transactions.yaml"), "table: transactions", "table: transaction")
	_, err := LintWith(t.Context(), LintOptions{Dir: dir})
	var got []string
	for _, p := range problem.Of(err) {
		got = append(got, strings.TrimPrefix(p.Error(), dir+"/"))
	}
	// The types of features are known only once the contract's SQL is in order.
	want := []string{
		"connectors/transactions.yaml:36: output.lakehouse.table: no contract tables/transaction.yaml",
		"tables/transactions.yaml:19: checks[0].expr: ",
		"tables/transactions.yaml:34: score.output.fraud_score: the model has no output probability; it has label int64[?], probabilities float32[?,2]",
	}
	compare(t, got, want)
	edit(t, table, "amont > 0", "amount > 0")
	_, err = LintWith(t.Context(), LintOptions{Dir: dir})
	got = nil
	for _, p := range problem.Of(err) {
		got = append(got, strings.TrimPrefix(p.Error(), dir+"/"))
	}
	want[1] = "tables/transactions.yaml:33: score.inputs[0]: the model's input features float32[?,5] wants a column log_amont"
	want = []string{want[0], want[1], "tables/transactions.yaml:33: score.inputs[1]: column merchant is utf8 and the model's input", want[2]}
	compare(t, got, want)

	edit(t, table, "fraud@champion", "fraud@2")
	unchecked, err := LintWith(t.Context(), LintOptions{Dir: dir})
	if len(problem.Of(err)) != 1 || len(unchecked) != 1 || unchecked[0].Line != 32 || unchecked[0].Field != "score.model" {
		t.Errorf("%v, unchecked %v", err, unchecked)
	}
	edit(t, filepath.Join(dir, "tidemill.yaml"), "models/fraud.onnx", "models/train.py")
	edit(t, table, "fraud@2", "fraud@champion")
	if _, err = LintWith(t.Context(), LintOptions{Dir: dir}); !strings.Contains(fmt.Sprint(err), "tidemill.yaml:5: models: ") {
		t.Errorf("a file that is no model: %v", err)
	}
}

func compare(t *testing.T, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got\n%s", strings.Join(got, "\n"))
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("got %q, want %q", got[i], want[i])
		}
	}
}

// TestTryAndInfer tries a connector whose model turns rows away, and proposes a
// contract under which the same sample lands.
func TestTryAndInfer(t *testing.T) {
	needsRuntime(t)
	dir := fraud(t)
	rows := []string{
		`{"tx_id":"a","card_id":"c","amount":10,"country":"DE","channel":"pos","tx_per_hour":1,"ts":"2026-01-31T12:00:00Z"}`,
		`{"tx_id":"b","card_id":"c","amount":-1,"country":"DE","channel":"pos","tx_per_hour":1,"ts":"2026-01-31T12:00:00Z"}`,
		`{"tx_id":"d","card_id":"c","amount":"x"}`,
	}
	write(t, dir, map[string]string{
		"data/in.ndjson":     strings.Join(rows, "\n"),
		"connectors/in.yaml": "input:\n  file: {paths: [data/in.ndjson]}\noutput:\n  lakehouse: {table: transactions}\n",
	})
	file := filepath.Join(dir, "connectors/in.yaml")
	o := TryOptions{File: file, Rows: 20, Within: time.Minute, Logger: silent}
	tried, err := Try(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	text := tried.Text(0)
	for _, want := range []string{"fraud_score", "1 rows would land in transactions and pass", "positive_amount", "wrong_type", "2 rows would be quarantined", "warning  fresh: 1", "the input file ended after 3 rows"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, ".tidemill")); err == nil {
		t.Error("it left state behind")
	}

	if err := os.Truncate(filepath.Join(dir, "data/in.ndjson"), int64(len(rows[0])+len(rows[1])+2)); err != nil {
		t.Fatal(err)
	}
	for _, from := range []string{file, filepath.Join(dir, "data/in.ndjson")} {
		o.File = from
		c, err := InferContract(t.Context(), InferOptions{TryOptions: o, Table: "transactions"})
		if err != nil {
			t.Fatal(err)
		}
		write(t, dir, map[string]string{"tables/transactions.yaml": c.Contract})
		if err := Lint(t.Context(), dir); err != nil {
			t.Errorf("%v\n%s", err, c.Contract)
		}
		o.File = file
		if tried, err = Try(t.Context(), o); err != nil || tried.Landed != 2 || tried.Quarantined != 0 {
			t.Errorf("%+v %v under\n%s", tried, err, c.Contract)
		}
	}
}

// TestTryProblems: what is wrong with the connector or its contract is said before
// anything is read.
func TestTryProblems(t *testing.T) {
	dir := fraud(t)
	edit(t, filepath.Join(dir, "tables/transactions.yaml"), "type: double", "type: duoble")
	file := filepath.Join(dir, "connectors/transactions.yaml")
	_, err := Try(t.Context(), TryOptions{File: file, Rows: 1, Within: time.Second, Logger: silent})
	if ps := problem.Of(err); len(ps) != 1 || !strings.Contains(ps[0].Error(), "columns[2].type") {
		t.Errorf("%v", err)
	}
	_, err = Try(t.Context(), TryOptions{File: filepath.Join(dir, "connectors/none.yaml"), Logger: silent})
	if problem.Of(err) == nil {
		t.Errorf("%v", err)
	}
	was, err := os.Getwd()
	if err != nil || !strings.HasSuffix(was, "internal/app") {
		t.Errorf("the working directory is %s, %v", was, err)
	}
}
