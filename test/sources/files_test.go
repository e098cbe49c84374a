package sources

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/tidemill/tidemill/internal/testserver"
	"github.com/tidemill/tidemill/lakehouse/objstore/s3"
)

// logs is a directory of NDJSON files that grow, one after the other, as programs and editors write
// them: in whole lines, in parts of lines, and as a new file with the old lines and more, or the
// same ones, in the place of the old.
type logs struct {
	dir  string
	n    int    // messages
	path string // of the file that grows
	text []byte // what it has
}

// perFile is how many messages a file gets.
const perFile = 60

func (l *logs) send(_ context.Context, m message) error {
	if l.n%perFile == 0 {
		l.path, l.text = filepath.Join(l.dir, fmt.Sprintf("%03d.ndjson", l.n/perFile)), nil
	}
	l.n++
	lines := append(m.lines(), '\n')
	l.text = append(l.text, lines...)
	switch l.n % 10 {
	case 3:
		if err := l.replace(); err != nil {
			return err
		}
		return l.replace() // by its like
	case 6:
		if err := l.add(lines[:len(lines)/2]); err != nil {
			return err
		}
		return l.add(lines[len(lines)/2:])
	}
	return l.add(lines)
}

func (l *logs) add(part []byte) error {
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Write(part); err != nil {
		return err
	}
	return f.Close()
}

func (l *logs) replace() error {
	next := filepath.Join(l.dir, ".next")
	if err := os.WriteFile(next, l.text, 0o600); err != nil {
		return err
	}
	return os.Rename(next, l.path)
}

// copies puts a new file with the same content in the place of each.
func (l *logs) copies(t *testing.T) {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(l.dir, "*.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range all[:len(all)-1] { // not of the one that grows
		text, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(l.dir+"/.copy", text, 0o600)
		}
		if err == nil {
			err = os.Rename(l.dir+"/.copy", path)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// bucket is a prefix of a MinIO server that objects are put into, some of them again.
type bucket struct {
	store *s3.Store

	mu      sync.Mutex
	n       int
	objects map[string][]byte
}

func (b *bucket) send(ctx context.Context, m message) error {
	b.mu.Lock()
	b.n++
	n := b.n
	b.mu.Unlock()
	name, text := fmt.Sprintf("in/%02d/%04d", n/50, n), m.lines()
	switch n % 3 {
	case 0:
		name += ".ndjson"
	case 1:
		name += ".csv"
		text = m.csv()
	case 2:
		name += ".ndjson.gz"
		var z bytes.Buffer
		w := gzip.NewWriter(&z)
		_, _ = w.Write(text)
		_ = w.Close()
		text = z.Bytes()
	}
	b.mu.Lock()
	b.objects[name] = text
	b.mu.Unlock()
	again := n%4 == 0
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := b.store.Put(ctx, name, text)
		if err == nil && !again {
			return nil
		}
		again = err != nil && again
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

// copies puts every object again, as it is.
func (b *bucket) copies(t *testing.T) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, text := range b.objects {
		if err := b.store.Put(t.Context(), name, text); err != nil {
			t.Fatal(err)
		}
	}
}

// filesSources are a local directory and a prefix of a bucket.
func filesSources(t *testing.T, _ [2]string) []source {
	t.Helper()
	l := &logs{dir: t.TempDir()}
	p := testserver.StartForward(t)
	m := testserver.StartMinIO(t)
	p.Aim(m.Addr)
	store, err := s3.New(t.Context(), s3.Config{Endpoint: m.Addr, Bucket: "source", AccessKey: m.AccessKey, SecretKey: m.SecretKey, CreateBucket: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	b := &bucket{store: store, objects: map[string][]byte{}}
	return []source{
		{
			name: "files", once: true, rows: 2, every: 30 * time.Millisecond,
			// A line that is half there is complete before it has been still for a minute.
			input: fmt.Sprintf("  files:\n    paths: [%q]\n    poll: 100ms\n    still_for: 1m\n", l.dir+"/"),
			send:  l.send, rewind: l.copies,
		},
		{
			name: "bucket", once: true, proxy: p, rows: 10, every: 150 * time.Millisecond,
			input: fmt.Sprintf("  files:\n    paths: [\"s3://source/in/\"]\n    poll: 100ms\n    s3: {endpoint: \"http://%s\", access_key: %q, secret_key: %q}\n", p.Addr, m.AccessKey, m.SecretKey.Reveal()),
			send:  b.send,
			kill:  func() { m.Kill() }, start: func(t *testing.T) { t.Helper(); m.Start(t) },
			rewind: b.copies,
		},
	}
}
