package files

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

type local struct{ pattern }

// Local is the place of the files that a path names: a file, a directory with all
// below it, or a glob.
func Local(path string) (Place, error) {
	p, err := newPattern(filepath.ToSlash(path))
	if err != nil {
		return nil, fmt.Errorf("path %s: %w", path, err)
	}
	switch {
	case p.base == "" && strings.HasPrefix(path, "/"):
		p.base = "/"
	case p.base == "":
		p.base = "."
	}
	return local{p}, nil
}

func (l local) String() string { return strings.Join(append([]string{l.base}, l.segs...), "/") }

// List implements Place.
func (l local) List(ctx context.Context) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		err := filepath.WalkDir(l.base, func(name string, d fs.DirEntry, err error) error {
			if err == nil {
				err = ctx.Err()
			}
			if errors.Is(err, fs.ErrNotExist) {
				return nil // gone since it was listed, or not there yet
			}
			if err != nil {
				return err
			}
			rel := "."
			if r, err := filepath.Rel(l.base, name); err == nil {
				rel = filepath.ToSlash(r)
			}
			if d.IsDir() {
				if rel != "." && !l.reaches(rel) {
					return fs.SkipDir
				}
				return nil
			}
			if rel != "." && !l.match(rel) || rel == "." && len(l.segs) > 0 {
				return nil
			}
			o, err := l.Stat(ctx, name)
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNoFile) {
				return nil
			}
			if err != nil {
				return err
			}
			if !yield(o, nil) {
				return fs.SkipAll
			}
			return nil
		})
		if err != nil {
			yield(Object{}, err)
		}
	}
}

// errNoFile: a directory behind a link, a socket, a pipe.
var errNoFile = errors.New("not a regular file")

// Stat implements Place.
func (local) Stat(_ context.Context, name string) (Object, error) {
	info, err := os.Stat(name)
	if err != nil {
		return Object{}, err
	}
	if !info.Mode().IsRegular() {
		return Object{}, fmt.Errorf("%s: %w", name, errNoFile)
	}
	return fileObject(name, info), nil
}

func fileObject(name string, info fs.FileInfo) Object {
	var inode uint64
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		inode = st.Ino
	}
	return Object{
		Name: name, Size: info.Size(), ModTime: info.ModTime(),
		Version: fmt.Sprintf("%d.%d.%d", inode, info.Size(), info.ModTime().UnixNano()),
	}
}

// Open implements Place. The content is what the file has when it is read.
func (local) Open(_ context.Context, o Object) (Content, error) { return os.Open(o.Name) }
