package query

import (
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
)

func TestNeeded(t *testing.T) {
	e, err := Open(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "ts", Type: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}, Nullable: true},
	}, nil)
	for sql, want := range map[string]string{
		"SELECT n FROM batch WHERE n > 10 + 5":                                    "n > 15",
		"SELECT n FROM batch WHERE ts >= TIMESTAMP '2026-01-01' - INTERVAL 1 DAY": "2025-12-31",
		"SELECT n FROM batch WHERE sin(n) > 0":                                    "",
		"SELECT n FROM batch":                                                     "",
	} {
		got, err := e.Needed(t.Context(), sql, "batch", schema)
		if err != nil {
			t.Errorf("%s: %v", sql, err)
		}
		if got.IsUnknown() != (want == "") || !strings.Contains(got.String(), want) {
			t.Errorf("%s: %s, want %s", sql, got, want)
		}
	}
	if _, err := e.Needed(t.Context(), "SELECT n FROM batch WHERE m > 1", "batch", schema); err == nil {
		t.Error("a column that is not there was taken")
	}
}
