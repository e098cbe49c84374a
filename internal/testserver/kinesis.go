package testserver

import (
	"bytes"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// Kinesis is a running kinesalite, which speaks AWS Kinesis' protocol, and dynalite,
// which speaks DynamoDB's: readers keep there how far they have read.
type Kinesis struct {
	*Process
	Addr   string // host:port of Kinesis
	inner  string // of kinesalite itself, see byName
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
	k := &Kinesis{inner: Addr(FreePort(tb)), dynamo: Addr(FreePort(tb)), dir: tb.TempDir(), bin: filepath.Join(dir, "node_modules", ".bin")}
	for _, name := range []string{"kinesalite", "dynalite"} {
		if _, err := os.Stat(filepath.Join(k.bin, name)); err != nil {
			Missing(tb, "no %s in %s; install it with: npm install --prefix tools/kinesalite, after copying .ci/kinesalite/package.json there", name, dir)
		}
	}
	k.run(tb, "dynalite", k.dynamo, "--createTableMs", "10", "--deleteTableMs", "10")
	k.Start(tb)
	front := httptest.NewServer(byName(k.inner))
	tb.Cleanup(front.Close)
	k.Addr = front.Listener.Addr().String()
	return k
}

var streamARN = regexp.MustCompile(`"StreamARN":\s*"[^"]*:stream/([^"]*)"`)

// byName passes requests on to kinesalite, which knows streams by name only, while
// clients of today name them by ARN.
func byName(addr string) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: addr})
			body, err := io.ReadAll(r.In.Body)
			if err != nil {
				body = nil // kinesalite says what it misses
			}
			body = streamARN.ReplaceAll(body, []byte(`"StreamName":"$1"`))
			r.Out.Body, r.Out.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		},
		ErrorLog: log.New(io.Discard, "", 0), // that the server is away is what tests do to it
	}
}

// Start runs kinesalite again, at its address and on its data, after it was stopped or killed.
func (k *Kinesis) Start(tb testing.TB) {
	tb.Helper()
	k.Process = k.run(tb, "kinesalite", k.inner, "--path", filepath.Join(k.dir, "kinesis"), "--createStreamMs", "10", "--deleteStreamMs", "10", "--updateStreamMs", "10", "--shardLimit", "100")
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
