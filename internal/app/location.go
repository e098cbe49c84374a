package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/tidemill/tidemill/internal/secret"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/objstore/local"
	"github.com/tidemill/tidemill/lakehouse/objstore/s3"
)

// IsLocation says whether a table is named by where it lies rather than by its name in a
// project: with a slash in it, or as a directory that is there.
func IsLocation(table string) bool {
	if strings.Contains(table, "/") {
		return true
	}
	info, err := os.Stat(table)
	return err == nil && info.IsDir()
}

// openLocation opens the table in a local directory (a path or file:///path), or in a
// bucket (s3://bucket/path) that is reached as the environment's AWS_* variables say. No
// project is needed.
func openLocation(ctx context.Context, where string, log *slog.Logger) (*Table, error) {
	scheme, _, ok := strings.Cut(where, "://")
	switch {
	case !ok:
		return openDirectory(ctx, where)
	case strings.EqualFold(scheme, "file"):
		dir, err := fileURL(where)
		if err != nil {
			return nil, err
		}
		return openDirectory(ctx, dir)
	case strings.EqualFold(scheme, "s3"), strings.EqualFold(scheme, "s3a"):
		return openBucketTable(ctx, where, os.Getenv, log)
	}
	return nil, fmt.Errorf("%s: scheme %s:// is not known; tables are read from a path, file:// or s3://", where, scheme)
}

func fileURL(where string) (string, error) {
	const want = "want file:///absolute/path, with %25 for a percent sign"
	u, err := url.Parse(where)
	if err != nil {
		return "", fmt.Errorf("%s: %w; %s", where, errors.Unwrap(err), want)
	}
	if u.Host != "" && u.Host != "localhost" || u.Path == "" || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("%s: %s", where, want)
	}
	return u.Path, nil
}

func openDirectory(ctx context.Context, dir string) (*Table, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	store, err := local.New(abs)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: there is no such directory", dir)
	}
	if err != nil {
		return nil, err
	}
	return openAt(ctx, store, "", (&url.URL{Scheme: "file", Path: abs}).String(), func() {})
}

func openBucketTable(ctx context.Context, where string, env func(string) string, log *slog.Logger) (*Table, error) {
	_, rest, _ := strings.Cut(where, "://")
	bucket, prefix, _ := strings.Cut(rest, "/")
	prefix = strings.Trim(prefix, "/")
	if bucket == "" || prefix == "" {
		return nil, fmt.Errorf("%s: want s3://bucket/path/of/the/table", where)
	}
	cfg := environmentS3(bucket, env)
	var store *s3.Store
	err := reach(ctx, 5*time.Second, log, "the S3 store at "+cfg.Endpoint, func(ctx context.Context) error {
		var err error
		store, err = s3.New(ctx, cfg)
		if err != nil && !objstore.Retryable(err) && ctx.Err() == nil {
			return permanentError{fmt.Errorf("%w; it is reached as AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY say", err)}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return openAt(ctx, objstore.Retry(store, objstore.RetryPolicy{}), prefix, "s3://"+bucket+"/"+prefix, store.Close)
}

// environmentS3 is how a bucket is reached, in the variables that other tools use, too.
// Without keys there the driver looks into AWS's credentials file, and asks the machine.
func environmentS3(bucket string, env func(string) string) s3.Config {
	region := cmp.Or(env("AWS_REGION"), env("AWS_DEFAULT_REGION"))
	endpoint := cmp.Or(env("AWS_ENDPOINT_URL_S3"), env("AWS_ENDPOINT_URL"))
	if endpoint == "" {
		endpoint = "https://s3.amazonaws.com"
		if region != "" {
			endpoint = "https://s3." + region + ".amazonaws.com"
		}
	}
	return s3.Config{
		Endpoint: endpoint, Bucket: bucket, Region: region,
		AccessKey: env("AWS_ACCESS_KEY_ID"), SecretKey: secret.New(env("AWS_SECRET_ACCESS_KEY")), SessionToken: secret.New(env("AWS_SESSION_TOKEN")),
	}
}

// openAt opens the table below a prefix of a store, which is closed when there is none.
// Nothing is written to it.
func openAt(ctx context.Context, store objstore.Store, prefix, url string, closeStore func()) (*Table, error) {
	t, err := lakehouse.Open(ctx, objstore.ReadOnly(store), prefix, lakehouse.WithName(url))
	if err == nil {
		return &Table{name: path.Base(url), url: url, table: t, close: closeStore}, nil
	}
	defer closeStore()
	if errors.Is(err, fs.ErrNotExist) {
		for _, lerr := range objstore.WithPrefix(store, prefix).List(ctx, "_delta_log/", "") {
			if lerr != nil {
				err = lerr
			}
			return nil, err // there is a log, and something is wrong with it
		}
		return nil, fmt.Errorf("%s holds no Delta table: there is no log in %s/_delta_log", url, url)
	}
	return nil, err
}
