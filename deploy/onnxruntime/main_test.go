package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/internal/ortlib"
)

// fakeClient puts a program on PATH that stands for a package manager: it
// copies an archive to where the real one would.
func fakeClient(t *testing.T, name, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":/bin:/usr/bin")
}

func wheel(t *testing.T, member string, content []byte) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, err := z.Create(member)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(content)
	z.Close()
	path := filepath.Join(t.TempDir(), "onnxruntime.whl")
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func tarball(t *testing.T, member string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "onnxruntime-node.tgz")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	gz := gzip.NewWriter(f)
	w := tar.NewWriter(gz)
	w.WriteHeader(&tar.Header{Name: "package/other", Size: 1, Mode: 0o644, Typeflag: tar.TypeReg})
	w.Write([]byte("x"))
	w.WriteHeader(&tar.Header{Name: member, Size: int64(len(content)), Mode: 0o644, Typeflag: tar.TypeReg})
	w.Write(content)
	w.Close()
	gz.Close()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// testPins replaces the pins of a made-up platform.
func testPins(t *testing.T, list ...pin) {
	t.Helper()
	pins["test/test"] = list
	t.Cleanup(func() { delete(pins, "test/test") })
}

func sum(content []byte) string {
	s := sha256.Sum256(content)
	return hex.EncodeToString(s[:])
}

func run(t *testing.T, dir string) (string, error) {
	t.Helper()
	t.Setenv(ortlib.Env, "")
	var out bytes.Buffer
	f := fetcher{out: &out, goos: "test", goarch: "test"}
	err := f.main(t.Context(), dir)
	return out.String(), err
}

const pipCopies = `for a; do case "$a" in --dest=*) cp "$ARCHIVE" "${a#--dest=}/x.whl";; esac; done`

func TestFetchTakesTheFirstSourceThatWorks(t *testing.T) {
	content := []byte("a library")
	t.Setenv("ARCHIVE", tarball(t, "package/lib", content))
	fakeClient(t, "npm", `for a; do case "$a" in --pack-destination=*) cp "$ARCHIVE" "${a#*=}/x.tgz";; esac; done`)
	os.WriteFile(filepath.Join(filepath.SplitList(os.Getenv("PATH"))[0], "pip3"), []byte("#!/bin/sh\necho no such mirror >&2; exit 7"), 0o755)
	testPins(t, pin{source: "pip", member: "lib", sha256: sum(content)}, pin{source: "npm", member: "package/lib", sha256: sum(content)})
	dir := t.TempDir()

	out, err := run(t, dir)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(out, "no such mirror") || !strings.Contains(out, "verified and put in place") {
		t.Errorf("output does not tell what happened:\n%s", out)
	}
	target := filepath.Join(ortlib.Dir(dir), "libonnxruntime.so")
	if got, err := os.ReadFile(target); err != nil || !bytes.Equal(got, content) {
		t.Fatalf("library: %q, %v", got, err)
	}
	entries, _ := os.ReadDir(filepath.Dir(target))
	if len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}

	t.Setenv("PATH", "/nowhere") // a second run asks nobody
	if out, err := run(t, dir); err != nil || !strings.Contains(out, "in place") {
		t.Errorf("second run: %v\n%s", err, out)
	}
	if err := os.WriteFile(target, []byte("damaged"), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := run(t, dir); err == nil || !strings.Contains(err.Error(), "pip is not installed") || !strings.Contains(err.Error(), ortlib.Env) {
		t.Errorf("without clients and with a damaged library: %v\n%s", err, out)
	}
}

func TestFetchRefusesAnotherFile(t *testing.T) {
	t.Setenv("ARCHIVE", wheel(t, "lib", []byte("not the library")))
	fakeClient(t, "pip3", pipCopies)
	testPins(t, pin{source: "pip", member: "lib", sha256: sum([]byte("a library"))})
	dir := t.TempDir()
	if _, err := run(t, dir); err == nil || !strings.Contains(err.Error(), "which is not pinned; it is not used") {
		t.Fatalf("error: %v", err)
	}
	if entries, _ := os.ReadDir(ortlib.Dir(dir)); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestFetchUnknownPlatform(t *testing.T) {
	if _, err := run(t, t.TempDir()); err == nil || !strings.Contains(err.Error(), "is pinned for test/test; build or install it yourself") {
		t.Fatalf("error: %v", err)
	}
}

func TestEnvironmentWins(t *testing.T) {
	path := filepath.Join(t.TempDir(), ortlib.FileName("linux"))
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv(ortlib.Env, path)
	var out bytes.Buffer
	if err := (fetcher{out: &out, goos: "test", goarch: "test"}).main(t.Context(), t.TempDir()); err != nil || !strings.Contains(out.String(), "nothing to fetch") {
		t.Fatalf("%v\n%s", err, out.String())
	}
}

func TestPinsAreComplete(t *testing.T) {
	for platform, list := range pins {
		for _, p := range list {
			if p.member == "" || (p.source == "pip") != (p.wheel != "") || (p.source == "release") != (p.release != "") || (p.source != "release") != (len(p.sha256) == 64) {
				t.Errorf("%s: %+v", platform, p)
			}
		}
	}
}
