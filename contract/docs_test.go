package contract

import (
	"os"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/internal/strictyaml"
)

// TestReferenceIsWhole holds docs/contracts.md to the format: every field, its
// choices and its default stand there, and every type.
func TestReferenceIsWhole(t *testing.T) {
	doc, err := os.ReadFile("../docs/contracts.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{} // field -> its line in the table
	for line := range strings.SplitSeq(string(doc), "\n") {
		if cells := strings.Split(line, "|"); len(cells) > 2 {
			rows[strings.Trim(cells[1], " `")] = line
		}
	}
	var walk func(path string, s strictyaml.Spec)
	walk = func(path string, s strictyaml.Spec) {
		for _, f := range s.Fields {
			at := strings.TrimPrefix(path+"."+f.Name, ".")
			line, ok := rows[at]
			if !ok {
				t.Errorf("field %s has no line", at)
				continue
			}
			for _, word := range append(f.Enum, f.Default) {
				if word != "" && !strings.Contains(line, "`"+word+"`") {
					t.Errorf("the line of %s does not name %s", at, word)
				}
			}
			if f.Required && !strings.Contains(line, "required") {
				t.Errorf("the line of %s does not say that it is required", at)
			}
			walk(at, f.Spec)
			if f.Of != nil {
				walk(at+"[]", *f.Of)
			}
		}
	}
	walk("", tableSpec)
	for _, k := range kindNames[1:] {
		if !strings.Contains(string(doc), "| `"+k) && !strings.Contains(string(doc), "`"+k+"`") {
			t.Errorf("type %s is not described", k)
		}
	}
}
