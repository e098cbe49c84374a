package testserver

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Kinesis is a running kinesalite, which speaks AWS Kinesis' protocol, and dynalite,
// which speaks DynamoDB's: readers keep there what they have read.
type Kinesis struct {
	*Process
	Addr   string   // host:port of Kinesis
	Dynamo *Process // DynamoDB
	dynamo string
	dir    string
	bin    string
}

// StartKinesis runs both until the test ends. It skips the test when Node.js or the
// packages ($TIDEMILL_TEST_KINESALITE, a directory; see .ci/kinesalite/package.json) are missing.
func StartKinesis(tb testing.TB) *Kinesis {
	tb.Helper()
	dir := os.Getenv("TIDEMILL_TEST_KINESALITE")
	if dir == "" {
		dir = filepath.Join(moduleRoot(tb), "tools", "kinesalite")
	}
	k := &Kinesis{Addr: Addr(FreePort(tb)), dynamo: Addr(FreePort(tb)), dir: tb.TempDir(), bin: filepath.Join(dir, "node_modules", ".bin")}
	for _, name := range []string{"kinesalite", "dynalite"} {
		if _, err := os.Stat(filepath.Join(k.bin, name)); err != nil {
			Missing(tb, "no %s in %s; install it with: npm install --prefix tools/kinesalite, after copying .ci/kinesalite/package.json there", name, dir)
		}
	}
	k.Dynamo = k.run(tb, "dynalite", k.dynamo, "--createTableMs", "10", "--deleteTableMs", "10")
	k.Start(tb)
	return k
}

// Start runs kinesalite again, at its address and on its data, after it was stopped or killed.
func (k *Kinesis) Start(tb testing.TB) {
	tb.Helper()
	k.Process = k.run(tb, "kinesalite", k.Addr, "--path", filepath.Join(k.dir, "kinesis"), "--createStreamMs", "10", "--deleteStreamMs", "10")
}

// Endpoint and DynamoEndpoint are the two servers' for clients.
func (k *Kinesis) Endpoint() string { return "http://" + k.Addr }

// DynamoEndpoint is where readers keep their leases.
func (k *Kinesis) DynamoEndpoint() string { return "http://" + k.dynamo }

func (k *Kinesis) run(tb testing.TB, name, addr string, args ...string) *Process {
	tb.Helper()
	node := Binary(tb, "TIDEMILL_TEST_NODE", "node", "install Node.js")
	p := Start(tb, exec.Command(node, append([]string{filepath.Join(k.bin, name), "--port", portOf(addr)}, args...)...))
	p.WaitReady(tb, func() error {
		resp, err := http.Get("http://" + addr + "/")
		if err != nil {
			return err
		}
		return resp.Body.Close()
	})
	return p
}
