// Package ortlib knows which ONNX Runtime shared library Tidemill is built
// against and where it is found. It is pure Go, so that the fetcher in
// deploy/onnxruntime can share it; package models/onnx does the loading.
package ortlib

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

const (
	// Version is the pinned release. Any release from Oldest on works.
	Version = "1.27.0"
	Oldest  = "1.24"
	// Env names the library, or the directory that holds it, if it is not in the usual place.
	Env = "TIDEMILL_ONNXRUNTIME"
)

// ErrNotFound: there is no library. Its text says how to get it.
var ErrNotFound = errors.New("the ONNX Runtime library is missing")

// Remedy ends every error about the library.
const Remedy = "run `go tool task setup` to fetch ONNX Runtime " + Version + ", or set " + Env + " to a library file (" + Oldest + " or newer) or its directory"

// FileName is the library's name on an operating system of GOOS's.
func FileName(goos string) string {
	switch goos {
	case "windows":
		return "onnxruntime.dll"
	case "darwin":
		return "libonnxruntime.dylib"
	}
	return "libonnxruntime.so"
}

// Dir is where set-up puts the library, below a project's or an installation's root.
func Dir(root string) string { return filepath.Join(root, "tools", "onnxruntime", Version) }

// Find returns the library's absolute path: what the environment names, else
// tools/onnxruntime/<version> beside the program, in the working directory, or
// in a directory above either.
func Find() (string, error) {
	if path := os.Getenv(Env); path != "" {
		return Resolve(path)
	}
	var roots []string
	if exe, err := os.Executable(); err == nil {
		if real, err := filepath.EvalSymlinks(exe); err == nil {
			exe = real
		}
		roots = append(roots, filepath.Dir(exe))
	}
	if wd, err := os.Getwd(); err == nil {
		roots = append(roots, wd)
	}
	for _, root := range roots {
		for {
			path := filepath.Join(Dir(root), FileName(runtime.GOOS))
			if isFile(path) {
				return path, nil
			}
			parent := filepath.Dir(root)
			if parent == root {
				break
			}
			root = parent
		}
	}
	return "", fmt.Errorf("%w: %s", ErrNotFound, Remedy)
}

// Resolve turns a value of the environment variable into the library's path.
func Resolve(path string) (string, error) {
	info, err := os.Stat(path)
	if err == nil && info.IsDir() {
		path = filepath.Join(path, FileName(runtime.GOOS))
		_, err = os.Stat(path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%w: %s names %s, which does not exist; %s", ErrNotFound, Env, path, Remedy)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", Env, err)
	}
	return filepath.Abs(path)
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
