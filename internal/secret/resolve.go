package secret

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// Reference is ${file:PATH} or ${cmd:COMMAND}: a value that stands elsewhere. The two
// names mean this in every file of a project, whatever environment variables there are.
var Reference = regexp.MustCompile(`\$\{(file|cmd):[^{}]*\}`)

const (
	maxValue  = 64 << 10         // bytes of a value
	cmdLimit  = 15 * time.Second // for a command
	keepValue = 5 * time.Second  // for which a command's answer is not asked for again
)

// Resolve returns the value of a [Reference], without white space around it, and has it
// scrubbed from then on. Paths are relative to dir, commands run there by the shell. The
// error says what to do, and never holds what the file or the command gave.
func Resolve(dir, reference string) (string, error) {
	kind, arg, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(reference, "${"), "}"), ":")
	arg = strings.TrimSpace(arg)
	if arg == "" {
		return "", fmt.Errorf("${%s:} names nothing; write ${file:/run/secrets/name} or ${cmd:command}", kind)
	}
	var data []byte
	var err error
	if kind == "file" {
		data, err = readFile(dir, arg)
	} else {
		data, err = answers.ask(dir, arg)
	}
	if err != nil {
		return "", err
	}
	value := strings.TrimSpace(string(data))
	what := "the file " + arg
	if kind == "cmd" {
		what = "the command's output"
	}
	switch {
	case value == "":
		return "", fmt.Errorf("%s is empty; put the value there", what)
	case !utf8.ValidString(value) || strings.ContainsRune(value, 0):
		return "", fmt.Errorf("%s is not text; put the value there as UTF-8", what)
	}
	Note(value)
	NoteUser(value)
	return value, nil
}

func readFile(dir, path string) ([]byte, error) {
	full := path
	if !filepath.IsAbs(path) {
		full = filepath.Join(dir, path)
	}
	f, err := os.Open(full)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("the file %s does not exist; put the value there", path)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("the file %s cannot be read: permission denied", path)
	case err != nil:
		return nil, fmt.Errorf("the file %s cannot be read: %w", path, errors.Unwrap(err))
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxValue+1))
	if err != nil {
		return nil, fmt.Errorf("the file %s cannot be read: %w", path, errors.Unwrap(err))
	}
	if len(data) > maxValue {
		return nil, fmt.Errorf("the file %s has more than %d bytes; is it the right one?", path, maxValue)
	}
	return data, nil
}

// answers keeps what commands gave for a moment: a project is checked and then read, and
// a password store need not be asked for each.
var answers asked

type asked struct {
	mu   sync.Mutex
	have map[[2]string]answer
}

type answer struct {
	data []byte
	at   time.Time
}

// Forget has commands asked anew from now on.
func Forget() {
	answers.mu.Lock()
	defer answers.mu.Unlock()
	answers.have = nil
}

func (a *asked) ask(dir, command string) ([]byte, error) {
	key := [2]string{dir, command}
	a.mu.Lock()
	defer a.mu.Unlock()
	if have, ok := a.have[key]; ok && time.Since(have.at) < keepValue {
		return have.data, nil
	}
	data, err := run(dir, command)
	if err != nil {
		return nil, err
	}
	if a.have == nil {
		a.have = map[[2]string]answer{}
	}
	a.have[key] = answer{data, time.Now()}
	return data, nil
}

// run runs a command. What it prints on standard error is not shown: it may be the value.
func run(dir, command string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), cmdLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command)
	cmd.Dir, cmd.WaitDelay = dir, 5*time.Second // a busy machine takes its time to read what was printed
	var out bytes.Buffer
	to := &limited{&out, maxValue}
	cmd.Stdout = to
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("the command `%s` was not done after %s", command, cmdLimit)
	case to.left < 0:
		return nil, fmt.Errorf("the command `%s` gives more than %d bytes; is it the right one?", command, maxValue)
	case err != nil:
		return nil, fmt.Errorf("the command `%s` fails with %w; run it by hand to see why", command, err)
	}
	return out.Bytes(), nil
}

var errTooLong = errors.New("too long")

type limited struct {
	w    io.Writer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= len(p); l.left < 0 {
		return 0, errTooLong
	}
	return l.w.Write(p)
}
