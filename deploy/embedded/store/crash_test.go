package store_test

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tidemill/tidemill/deploy/embedded/store"
	"github.com/tidemill/tidemill/internal/testserver"
	"github.com/tidemill/tidemill/lakehouse/objstore"
)

// TestMetadataWithoutObject: a crash between the metadata and the object must not block
// the key for ever.
func TestMetadataWithoutObject(t *testing.T) {
	dir := t.TempDir()
	s, c := start(t, store.Options{Dir: dir, Sidecar: true})
	if !s.Sidecar() {
		t.Fatal("not on sidecar files")
	}
	if err := c.PutIfAbsent(t.Context(), "_delta_log/0.json", []byte("lost")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "data", "lake", "_delta_log", "0.json")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(t.Context(), "_delta_log/0.json"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("got %v", err)
	}
	if err := c.PutIfAbsent(t.Context(), "_delta_log/0.json", []byte("mine")); err != nil {
		t.Errorf("the slot is blocked: %v", err)
	}
	if err := c.PutIfAbsent(t.Context(), "_delta_log/0.json", []byte("other")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v", err)
	}
}

// TestObjectWithoutMetadata: an object whose metadata a power cut took still holds its key.
func TestObjectWithoutMetadata(t *testing.T) {
	dir := t.TempDir()
	_, c := start(t, store.Options{Dir: dir, Sidecar: true})
	if err := c.PutIfAbsent(t.Context(), "_delta_log/0.json", []byte("commit")); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "meta", "lake", "_delta_log", "0.json")); err != nil {
		t.Fatal(err)
	}
	if err := c.PutIfAbsent(t.Context(), "_delta_log/0.json", []byte("other")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v", err)
	}
	if got, err := c.Get(t.Context(), "_delta_log/0.json"); err != nil || string(got) != "commit" {
		t.Errorf("read back %q, %v", got, err)
	}
}

// TestChildKilled: the store comes back by itself, with what it had.
func TestChildKilled(t *testing.T) {
	s, c := start(t, store.Options{})
	if err := c.PutIfAbsent(t.Context(), "k", []byte("v")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(s.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r := objstore.Retry(c, objstore.RetryPolicy{Attempts: 1000})
	if got, err := r.Get(t.Context(), "k"); err != nil || string(got) != "v" {
		t.Errorf("read back %q, %v", got, err)
	}
	if err := c.PutIfAbsent(t.Context(), "k", []byte("other")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v", err)
	}
}

// TestPortTaken: the reason why a store does not start is told.
func TestPortTaken(t *testing.T) {
	taken := testserver.Addr(testserver.FreePort(t))
	srv := &http.Server{Addr: taken}
	go func() { _ = srv.ListenAndServe() }()
	t.Cleanup(func() { _ = srv.Close() })
	for testserver.Dial(taken) != nil {
	}
	_, err := store.Start(t.Context(), store.Options{Dir: t.TempDir(), Addr: taken, AccessKey: "a", SecretKey: key})
	if err == nil || !strings.Contains(err.Error(), "in use") || strings.Contains(err.Error(), key.Reveal()) {
		t.Errorf("got %v", err)
	}
}

// TestWorkingDirectory: the process that embeds the store keeps its own.
func TestWorkingDirectory(t *testing.T) {
	before, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	start(t, store.Options{})
	if after, err := os.Getwd(); err != nil || after != before {
		t.Errorf("working directory %s, was %s, %v", after, before, err)
	}
}
