package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strings"

	"github.com/tidemill/tidemill/lakehouse/objstore"
)

// Bucket is what is asked of an S3 bucket. Another attempt may help when
// objstore.Retryable says so of an error.
type Bucket interface {
	// List is that of objstore.Store.
	List(ctx context.Context, prefix, startAfter string) iter.Seq2[objstore.Object, error]
	Stat(ctx context.Context, key string) (objstore.Object, error)
	// GetRange reads len(p) bytes of an object from an offset, which must lie in it. An
	// object with another ETag is fs.ErrExist, one that is gone fs.ErrNotExist.
	GetRange(ctx context.Context, key, etag string, p []byte, offset int64) error
}

// ErrReplaced: the object has another content than the one that was to be read.
var ErrReplaced = errors.New("it was replaced while it was read")

// SplitS3 takes s3://bucket/rest apart; ok is false for other paths.
func SplitS3(path string) (bucket, rest string, ok bool) {
	for _, scheme := range []string{"s3://", "s3a://"} {
		if len(path) > len(scheme) && strings.EqualFold(path[:len(scheme)], scheme) {
			bucket, rest, _ = strings.Cut(path[len(scheme):], "/")
			return bucket, rest, true
		}
	}
	return "", "", false
}

type bucketPlace struct {
	pattern
	bucket Bucket
	url    string // s3://name/
	path   string
}

// InBucket is the place of the objects of a bucket that a path (what SplitS3
// returns as rest) names: an object, a prefix that ends in a slash, or a glob.
func InBucket(b Bucket, name, path string) (Place, error) {
	p, err := newPattern(strings.TrimSuffix(path, "/"))
	if err != nil {
		return nil, fmt.Errorf("path s3://%s/%s: %w", name, path, err)
	}
	return bucketPlace{p, b, "s3://" + name + "/", path}, nil
}

func (b bucketPlace) String() string { return b.url + b.path }

// List implements Place.
func (b bucketPlace) List(ctx context.Context) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		prefix := b.base
		if len(b.segs) > 0 && prefix != "" || strings.HasSuffix(b.path, "/") {
			prefix += "/"
		}
		for o, err := range b.bucket.List(ctx, prefix, "") {
			if err != nil {
				yield(Object{}, err)
				return
			}
			rel, below := strings.CutPrefix(o.Key, b.base)
			if b.base != "" && below && rel != "" {
				rel, below = strings.CutPrefix(rel, "/")
			}
			if !below || rel == "" && len(b.segs) > 0 || rel != "" && !b.match(rel) || o.Size == 0 {
				continue
			}
			if !yield(b.object(o), nil) {
				return
			}
		}
	}
}

func (b bucketPlace) object(o objstore.Object) Object {
	version := o.ETag
	if version == "" {
		version = fmt.Sprintf("%d.%d", o.Size, o.ModTime.UnixNano())
	}
	return Object{Name: b.url + o.Key, Size: o.Size, ModTime: o.ModTime, Version: version, Fixed: true}
}

// Stat implements Place.
func (b bucketPlace) Stat(ctx context.Context, name string) (Object, error) {
	o, err := b.bucket.Stat(ctx, strings.TrimPrefix(name, b.url))
	if err != nil {
		return Object{}, err
	}
	return b.object(o), nil
}

// Open implements Place.
func (b bucketPlace) Open(ctx context.Context, o Object) (Content, error) {
	return &ranges{ctx, b.bucket, strings.TrimPrefix(o.Name, b.url), o}, nil
}

// ranges reads an object by requests for parts of it, none of which takes long:
// a connection that waits while rows land would be cut off by the server.
type ranges struct {
	ctx    context.Context // io.ReaderAt has no room for one
	bucket Bucket
	key    string
	o      Object
}

func (r *ranges) ReadAt(p []byte, off int64) (int, error) {
	n := min(int64(len(p)), r.o.Size-off)
	if n <= 0 {
		return 0, io.EOF
	}
	err := r.bucket.GetRange(r.ctx, r.key, r.o.Version, p[:n], off)
	switch {
	case errors.Is(err, fs.ErrExist):
		return 0, ErrReplaced
	case err != nil:
		return 0, err
	case n < int64(len(p)):
		return int(n), io.EOF
	}
	return int(n), nil
}

func (*ranges) Close() error { return nil }
