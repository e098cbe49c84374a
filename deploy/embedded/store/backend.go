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
	bucket, key := *in.Bucket, *in.Key
	path := filepath.Join(bucket, key) // relative: the working directory is the data directory
	var unlock func()
	out, err := b.PutObjectWithPostFunc(ctx, in, func(f *os.File) error {
		// The content has arrived; nothing is visible yet.
		if in.IfNoneMatch != nil && *in.IfNoneMatch == "*" {
			// Held until the object is published. Never while a client sends: it could stall others.
			mu := &b.locks[maphash.String(b.seed, path)%stripes]
			mu.Lock()
			unlock = mu.Unlock
			if err := b.checkFree(bucket, key, path); err != nil {
				return err
			}
		}
		if b.sync {
			return f.Sync()
		}
		return nil
	})
	if unlock != nil {
		unlock()
	}
	if errors.Is(err, errTaken) {
		return out, s3err.GetPreconditionFailedErr(s3err.ConditionIfNoneMatch)
	}
	if err == nil && b.sync {
		// Unknown to the client as success until this is done.
		if serr := syncDirs(filepath.Dir(path)); serr != nil {
			return s3response.PutObjectOutput{}, fmt.Errorf("sync directory: %w", serr)
		}
	}
	return out, err
}

// checkFree returns errTaken when there is an object at path, and removes metadata
// that a crash left without an object.
func (b *backend) checkFree(bucket, key, path string) error {
	switch fi, err := os.Stat(path); {
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

// syncedDirs are directories whose own entry is known to be on disk.
var syncedDirs sync.Map

// syncDirs puts the entries of dir on disk, and once those of the directories above it.
func syncDirs(dir string) error {
	if err := syncDir(dir); err != nil {
		return err
	}
	for d := dir; d != "."; {
		if _, done := syncedDirs.Load(d); done {
			return nil
		}
		parent := filepath.Dir(d)
		if err := syncDir(parent); err != nil {
			return err
		}
		syncedDirs.Store(d, nil)
		d = parent
	}
	return nil
}

// syncDir syncs one directory. One that is gone, with a last object deleted meanwhile,
// has nothing to keep.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		syncedDirs.Delete(dir)
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
