package files

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// endless is a place with one object of any size that is made up as it is read.
type endless struct {
	name string
	size int64
	at   func(p []byte, off int64)
	heap *atomic.Uint64 // the most that was in use
}

// measure notes how much of the heap is in use.
func (e endless) measure() {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	e.heap.Store(max(e.heap.Load(), m.HeapInuse))
}

func (e endless) String() string { return e.name }
func (e endless) List(context.Context) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		yield(Object{Name: e.name, Size: e.size, Version: "v", Fixed: true}, nil)
	}
}

func (e endless) Stat(context.Context, string) (Object, error) {
	return Object{}, errors.New("not asked")
}
func (e endless) Open(context.Context, Object) (Content, error) { return e, nil }
func (e endless) Close() error                                  { return nil }
func (e endless) ReadAt(p []byte, off int64) (int, error) {
	n := min(int64(len(p)), e.size-off)
	if n <= 0 {
		return 0, io.EOF
	}
	e.at(p[:n], off)
	e.measure()
	return int(n), nil
}

// TestMemory reads what is larger than the memory it may take: a long file, one long
// line, a CSV field whose quote never ends, and a bomb of zstd.
func TestMemory(t *testing.T) {
	const bound = 160 << 20
	line := []byte(`{"id":12345,"name":"some customer","text":"abcdefghijklmnopqrstuvwxyz"}` + "\n")
	repeat := func(unit []byte) func([]byte, int64) {
		return func(p []byte, off int64) {
			for n := 0; n < len(p); {
				n += copy(p[n:], unit[(off+int64(n))%int64(len(unit)):])
			}
		}
	}
	bomb := strings.Builder{}
	w, err := zstd.NewWriter(&bomb)
	if err != nil {
		t.Fatal(err)
	}
	zeros := make([]byte, 1<<20)
	for range 120 {
		if _, err := w.Write(zeros); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		endless
		blocks int // at least
		bad    string
	}{
		{endless{name: "long.ndjson", size: 120 << 20, at: repeat(bytes.Repeat(line, 1000))}, 400, ""},
		{endless{name: "line.ndjson", size: 120 << 20, at: repeat(bytes.Repeat([]byte("x"), 64<<10))}, 1, RuleTooLong},
		{endless{name: "quote.csv", size: 120 << 20, at: repeat(bytes.Repeat([]byte(`"x`), 32<<10))}, 1, RuleUnreadable},
		{endless{name: "bomb.ndjson", size: int64(bomb.Len()), at: func(p []byte, off int64) { copy(p, bomb.String()[off:]) }}, 1, RuleTooLong},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSink()
			conf := s.config(t)
			conf.MaxRowBytes = 8 << 20
			runtime.GC()
			c.heap = &atomic.Uint64{}
			c.measure()
			before, blocks, bad := c.heap.Load(), 0, ""
			conf.Places = []Place{c}
			r := New(conf)
			defer r.Close()
			for {
				b, err := r.Next(t.Context())
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				if b.Bad != nil {
					bad = b.Bad.Rule
				}
				blocks++
				c.measure()
			}
			most := c.heap.Load() - before
			t.Logf("%d blocks, at most %d MB of heap", blocks, most>>20)
			if most > bound || blocks < c.blocks || bad != c.bad {
				t.Errorf("%d blocks, bad %q, %d MB of heap; want at least %d, %q, at most %d MB", blocks, bad, most>>20, c.blocks, c.bad, bound>>20)
			}
		})
	}
}
