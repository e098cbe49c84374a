package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/versity/versitygw/backend/meta"

	"github.com/tidemill/tidemill/internal/secret"
)

// Options of a store. All but Logger, Sidecar and NoSync are required.
type Options struct {
	Dir       string // made by the caller; the store keeps data/ and meta/ in it
	Addr      string // host:port to listen on; the port must be free
	Region    string
	AccessKey string
	SecretKey secret.String
	Logger    *slog.Logger
	// Sidecar keeps metadata in files beside the data although the file system has
	// extended attributes. Without it that happens where they are missing.
	Sidecar bool
	// NoSync acknowledges objects before they are on disk: faster, and a power cut may
	// lose acknowledged rows.
	NoSync bool
}

// Store is a running store.
type Store struct {
	opts    Options
	config  []byte // the child's configuration line
	sidecar bool

	stopping chan struct{} // closed by Stop
	stopOnce sync.Once
	done     chan struct{} // closed when the supervisor has ended, and so the child
	proc     atomic.Pointer[child]
}

// child is one process.
type child struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	last  *lastLine
	done  chan struct{} // closed after err is set
	err   error
}

// Start runs the store and waits until it answers.
func Start(ctx context.Context, o Options) (*Store, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("object store: %w", err)
	}
	cfg := childConfig{
		Data: filepath.Join(dir, "data"), Addr: o.Addr, Region: o.Region,
		AccessKey: o.AccessKey, SecretKey: o.SecretKey.Reveal(), Sync: !o.NoSync,
	}
	if cfg.Sidecar, err = metadataDir(dir, o.Sidecar); err != nil {
		return nil, fmt.Errorf("object store: %w", err)
	}
	if err := os.MkdirAll(cfg.Data, 0o700); err != nil {
		return nil, fmt.Errorf("object store: %w", err)
	}
	line, err := json.Marshal(cfg)
	if err != nil {
		return nil, fmt.Errorf("object store: %w", err)
	}
	s := &Store{
		opts: o, config: append(line, '\n'), sidecar: cfg.Sidecar != "",
		stopping: make(chan struct{}), done: make(chan struct{}),
	}
	c, err := s.spawn()
	if err != nil {
		return nil, fmt.Errorf("object store: %w", err)
	}
	if err := s.waitReady(ctx, c); err != nil {
		c.end(shutdownGrace)
		return nil, fmt.Errorf("object store: %w", err)
	}
	s.proc.Store(c)
	go s.supervise(c)
	return s, nil
}

// metadataDir decides where metadata is kept, "" for extended attributes, and stays
// with what was decided when the store was made: the other place would be empty.
func metadataDir(dir string, wantSidecar bool) (string, error) {
	sidecar := filepath.Join(dir, "meta")
	if _, err := os.Stat(sidecar); err == nil {
		return sidecar, nil
	}
	if _, err := os.Stat(filepath.Join(dir, "data")); err == nil {
		return "", nil
	}
	if !wantSidecar && hasAttributes(dir) {
		return "", nil
	}
	return sidecar, os.MkdirAll(sidecar, 0o700)
}

// hasAttributes reports whether files in dir can have user attributes. It writes one:
// some file systems answer a read and refuse the write.
func hasAttributes(dir string) bool {
	f, err := os.CreateTemp(dir, ".attributes-*")
	if err != nil {
		return false
	}
	defer os.Remove(f.Name())
	defer f.Close()
	return meta.XattrMeta{}.StoreAttribute(f, "", "", "tidemill-probe", []byte("1")) == nil
}

// Pid is the id of the store's process, which changes when it had to be started again.
func (s *Store) Pid() int { return s.proc.Load().cmd.Process.Pid }

// Sidecar reports whether metadata is kept in files beside the data.
func (s *Store) Sidecar() bool { return s.sidecar }

// executable is this program, also when its file was replaced or removed meanwhile.
func executable() (string, error) {
	const self = "/proc/self/exe"
	if _, err := os.Stat(self); err == nil {
		return self, nil
	}
	return os.Executable()
}

func (s *Store) spawn() (*child, error) {
	exe, err := executable()
	if err != nil {
		return nil, err
	}
	c := &child{last: &lastLine{logger: s.opts.Logger}, done: make(chan struct{})}
	c.cmd = &exec.Cmd{
		Path:   exe,
		Args:   []string{"tidemill-store"},
		Env:    append(os.Environ(), childEnv+"=1"),
		Stdout: io.Discard, // the gateway's greetings
		Stderr: c.last,
	}
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(c.done)
		c.err = c.cmd.Wait()
	}()
	if _, err := c.stdin.Write(s.config); err != nil {
		c.end(shutdownGrace)
		return nil, fmt.Errorf("configure: %w: %s", err, c.last)
	}
	return c, nil
}

// end closes the child's input, gives it grace to finish, kills it after that, and
// waits for it.
func (c *child) end(grace time.Duration) {
	_ = c.stdin.Close()
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-c.done:
	case <-t.C:
		_ = c.cmd.Process.Kill()
		<-c.done
	}
}

// waitReady returns when the store answers, or fails when it ends or ctx does.
func (s *Store) waitReady(ctx context.Context, c *child) error {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-c.done:
			return fmt.Errorf("ended while starting: %w: %s", errOrExit(c.err), c.last)
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w: %s", ctx.Err(), c.last)
		case <-tick.C:
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.opts.Addr+healthPath, http.NoBody)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			continue
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return nil
		}
	}
}

func errOrExit(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// restartPause is the wait before the first restart, maxRestartPause before any;
// a child that lasted stableAfter begins anew.
const (
	restartPause    = 50 * time.Millisecond
	maxRestartPause = 5 * time.Second
	stableAfter     = time.Minute
)

// supervise starts the child again when it ends unasked: its clients see refused
// connections meanwhile, which they retry.
func (s *Store) supervise(c *child) {
	defer close(s.done)
	pause := restartPause
	for {
		started := time.Now()
		select {
		case <-s.stopping:
			c.end(shutdownGrace)
			return
		case <-c.done:
		}
		s.opts.Logger.Error("object store ended, starting it again", "error", errOrExit(c.err), "output", c.last.String())
		if time.Since(started) > stableAfter {
			pause = restartPause
		}
		if c = s.restart(&pause); c == nil {
			return
		}
		s.proc.Store(c)
	}
}

// restart starts a child, however often it takes; nil when the store shall stop.
func (s *Store) restart(pause *time.Duration) *child {
	for {
		select {
		case <-s.stopping:
			return nil
		case <-time.After(*pause):
		}
		*pause = min(2**pause, maxRestartPause)
		c, err := s.spawn()
		if err == nil {
			return c
		}
		s.opts.Logger.Error("object store does not start", "error", err)
	}
}

// Stop ends the store: it finishes requests for up to three seconds. It may be called
// again, and returns when the process is gone or ctx done.
func (s *Store) Stop(ctx context.Context) error {
	s.stopOnce.Do(func() { close(s.stopping) })
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop object store: %w", ctx.Err())
	}
}

// lastLine logs what the child prints on its error output, line by line, and keeps the
// last one for error messages.
type lastLine struct {
	logger *slog.Logger
	mu     sync.Mutex
	buf    []byte
	line   string
}

func (l *lastLine) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = append(l.buf, p...)
	for {
		i := bytes.IndexByte(l.buf, '\n')
		if i < 0 && len(l.buf) > 8<<10 {
			i = len(l.buf) - 1 // a line without end must not grow for ever
		}
		if i < 0 {
			return len(p), nil
		}
		if line := string(bytes.TrimSpace(l.buf[:i])); line != "" {
			l.line = line
			l.logger.Warn("object store", "output", line)
		}
		l.buf = append(l.buf[:0], l.buf[i+1:]...)
	}
}

func (l *lastLine) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.line == "" {
		return "no output"
	}
	return l.line
}
