package onnx

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/tidemill/tidemill/internal/ortlib"
	"github.com/tidemill/tidemill/models"
)

// child is one process that serves a model.
type child struct {
	pid    int
	conn   *conn
	in     *os.File // our end of its stdin
	out    *os.File // our end of its stdout
	stderr boundedText
	cmd    *exec.Cmd
	done   chan struct{} // closed when it has ended and was waited for
}

// childEnvironment is all that a child needs. Nothing of ours is passed on: a
// model that takes the process over finds no secrets there.
func childEnvironment(libraryPath string) []string {
	env := []string{ortlib.Env + "=" + libraryPath, "GOTRACEBACK=none", "GOMAXPROCS=2",
		"MALLOC_ARENA_MAX=2",       // each of glibc's arenas may hold memory back
		"GORACE=atexit_sleep_ms=0", // a race-detecting build would wait a second before it exits
	}
	for _, name := range []string{"PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR", "GOCOVERDIR"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

func startChild(command []string, libraryPath string) (*child, error) {
	childIn, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	out, childOut, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, childIn.Close(), in.Close())
	}
	c := &child{conn: newConn(out, in), in: in, out: out, done: make(chan struct{})}
	c.cmd = exec.Command(command[0], command[1:]...)
	c.cmd.Env = childEnvironment(libraryPath)
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = childIn, childOut, &c.stderr
	c.cmd.SysProcAttr = childAttributes()
	// Should the child have left its stderr to a process of its own, do not wait for that.
	c.cmd.WaitDelay = time.Second
	started := make(chan error)
	go func() {
		// Linux kills the child when the thread that started it ends, so one thread
		// starts it and stays until it is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := c.cmd.Start()
		childIn.Close()
		childOut.Close()
		started <- err
		if err == nil {
			_ = c.cmd.Wait() // its state says all
		}
		in.Close()
		out.Close()
		close(c.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	c.pid = c.cmd.Process.Pid
	return c, nil
}

// call is one request and its answer. Outputs are in memory of their own.
func (c *child) call(kind uint32, meta []byte, data [][]byte) (answer, []models.Tensor, error) {
	if err := c.conn.send(kind, meta, data...); err != nil {
		return answer{}, nil, err
	}
	h, err := c.conn.receiveHeader()
	if err != nil {
		return answer{}, nil, err
	}
	if h.kind != kindAnswer {
		return answer{}, nil, errProtocol
	}
	meta, body, err := c.conn.receiveBody(h, nil)
	if err != nil {
		return answer{}, nil, err
	}
	d := decoder{b: meta}
	a := d.answer()
	outputs := d.tensors(body)
	if d.err != nil || a.status > statusRuntime {
		return answer{}, nil, errProtocol
	}
	return a, outputs, nil
}

func (c *child) kill() { _ = c.cmd.Process.Kill() } // it may have ended already

// endGrace is how long a child has to see that its stdin is closed.
const endGrace = 2 * time.Second

// end lets a child that has nothing to do go, and waits for it.
func (c *child) end() {
	c.in.Close()
	timer := time.AfterFunc(endGrace, c.kill)
	defer timer.Stop()
	<-c.done
}

// obituary says how a child ended: killed for a reason of ours, or by itself.
func (c *child) obituary(cause, err error, timeout time.Duration) error {
	how := c.cmd.ProcessState.String()
	switch {
	case errors.Is(cause, errHung):
		how = fmt.Sprintf("no answer within %s, killed", timeout)
	case errors.Is(err, errProtocol):
		how = "it answered nonsense, killed"
	}
	if last := c.stderr.lines(2); last != "" {
		how += ": " + last
	}
	return fmt.Errorf("%w (%s)", models.ErrCrashed, how)
}

// boundedText keeps the beginning of what is written to it.
type boundedText struct {
	mu   sync.Mutex
	text []byte // guarded by mu
}

const maxStderr = 8 << 10

func (b *boundedText) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text = append(b.text, p[:min(len(p), maxStderr-len(b.text))]...)
	return len(p), nil
}

func (b *boundedText) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text = b.text[:0]
}

// lines are the first n lines with text, as one.
func (b *boundedText) lines(n int) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []string
	for line := range strings.Lines(strings.ToValidUTF8(string(b.text), "?")) {
		if line = strings.TrimSpace(line); line != "" && len(out) < n {
			out = append(out, line[:min(len(line), 300)])
		}
	}
	return strings.Join(out, "; ")
}
