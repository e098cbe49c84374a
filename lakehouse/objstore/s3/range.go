package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/tidemill/tidemill/lakehouse/objstore"
)

// GetRange reads len(p) bytes of an object from an offset; they must lie in it. If etag
// is not empty, an object with another one is fs.ErrExist, whether or not the store
// knows the condition.
func (s *Store) GetRange(ctx context.Context, key, etag string, p []byte, offset int64) error {
	const op = "get part of"
	if err := objstore.CheckReadKey(key); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	if len(p) == 0 {
		return nil
	}
	var opts minio.GetObjectOptions
	if err := opts.SetRange(offset, offset+int64(len(p))-1); err != nil {
		return fmt.Errorf("%s %s: %w", op, key, err)
	}
	if etag != "" {
		if err := opts.SetMatchETag(etag); err != nil {
			return fmt.Errorf("%s %s: %w", op, key, err)
		}
	}
	attempt, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(s.timeout, func() { cancel(errTimeout) })
	defer watchdog.Stop()

	body, info, _, err := s.core.GetObject(attempt, s.bucket, key, opts)
	if err != nil {
		return mapError(ctx, attempt, op, key, false, err)
	}
	defer body.Close()
	if etag != "" && strings.Trim(info.ETag, `"`) != etag {
		return fmt.Errorf("%s %s: %w: it has another ETag", op, key, fs.ErrExist)
	}
	for n := 0; n < len(p); {
		m, err := body.Read(p[n:])
		n += m
		if n < len(p) && err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return mapError(ctx, attempt, op, key, false, err)
		}
		watchdog.Reset(s.timeout)
	}
	_, _ = body.Read(make([]byte, 1)) // its end: else the connection cannot be used again
	return nil
}
