package files

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/internal/testserver"
)

// TestPython reads Parquet and Avro files that Python wrote, in all packings, and compares
// each value with what Python says that it is.
func TestPython(t *testing.T) {
	python := testserver.Python(t)
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), python, "testdata/write.py", dir)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == 3 {
		testserver.Missing(t, "Python lacks a package: %s; install them with: tools/venv/bin/pip install -r .ci/requirements.txt", out)
	}
	if err != nil {
		t.Fatalf("write.py: %v\n%s", err, out)
	}
	found, err := filepath.Glob(filepath.Join(dir, "*.expected"))
	if err != nil || len(found) != 11 {
		t.Fatalf("write.py wrote %v, %v", found, err)
	}
	for _, expected := range found {
		name := strings.TrimSuffix(expected, ".expected")
		t.Run(filepath.Base(name), func(t *testing.T) {
			data, err := os.ReadFile(expected)
			if err != nil {
				t.Fatal(err)
			}
			want := linesOf(string(data))
			s := newSink()
			s.drain(t, s.config(t, name))
			if len(s.bad) > 0 {
				t.Fatalf("bad parts: %v", s.bad)
			}
			got := s.texts()
			for _, rows := range [][]string{got, want} {
				for i, r := range rows {
					rows[i] = canonical(t, r)
				}
			}
			same(t, got, want)

			// In the middle of it, too.
			for part := range s.in {
				for _, from := range []int{1, len(want) / 3, len(want) - 1} {
					half := newSink()
					half.in[part] = batch.Intervals{{First: 0, Last: int64(from) - 1}}
					half.drain(t, half.config(t, name))
					if half.count() != len(want)-from || len(half.bad) > 0 {
						t.Errorf("from row %d: %d rows, want %d", from, half.count(), len(want)-from)
					}
				}
			}
		})
	}
}

// canonical writes a row with sorted keys and its numbers as they stand.
func canonical(tb testing.TB, row string) string {
	tb.Helper()
	dec := json.NewDecoder(strings.NewReader(row))
	dec.UseNumber()
	var v map[string]any
	if err := dec.Decode(&v); err != nil {
		tb.Fatalf("%v in %s", err, row)
	}
	out, err := json.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return string(out)
}
