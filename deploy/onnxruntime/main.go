// Command onnxruntime puts the pinned ONNX Runtime library into tools/, where
// models/onnx finds it. ONNX Runtime is no Go module; Microsoft ships it in
// packages for Python and Node and as release archives. Whichever of the three
// can be reached will do: the ordinary clients are asked, so that a proxy or a
// mirror that pip and npm know is used, and the file must have one of the
// hashes in pins.go.
//
//	go run ./deploy/onnxruntime [-from pip|npm|release] [-dir <project>]
//
// A second run finds the library in place and does nothing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/tidemill/tidemill/internal/ortlib"
)

func main() {
	var f fetcher
	var dir string
	flag.StringVar(&f.from, "from", "", "only this source: pip, npm or release (default: the first that works)")
	flag.StringVar(&dir, "dir", "", "project directory (default: the one with go.mod, from here upwards)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	f.out, f.goos, f.goarch = os.Stdout, runtime.GOOS, runtime.GOARCH
	if err := f.main(ctx, dir); err != nil {
		fmt.Fprintln(os.Stderr, "onnxruntime:", err)
		stop()
		os.Exit(1)
	}
}

type fetcher struct {
	out          io.Writer
	from         string
	goos, goarch string
}

func (f fetcher) main(ctx context.Context, dir string) error {
	if path := os.Getenv(ortlib.Env); path != "" {
		found, err := ortlib.Resolve(path)
		if err != nil {
			return err
		}
		fmt.Fprintf(f.out, "ONNX Runtime: %s says %s; nothing to fetch\n", ortlib.Env, found)
		return nil
	}
	if dir == "" {
		var err error
		if dir, err = projectDir(); err != nil {
			return err
		}
	}
	return f.fetch(ctx, filepath.Join(ortlib.Dir(dir), ortlib.FileName(f.goos)))
}

// projectDir is the directory with go.mod, from the working directory upwards.
func projectDir() (string, error) {
	wd, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := wd; ; {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", fmt.Errorf("no go.mod in %s or above; run it in the project, or give -dir", wd)
		}
		dir = parent
	}
}

// fetch makes sure that target is a pinned library.
func (f fetcher) fetch(ctx context.Context, target string) error {
	platform := f.goos + "/" + f.goarch
	all := pins[platform]
	if len(all) == 0 {
		return fmt.Errorf("no ONNX Runtime %s is pinned for %s; build or install it yourself (%s or newer) and set %s to the library", ortlib.Version, platform, ortlib.Oldest, ortlib.Env)
	}
	if sum, err := hashFile(target); err == nil {
		if pinned(all, sum) {
			fmt.Fprintf(f.out, "ONNX Runtime %s is in place: %s\n", ortlib.Version, target)
			return nil
		}
		fmt.Fprintf(f.out, "ONNX Runtime: %s is not the pinned library; fetching it again\n", target)
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	var failures []error
	for _, p := range all {
		if f.from != "" && p.source != f.from {
			continue
		}
		began := time.Now()
		fmt.Fprintf(f.out, "ONNX Runtime %s for %s: fetching %s\n", ortlib.Version, platform, p)
		err := try(ctx, p, all, target)
		if err == nil {
			fmt.Fprintf(f.out, "ONNX Runtime: verified and put in place in %.1f s: %s\n", time.Since(began).Seconds(), target)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		fmt.Fprintf(f.out, "  not from there: %v\n", err)
		failures = append(failures, fmt.Errorf("%s: %w", p.source, err))
	}
	if failures == nil {
		return fmt.Errorf("no source %q for %s", f.from, platform)
	}
	return fmt.Errorf("no source gave ONNX Runtime %s. Install pip or npm, or set %s to a library of version %s or newer (a directory or the file).\n%w",
		ortlib.Version, ortlib.Env, ortlib.Oldest, errors.Join(failures...))
}

// try fetches into a directory beside the target, so that a half of a library
// is never in place and the last step is a rename.
func try(ctx context.Context, p pin, all []pin, target string) error {
	work, err := os.MkdirTemp(filepath.Dir(target), ".fetch-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	archive, err := p.download(ctx, work)
	if err != nil {
		return err
	}
	file := filepath.Join(work, "library")
	if err := extract(archive, p.member, file); err != nil {
		return err
	}
	sum, err := hashFile(file)
	if err != nil {
		return err
	}
	if p.sha256 != "" {
		all = []pin{p}
	}
	if !pinned(all, sum) {
		return fmt.Errorf("%s has SHA-256 %s, which is not pinned; it is not used", p.member, sum)
	}
	if err := os.Chmod(file, 0o755); err != nil {
		return err
	}
	return os.Rename(file, target)
}

func pinned(pins []pin, sum string) bool {
	return slices.ContainsFunc(pins, func(p pin) bool { return p.sha256 == sum })
}
