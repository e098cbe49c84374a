// Package product runs the tidemill binary as its users do, for the end-to-end
// and the interop tests: projects written to a directory, commands with their
// exit code and output, servers that run until a test is done with them. What
// they should do is up to the tests.
package product

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait for the product: what takes longer is broken.
const patience = 90 * time.Second

// Project is the files of a project by their paths in its directory.
type Project map[string]string

// Write writes the project to a new directory, which goes when the test ends.
// Its name is the project's.
func (p Project) Write(tb testing.TB, name string) string {
	tb.Helper()
	dir := filepath.Join(tb.TempDir(), name)
	if err := p.WriteTo(dir); err != nil {
		tb.Fatal(err)
	}
	return dir
}

// WriteTo writes the project to a directory, beside what is there.
func (p Project) WriteTo(dir string) error {
	for name, content := range p {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Root is the module's directory.
func Root() string {
	dir, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil || dir == filepath.Dir(dir) {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

// environment is that of the test, where the product finds ONNX Runtime from
// any directory.
func environment(further []string) []string {
	env := os.Environ()
	if os.Getenv("TIDEMILL_ONNXRUNTIME") == "" {
		if found, _ := filepath.Glob(filepath.Join(Root(), "tools", "onnxruntime", "*")); len(found) > 0 {
			env = append(env, "TIDEMILL_ONNXRUNTIME="+found[len(found)-1])
		}
	}
	return append(env, further...)
}

// Binary is the product's binary with an environment.
type Binary struct {
	Path string
	Env  []string // on top of the test's own
}

// Result is how a command ended.
type Result struct {
	Code           int
	Stdout, Stderr string
}

// Output is all that the command printed.
func (r Result) Output() string { return r.Stdout + r.Stderr }

// Run runs a command to its end.
func (b Binary) Run(tb testing.TB, args ...string) Result {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, b.Path, args...)
	cmd.Env = environment(b.Env)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	r := Result{Code: cmd.ProcessState.ExitCode(), Stdout: out.String(), Stderr: errs.String()}
	var exit *exec.ExitError
	if ctx.Err() != nil || err != nil && !errors.As(err, &exit) {
		tb.Fatalf("tidemill %s: %v after at most %s\n%s", strings.Join(args, " "), err, patience, r.Output())
	}
	return r
}

// Must is Run for commands that must succeed; it returns standard output.
func (b Binary) Must(tb testing.TB, args ...string) string {
	tb.Helper()
	r := b.Run(tb, args...)
	if r.Code != 0 {
		tb.Fatalf("tidemill %s: exit code %d\n%s", strings.Join(args, " "), r.Code, r.Output())
	}
	return r.Stdout
}

// Query runs SQL over a project's tables and returns its rows.
func Query[Row any](tb testing.TB, b Binary, dir, sql string) []Row {
	tb.Helper()
	dec := json.NewDecoder(strings.NewReader(b.Must(tb, "-C", dir, "sql", "--format", "json", sql)))
	var rows []Row
	for {
		var r Row
		switch err := dec.Decode(&r); {
		case errors.Is(err, io.EOF):
			return rows
		case err != nil:
			tb.Fatalf("rows of %s: %v", sql, err)
		}
		rows = append(rows, r)
	}
}

// Server is a running dev, run or demo.
type Server struct {
	cmd  *exec.Cmd
	out  output
	errs output
	done chan struct{}
}

// Addresses is what dev says when it is up.
type Addresses struct{ HTTP, S3, Temporal, UI, Bucket string }

// Start starts a server, without waiting for it to be up.
func (b Binary) Start(args ...string) (*Server, error) {
	s := &Server{cmd: exec.CommandContext(context.Background(), b.Path, args...), done: make(chan struct{})}
	s.cmd.Env = environment(b.Env)
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.errs
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(s.done)
		_ = s.cmd.Wait() // how it ended is in ProcessState
	}()
	return s, nil
}

// Dev runs `tidemill dev` on a project and returns when it is up.
func (b Binary) Dev(dir string, args ...string) (*Server, Addresses, error) {
	var a Addresses
	s, err := b.Start(append([]string{"dev", dir, "--free-ports", "--json"}, args...)...)
	if err != nil {
		return nil, a, err
	}
	err = s.Wait(func() error {
		line, err := bufio.NewReader(strings.NewReader(s.out.String())).ReadBytes('\n')
		if err != nil {
			return errors.New("it has not said yet that it is up")
		}
		return json.Unmarshal(line, &a)
	})
	if err != nil {
		s.Stop()
		return nil, a, err
	}
	return s, a, nil
}

// Pid is the operating system's id of the process.
func (s *Server) Pid() int { return s.cmd.Process.Pid }

// Stdout is what the server printed so far.
func (s *Server) Stdout() string { return s.out.String() }

// Output is what the server printed and logged so far.
func (s *Server) Output() string { return s.out.String() + s.errs.String() }

// Done is closed when the process has ended.
func (s *Server) Done() <-chan struct{} { return s.done }

// Signal sends a signal and waits for the process to end; it returns the exit
// code, -1 when the process had to be killed.
func (s *Server) Signal(sig os.Signal) int {
	_ = s.cmd.Process.Signal(sig)
	select {
	case <-s.done:
	case <-time.After(patience):
		_ = s.cmd.Process.Kill()
		<-s.done
	}
	return s.cmd.ProcessState.ExitCode()
}

// Stop ends the process as a service manager would.
func (s *Server) Stop() int { return s.Signal(syscall.SIGTERM) }

// Wait asks until ready returns nil. It gives up when the server ends or takes too long.
func (s *Server) Wait(ready func() error) error {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-s.done:
			return fmt.Errorf("tidemill ended with code %d: %w\n%s", s.cmd.ProcessState.ExitCode(), err, s.Output())
		case <-deadline.C:
			return fmt.Errorf("not after %s: %w\n%s", patience, err, s.Output())
		case <-tick.C:
		}
	}
}

// Until is Wait that fails the test.
func (s *Server) Until(tb testing.TB, ready func() error) {
	tb.Helper()
	if err := s.Wait(ready); err != nil {
		tb.Fatal(err)
	}
}

// Post sends rows to a connector and returns the status of the answer. The key,
// if any, is the request's Idempotency-Key.
func Post(ctx context.Context, url, key string, body []byte) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// output keeps everything that is written to it.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
