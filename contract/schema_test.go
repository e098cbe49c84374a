package contract

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/xeipuuv/gojsonschema"
	"go.yaml.in/yaml/v3"
)

// schema compiles JSONSchema. The validator knows drafts up to 7; the schema
// keeps to keywords that have meant the same ever since.
func schema(t *testing.T) *gojsonschema.Schema {
	t.Helper()
	data, err := JSONSchema()
	if err != nil {
		t.Fatal(err)
	}
	loader := gojsonschema.NewSchemaLoader()
	loader.AutoDetect, loader.Draft, loader.Validate = false, gojsonschema.Draft7, false
	s, err := loader.Compile(gojsonschema.NewBytesLoader(data))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func validate(t *testing.T, s *gojsonschema.Schema, src []byte) []gojsonschema.ResultError {
	t.Helper()
	var doc any
	if err := yaml.Unmarshal(src, &doc); err != nil {
		t.Fatal(err)
	}
	result, err := s.Validate(gojsonschema.NewGoLoader(doc))
	if err != nil {
		t.Fatal(err)
	}
	return result.Errors()
}

// TestSchemaAcceptsContracts holds the schema to the documented contracts and
// to those of the examples, which must also be in order.
func TestSchemaAcceptsContracts(t *testing.T) {
	s := schema(t)
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("%v %v", files, err)
	}
	examples, err := filepath.Glob("../examples/*/tables/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, examples...) {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range validate(t, s, src) {
			t.Errorf("%s: %v", file, e)
		}
	}
	for _, file := range append(examples, "testdata/transactions.yaml", "testdata/everything.yaml", "testdata/layout.yaml") {
		table, err := Load(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range validate(t, s, table.json) {
			t.Errorf("canonical form of %s: %v", file, e)
		}
	}
}

func TestSchemaRefuses(t *testing.T) {
	s := schema(t)
	for _, lines := range []string{
		"check: []", "key: id", "key: []", "on_new_field: ignored", "checks: [{name: a}]", "checks: [{name: a, expr: b, freshness: 1m}]",
		"checks: [{name: a, freshness: 30}]", "score: {model: fraud, output: {s: p}}", "score: {model: fraud@3, output: {_s: p}}",
		"score: {model: fraud@3}", "sinks: [{name: a}]", "event_time: 2024", "retention: 30", "retention: 3 months", "dedupe: {}", "dedupe: {window: 5}", "dedupe: {window: 1h, by: id}", "dedupe: {window: 1h, max_keys: 1}",
		"partition_by: [month(ts)]", "partition_by: date(ts)", "cluster_by: ts",
	} {
		if len(validate(t, s, []byte(with(lines)))) == 0 {
			t.Errorf("accepts %s", lines)
		}
	}
	if errs := validate(t, s, []byte(with(""))); len(errs) > 0 {
		t.Errorf("refuses the contract that the cases rest on: %v", errs)
	}
}
