package objstore

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"
)

// probeAttempts bounds how often Probe begins again after a doubtful outcome.
const probeAttempts = 4

// Probe checks that conditional writes to s work, below prefix: it writes an object of
// a fresh name twice and wants the second refused and the first intact. If not, the
// error is an ErrNoConditionalPut that says what to do. It removes what it wrote.
// Other errors are the store's own (no such bucket, refused credentials, no network).
func Probe(ctx context.Context, s Store, prefix string) error {
	base := strings.Trim(prefix, "/")
	if base != "" {
		base += "/"
	}
	var err error
	for range probeAttempts {
		if err = probe(ctx, s, base+".tidemill-probe-"+rand.Text()); err == nil || !Retryable(err) {
			break
		}
		if serr := sleep(ctx, 200*time.Millisecond); serr != nil {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("probe of conditional writes: %w", err)
	}
	return nil
}

func probe(ctx context.Context, s Store, key string) (err error) {
	first, second := []byte("first"), []byte("second")
	defer func() {
		// Also after a cancelled or failed write, which may have arrived all the same.
		cctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if derr := s.Delete(cctx, key); derr != nil && err == nil {
			err = fmt.Errorf("remove the probe object: %w", derr)
		}
	}()
	if err := s.PutIfAbsent(ctx, key, first); err != nil {
		if errors.Is(err, fs.ErrExist) {
			// A fresh random name cannot exist, unless a proxy or the store repeated the request.
			return fmt.Errorf("write of a fresh key was refused as existing; does something between here and the store repeat requests? %w", Transient(errors.New(err.Error())))
		}
		return err
	}
	switch err := s.PutIfAbsent(ctx, key, second); {
	case err == nil:
		return fmt.Errorf("%w: it accepted a second write of the same key, so two writers could overwrite each other's commits; "+
			"use a store that supports conditional writes (AWS S3, MinIO, the embedded store), or update this one, "+
			"and check that no proxy in front of it drops the header", ErrNoConditionalPut)
	case errors.Is(err, fs.ErrExist):
	default:
		return err
	}
	got, err := s.Get(ctx, key)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, first) {
		return fmt.Errorf("%w: it refused a second write of the same key, yet stored it", ErrNoConditionalPut)
	}
	return nil
}
