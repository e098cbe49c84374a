package connectors

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/xeipuuv/gojsonschema"
	"go.yaml.in/yaml/v3"

	"github.com/tidemill/tidemill/connectors/cases"
	"github.com/tidemill/tidemill/contract"
)

// validator compiles a schema. It knows drafts up to 7; ours keep to keywords that
// have meant the same ever since.
func validator(t *testing.T, schema func() ([]byte, error)) func(src []byte) []gojsonschema.ResultError {
	t.Helper()
	data, err := schema()
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > 512<<10 {
		t.Errorf("the schema has %d bytes: too much for an editor to be quick", len(data))
	}
	loader := gojsonschema.NewSchemaLoader()
	loader.AutoDetect, loader.Draft, loader.Validate = false, gojsonschema.Draft7, false
	s, err := loader.Compile(gojsonschema.NewBytesLoader(data))
	if err != nil {
		t.Fatal(err)
	}
	return func(src []byte) []gojsonschema.ResultError {
		t.Helper()
		var doc any
		if err := yaml.Unmarshal(src, &doc); err != nil {
			t.Fatal(err)
		}
		res, err := s.Validate(gojsonschema.NewGoLoader(doc))
		if err != nil {
			t.Fatal(err)
		}
		return res.Errors()
	}
}

// TestSchemasAcceptExamples validates every connector, test and contract that people
// copy from against the schemas that editors check with.
func TestSchemasAcceptExamples(t *testing.T) {
	connector, test, table := validator(t, JSONSchema), validator(t, cases.JSONSchema), validator(t, contract.JSONSchema)
	counts := map[string]int{}
	for _, at := range []string{"../examples", "../examples/*", "../internal/project/template"} {
		for _, kind := range []string{"connectors", "tables"} {
			files, err := filepath.Glob(filepath.Join(at, kind, "*.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range files {
				check := map[string]func([]byte) []gojsonschema.ResultError{"connectors": connector, "tables": table}[kind]
				what := kind
				if ok, _ := filepath.Match("*_test.yaml", filepath.Base(f)); ok {
					check, what = test, "tests"
				}
				src, err := os.ReadFile(f)
				if err != nil {
					t.Fatal(err)
				}
				counts[what]++
				for _, e := range check(src) {
					t.Errorf("%s: %v", f, e)
				}
			}
		}
	}
	if counts["connectors"] < 8 || counts["tables"] < 5 || counts["tests"] < 2 {
		t.Errorf("found only %v", counts)
	}
}

func TestSchemaRefuses(t *testing.T) {
	check := validator(t, JSONSchema)
	const ok = "output: {lakehouse: {table: t, batching: {period: 250ms, count: 3}}}\n"
	for name, src := range map[string]string{
		"no output":                "input: {stdin: {}}",
		"an input that is none":    "input: {kafka_frans: {}}\n" + ok,
		"a field that is none":     "input: {kafka_franz: {topic: [a]}}\n" + ok,
		"a type":                   "input: {kafka_franz: {topics: a}}\n" + ok,
		"a component of another":   "input: {lakehouse: {table: t}}\n" + ok,
		"a field of our output":    "input: {stdin: {}}\noutput: {lakehouse: {tabel: t}}",
		"our own wrapper":          "input: {tidemill_source: {}}\n" + ok,
		"a processor that is none": "input: {stdin: {}}\npipeline: {processors: [{maping: root = this}]}\n" + ok,
		"a buffer":                 "input: {stdin: {}}\nbuffer: {memory: {}}\n" + ok,
		"a number":                 "input: {generate: {mapping: root = 1, count: many}}\n" + ok,
		"a test":                   "input: {stdin: {}}\ntests: [{name: a, scores: []}]\n" + ok,
	} {
		if len(check([]byte(src))) == 0 {
			t.Errorf("accepts %s", name)
		}
	}
	for _, src := range []string{
		"input: {generate: {mapping: root = 1, count: '${N:3}'}}\n" + ok,
		"input:\n  label: a\n  broker:\n    inputs:\n      - {kafka_franz: {topics: [a], consumer_group: g}}\n  processors: [{mapping: root = this}]\npipeline:\n  processors:\n    - switch: [{check: this.a, processors: [{log: {message: x}}]}]\n" + ok,
	} {
		for _, e := range check([]byte(src)) {
			t.Errorf("refuses %s: %v", src, e)
		}
	}
}
