// Package objstore is what Tidemill asks of an object store, and no more than that:
// whole objects by key, one conditional write, listing in order.
//
// It holds the interface, the errors that every driver maps its own to, and the
// decorators that need no driver (Retry, WithPrefix). Drivers and test doubles are
// subpackages: mem, s3, faulty. storetest is the conformance suite that all of them
// pass. Nothing here knows what an object contains.
package objstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"strings"
	"time"
)

// Object describes a stored object.
type Object struct {
	Key     string
	Size    int64 // bytes
	ModTime time.Time
	// ETag changes when the content changes; it is opaque, without quotes, and may be
	// empty in a listing.
	ETag string
}

// Store is an object store. Keys are slash-separated paths as CheckKey accepts them; Get
// and Stat take those of CheckReadKey too.
// All methods are safe for concurrent use. A store is strongly consistent: what a
// successful write stored, every later read and listing sees.
//
// Errors: an absent object is fs.ErrNotExist (errors.Is). Whether another attempt
// can help is what Retryable says of an error. No error holds a credential.
type Store interface {
	// Get returns the whole content of an object, in a slice that belongs to the caller.
	Get(ctx context.Context, key string) ([]byte, error)
	// Stat describes an object without reading it.
	Stat(ctx context.Context, key string) (Object, error)
	// Put stores data under key and replaces what was there. It is atomic (readers see
	// the old or the new content) and idempotent: a driver may retry it, and so may the
	// caller. data is not kept and must not change during the call.
	Put(ctx context.Context, key string, data []byte) error
	// PutIfAbsent stores data only if there is no object at key: of any number of
	// concurrent calls for one key, one succeeds. It is one attempt, never retried by a
	// driver or decorator.
	//
	//	nil               stored, by this call
	//	fs.ErrExist       there is an object; it may be ours, from an attempt whose answer was lost
	//	ErrConflict       another write of the key is in flight; this one did nothing: same call again
	//	ErrNoConditionalPut  the store cannot do it; nothing was stored
	//	anything else     the outcome is unknown: read the key back
	PutIfAbsent(ctx context.Context, key string, data []byte) error
	// List yields the objects whose key begins with prefix (a plain string prefix) and
	// sorts after startAfter (empty: from the first), in lexical order of their bytes,
	// whatever their depth. Objects written or deleted meanwhile may or may not be seen.
	// After an error, which comes with a zero Object, it ends.
	List(ctx context.Context, prefix, startAfter string) iter.Seq2[Object, error]
	// Delete removes an object; an absent one is no error.
	Delete(ctx context.Context, key string) error
}

var (
	// ErrConflict: the store refused a conditional write because another write of the
	// same key was in flight. Nothing was stored by this call; call it again.
	ErrConflict = errors.New("conflicting write of the same key in flight")
	// ErrNoConditionalPut: the store does not honour If-None-Match, so tables on it
	// would lose commits. Use another store, or another setting of this one.
	ErrNoConditionalPut = errors.New("the store does not honour conditional writes (If-None-Match: *)")
	// ErrInvalidKey: the key cannot be stored portably. See CheckKey.
	ErrInvalidKey = errors.New("invalid object key")
)

// Transient marks err as one that another attempt may not meet: the network, a
// timeout, an overloaded or failing server. Drivers call it; Retryable reads it.
func Transient(err error) error {
	if err == nil {
		return nil
	}
	return transient{err}
}

type transient struct{ error }

func (t transient) Unwrap() error { return t.error }

// Retryable reports whether the same call may succeed later: what the driver marked
// as Transient, and ErrConflict. Absence, existence, refused credentials, missing
// buckets, bad requests and a cancelled caller are not. For PutIfAbsent it says
// nothing about the outcome, which is to be read back first.
func Retryable(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		return false
	}
	var t transient
	return errors.As(err, &t) || errors.Is(err, ErrConflict)
}

// maxKey and maxSegment are the narrowest limits of the stores we support: S3's length
// of a key, and a file system's length of a name (the embedded store keeps objects as files).
const (
	maxKey     = 1024
	maxSegment = 255
)

// CheckReadKey is CheckKey for objects that others wrote and that are only read: it
// accepts backslashes, and segments of any length, which some stores keep and some do
// not. Drivers apply it to Get and Stat, CheckKey to everything else.
func CheckReadKey(key string) error {
	if key == "" || len(key) > maxKey {
		return fmt.Errorf("%w: %d bytes, want 1 to %d", ErrInvalidKey, len(key), maxKey)
	}
	if strings.IndexByte(key, 0) >= 0 {
		return fmt.Errorf("%w %q: has NUL", ErrInvalidKey, key)
	}
	for seg := range strings.SplitSeq(key, "/") {
		if seg == "" || seg == "." || seg == ".." {
			return fmt.Errorf("%w %q: path segment %q", ErrInvalidKey, key, seg)
		}
	}
	return nil
}

// CheckKey returns an ErrInvalidKey unless key is a non-empty relative path of at most
// 1024 bytes whose segments have 1 to 255 bytes and are neither "." nor "..", without
// NUL or backslash: what every supported store keeps as it is. Drivers apply it to each
// call that writes.
//
// One restriction is not checked: where "a" is an object, "a/b" should not be one,
// because a store that keeps objects as files cannot have both.
func CheckKey(key string) error {
	if err := CheckReadKey(key); err != nil {
		return err
	}
	if strings.IndexByte(key, '\\') >= 0 {
		return fmt.Errorf("%w %q: has a backslash", ErrInvalidKey, key)
	}
	for seg := range strings.SplitSeq(key, "/") {
		if len(seg) > maxSegment {
			return fmt.Errorf("%w %q: path segment %q has %d bytes, want at most %d", ErrInvalidKey, key, seg, len(seg), maxSegment)
		}
	}
	return nil
}
