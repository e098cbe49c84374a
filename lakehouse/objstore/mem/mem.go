// Package mem is an object store in memory, for tests: it has the full semantics of
// objstore.Store and keeps nothing.
package mem

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tidemill/tidemill/lakehouse/objstore"
)

// Store is an objstore.Store in memory. Make one with New.
type Store struct {
	// Now gives the modification times; time.Now unless set before the first use.
	Now func() time.Time

	mu      sync.RWMutex
	objects map[string]object // guarded by mu
	keys    []string          // guarded by mu; sorted
}

type object struct {
	data []byte // never written to once stored
	meta objstore.Object
}

var _ objstore.Store = (*Store)(nil)

// New makes an empty store.
func New() *Store {
	return &Store{Now: time.Now, objects: map[string]object{}}
}

func check(ctx context.Context, op, key string, valid func(string) error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s %s: %w", op, key, err)
	}
	if err := valid(key); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	return nil
}

func (s *Store) get(ctx context.Context, op, key string) (object, error) {
	if err := check(ctx, op, key, objstore.CheckReadKey); err != nil {
		return object{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	o, ok := s.objects[key]
	if !ok {
		return object{}, fmt.Errorf("%s %s: %w", op, key, fs.ErrNotExist)
	}
	return o, nil
}

// Get implements objstore.Store.
func (s *Store) Get(ctx context.Context, key string) ([]byte, error) {
	o, err := s.get(ctx, "get", key)
	if err != nil {
		return nil, err
	}
	return append([]byte{}, o.data...), nil
}

// Stat implements objstore.Store.
func (s *Store) Stat(ctx context.Context, key string) (objstore.Object, error) {
	o, err := s.get(ctx, "stat", key)
	return o.meta, err
}

// Put implements objstore.Store.
func (s *Store) Put(ctx context.Context, key string, data []byte) error {
	return s.put(ctx, "put", key, data, false)
}

// PutIfAbsent implements objstore.Store. Its outcome is never unknown.
func (s *Store) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	return s.put(ctx, "put if absent", key, data, true)
}

func (s *Store) put(ctx context.Context, op, key string, data []byte, ifAbsent bool) error {
	if err := check(ctx, op, key, objstore.CheckKey); err != nil {
		return err
	}
	sum := md5.Sum(data)
	o := object{
		data: append([]byte{}, data...),
		meta: objstore.Object{Key: key, Size: int64(len(data)), ETag: hex.EncodeToString(sum[:])},
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o.meta.ModTime = s.Now()
	if _, ok := s.objects[key]; ok {
		if ifAbsent {
			return fmt.Errorf("%s %s: %w", op, key, fs.ErrExist)
		}
	} else {
		i, _ := slices.BinarySearch(s.keys, key)
		s.keys = slices.Insert(s.keys, i, key)
	}
	s.objects[key] = o
	return nil
}

// Delete implements objstore.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := check(ctx, "delete", key, objstore.CheckKey); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.objects[key]; !ok {
		return nil
	}
	delete(s.objects, key)
	i, _ := slices.BinarySearch(s.keys, key)
	s.keys = slices.Delete(s.keys, i, i+1)
	return nil
}

// List implements objstore.Store. The lock is not held while the caller looks at an
// object, so the caller may write to the store.
func (s *Store) List(ctx context.Context, prefix, startAfter string) iter.Seq2[objstore.Object, error] {
	return func(yield func(objstore.Object, error) bool) {
		at, inclusive := prefix, true
		if startAfter >= prefix && startAfter != "" {
			at, inclusive = startAfter, false
		}
		for {
			if err := ctx.Err(); err != nil {
				yield(objstore.Object{}, fmt.Errorf("list %s: %w", prefix, err))
				return
			}
			o, ok := s.next(at, inclusive)
			if !ok || !strings.HasPrefix(o.Key, prefix) || !yield(o, nil) {
				return
			}
			at, inclusive = o.Key, false
		}
	}
}

// next is the first object at (if inclusive) or after key.
func (s *Store) next(key string, inclusive bool) (objstore.Object, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	i, found := slices.BinarySearch(s.keys, key)
	if found && !inclusive {
		i++
	}
	if i >= len(s.keys) {
		return objstore.Object{}, false
	}
	return s.objects[s.keys[i]].meta, true
}
