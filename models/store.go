package models

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"time"
)

// Store is what the registry asks of an object store. Keys are slash-separated.
// Implementations are strongly consistent and safe for concurrent use.
type Store interface {
	// Get returns an object's content; fs.ErrNotExist if there is none.
	Get(ctx context.Context, key string) ([]byte, error)
	// PutIfAbsent stores data if there is no object at key: nil if this call did,
	// fs.ErrExist if there is one. After any other error the outcome is unknown.
	PutIfAbsent(ctx context.Context, key string, data []byte) error
	// Keys yields the keys that begin with prefix and sort after startAfter, in
	// lexical order. After an error, which comes with an empty key, it ends.
	Keys(ctx context.Context, prefix, startAfter string) iter.Seq2[string, error]
}

// putAttempts bounds how often put tries while the store says neither yes nor no.
const putAttempts = 5

// put stores data under a new key: true if this data is there now, false if
// other data is. An unclear answer is resolved by reading the key back, so a
// caller never loses to itself.
func (r *Registry) put(ctx context.Context, key string, data []byte) (bool, error) {
	var err error
	for attempt := range putAttempts {
		if attempt > 0 {
			if err := r.sleep(ctx, time.Duration(attempt)*20*time.Millisecond); err != nil {
				return false, err
			}
		}
		if err = r.store.PutIfAbsent(ctx, key, data); err == nil {
			return true, nil
		}
		have, getErr := r.store.Get(ctx, key)
		switch {
		case getErr == nil:
			return string(have) == string(data), nil
		case !errors.Is(getErr, fs.ErrNotExist):
			return false, fmt.Errorf("put %s: %w (then reading it back: %w)", key, err, getErr)
		case ctx.Err() != nil:
			return false, fmt.Errorf("put %s: %w", key, ctx.Err())
		}
	}
	return false, fmt.Errorf("put %s: %w", key, err)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
