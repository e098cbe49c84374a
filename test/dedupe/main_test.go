package dedupe

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/tidemill/tidemill/internal/testserver"
	"github.com/tidemill/tidemill/test/product"
)

// shared is the Temporal server of all projects: that of a `tidemill dev` with nothing to do.
var shared struct {
	once sync.Once
	dev  *product.Server
	addr string
	tmp  string
	err  error
}

func temporal(t *testing.T) string {
	t.Helper()
	bin := testserver.Tidemill(t)
	shared.once.Do(func() {
		if shared.tmp, shared.err = os.MkdirTemp("", "tidemill-dedupe-"); shared.err != nil {
			return
		}
		dir := filepath.Join(shared.tmp, "idle")
		p := product.Project{"tidemill.yaml": "project: idle\n", "tables/events.yaml": contractYAML}
		if shared.err = p.WriteTo(dir); shared.err != nil {
			return
		}
		var a product.Addresses
		if shared.dev, a, shared.err = (product.Binary{Path: bin}).Dev(dir); shared.err == nil {
			shared.addr = a.Temporal
		}
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.addr
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.dev != nil {
		if ended := shared.dev.Stop(); ended != 0 {
			fmt.Fprintf(os.Stderr, "the shared server ended with code %d\n%s\n", ended, shared.dev.Output())
			code = max(code, 1)
		}
	}
	if shared.tmp != "" {
		_ = os.RemoveAll(shared.tmp)
	}
	os.Exit(code)
}
