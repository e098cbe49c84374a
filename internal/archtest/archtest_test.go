package archtest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/tidemill/tidemill"

// TestModule judges the module that this test is part of.
func TestModule(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	pkgs, err := read(root, module)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(pkgs, func(p pkg) bool { return p.path == "internal/archtest" && p.name == "archtest" }) {
		t.Fatalf("%s is not the module, or its packages were not found: %v", root, pkgs)
	}
	for _, complaint := range judge(pkgs) {
		t.Error(complaint)
	}
}

// TestRulesCanFail breaks every rule once, on a module that does not exist.
func TestRulesCanFail(t *testing.T) {
	for _, c := range []struct {
		from, imports string
		want          string // part of the only complaint, "" for none
	}{
		// downward
		{"cmd/tidemill", "./internal/app", ""},
		{"cmd/tidemill", "./internal/problem", ""},
		{"internal/app", "./workflows", ""},
		{"workflows", "./activities", ""},
		{"workflows", "./internal/batch", ""},
		{"activities", "./lakehouse/delta", ""},
		{"quality", "./query", ""},
		{"internal/project", "./contract", ""},
		{"internal/problem", "./internal/secret", ""},
		{"lakehouse", "./lakehouse/objstore", ""},
		{"test/e2e", "./lakehouse/objstore/s3", ""},
		{"deploy/embedded", "./lakehouse/objstore", ""},
		// upward and sideways
		{"cmd/tidemill", "./workflows", "all wiring is in internal/app"},
		{"workflows", "./lakehouse", "replayed from history"},
		{"workflows", "./internal/app", "replayed from history"},
		{"activities", "./workflows", "know neither who schedules them"},
		{"activities", "./internal/project", "know neither who schedules them"},
		{"connectors", "./activities", "knows neither activities nor workflows"},
		{"connectors/decode", "./workflows", "knows neither activities nor workflows"},
		{"lakehouse", "./models", "for the layers above"},
		{"lakehouse/delta", "./contract", "for the layers above"},
		{"models", "./lakehouse", "do not know each other"},
		{"contract", "./query", "they can use none"},
		{"query", "./contract", "whose they are"},
		{"quality", "./lakehouse", "where records come from"},
		{"console", "./workflows", "runs without Temporal"},
		{"internal/batch", "./contract", "so they can use no layer"},
		{"internal/batch", "./internal/project", "so they can use no layer"},
		{"internal/project", "./lakehouse", "must not pull in"},
		{"deploy/embedded", "./models", "know nothing of Tidemill"},
		{"plugins", "./contract", "it is in no area"},
		// drivers
		{"internal/app", "./lakehouse/objstore/s3", ""},
		{"internal/app", "./models/onnx", ""},
		{"internal/app", "./deploy/embedded", ""},
		{"lakehouse/objstore/s3", "./lakehouse/objstore", ""},
		{"deploy/embedded", "./deploy/embedded/store", ""},
		{"lakehouse", "./lakehouse/objstore/s3", "the driver lakehouse/objstore/s3: drivers are chosen in one place"},
		{"lakehouse/objstore/faulty", "./lakehouse/objstore/mem", "drivers are chosen in one place"},
		{"models", "./models/onnx", "drivers are chosen in one place"},
		// libraries
		{"workflows", "go.temporal.io/sdk/workflow", ""},
		{"activities", "go.temporal.io/sdk/activity", ""},
		{"deploy/embedded", "go.temporal.io/server/temporal", ""},
		{"connectors", "github.com/redpanda-data/benthos/v4/public/service", ""},
		{"models/onnx", "github.com/yalue/onnxruntime_go", ""},
		{"query", "C", ""},
		{"lakehouse/objstore/s3", "github.com/minio/minio-go/v7", ""},
		{"cmd/tidemill", "go.temporal.io/sdk/client", "only orchestration may depend on Temporal"},
		{"lakehouse", "go.temporal.io/sdk/temporal", "only orchestration may depend on Temporal"},
		{"internal/app", "go.temporal.io/server/temporal", "embedded in one place"},
		{"internal/app", "github.com/temporalio/ui-server/v2/server", "embedded in one place"},
		{"activities", "github.com/redpanda-data/benthos/v4/public/service", "nothing behind the landed table"},
		{"models", "github.com/yalue/onnxruntime_go", "can take the process down"},
		{"activities", "github.com/duckdb/duckdb-go/v2", "behind package query"},
		{"lakehouse", "C", "memory that Go does not manage"},
		{"lakehouse", "github.com/apache/arrow/go/v17/arrow/cdata", "memory that Go does not manage"},
		{"lakehouse", "github.com/minio/minio-go/v7", "retries tamed"},
		{"internal/app", "github.com/versity/versitygw/embedgw", "beyond the S3 API"},
		{"query", "github.com/apache/arrow-go/v18/parquet/file", "duplicate assembly symbols"},
		{"contract", "github.com/minio/minio-gonot", ""}, // a prefix of words, not of letters
		// tests
		{"lakehouse/objstore/storetest", "testing", ""},
		{"internal/testserver", "testing", ""},
		{"lakehouse", "testing", "must not carry test code"},
		{"lakehouse", "testing/fstest", "must not carry test code"},
		{"lakehouse", "github.com/stretchr/testify/require", "must not carry test code"},
		{"lakehouse", "./internal/testserver", "do not ship"},
	} {
		p := pkg{path: c.from, name: "p", doc: "Package p is here.", imports: map[string][]string{c.imports: {c.from + "/f.go"}}}
		got := judge([]pkg{p})
		switch {
		case c.want == "" && len(got) > 0:
			t.Errorf("%s may not import %s: %q", c.from, c.imports, got)
		case c.want != "" && (len(got) != 1 || !strings.Contains(got[0], c.want) || !strings.HasPrefix(got[0], c.from+"/f.go: imports ")):
			t.Errorf("%s imports %s: got %q, want one complaint with %q", c.from, c.imports, got, c.want)
		}
	}
}

func TestComments(t *testing.T) {
	for _, c := range []struct {
		p    pkg
		want string
	}{
		{pkg{name: "p", doc: "Package p is here."}, ""},
		{pkg{name: "main", doc: "Command p runs."}, ""},
		{pkg{name: "p_test", doc: "Tests of p.", onlyIn: true}, ""},
		{pkg{name: "p"}, "has no package comment"},
		{pkg{name: "p", onlyIn: true}, "its tests have no package comment"},
		{pkg{name: "p", doc: "Package other is here."}, `begins with "Package other is"`},
		{pkg{name: "p", doc: "Words."}, `begins with "Words."`},
	} {
		got := strings.Join(judge([]pkg{c.p}), "\n")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%+v: got %q, want %q", c.p, got, c.want)
		}
	}
}

func TestRead(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":            "module m\n",
		"a/doc.go":          "// Package a is here.\npackage a\n",
		"a/a.go":            "//go:build neverever\n\npackage a\n\nimport (\n\t\"C\"\n\tx \"m/b\"\n\t_ \"m\"\n\t\"mm/b\"\n)\n",
		"a/a_test.go":       "package a_test\n\nimport \"testing\"\n",
		"b/b_test.go":       "// Tests.\npackage b\n",
		"c/go.mod":          "module c\n",
		"c/c.go":            "package c\n",
		"a/testdata/x.go":   "not Go",
		".hidden/x.go":      "not Go",
		"tools/venv/x.go":   "not Go",
		"node_modules/x.go": "not Go",
	} {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pkgs, err := read(root, "m")
	if err != nil {
		t.Fatal(err)
	}
	if len(pkgs) != 2 || pkgs[0].path != "a" || pkgs[1].path != "b" {
		t.Fatalf("found %+v", pkgs)
	}
	a, b := pkgs[0], pkgs[1]
	if a.name != "a" || a.doc != "Package a is here." || a.onlyIn || len(a.imports) != 4 ||
		!slices.Equal(a.imports["./b"], []string{"a/a.go"}) || a.imports["."] == nil || a.imports["C"] == nil || a.imports["mm/b"] == nil {
		t.Errorf("a is %+v", a)
	}
	if b.name != "b" || !b.onlyIn || b.doc == "" || len(b.imports) != 0 {
		t.Errorf("b is %+v", b)
	}
}
