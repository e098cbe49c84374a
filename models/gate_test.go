package models_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/models"
)

const gateContract = `table: transactions
columns:
  - {name: id, type: string, required: true}
  - {name: amount, type: double}
  - {name: n, type: long}
  - {name: flag, type: boolean}
  - {name: ts, type: timestamp}
  - {name: f64, type: double}
  - {name: flag_2, type: boolean}
  - {name: f64_2, type: double}
score:
  model: fraud@champion
  inputs: [%s]
  output: {score: "%s"}
`

func gateTable(t *testing.T, inputs, output string) models.GateTable {
	t.Helper()
	source := fmt.Sprintf(gateContract, inputs, output)
	if inputs == "" {
		source = strings.Replace(source, "  inputs: []\n", "", 1)
	}
	table, err := contract.Parse("tables/transactions.yaml", []byte(source))
	if err != nil {
		t.Fatal(err)
	}
	return models.GateTable{Score: table.Score(), Schema: table.ArrowSchema(), Problem: table.Problem}
}

func failures(results []models.GateResult) string {
	if err := models.Failed(results); err != nil {
		return err.Error()
	}
	return ""
}

func TestGatePasses(t *testing.T) {
	gate := models.Gate{Runtime: realRuntime(t)}
	golden := `{"inputs": {"x": [[1, 2, 3], [0, 1, 0]]}, "outputs": {"y": [[321], [10]], "both": [[321, -321], [10, -10]]}}`
	results, err := gate.Check(t.Context(), readModel(t, "linear"), models.GateSpec{
		Tables: []models.GateTable{gateTable(t, "amount, n, flag", "both[1]"), gateTable(t, "n, amount, flag", "y")}, Golden: []byte(golden)})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{models.CheckFormat, models.CheckSelfContained, models.CheckSignature, models.CheckLoad, models.CheckGolden, models.CheckLatency, models.CheckMemory}
	if len(results) != len(want) {
		t.Fatalf("%+v", results)
	}
	for i, r := range results {
		if r.Check != want[i] || !r.Passed {
			t.Errorf("%+v", r)
		}
	}
	if d := results[4].Detail; d != "6 values within 0.0001" {
		t.Errorf("golden: %s", d)
	}
}

func TestGateSignature(t *testing.T) {
	gate := models.Gate{Runtime: realRuntime(t)}
	for _, test := range []struct{ model, inputs, output, want string }{
		{"linear", "amount, n", "y", "tables/transactions.yaml:13: score.inputs: lists 2 columns; the model takes 3 (x float32[?,3])"},
		{"linear", "amount, id, ts", "y", "score.inputs[1]: column id is utf8 and the model's input x float32[?,3] takes numbers (or booleans, as 0 and 1); derive a fitting one in features, such as CASE id"},
		{"linear", "amount, n, ts", "y", "such as hour(ts) or epoch(ts)"},
		{"linear", "amount, n, flag", "z", "tables/transactions.yaml:14: score.output.score: the model has no output z; it has y float32[?,1], both float32[?,2]"},
		{"linear", "amount, n, flag", "both", "has 2 values a row; say which, such as both[1]"},
		{"linear", "amount, n, flag", "both[2]", "has 2 values a row, counted from 0; there is no [2]"},
		{"linear", "", "y", "takes several columns at once: list them here"},
		{"zipmap", "amount", "probabilities", "options={'zipmap': False}"},
		{"fixed", "amount", "y", "fixed number of rows; export it with a dynamic first dimension"},
		{"named", "f64, amount, n, ts, flag, id", "sum", "some of the names are the model's inputs"},
		{"named", "amount, n, ts, id, flag_2, f64_2", "sum", "column id is utf8 and the model's input i64 int64[?,1] takes numbers"},
		{"named", "amount, n, f64_2, flag_2, id, ts", "sum", "score.inputs[4]: column id is utf8 and the model's input flag bool[?,1] takes boolean columns; derive a fitting one in features, such as id <> 0"},
		{"named", "", "sum", "wants a column f32, and neither columns nor features have it"},
	} {
		table := gateTable(t, test.inputs, test.output)
		results, err := gate.Check(t.Context(), readModel(t, test.model), models.GateSpec{Tables: []models.GateTable{table}})
		if err != nil {
			t.Fatal(err)
		}
		got := failures(results)
		if !strings.Contains(got, test.want) || !strings.Contains(got, models.CheckSignature+": tables/transactions.yaml:") {
			t.Errorf("%s [%s] %s:\n%s\nwant %s", test.model, test.inputs, test.output, got, test.want)
		}
	}
}

func TestGateSamples(t *testing.T) {
	gate := models.Gate{Runtime: realRuntime(t)}
	for _, test := range []struct{ golden, want string }{
		{`{"inputs": {"x": [[1, 2, 3]]}, "outputs": {"y": [[320]]}}`, "output y, value 0 (in row-major order): got 321, want 320"},
		{`{"inputs": {"x": [[1, 2, 3]]}, "outputs": {"y": [[320]]}, "tolerance": 0.01}`, ""},
		{`{"inputs": {"x": [[1, 2]]}, "outputs": {}}`, "x float32[?,3] is given as [1,2]"},
		{`{"inputs": {"x": [[1, 2, 3], [1, 2]]}, "outputs": {}}`, "not all of the same length"},
		{`{"inputs": {"x": [[1, 2, "3"]]}, "outputs": {}}`, "3 is no float32"},
		{`{"inputs": {"z": [[1, 2, 3]]}, "outputs": {}}`, "inputs lacks x float32[?,3]"},
		{`{"inputs": {"x": [[1, 2, 3]]}, "outputs": {"q": [1]}}`, "the model has no output q"},
		{`{"inputs": {"x": [[1, 2, 3]]}, "outputs": {}}`, "the samples have none of the outputs"},
		{`{"input": {}}`, "unknown field"},
	} {
		results, err := gate.Check(t.Context(), readModel(t, "linear"), models.GateSpec{Golden: []byte(test.golden)})
		if err != nil {
			t.Fatal(err)
		}
		if got := failures(results); (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
			t.Errorf("%s:\n%s\nwant %s", test.golden, got, test.want)
		}
	}
}

func TestGateBadModels(t *testing.T) {
	gate := models.Gate{Runtime: realRuntime(t)}
	for _, test := range []struct {
		data        []byte
		spec        models.GateSpec
		check, want string
	}{
		{[]byte("PK\x03\x04"), models.GateSpec{}, models.CheckFormat, "zip archive"},
		{readModel(t, "external"), models.GateSpec{}, models.CheckSelfContained, "onnx.save"},
		{readModel(t, "future"), models.GateSpec{}, models.CheckLoad, "999"},
		{readModel(t, "nest"), models.GateSpec{Timeout: time.Second}, models.CheckLoad, "no answer within 1s"},
		{readModel(t, "count"), models.GateSpec{Timeout: time.Second, Golden: []byte(`{"inputs": {"x": [[9223372036854775807]]}, "outputs": {"y": [[0]]}}`)}, models.CheckGolden, "no answer within 1s"},
		{readModel(t, "poison"), models.GateSpec{Golden: []byte(`{"inputs": {"x": [[-9223372036854775808]]}, "outputs": {"y": [[0]]}}`)}, models.CheckGolden, "SIGFPE"},
		{readModel(t, "eater"), models.GateSpec{MaxMemory: 64 << 20, Golden: []byte(`{"inputs": {"x": [[2048]]}, "outputs": {"y": [[2048]]}}`)}, models.CheckGolden, "more memory than its limit of 64 MiB"},
		{readModel(t, "linear"), models.GateSpec{MaxLatency: 1}, models.CheckLatency, "the budget is 1ns"},
		{readModel(t, "linear"), models.GateSpec{MaxMemory: 1}, models.CheckMemory, "the budget is 0 MiB"},
	} {
		results, err := gate.Check(t.Context(), test.data, test.spec)
		if err != nil {
			t.Fatal(err)
		}
		last := results[len(results)-1]
		if got := failures(results); !strings.Contains(got, test.want) {
			t.Errorf("%s, want %s with %q", got, test.check, test.want)
		}
		if test.check != models.CheckSelfContained && test.check != models.CheckLatency && last.Check != test.check {
			t.Errorf("went on after %s: %+v", test.check, results)
		}
	}
}

func TestGateIsNotTheModelsFault(t *testing.T) {
	gate := models.Gate{Runtime: realRuntime(t)}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := gate.Check(ctx, readModel(t, "linear"), models.GateSpec{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	t.Setenv("TIDEMILL_ONNXRUNTIME", "/nowhere")
	if _, err := gate.Check(t.Context(), readModel(t, "linear"), models.GateSpec{}); !errors.Is(err, models.ErrRuntime) {
		t.Errorf("no library: %v", err)
	}
}

// The committed models of the examples pass with their samples, and say of
// typical and odd rows what the examples' texts promise.
func TestExampleModels(t *testing.T) {
	mem := checked(t)
	gate := models.Gate{Runtime: realRuntime(t)}
	for _, test := range []struct {
		name   string
		inputs []string
		output string
		rows   [][]float64 // the first usual, the last not
	}{
		{"fraud", []string{"log_amount", "hour_of_day", "is_foreign", "merchant_risk", "tx_per_hour"}, "probabilities[1]", [][]float64{{3.3, 13, 0, 0.1, 2}, {7, 2, 1, 0.9, 12}}},
		{"host", []string{"cpu_percent", "memory_percent", "load1", "disk_read_mb_s", "disk_write_mb_s", "net_recv_mb_s", "net_sent_mb_s"}, "scores", [][]float64{{8, 5, 0.5, 0, 0.1, 0.01, 0.01}, {100, 95, 40, 800, 800, 200, 200}}},
	} {
		dir := "../examples/" + test.name + "/models/"
		data := readFile(t, dir+test.name+".onnx")
		if len(data) > 200<<10 {
			t.Errorf("%s: %d bytes", test.name, len(data))
		}
		spec := scoreSpec{inputs: test.inputs, outputs: "score=" + test.output}
		columns := make([]column, len(test.inputs))
		fields := make([]arrow.Field, len(test.inputs))
		for i, name := range test.inputs {
			columns[i] = column{name: name, typ: double}
			fields[i] = arrow.Field{Name: name, Type: double}
			for _, row := range test.rows {
				columns[i].values = append(columns[i].values, row[i])
			}
		}
		results, err := gate.Check(t.Context(), data, models.GateSpec{Golden: readFile(t, dir+test.name+".golden.json"),
			Tables: []models.GateTable{{Score: spec.contract(), Schema: arrow.NewSchema(fields, nil)}}})
		if err != nil || failures(results) != "" {
			t.Fatalf("%s: %s, %v", test.name, failures(results), err)
		}
		s, err := models.NewScorer(t.Context(), models.ScorerOptions{Runtime: realRuntime(t), Version: version(t, test.name, data), Data: data, Score: spec.contract(), Allocator: mem})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		got, err := score(t, s, record(t, mem, columns...))
		var usual, odd float64
		if _, scanErr := fmt.Sscanf(got, "[%g %g]", &usual, &odd); err != nil || scanErr != nil || usual > 0.5 || odd < 0.75 {
			t.Errorf("%s: usual and odd rows score %s, %v", test.name, got, err)
		}
	}
}
