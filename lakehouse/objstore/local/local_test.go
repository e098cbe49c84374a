package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/objstore/storetest"
)

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := New(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) objstore.Store { return open(t, t.TempDir()) })
}

func TestDirectoryMustBeThere(t *testing.T) {
	dir := t.TempDir()
	if _, err := New(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), filepath.Join(dir, "none")) {
		t.Error(err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(file); err == nil || !strings.Contains(err.Error(), "no directory") {
		t.Error(err)
	}
}

// TestForeignFiles: files with names that we would not give can be read, and what others
// leave in a directory does not come up as an object.
func TestForeignFiles(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	names := []string{`back\slash`, "new\nline", "sp ace", "%41", "a:b=c", "é", "e\u0301", "\xff\xfe", "~", "-", "t=2020-01-01 00%3A00%3A00/p"}
	for _, n := range names {
		file := filepath.Join(dir, "x", n)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(n), 0o600); err != nil {
			t.Fatal(err)
		}
		data, err := s.Get(t.Context(), "x/"+n)
		if err != nil || string(data) != n {
			t.Errorf("%q: %q, %v", n, data, err)
		}
		if o, err := s.Stat(t.Context(), "x/"+n); err != nil || o.Size != int64(len(n)) {
			t.Errorf("%q: %+v, %v", n, o, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "x", tempPrefix+"A"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "x"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, n := range names[1:] { // without the backslash
		want = append(want, "x/"+n)
	}
	slices.Sort(want)
	if got := storetest.Keys(t, s, "", ""); !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	if data, err := s.Get(t.Context(), "link/sp ace"); err != nil || string(data) != "sp ace" {
		t.Errorf("through a link: %q, %v", data, err)
	}
	if _, err := s.Get(t.Context(), "x/"+tempPrefix+"A"); !errors.Is(err, objstore.ErrInvalidKey) {
		t.Errorf("a temporary file is an object: %v", err)
	}
}

func TestNothingIsLeftOver(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if err := s.Put(t.Context(), "a/b/c", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := s.PutIfAbsent(t.Context(), "a/b/c", nil); !errors.Is(err, fs.ErrExist) {
		t.Error(err)
	}
	if err := s.Put(t.Context(), "a/b", []byte("a directory")); err == nil || errors.Is(err, fs.ErrNotExist) || objstore.Retryable(err) {
		t.Errorf("a key that others begin with: %v", err)
	}
	if err := s.Put(t.Context(), "a/b/c/d", nil); err == nil || errors.Is(err, fs.ErrNotExist) || objstore.Retryable(err) {
		t.Errorf("a key below another: %v", err)
	}
	entries, err := os.ReadDir(filepath.Join(dir, "a", "b"))
	if err != nil || len(entries) != 1 || entries[0].Name() != "c" {
		t.Errorf("%v, %v", entries, err)
	}
	if err := s.Delete(t.Context(), "a/b/c"); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("after the last object: %v, %v", entries, err)
	}
}

// TestPutWhileOthersDelete: a directory may go away between its making and its use.
func TestPutWhileOthersDelete(t *testing.T) {
	s := open(t, t.TempDir())
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 50 {
				key := fmt.Sprintf("d/e/%d", w)
				if err := s.Put(t.Context(), key, []byte{byte(i)}); err != nil {
					t.Error(err)
					return
				}
				if got, err := s.Get(t.Context(), key); err != nil || len(got) != 1 || got[0] != byte(i) {
					t.Errorf("%s: %v, %v", key, got, err)
				}
				if err := s.Delete(t.Context(), key); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// TestOneProcessWins: the conditional write holds between processes, too. Each of them
// writes its number to the slots in turn, and says which it won.
func TestOneProcessWins(t *testing.T) {
	const processes, slots = 4, 100
	if dir := os.Getenv("LOCAL_TEST_DIR"); dir != "" {
		s := open(t, dir)
		for slot := range slots {
			err := s.PutIfAbsent(t.Context(), fmt.Sprintf("log/%03d", slot), []byte(os.Getenv("LOCAL_TEST_NAME")))
			if err == nil {
				fmt.Println("won", slot)
			} else if !errors.Is(err, fs.ErrExist) {
				t.Fatal(err)
			}
		}
		return
	}
	dir := t.TempDir()
	outputs := make([][]byte, processes)
	var wg sync.WaitGroup
	for p := range processes {
		wg.Go(func() {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestOneProcessWins$", "-test.v")
			cmd.Env = append(os.Environ(), "LOCAL_TEST_DIR="+dir, "LOCAL_TEST_NAME="+strconv.Itoa(p))
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			outputs[p] = out
		})
	}
	wg.Wait()
	winner := map[int]int{}
	for p, out := range outputs {
		for line := range strings.SplitSeq(string(out), "\n") {
			text, ok := strings.CutPrefix(line, "won ")
			if !ok {
				continue
			}
			slot, err := strconv.Atoi(text)
			if err != nil {
				t.Fatal(err)
			}
			if other, twice := winner[slot]; twice {
				t.Errorf("slot %d was won by %d and %d", slot, other, p)
			}
			winner[slot] = p
		}
	}
	s := open(t, dir)
	for slot := range slots {
		data, err := s.Get(t.Context(), fmt.Sprintf("log/%03d", slot))
		if p, ok := winner[slot]; err != nil || !ok || string(data) != strconv.Itoa(p) {
			t.Errorf("slot %d: %q, won by %d (%v), %v", slot, data, p, ok, err)
		}
	}
}
