package connectors

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/contract"
)

// TestExamplesLint holds the connectors that people copy from to what lint asks.
func TestExamplesLint(t *testing.T) {
	e, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, at := range []string{"../examples/connectors/*.yaml", "../examples/*/connectors/*.yaml"} {
		found, err := filepath.Glob(at)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: found %d examples, %v", at, len(found), err)
		}
		files = append(files, found...)
	}
	seen := map[string]bool{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.yaml") {
			continue
		}
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
	pages, err := filepath.Glob("../docs/connectors/*.md")
	if err != nil || len(pages) < 6 {
		t.Fatalf("found %d pages, %v", len(pages), err)
	}
	for _, page := range pages {
		input := strings.TrimSuffix(filepath.Base(page), ".md")
		if input != "README" && !seen[input] {
			t.Errorf("no example reads from %s", input)
		}
	}
}
