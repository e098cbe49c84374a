package testserver

import (
	"os/exec"
	"testing"
)

// NATS is a running NATS server with JetStream on disk.
type NATS struct {
	*Process
	Addr string // host:port
	dir  string
}

// StartNATS runs a server until the test ends. It skips the test when there is no
// nats-server ($TIDEMILL_TEST_NATS).
func StartNATS(tb testing.TB) *NATS {
	tb.Helper()
	n := &NATS{Addr: Addr(FreePort(tb)), dir: tb.TempDir()}
	n.Start(tb)
	return n
}

// Start runs the server again, at its address and on its data, after it was stopped or killed.
func (n *NATS) Start(tb testing.TB) {
	tb.Helper()
	bin := Binary(tb, "TIDEMILL_TEST_NATS", "nats-server", "install it with: go install github.com/nats-io/nats-server/v2@v2.12.3")
	n.Process = Start(tb, exec.Command(bin, "-a", "127.0.0.1", "-p", portOf(n.Addr), "-js", "-sd", n.dir))
	n.WaitReady(tb, func() error { return Dial(n.Addr) })
}

// URL is the server's for clients.
func (n *NATS) URL() string { return "nats://" + n.Addr }
