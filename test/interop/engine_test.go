package interop

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/tidemill/tidemill/internal/testserver"
	"github.com/tidemill/tidemill/test/product"
)

// process is a Python process that answers calls (see engine.py), one at a time. It
// lives as long as the test that started it: a JVM is not started for every question.
type process struct {
	mu      sync.Mutex
	in      io.Writer
	answers *bufio.Reader
	errs    *bytes.Buffer // guarded by errMu
	errMu   sync.Mutex
}

// startPython runs a script of this directory until the test owner ends; t is told of errors.
func startPython(owner, t *testing.T, script string, env ...string) *process {
	t.Helper()
	dir := filepath.Join(product.Root(), "test", "interop")
	cmd := exec.Command(testserver.Python(t), filepath.Join(dir, script))
	cmd.Dir = owner.TempDir() // Spark leaves directories behind
	cmd.Env = append(append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1", "SPARK_LOCAL_IP=127.0.0.1"), env...)
	p := &process{errs: &bytes.Buffer{}}
	cmd.Stderr = p
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.in, p.answers = in, bufio.NewReader(out)
	owner.Cleanup(func() {
		in.Close() // the script's loop ends
		if err := cmd.Wait(); err != nil {
			owner.Errorf("%s: %v\n%s", script, err, p.stderr())
		}
	})
	return p
}

// Write keeps what the process says beside its answers.
func (p *process) Write(b []byte) (int, error) {
	p.errMu.Lock()
	defer p.errMu.Unlock()
	return p.errs.Write(b)
}

func (p *process) stderr() string {
	p.errMu.Lock()
	defer p.errMu.Unlock()
	b := p.errs.Bytes()
	return string(b[max(0, len(b)-8<<10):])
}

type args map[string]any

// ask calls a function of the script and returns its error, a Python traceback.
func (p *process) ask(name string, a args, answer any) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	job, err := json.Marshal(map[string]any{"call": name, "args": a})
	if err != nil {
		return err
	}
	var line []byte
	if _, err = p.in.Write(append(job, '\n')); err == nil {
		line, err = p.answers.ReadBytes('\n')
	}
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, p.stderr())
	}
	reply := struct {
		Answer any
		Error  string
	}{Answer: answer}
	if err := json.Unmarshal(line, &reply); err != nil {
		return err
	}
	if reply.Error != "" {
		return errors.New(strings.TrimSpace(reply.Error))
	}
	return nil
}

// must is ask that fails the test.
func (p *process) must(t *testing.T, name string, a args, answer any) {
	t.Helper()
	if err := p.ask(name, a, answer); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// engines are the processes that tests share, each started when it is first asked for,
// and where the tables are that they are asked about.
type engines struct {
	*processes
	at *site
}

type processes struct {
	owner          *testing.T
	mu             sync.Mutex
	readers, spark *process // guarded by mu
}

// on is the same engines with tables at another place.
func (e *engines) on(at *site) *engines { return &engines{e.processes, at} }

// Readers has delta-rs, DuckDB and Polars.
func (e *engines) Readers(t *testing.T) *process {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.readers == nil {
		e.readers = startPython(e.owner, t, "readers.py")
	}
	return e.readers
}

// Spark has Spark.
func (e *engines) Spark(t *testing.T) *process {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.spark == nil {
		e.spark = startPython(e.owner, t, "spark.py", "TIDEMILL_TEST_SPARK="+testserver.SparkJars(t))
	}
	e.spark.must(t, "settings", args{"values": e.at.spark}, nil)
	return e.spark
}

// TestEngines lets every engine read our tables, and us read theirs.
func TestEngines(t *testing.T) {
	t.Parallel()
	bucket, disk := onMinIO(t), onDisk(t)
	e := &engines{&processes{owner: t}, bucket}
	t.Run("ours", func(t *testing.T) { ourTables(t, e) })
	t.Run("delta-rs", func(t *testing.T) {
		deltaRsTables(t, e)
		deltaRsTables(t, e.on(disk))
	})
	t.Run("spark", func(t *testing.T) { sparkTables(t, e, disk) })
	t.Run("both append", func(t *testing.T) { bothAppend(t, e) })
	t.Run("quirks", func(t *testing.T) { quirks(t, e) })
}
