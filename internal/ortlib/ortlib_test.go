package ortlib

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func put(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, FileName(runtime.GOOS))
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(path, nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFind(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	deep := filepath.Join(root, "a", "b")
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv(Env, "")
	t.Chdir(deep)
	if path, err := Find(); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "go tool task setup") {
		t.Fatalf("nowhere: %s, %v", path, err)
	}
	want := put(t, Dir(root))
	if path, err := Find(); err != nil || path != want {
		t.Errorf("above: %s, %v", path, err)
	}
	other := put(t, filepath.Join(root, "other"))
	for _, value := range []string{other, filepath.Dir(other)} {
		t.Setenv(Env, value)
		if path, err := Find(); err != nil || path != other {
			t.Errorf("%s: %s, %v", value, path, err)
		}
	}
	t.Setenv(Env, deep)
	if path, err := Find(); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), Env) {
		t.Errorf("directory without it: %s, %v", path, err)
	}
}
