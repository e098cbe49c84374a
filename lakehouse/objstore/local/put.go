package local

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/tidemill/tidemill/lakehouse/objstore"
)

// Put implements objstore.Store. The file and its name are on disk when it returns.
func (s *Store) Put(ctx context.Context, key string, data []byte) error {
	return s.put(ctx, "put", key, data, func(temp, file string) error { return os.Rename(temp, file) })
}

// PutIfAbsent implements objstore.Store. Its outcome is unknown only when the disk fails
// after the name was taken.
func (s *Store) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	return s.put(ctx, "put if absent", key, data, func(temp, file string) error {
		err := os.Link(temp, file)
		if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOTSUP) || errors.Is(err, syscall.ENOSYS) {
			return fmt.Errorf("%w: the file system has no hard links", objstore.ErrNoConditionalPut)
		}
		return err
	})
}

// attempts bounds how often a directory is made anew that another's Delete took away.
const attempts = 100

func (s *Store) put(ctx context.Context, op, key string, data []byte, publish func(temp, file string) error) error {
	file, err := s.file(ctx, op, key, objstore.CheckKey)
	if err != nil {
		return err
	}
	for range attempts {
		if err = write(file, data, publish); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if err != nil {
		// Not failed: it would call a key below another object absent.
		return fmt.Errorf("%s %s: %w", op, key, bare(err))
	}
	return nil
}

// write stores data in a temporary file and publishes it under its name.
// fs.ErrNotExist: its directory went away.
func write(file string, data []byte, publish func(temp, file string) error) error {
	dir := filepath.Dir(file)
	made, err := makeDirs(dir)
	if err != nil {
		return err
	}
	temp := filepath.Join(dir, tempPrefix+rand.Text())
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = publish(temp, file)
	}
	// After a rename there is none; after a link the object keeps its own name.
	if rerr := os.Remove(temp); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) && err == nil {
		err = rerr
	}
	for d := dir; err == nil; d = filepath.Dir(d) {
		err = syncDir(d)
		if made == "" || d == made {
			break
		}
	}
	return err
}

// makeDirs makes a directory and those above it, and returns the directory that the
// topmost new one is in; empty when all were there.
func makeDirs(dir string) (parent string, err error) {
	for d := dir; ; d = filepath.Dir(d) {
		_, err := os.Stat(d)
		if !errors.Is(err, fs.ErrNotExist) {
			if d != dir {
				parent = d
			}
			break
		}
	}
	return parent, os.MkdirAll(dir, 0o755)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // what was in it is deleted already
	}
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) { // some file systems cannot
		return err
	}
	return nil
}
