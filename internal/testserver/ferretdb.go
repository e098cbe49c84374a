package testserver

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// FerretDB is a running server of MongoDB's wire protocol, on SQLite files.
type FerretDB struct {
	*Process
	Addr string // host:port
}

// StartFerretDB runs FerretDB until the test ends. It skips the test when there is no
// binary ($TIDEMILL_TEST_FERRETDB, or tools/ferretdb/ferretdb; see .ci/ferretdb).
func StartFerretDB(tb testing.TB) *FerretDB {
	tb.Helper()
	bin := os.Getenv("TIDEMILL_TEST_FERRETDB")
	if bin == "" {
		bin = filepath.Join(moduleRoot(tb), "tools", "ferretdb", "ferretdb")
	}
	if _, err := os.Stat(bin); err != nil {
		Missing(tb, "no FerretDB at %s; build it with: CGO_ENABLED=0 go build -C .ci/ferretdb -o ../../tools/ferretdb/ferretdb .", bin)
	}
	f := &FerretDB{Addr: Addr(FreePort(tb))}
	f.Process = Start(tb, exec.Command(bin, f.Addr, tb.TempDir()))
	f.WaitReady(tb, func() error { return Dial(f.Addr) })
	return f
}
