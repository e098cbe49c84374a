// Package edits notices that the files of a project have changed: that
// something in connectors/ or tables/, or tidemill.yaml, has other content, is
// new, or is gone. What a change means, and whether it is any good, is for
// whoever is told of it.
//
// Files are looked at from time to time, not watched: that works on every file
// system, in containers and on mounted configuration too, and does not mind how
// an editor writes (in place, or another file renamed over the old one).
package edits

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Every is how often files are looked at. A change is acted upon when two looks,
// one after the other, have seen the same: an editor that is still writing is given
// the time to finish.
const Every = 250 * time.Millisecond

// maxSize is up to where a file's content is read; of a larger one the size and the
// time of its last change must do. It is far above what lint takes.
const maxSize = 4 << 20

// Files are the contents of a project's files, as hashes by their paths.
type Files struct {
	sums  map[string][sha256.Size]byte
	stats map[string]stat // by which a file need not be read again
	at    time.Time
}

// stat is what the file system says of a file.
type stat struct {
	size int64
	mod  time.Time
}

// Equal reports whether nothing differs.
func (f Files) Equal(other Files) bool { return maps.Equal(f.sums, other.sums) }

// Look reads the files of the project in a directory. What is known of them from an
// earlier look spares reading those that have not been touched since.
func Look(dir string, earlier Files) (Files, error) {
	f := Files{sums: map[string][sha256.Size]byte{}, stats: map[string]stat{}, at: time.Now()}
	if err := f.look(filepath.Join(dir, "tidemill.yaml"), earlier); err != nil {
		return f, err
	}
	for _, sub := range []string{"connectors", "tables"} {
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return f, fmt.Errorf("look for edits: %w", err)
		}
		for _, e := range entries {
			ext := filepath.Ext(e.Name())
			if e.IsDir() || strings.HasPrefix(e.Name(), ".") || ext != ".yaml" && ext != ".yml" {
				continue
			}
			if err := f.look(filepath.Join(dir, sub, e.Name()), earlier); err != nil {
				return f, err
			}
		}
	}
	return f, nil
}

// settled is how old a file's time must be for the file not to be read again: with a
// younger one it may change once more without another time being shown.
const settled = 2 * time.Second

func (f *Files) look(path string, earlier Files) error {
	info, err := os.Stat(path) // through links, as mounted configuration has them
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for edits: %w", err)
	}
	st := stat{info.Size(), info.ModTime()}
	f.stats[path] = st
	if sum, ok := earlier.sums[path]; ok && earlier.stats[path] == st && earlier.at.Sub(st.mod) > settled {
		f.sums[path] = sum
		return nil
	}
	var data []byte
	if info.Mode().IsRegular() && st.size <= maxSize {
		data, err = os.ReadFile(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil: // no permission, say: that lint will tell of
			data = []byte(err.Error())
		}
	} else {
		data = fmt.Appendf(nil, "%d %s", st.size, st.mod)
	}
	f.sums[path] = sha256.Sum256(data)
	return nil
}

// Cause is why the files are to be acted upon.
type Cause int

const (
	Edited Cause = iota // they are others than were last acted upon
	Again               // they are those that could not be dealt with the last time
	Forced              // somebody asked for it
)

// Follow calls act when the files in dir are other than those last acted upon, seen at
// first, and when something comes from force. It returns when ctx ends. act says
// whether it has dealt with the edit; if not, it is called again at each look.
func Follow(ctx context.Context, dir string, seen Files, tick <-chan time.Time, force <-chan os.Signal, act func(context.Context, Cause) (done bool)) {
	follow(ctx, func(last Files) (Files, error) { return Look(dir, last) }, seen, tick, force, act)
}

func follow(ctx context.Context, look func(last Files) (Files, error), seen Files, tick <-chan time.Time, force <-chan os.Signal, act func(context.Context, Cause) bool) {
	last, tried := seen, seen
	for ctx.Err() == nil {
		cause := Edited
		select {
		case <-ctx.Done():
			return
		case <-force:
			cause = Forced
		case <-tick:
		}
		now, err := look(last)
		if err != nil {
			continue // a directory that is being replaced; it is looked at again
		}
		still := now.Equal(last)
		last = now
		if cause != Forced && (!still || now.Equal(seen) && now.Equal(tried)) {
			continue
		}
		if cause == Edited && now.Equal(tried) {
			cause = Again
		}
		tried = now
		if act(ctx, cause) {
			seen = now
		}
	}
}
