package testserver

import (
	"os"
	"path/filepath"
	"testing"
)

// Tidemill returns the path of the product's binary: $TIDEMILL_TEST_BINARY, else
// bin/tidemill as `go tool task build` makes it. Without one the test is skipped; in CI,
// where there must be one, it fails.
func Tidemill(tb testing.TB) string {
	tb.Helper()
	p := os.Getenv("TIDEMILL_TEST_BINARY")
	if p == "" {
		p = filepath.Join(moduleRoot(tb), "bin", "tidemill")
	}
	if _, err := os.Stat(p); err != nil {
		Missing(tb, "no tidemill binary: %v; build it with: go tool task build", err)
	}
	return p
}

// Missing skips a test that lacks something it needs, and fails it in CI ($CI is
// "true"), where a test that silently does not run is worth nothing.
func Missing(tb testing.TB, format string, args ...any) {
	tb.Helper()
	if os.Getenv("CI") == "true" {
		tb.Fatalf(format, args...)
	}
	tb.Skipf(format, args...)
}
