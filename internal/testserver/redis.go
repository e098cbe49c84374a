package testserver

import (
	"net"
	"os/exec"
	"testing"
)

// Redis is a running Redis server that writes every command to disk before it answers.
type Redis struct {
	*Process
	Addr string // host:port
	dir  string
}

// StartRedis runs a server until the test ends. It skips the test when there is no
// redis-server ($TIDEMILL_TEST_REDIS).
func StartRedis(tb testing.TB) *Redis {
	tb.Helper()
	r := &Redis{Addr: Addr(FreePort(tb)), dir: tb.TempDir()}
	r.Start(tb)
	return r
}

// Start runs the server again, at its address and on its data, after it was stopped or killed.
func (r *Redis) Start(tb testing.TB) {
	tb.Helper()
	bin := Binary(tb, "TIDEMILL_TEST_REDIS", "redis-server", "install it with: apt-get install redis-server")
	r.Process = Start(tb, exec.Command(bin, "--bind", "127.0.0.1", "--port", portOf(r.Addr), "--dir", r.dir,
		"--appendonly", "yes", "--appendfsync", "always", "--save", "", "--loglevel", "warning"))
	r.WaitReady(tb, func() error { return Dial(r.Addr) })
}

// URL is the server's for clients.
func (r *Redis) URL() string { return "redis://" + r.Addr }

// portOf returns the port of an address of ours.
func portOf(addr string) string {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		panic(err)
	}
	return port
}
