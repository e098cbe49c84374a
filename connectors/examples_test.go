package connectors

import (
	"path/filepath"
	"testing"

	"github.com/tidemill/tidemill/contract"
)

// TestExamplesLint holds the connectors that people copy from to what lint asks.
func TestExamplesLint(t *testing.T) {
	e, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("../examples/*/connectors/*.yaml")
	if err != nil || len(files) < 7 {
		t.Fatalf("found %d examples, %v", len(files), err)
	}
	seen := map[string]bool{}
	for _, file := range files {
		c, err := ReadConfig(file)
		if err != nil {
			t.Error(err)
			continue
		}
		contracts, err := contract.LoadDir(filepath.Join(filepath.Dir(file), "..", "tables"))
		if err != nil {
			t.Error(err)
			continue
		}
		var tables []string
		for _, table := range contracts {
			tables = append(tables, table.Name())
		}
		for _, p := range e.Lint(c, tables) {
			t.Error(p)
		}
		seen[c.Input] = true
	}
	// Inputs with a page in docs/connectors have an example.
	for _, input := range []string{"file", "generate", "http_server", "kafka_franz", "host_metrics"} {
		if !seen[input] {
			t.Errorf("no example reads from %s", input)
		}
	}
}
