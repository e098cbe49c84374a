package store

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/s3err"
	"github.com/versity/versitygw/s3response"
)

// stripes is the number of locks that conditional writes share by key.
const stripes = 256

// backend is the gateway's file system backend, with two promises added to PutObject:
//
// What is acknowledged is on disk. The content is synced before the object becomes
// visible, its directory entry before the answer; a file system with an ordered journal
// (ext4, xfs) then cannot keep a later commit and lose this one.
//
// A conditional write is judged by the object. The gateway asks the metadata, which can
// be there without the object (kept beside it and written first: a crash in between
// would block a commit's slot for ever) or be missing with it.
type backend struct {
	*posix.Posix
	meta meta.MetadataStorer
	sync bool

	seed  maphash.Seed
	locks [stripes]sync.Mutex
}

func newBackend(px *posix.Posix, m meta.MetadataStorer, sync bool) *backend {
	return &backend{Posix: px, meta: m, sync: sync, seed: maphash.MakeSeed()}
}

var errTaken = errors.New("object exists")

// PutObject implements the gateway's backend interface.
func (b *backend) PutObject(ctx context.Context, in s3response.PutObjectInput) (s3response.PutObjectOutput, error) {
	if in.IfNoneMatch != nil && *in.IfNoneMatch == "*" {
		return b.putIfAbsent(ctx, in)
	}
	return b.put(ctx, in, func() error { return nil })
}

// putIfAbsent checks twice under the key's lock: before the gateway looks at metadata
// that may be stale, and when the content has arrived, where the lock is held until the
// object is published. Never in between, while a client sends: it could stall others.
func (b *backend) putIfAbsent(ctx context.Context, in s3response.PutObjectInput) (s3response.PutObjectOutput, error) {
	mu := &b.locks[maphash.String(b.seed, *in.Bucket+"/"+*in.Key)%stripes]
	mu.Lock()
	err := b.checkFree(*in.Bucket, *in.Key)
	mu.Unlock()
	var out s3response.PutObjectOutput
	if err == nil {
		locked := false
		out, err = b.put(ctx, in, func() error {
			mu.Lock()
			locked = true
			return b.checkFree(*in.Bucket, *in.Key)
		})
		if locked {
			mu.Unlock()
		}
	}
	if errors.Is(err, errTaken) {
		return out, s3err.GetPreconditionFailedErr(s3err.ConditionIfNoneMatch)
	}
	return out, err
}

// put stores an object; arrived is called when its content is there and it is not
// visible yet, and can refuse it.
func (b *backend) put(ctx context.Context, in s3response.PutObjectInput, arrived func() error) (s3response.PutObjectOutput, error) {
	out, err := b.PutObjectWithPostFunc(ctx, in, func(f *os.File) error {
		if err := arrived(); err != nil || !b.sync {
			return err
		}
		return f.Sync()
	})
	if err == nil && b.sync {
		// The client has no answer before this is done.
		if serr := syncDirs(filepath.Join(*in.Bucket, filepath.Dir(*in.Key))); serr != nil {
			return s3response.PutObjectOutput{}, fmt.Errorf("sync directory: %w", serr)
		}
	}
	return out, err
}

// checkFree returns errTaken when there is an object, and removes metadata that a crash
// left without one. Paths are relative: the working directory is the data directory.
func (b *backend) checkFree(bucket, key string) error {
	switch fi, err := os.Stat(filepath.Join(bucket, key)); {
	case err == nil && !fi.IsDir():
		return errTaken
	case err == nil:
		return nil // the gateway refuses a key that is a directory
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if _, ok := b.meta.(meta.SideCar); ok {
		return b.meta.DeleteAttributes(bucket, key)
	}
	return nil
}

// syncDirs puts the entries of dir and of the directories above it on disk: any of them
// may be new, the gateway removes and makes them as objects come and go. A directory
// with nothing new costs microseconds.
func syncDirs(dir string) error {
	for {
		if err := syncDir(dir); err != nil {
			return err
		}
		if dir == "." {
			return nil
		}
		dir = filepath.Dir(dir)
	}
}

// syncDir syncs one directory. One that is gone, with a last object deleted meanwhile,
// has nothing to keep.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
