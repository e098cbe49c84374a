// Package local is the objstore driver for directories: an object is a file, and its key
// the file's path below a root. Any number of processes may use one directory.
//
// A write goes to a temporary file beside its target first, so that readers see whole
// objects only. It is then renamed over the target, or, to be conditional, linked to it:
// link(2) fails when the name is taken, whoever took it. Both want a file system that has
// hard links and keeps POSIX's word on them, which network shares may not.
package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/tidemill/tidemill/lakehouse/objstore"
)

// Store is a directory. Make one with New.
type Store struct{ root string }

var _ objstore.Store = (*Store)(nil)

// New returns the store whose objects are the files below dir, which must exist.
// Symbolic links are followed when a key leads through them; a listing leaves them out.
func New(dir string) (*Store, error) {
	root, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("directory %s: %w", dir, err)
	}
	info, err := os.Stat(root)
	if err != nil {
		return nil, fmt.Errorf("directory %s: %w", root, bare(err))
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("directory %s: it is no directory", root)
	}
	return &Store{root: root}, nil
}

// tempPrefix begins the names of files that are being written. They are no objects: a
// process that was killed leaves them behind.
const tempPrefix = ".tidemill-tmp-"

// file returns the path of a key that check accepts.
func (s *Store) file(ctx context.Context, op, key string, check func(string) error) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", fmt.Errorf("%s %s: %w", op, key, err)
	}
	if err := check(key); err != nil {
		return "", fmt.Errorf("%s: %w", op, err)
	}
	if strings.HasPrefix(path.Base(key), tempPrefix) {
		return "", fmt.Errorf("%s: %w %q: names that begin with %s are the store's own", op, objstore.ErrInvalidKey, key, tempPrefix)
	}
	return filepath.Join(s.root, filepath.FromSlash(key)), nil
}

// bare takes the path out of an error: the operation and the key are said already.
func bare(err error) error {
	var pe *fs.PathError
	var le *os.LinkError
	switch {
	case errors.As(err, &pe):
		return pe.Err
	case errors.As(err, &le):
		return le.Err
	}
	return err
}

// failed maps an error of the file system for one key. What cannot be there is absent
// like anything else: a path through a file, a name that is too long.
func failed(op, key string, err error) error {
	switch err = bare(err); {
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR), errors.Is(err, syscall.ENAMETOOLONG):
		err = fs.ErrNotExist
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.EINTR), errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.ESTALE):
		err = objstore.Transient(err)
	}
	return fmt.Errorf("%s %s: %w", op, key, err)
}

// Get implements objstore.Store.
func (s *Store) Get(ctx context.Context, key string) ([]byte, error) {
	const op = "get"
	file, err := s.file(ctx, op, key, objstore.CheckReadKey)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, failed(op, key, err)
	}
	return data, nil
}

// Stat implements objstore.Store. The ETag is made of what changes with every write: the
// file's number, its size and its time.
func (s *Store) Stat(ctx context.Context, key string) (objstore.Object, error) {
	const op = "stat"
	file, err := s.file(ctx, op, key, objstore.CheckReadKey)
	if err != nil {
		return objstore.Object{}, err
	}
	info, err := os.Stat(file)
	if err == nil && info.IsDir() {
		err = fs.ErrNotExist
	}
	if err != nil {
		return objstore.Object{}, failed(op, key, err)
	}
	return object(key, info), nil
}

func object(key string, info fs.FileInfo) objstore.Object {
	o := objstore.Object{Key: key, Size: info.Size(), ModTime: info.ModTime()}
	o.ETag = fmt.Sprintf("%x-%x", o.ModTime.UnixNano(), o.Size)
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		o.ETag = fmt.Sprintf("%x-%s", st.Ino, o.ETag)
	}
	return o
}

// Delete implements objstore.Store. Directories that it leaves empty go too.
func (s *Store) Delete(ctx context.Context, key string) error {
	const op = "delete"
	file, err := s.file(ctx, op, key, objstore.CheckKey)
	if err != nil {
		return err
	}
	if err := remove(file); err != nil {
		if err = failed(op, key, err); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return err
	}
	dir := filepath.Dir(file)
	for len(dir) > len(s.root) && os.Remove(dir) == nil { // fails when it is not empty
		dir = filepath.Dir(dir)
	}
	return nil
}

// remove removes a file; a directory, which is no object, is fs.ErrNotExist.
func remove(file string) error {
	info, err := os.Lstat(file)
	switch {
	case err != nil:
		return err
	case info.IsDir():
		return fs.ErrNotExist
	}
	return os.Remove(file)
}

// List implements objstore.Store. Names that CheckKey refuses are left out, and so is
// what is neither a file nor a directory.
func (s *Store) List(ctx context.Context, prefix, startAfter string) iter.Seq2[objstore.Object, error] {
	return func(yield func(objstore.Object, error) bool) {
		l := &listing{store: s, prefix: prefix, startAfter: startAfter, yield: yield}
		base, _ := path.Split(prefix)
		if base != "" && objstore.CheckKey(strings.TrimSuffix(base, "/")) != nil {
			return // no key begins like that
		}
		l.dir(ctx, base)
	}
}

// listing is one call of List. The context is that of the call.
type listing struct {
	store              *Store
	prefix, startAfter string
	yield              func(objstore.Object, error) bool
}

// item is an entry of a directory under the key it has, a directory's with a slash at its
// end: so the entries' order is that of the keys.
type item struct {
	key   string
	entry fs.DirEntry
}

// dir lists what is below a directory, whose key ends with a slash or is empty. It
// returns false when the listing is over.
func (l *listing) dir(ctx context.Context, base string) bool {
	entries, err := os.ReadDir(filepath.Join(l.store.root, filepath.FromSlash(base)))
	if err != nil {
		if err = failed("list", l.prefix, err); errors.Is(err, fs.ErrNotExist) {
			return true
		}
		l.yield(objstore.Object{}, err)
		return false
	}
	items := make([]item, 0, len(entries))
	for _, e := range entries {
		it := item{base + e.Name(), e}
		if e.IsDir() {
			it.key += "/"
		}
		if l.wanted(it) {
			items = append(items, it)
		}
	}
	slices.SortFunc(items, func(a, b item) int { return cmp.Compare(a.key, b.key) })
	for _, it := range items {
		if err := ctx.Err(); err != nil {
			l.yield(objstore.Object{}, fmt.Errorf("list %s: %w", l.prefix, err))
			return false
		}
		if more := l.one(ctx, it); !more {
			return false
		}
	}
	return true
}

func (l *listing) wanted(it item) bool {
	if it.entry.IsDir() {
		return (strings.HasPrefix(it.key, l.prefix) || strings.HasPrefix(l.prefix, it.key)) &&
			(it.key > l.startAfter || strings.HasPrefix(l.startAfter, it.key))
	}
	return it.entry.Type().IsRegular() && strings.HasPrefix(it.key, l.prefix) && it.key > l.startAfter &&
		!strings.HasPrefix(it.entry.Name(), tempPrefix) && objstore.CheckKey(it.key) == nil
}

func (l *listing) one(ctx context.Context, it item) bool {
	if it.entry.IsDir() {
		return l.dir(ctx, it.key)
	}
	info, err := it.entry.Info()
	switch {
	case errors.Is(err, fs.ErrNotExist): // deleted meanwhile
		return true
	case err != nil:
		l.yield(objstore.Object{}, failed("list", it.key, err))
		return false
	}
	return l.yield(object(it.key, info), nil)
}
