package contract

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/tidemill/tidemill/internal/problem"
)

// FuzzParse holds Parse to three promises: it never panics, its errors are
// problems, and a contract's canonical form is the same contract.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src)
	}
	for _, c := range problemCases {
		f.Add([]byte(c.src))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		table, err := Parse("f.yaml", src)
		if err != nil {
			if table != nil || len(problem.Of(err)) == 0 {
				t.Fatalf("%v with the error %T %v", table, err, err)
			}
			return
		}
		again, err := Parse("g.yaml", table.json)
		if err != nil {
			t.Fatalf("canonical form %s: %v", table.json, err)
		}
		if again.Version() != table.Version() {
			t.Fatalf("%s was read back as %s", table.json, again.json)
		}
		for _, c := range table.Columns() {
			if typ, err := ParseType(c.Type.String()); err != nil || typ.String() != c.Type.String() {
				t.Fatalf("type %s: %v, %v", c.Type, typ, err)
			}
		}
	})
}
