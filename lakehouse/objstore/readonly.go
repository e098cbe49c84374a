package objstore

import (
	"context"
	"errors"
	"fmt"
)

// ErrReadOnly: the store was opened for reading only.
var ErrReadOnly = errors.New("opened for reading only")

// ReadOnly returns s without its writes: each of them is an ErrReadOnly, and s never
// hears of it.
func ReadOnly(s Store) Store { return readOnly{s} }

type readOnly struct{ Store }

func (readOnly) Put(_ context.Context, key string, _ []byte) error {
	return fmt.Errorf("put %s: %w", key, ErrReadOnly)
}

func (readOnly) PutIfAbsent(_ context.Context, key string, _ []byte) error {
	return fmt.Errorf("put if absent %s: %w", key, ErrReadOnly)
}

func (readOnly) Delete(_ context.Context, key string) error {
	return fmt.Errorf("delete %s: %w", key, ErrReadOnly)
}
