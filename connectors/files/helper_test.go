package files

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemill/tidemill/internal/batch"
)

// sink stands for the table: it takes blocks and remembers what is in.
type sink struct {
	mu     sync.Mutex
	in     batch.Claims
	rows   map[string]string // text by "partition:row"
	bad    map[string]*Bad
	twice  []string
	blocks int
	logged strings.Builder
}

func newSink() *sink {
	return &sink{in: batch.Claims{}, rows: map[string]string{}, bad: map[string]*Bad{}}
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.logged.Write(p)
}

func (s *sink) log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.logged.String()
}

func (s *sink) claims(_ context.Context, partition string) batch.Intervals {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append(batch.Intervals(nil), s.in[partition]...)
}

// take takes a block as the lakehouse output does.
func (s *sink) take(tb testing.TB, b Block) {
	tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blocks++
	key := func(row int64) string { return b.Partition + ":" + strconv.FormatInt(row, 10) }
	if b.Bad != nil {
		s.bad[key(b.First)] = b.Bad
	} else {
		lines := strings.Split(strings.TrimSuffix(string(b.Data), "\n"), "\n")
		if int64(len(lines)) != b.Rows {
			tb.Errorf("a block says that it has %d rows, and has %d: %.200q", b.Rows, len(lines), b.Data)
		}
		for i, l := range lines {
			k := key(b.First + int64(i))
			if _, ok := s.rows[k]; ok {
				s.twice = append(s.twice, k)
			}
			s.rows[k] = strings.TrimSuffix(l, "\r")
		}
	}
	last := b.First + b.Rows - 1
	if b.End {
		last = batch.EndOffset
	}
	s.in[b.Partition] = s.in[b.Partition].Add(batch.Interval{First: b.First, Last: last})
}

// texts are the rows, in no certain order.
func (s *sink) texts() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, t := range s.rows {
		out = append(out, t)
	}
	return out
}

func (s *sink) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.rows)
}

func (s *sink) config(tb testing.TB, paths ...string) Config {
	tb.Helper()
	c := Config{Claims: s.claims, Still: 50 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(s, nil)), MaxRowBytes: 1 << 20, Parallel: 4, Retry: 5 * time.Millisecond}
	for _, p := range paths {
		place, err := Local(p)
		if err != nil {
			tb.Fatal(err)
		}
		c.Places = append(c.Places, place)
	}
	return c
}

// drain reads to the end.
func (s *sink) drain(tb testing.TB, c Config) {
	tb.Helper()
	r := New(c)
	defer r.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		b, err := r.Next(ctx)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			tb.Fatalf("%v; log:\n%s", err, s.log())
		}
		s.take(tb, b)
	}
}

// until reads until a condition holds, which is asked after each block and on a tick.
func (s *sink) until(tb testing.TB, r *Reader, what string, ok func() bool) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for !ok() {
		turn, stop := context.WithTimeout(ctx, 20*time.Millisecond)
		b, err := r.Next(turn)
		stop()
		switch {
		case err == nil:
			s.take(tb, b)
		case ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded):
			tb.Fatalf("%s: %v; log:\n%s", what, err, s.log())
		}
	}
}

func write(tb testing.TB, path, content string) {
	tb.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		tb.Fatal(err)
	}
}

func appendTo(tb testing.TB, path, content string) {
	tb.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := f.WriteString(content); err != nil {
		tb.Fatal(err)
	}
	if err := f.Close(); err != nil {
		tb.Fatal(err)
	}
}
