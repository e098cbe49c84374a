package models_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tidemill/tidemill/internal/ortlib"
	"github.com/tidemill/tidemill/models"
	"github.com/tidemill/tidemill/models/onnx"
)

// The test binary is the models' child process too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == onnx.WorkerArgument {
		os.Exit(onnx.WorkerMain(os.Stdin, os.Stdout))
	}
	os.Exit(m.Run())
}

// realRuntime is the ONNX Runtime; without it tests skip, but never in CI.
func realRuntime(t testing.TB) models.Runtime {
	t.Helper()
	if _, err := ortlib.Find(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return onnx.Runtime{Logger: slog.New(slog.DiscardHandler)}
}

func readFile(t testing.TB, path ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func readModel(t testing.TB, name string) []byte {
	t.Helper()
	return readFile(t, "testdata", name+".onnx")
}

// version is a model as the registry would give it.
func version(t testing.TB, name string, data []byte) models.Version {
	t.Helper()
	g, err := models.Inspect(data)
	if err != nil {
		t.Fatal(err)
	}
	return models.Version{Name: name, Version: 1, Signature: g.Signature}
}

// memStore is a Store in memory that can lose answers.
type memStore struct {
	mu      sync.Mutex
	objects map[string][]byte
	// doubt, if set, is asked after each conditional write: an error is given
	// instead of the answer. before: it is asked instead of writing.
	doubt  func(key string) error
	before func(key string) error
}

func newStore() *memStore { return &memStore{objects: map[string][]byte{}} }

func (s *memStore) Get(_ context.Context, key string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, ok := s.objects[key]
	if !ok {
		return nil, fmt.Errorf("get %s: %w", key, fs.ErrNotExist)
	}
	return slices.Clone(data), nil
}

func (s *memStore) PutIfAbsent(_ context.Context, key string, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.before != nil {
		if err := s.before(key); err != nil {
			return err
		}
	}
	_, have := s.objects[key]
	if !have {
		s.objects[key] = slices.Clone(data)
	}
	if s.doubt != nil {
		if err := s.doubt(key); err != nil {
			return err
		}
	}
	if have {
		return fmt.Errorf("put %s: %w", key, fs.ErrExist)
	}
	return nil
}

func (s *memStore) Keys(_ context.Context, prefix, startAfter string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		s.mu.Lock()
		var keys []string
		for key := range s.objects {
			if strings.HasPrefix(key, prefix) && key > startAfter {
				keys = append(keys, key)
			}
		}
		s.mu.Unlock()
		slices.Sort(keys)
		for _, key := range keys {
			if !yield(key, nil) {
				return
			}
		}
	}
}

var errLost = errors.New("connection reset")
