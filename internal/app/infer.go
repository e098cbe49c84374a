package app

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/tidemill/tidemill/connectors/infer"
	"github.com/tidemill/tidemill/internal/problem"
)

// InferOptions of [InferContract].
type InferOptions struct {
	TryOptions           // File is a connector, a file of messages, or "-" for those of In
	Table      string    // "": the connector's, or the file's name
	In         io.Reader // what "-" stands for
}

// Inferred is a contract that [InferContract] proposes.
type Inferred struct {
	Table    string   `json:"table"`
	Contract string   `json:"contract"` // YAML
	Rows     int      `json:"rows"`
	Broken   int      `json:"broken"`
	Notes    []string `json:"notes,omitempty"`
}

// InferContract proposes a contract from a sample of messages: those that a connector
// reads, as [Try] does, or those of a file or a stream, one JSON object a line.
func InferContract(ctx context.Context, o InferOptions) (*Inferred, error) {
	out := &Inferred{Table: o.Table}
	var messages [][]byte
	var from string
	var err error
	if strings.HasSuffix(o.File, ".yaml") {
		messages, from, err = sampleConnector(ctx, o, out)
	} else {
		messages, from, err = sampleFile(o, out)
	}
	if err != nil {
		return nil, err
	}
	p, err := infer.Infer(messages)
	if err != nil {
		return nil, withNotes(err, out.Notes)
	}
	out.Rows, out.Broken, out.Contract = p.Rows, p.Broken, p.YAML(out.Table, from)
	return out, nil
}

func withNotes(err error, notes []string) error {
	if len(notes) == 0 {
		return err
	}
	return fmt.Errorf("%w (%s)", err, strings.Join(notes, "; "))
}

func sampleConnector(ctx context.Context, o InferOptions, out *Inferred) (messages [][]byte, from string, err error) {
	t, err := openTrial(o.File, false)
	if err != nil {
		return nil, "", err
	}
	defer t.back()
	if out.Table == "" {
		out.Table = t.config.Table
	}
	s, err := t.sample(ctx, o.TryOptions)
	if err != nil {
		return nil, "", err
	}
	out.Notes = s.Notes
	if w := waited(t.config, s, o.TryOptions); w != "" {
		out.Notes = append([]string{w}, out.Notes...)
	}
	msgs, err := s.Messages()
	if err != nil {
		return nil, "", err
	}
	failed := 0
	for _, m := range msgs {
		if m.Error != "" {
			failed++
			continue
		}
		messages = append(messages, m.Data)
	}
	if failed > 0 {
		out.Notes = append(out.Notes, fmt.Sprintf("processors failed on %d messages, which are left out", failed))
	}
	return messages, "the connector " + t.config.Name, nil
}

var notTable = regexp.MustCompile(`[^a-z0-9_]+`)

func sampleFile(o InferOptions, out *Inferred) (messages [][]byte, from string, err error) {
	in := o.In
	from = "standard input"
	if o.File != "-" {
		from = o.File
		f, err := os.Open(o.File)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, "", problem.List{{File: o.File, Message: "does not exist; name a connector (a .yaml file), a file with one JSON object a line, or - for standard input"}}
		}
		if err != nil {
			return nil, "", err
		}
		defer f.Close()
		in = f
		base, _, _ := strings.Cut(filepath.Base(o.File), ".")
		if name := strings.Trim(notTable.ReplaceAllString(strings.ToLower(base), "_"), "_0123456789"); out.Table == "" {
			out.Table = name
		}
	}
	if out.Table == "" {
		out.Table = "events"
	}
	br := bufio.NewReaderSize(in, 1<<16)
	if b, err := br.Peek(1); err == nil && b[0] == '[' { // one array, on however many lines
		data, err := io.ReadAll(io.LimitReader(br, maxSampleBytes))
		return [][]byte{data}, from, err
	}
	for size := 0; len(messages) < o.Rows && size < maxSampleBytes; {
		line, err := br.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) > 0 {
			messages = append(messages, line)
			size += len(line)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, "", fmt.Errorf("read %s: %w", from, err)
		}
	}
	return messages, from, nil
}

// maxSampleBytes bounds what is read of a file.
const maxSampleBytes = 64 << 20
