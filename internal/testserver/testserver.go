// Package testserver starts real servers for tests, each on a free loopback port with
// a temporary directory, and stops them when the test ends. It is for tests only:
// nothing that ships imports it.
//
// Servers are found, never downloaded: the test that needs one is skipped, with a text
// that says how to install it, where it is missing. In CI it fails.
package testserver

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tidemill/tidemill/internal/freeport"
)

// FreePort returns a loopback port that nothing listens on now. Another process may
// take it before the caller does; whoever starts a server on it sees that as an error.
func FreePort(tb testing.TB) int {
	tb.Helper()
	port, err := freeport.Find(tb.Context(), "127.0.0.1")
	if err != nil {
		tb.Fatal(err)
	}
	return port
}

// Binary finds a program: the path in environment variable env if set, else name in
// PATH, else in the directory where `go install` puts programs. Without one the test is
// skipped, saying install (see Missing); a variable that names none is an error.
func Binary(tb testing.TB, env, name, install string) string {
	tb.Helper()
	if p := os.Getenv(env); p != "" {
		if _, err := os.Stat(p); err != nil {
			tb.Fatalf("$%s: %v", env, err)
		}
		return p
	}
	if p, err := exec.LookPath(name); err == nil {
		return p
	}
	for _, dir := range goBins() {
		p := filepath.Join(dir, name)
		if fi, err := os.Stat(p); err == nil && !fi.IsDir() {
			return p
		}
	}
	Missing(tb, "no %s: not in $%s, PATH or the go bin directory; %s", name, env, install)
	return ""
}

var goBins = sync.OnceValue(func() []string {
	var dirs []string
	if gobin := os.Getenv("GOBIN"); gobin != "" {
		dirs = append(dirs, gobin)
	}
	gopath := os.Getenv("GOPATH")
	if gopath == "" {
		if out, err := exec.Command("go", "env", "GOPATH").Output(); err == nil {
			gopath = strings.TrimSpace(string(out))
		}
	}
	for _, d := range filepath.SplitList(gopath) {
		dirs = append(dirs, filepath.Join(d, "bin"))
	}
	return dirs
})

// Process is a server that runs as a child process.
type Process struct {
	cmd  *exec.Cmd
	out  *tail
	done chan struct{} // closed when the process has ended
}

// Start runs cmd until the test ends, with its output kept for error messages.
func Start(tb testing.TB, cmd *exec.Cmd) *Process {
	tb.Helper()
	p := &Process{cmd: cmd, out: &tail{}, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.out, p.out
	if err := cmd.Start(); err != nil {
		tb.Fatalf("start %s: %v", cmd.Path, err)
	}
	go func() {
		defer close(p.done)
		_ = cmd.Wait()
	}()
	tb.Cleanup(p.Stop)
	return p
}

// Pid is the operating system's id of the process.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Output is the last part of what the process printed.
func (p *Process) Output() string { return p.out.String() }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// State is how the process ended, nil while it runs.
func (p *Process) State() *os.ProcessState {
	select {
	case <-p.done:
		return p.cmd.ProcessState
	default:
		return nil
	}
}

// Kill ends the process at once, as a power cut would, and waits for it.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Stop asks the process to end, ends it after five seconds, and waits. It may be
// called again.
func (p *Process) Stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
		p.Kill()
	}
}

// WaitReady calls ready until it returns nil, and fails the test when the process ends
// or two minutes pass first: RabbitMQ takes one on a machine that is busy.
func (p *Process) WaitReady(tb testing.TB, ready func() error) {
	tb.Helper()
	deadline := time.NewTimer(2 * time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	err := errors.New("not tried")
	for err != nil {
		select {
		case <-p.done:
			tb.Fatalf("%s ended before it was ready:\n%s", p.cmd.Path, p.Output())
		case <-deadline.C:
			tb.Fatalf("%s not ready after two minutes: %v\n%s", p.cmd.Path, err, p.Output())
		case <-tick.C:
			err = ready()
		}
	}
}

// Dial is a readiness check: something accepts connections at addr.
func Dial(addr string) error {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return err
	}
	return c.Close()
}

// tail keeps the last 64 kB written to it.
type tail struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf.Write(p)
	if over := t.buf.Len() - 64<<10; over > 0 {
		t.buf.Next(over)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.buf.String()
}

// Addr is port on the loopback address.
func Addr(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
