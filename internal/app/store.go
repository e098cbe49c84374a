package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/objstore/s3"
	"github.com/tidemill/tidemill/models"
)

// StoreConfig is a bucket and the prefix below which a project keeps everything.
type StoreConfig struct {
	S3     s3.Config
	Prefix string
}

// What a project keeps beside its tables. Names of tables never begin with an underscore.
const (
	systemPrefix = "_tidemill"
	modelPrefix  = systemPrefix + "/models"
	uploadPrefix = systemPrefix + "/upload"
)

// openStore reaches the bucket, refuses a store that does not honour
// conditional writes, and returns the project's part of it.
func openStore(ctx context.Context, c StoreConfig, wait time.Duration, log *slog.Logger) (objstore.Store, func() error, error) {
	var bucket *s3.Store
	err := reach(ctx, wait, log, "the S3 store at "+c.S3.Endpoint, func(ctx context.Context) error {
		var err error
		bucket, err = s3.New(ctx, c.S3)
		if err != nil && !objstore.Retryable(err) && ctx.Err() == nil {
			return permanentError{err}
		}
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	s := objstore.WithPrefix(objstore.Retry(bucket, objstore.RetryPolicy{}), c.Prefix)
	if err := objstore.Probe(ctx, s, systemPrefix+"/probe"); err != nil {
		bucket.Close()
		err = fmt.Errorf("the S3 store at %s: %w", c.S3.Endpoint, err)
		if objstore.Retryable(err) {
			err = unavailableError{err}
		}
		return nil, nil, err
	}
	return s, func() error { bucket.Close(); return nil }, nil
}

// projectFiles implements activities.Files.
type projectFiles struct {
	dir   string
	store objstore.Store
}

// Read reads "upload/<name>" from the store and anything else from the
// project's directory.
func (f *projectFiles) Read(ctx context.Context, name string) ([]byte, error) {
	if up, ok := strings.CutPrefix(name, "upload/"); ok {
		return f.store.Get(ctx, uploadPrefix+"/"+up)
	}
	if !filepath.IsLocal(name) {
		return nil, notInside(name)
	}
	root, err := os.OpenRoot(f.dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	data, err := root.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		// A directory, a link that leads out, no permission: asking again does not help.
		return nil, fmt.Errorf("%w: %w", notInside(name), err)
	}
	return data, err
}

func notInside(name string) error {
	return fmt.Errorf("%s: %w: not a readable file inside the project directory; copy it there, or use `tidemill model register`, which uploads it", name, fs.ErrInvalid)
}

// Upload keeps data in the store.
func (f *projectFiles) Upload(ctx context.Context, data []byte, sha256 string) (string, error) {
	name := sha256 + ".onnx"
	err := f.store.PutIfAbsent(ctx, uploadPrefix+"/"+name, data)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		// The name is the content's hash, so writing it twice is harmless.
		err = f.store.Put(ctx, uploadPrefix+"/"+name, data)
		if err != nil {
			return "", fmt.Errorf("upload: %w", err)
		}
	}
	return "upload/" + name, nil
}

// relative returns a project file's path below the project directory, with slashes.
func (p *process) relative(file string) (string, error) {
	rel, err := filepath.Rel(p.project.Dir(), file)
	if err != nil {
		return "", fmt.Errorf("%s: %w", file, err)
	}
	return filepath.ToSlash(rel), nil
}

// newRegistry is the project's model registry.
func newRegistry(s objstore.Store) *models.Registry {
	return models.NewRegistry(modelStore{s}, modelPrefix, models.RegistryOptions{})
}

// modelStore is an object store as models wants it.
type modelStore struct{ objstore.Store }

func (m modelStore) Keys(ctx context.Context, prefix, startAfter string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for o, err := range m.List(ctx, prefix, startAfter) {
			if !yield(o.Key, err) {
				return
			}
		}
	}
}
