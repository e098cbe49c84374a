// Package harness runs the product binary as a user would and looks at it from
// outside, for the benchmarks in test/bench: generated projects, the process
// tree's memory and CPU, its metrics, CPU profiles and tables. It measures; what
// is measured and what is good enough is up to each benchmark.
package harness

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
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/tidemill/tidemill/internal/secret"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/objstore/s3"
)

// Binary finds the product: the flag's value, else bin/tidemill of the module
// that the benchmark is run in.
func Binary(flag string) (string, error) {
	if flag == "" {
		flag = filepath.Join("bin", "tidemill")
	}
	path, err := filepath.Abs(flag)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%w; build it with `go tool task build`, or name one with -binary", err)
	}
	return path, nil
}

// Product is a running `tidemill dev`.
type Product struct {
	Dir  string
	HTTP string // http://host:port
	Log  string // file with what it logs

	binary string
	cmd    *exec.Cmd
	done   chan struct{} // closed when it has ended, after err is set
	err    error
}

// startWithin bounds how long the product may take until it is up.
const startWithin = 2 * time.Minute

// Start runs `tidemill dev dir --free-ports --json` with further arguments and
// returns when the process says that it is up.
func Start(ctx context.Context, binary, dir string, args ...string) (*Product, error) {
	p := &Product{Dir: dir, Log: filepath.Join(dir, "tidemill.log"), binary: binary, done: make(chan struct{})}
	log, err := os.Create(p.Log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.cmd = exec.Command(binary, append([]string{"dev", dir, "--free-ports", "--json"}, args...)...)
	p.cmd.Stderr = log
	p.cmd.Env = environment()
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	lines := make(chan []byte, 1)
	go func() {
		defer close(p.done)
		r := bufio.NewReader(out)
		line, _ := r.ReadBytes('\n')
		lines <- line
		_, _ = io.Copy(io.Discard, r)
		p.err = p.cmd.Wait()
	}()
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	select {
	case line := <-lines:
		var up struct{ HTTP string }
		if err := json.Unmarshal(line, &up); err != nil {
			return nil, errors.Join(fmt.Errorf("tidemill dev printed %q: %w; its log ends with\n%s", line, err, p.tail()), p.Stop())
		}
		p.HTTP = up.HTTP
		return p, nil
	case <-ctx.Done():
		return nil, errors.Join(fmt.Errorf("tidemill dev is not up: %w; its log ends with\n%s", ctx.Err(), p.tail()), p.Stop())
	}
}

// environment is ours, with the runtime library named where the product may
// not find it by itself.
func environment() []string {
	env := os.Environ()
	if os.Getenv("TIDEMILL_ONNXRUNTIME") == "" {
		if found, _ := filepath.Glob(filepath.Join("tools", "onnxruntime", "*")); len(found) > 0 {
			if abs, err := filepath.Abs(found[len(found)-1]); err == nil {
				env = append(env, "TIDEMILL_ONNXRUNTIME="+abs)
			}
		}
	}
	return env
}

// tail is the end of the product's log.
func (p *Product) tail() []byte {
	data, _ := os.ReadFile(p.Log)
	return data[max(0, len(data)-4096):]
}

// Pid of the product.
func (p *Product) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the product has ended.
func (p *Product) Done() <-chan struct{} { return p.done }

// Err says how the product ended, with the end of its log. Call it after Done.
func (p *Product) Err() error {
	if p.err == nil {
		return nil
	}
	return fmt.Errorf("tidemill dev: %w; its log ends with\n%s", p.err, p.tail())
}

// Stop ends the product as Ctrl-C does and waits for it.
func (p *Product) Stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(time.Minute):
		_ = p.cmd.Process.Kill()
		<-p.done
		return errors.New("tidemill dev did not end within a minute and was killed")
	}
	return p.Err()
}

// Store opens the running product's object store below the project's prefix.
func (p *Product) Store(ctx context.Context) (objstore.Store, error) {
	data, err := os.ReadFile(filepath.Join(p.Dir, ".tidemill", "addresses.json"))
	if err != nil {
		return nil, err
	}
	var a struct {
		S3     string `json:"s3"`
		Access string `json:"access_key"`
		Secret string `json:"secret_key"`
	}
	if err := json.Unmarshal(data, &a); err != nil {
		return nil, err
	}
	s, err := s3.New(ctx, s3.Config{Endpoint: a.S3, Bucket: "tidemill", AccessKey: a.Access, SecretKey: secret.New(a.Secret)})
	if err != nil {
		return nil, err
	}
	return objstore.WithPrefix(objstore.Retry(s, objstore.RetryPolicy{}), ProjectName), nil
}

// SQL runs a query with `tidemill sql` and decodes its single row.
func SQL(ctx context.Context, binary, dir, sql string, row any) error {
	cmd := exec.CommandContext(ctx, binary, "-C", dir, "--log-level", "error", "sql", "--format", "json", sql)
	cmd.Env = environment()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("tidemill sql: %w: %s", err, stderr.Bytes())
	}
	return json.Unmarshal(out, row)
}

// Metrics are the values of /metrics by series, such as
// `tidemill_rows_scored_total{project="bench",table="transactions"}`.
type Metrics map[string]float64

// Metrics asks the product for its metrics.
func (p *Product) Metrics(ctx context.Context) (Metrics, error) {
	data, err := p.get(ctx, "/metrics")
	if err != nil {
		return nil, err
	}
	m := Metrics{}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		at := strings.LastIndexByte(line, ' ')
		if at < 0 || line[0] == '#' {
			continue
		}
		if v, err := strconv.ParseFloat(line[at+1:], 64); err == nil {
			m[line[:at]] = v
		}
	}
	return m, nil
}

// Sum adds up the series whose names contain all of the given texts.
func (m Metrics) Sum(having ...string) (sum float64) {
	for name, v := range m {
		if containsAll(name, having) {
			sum += v
		}
	}
	return sum
}

func containsAll(s string, having []string) bool {
	for _, h := range having {
		if !strings.Contains(s, h) {
			return false
		}
	}
	return true
}

// Stages are the names of batch_stage_seconds in the order of a row's path.
var Stages = []string{"decode", "encode", "put", "land_commit", "land", "read", "check", "score", "write", "commit", "turn"}

// PrintStages shows how often each stage ran, how long it took on average and in all.
func (m Metrics) PrintStages(w io.Writer) {
	fmt.Fprintf(w, "  %-12s %8s %10s %10s   (elapsed, waits included)\n", "stage", "times", "mean", "in all")
	for _, s := range Stages {
		label := `stage="` + s + `"`
		n, sum := m.Sum("batch_stage_seconds_count", label), m.Sum("batch_stage_seconds_sum", label)
		if n > 0 {
			fmt.Fprintf(w, "  %-12s %8.0f %8.1fms %9.2fs\n", s, n, sum/n*1000, sum)
		}
	}
}

// Profile saves a profile of /debug/pprof, which the product serves when it
// was started with --pprof, and returns its bytes.
func (p *Product) Profile(ctx context.Context, name, file string) ([]byte, error) {
	data, err := p.get(ctx, "/debug/pprof/"+name)
	if err != nil {
		return nil, err
	}
	return data, os.WriteFile(file, data, 0o600)
}

func (p *Product) get(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.HTTP+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s", path, resp.Status)
	}
	return data, err
}
