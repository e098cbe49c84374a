package query

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// FileCache keeps immutable objects of a store as local files. Several
// processes may use one directory: a file in use is locked, and a file appears
// under its name only when it is complete. It is safe for concurrent use.
type FileCache struct {
	dir      string
	maxBytes int64

	mu       sync.Mutex
	total    int64                    // bytes of files as far as known; guarded by mu
	fetching map[string]chan struct{} // by file name, closed when the fetch ends; guarded by mu
}

const (
	cachedSuffix  = ".parquet"
	partialSuffix = ".partial"
	// abandonedAfter is when a partial file of a process that died is removed.
	abandonedAfter = time.Hour
)

// NewFileCache opens a cache in a directory, which is made if need be. Files
// of earlier runs are used again. Beyond maxBytes the files that were not used
// for longest are removed, except those in use.
func NewFileCache(dir string, maxBytes int64) (*FileCache, error) {
	c := &FileCache{dir: dir, maxBytes: maxBytes, fetching: map[string]chan struct{}{}}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("open file cache: %w", err)
	}
	if err := c.evict(); err != nil {
		return nil, fmt.Errorf("open file cache: %w", err)
	}
	return c, nil
}

// Dir is the directory, for [TablesOptions].
func (c *FileCache) Dir() string { return c.dir }

// CachedFile is a file in use.
type CachedFile struct {
	Path string
	Hit  bool // the file was there already
	lock *os.File
}

// Release allows the file to be removed. More calls do nothing.
func (f *CachedFile) Release() {
	if f.lock != nil {
		f.lock.Close()
		f.lock = nil
	}
}

// Fetch returns the file of an object, opening and copying the object unless
// it is there already. Key and size identify the object's bytes for ever.
// Calls for one key at the same time copy it once.
func (c *FileCache) Fetch(ctx context.Context, key string, size int64, open func(context.Context) (io.ReadCloser, error)) (*CachedFile, error) {
	sum := sha256.Sum256([]byte(key))
	name := fmt.Sprintf("%s-%d%s", hex.EncodeToString(sum[:16]), size, cachedSuffix)
	copied := false
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if f := c.use(name, size); f != nil {
			f.Hit = !copied
			return f, nil
		}
		c.mu.Lock()
		busy := c.fetching[name]
		if busy == nil {
			mine := make(chan struct{})
			c.fetching[name] = mine
			c.mu.Unlock()
			f := c.use(name, size) // another call may have just finished
			var err error
			if f == nil {
				err = c.copy(ctx, name, size, open)
			}
			c.mu.Lock()
			delete(c.fetching, name)
			c.mu.Unlock()
			close(mine)
			if err != nil {
				return nil, fmt.Errorf("fetch %s: %w", key, err)
			}
			if f != nil {
				f.Hit = true
				return f, nil
			}
			copied = true
			continue
		}
		c.mu.Unlock()
		select {
		case <-busy: // there now, or it failed and it is this call's turn
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Wanted is an object for [FileCache.FetchAll].
type Wanted struct {
	Key  string
	Size int64
	Open func(context.Context) (io.ReadCloser, error)
}

// FetchAll fetches objects, some at a time, in the order given. After an error
// nothing is in use.
func (c *FileCache) FetchAll(ctx context.Context, wanted []Wanted, parallel int) ([]*CachedFile, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	files := make([]*CachedFile, len(wanted))
	next := make(chan int)
	var wg sync.WaitGroup
	for range max(1, min(parallel, len(wanted))) {
		wg.Go(func() {
			for i := range next {
				f, err := c.Fetch(ctx, wanted[i].Key, wanted[i].Size, wanted[i].Open)
				if err != nil {
					cancel(err) // the first cause stays
					continue
				}
				files[i] = f
			}
		})
	}
	for i := range wanted {
		if ctx.Err() != nil {
			break
		}
		next <- i
	}
	close(next)
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		for _, f := range files {
			if f != nil {
				f.Release()
			}
		}
		return nil, err
	}
	return files, nil
}

// use locks a complete file, or returns nil when there is none.
func (c *FileCache) use(name string, size int64) *CachedFile {
	path := filepath.Join(c.dir, name)
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	if lockShared(f) != nil || !sameFile(f, path, size) {
		f.Close()
		return nil
	}
	now := time.Now()
	_ = os.Chtimes(path, now, now) // only the order of eviction hangs on it
	return &CachedFile{Path: path, lock: f}
}

// sameFile makes sure that the file was not removed, or replaced, before the
// lock was had.
func sameFile(f *os.File, path string, size int64) bool {
	a, errA := f.Stat()
	b, errB := os.Stat(path)
	return errA == nil && errB == nil && os.SameFile(a, b) && a.Size() == size
}

func (c *FileCache) copy(ctx context.Context, name string, size int64, open func(context.Context) (io.ReadCloser, error)) error {
	if err := c.room(size); err != nil {
		return err
	}
	src, err := open(ctx)
	if err != nil {
		return err
	}
	defer src.Close()
	tmp, err := os.CreateTemp(c.dir, "*"+partialSuffix)
	if err != nil {
		return err
	}
	n, err := io.Copy(tmp, src)
	if err == nil && n != size {
		err = fmt.Errorf("got %d bytes, %d expected: %w", n, size, io.ErrUnexpectedEOF)
	}
	err = errors.Join(err, tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), filepath.Join(c.dir, name))
	}
	if err != nil {
		os.Remove(tmp.Name())
		return err
	}
	c.mu.Lock()
	c.total += size
	c.mu.Unlock()
	return nil
}

// room makes place for a file of a size, as far as files are not in use.
func (c *FileCache) room(size int64) error {
	c.mu.Lock()
	full := c.total+size > c.maxBytes
	c.mu.Unlock()
	if !full {
		return nil
	}
	return c.evict(size)
}

// evict counts the directory's files and removes the longest unused ones until
// what is there and what is to come fits.
func (c *FileCache) evict(coming ...int64) error {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return err
	}
	var files []fs.FileInfo
	var total, need int64
	for _, n := range coming {
		need += n
	}
	for _, e := range entries {
		info, err := e.Info()
		switch {
		case err != nil: // removed by another process meanwhile
		case strings.HasSuffix(e.Name(), partialSuffix):
			if time.Since(info.ModTime()) > abandonedAfter {
				os.Remove(filepath.Join(c.dir, e.Name()))
			}
		case strings.HasSuffix(e.Name(), cachedSuffix):
			files = append(files, info)
			total += info.Size()
		}
	}
	slices.SortFunc(files, func(a, b fs.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for _, f := range files {
		if total+need <= c.maxBytes {
			break
		}
		if removeUnused(filepath.Join(c.dir, f.Name())) {
			total -= f.Size()
		}
	}
	c.mu.Lock()
	c.total = total
	c.mu.Unlock()
	return nil
}

// removeUnused removes a file unless someone holds its lock.
func removeUnused(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	defer f.Close()
	return lockExclusive(f) == nil && os.Remove(path) == nil
}
