// Package s3 is the objstore driver for S3 and the stores that speak it (MinIO, the
// embedded store, AWS and others), on minio-go. It makes exactly one attempt per call:
// repetition is objstore.Retry's business, and conditional writes must not be repeated
// blindly at all.
package s3

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"net"
	"net/http"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/tidemill/tidemill/lakehouse/objstore"
)

// Store is a bucket. Make one with New. It holds idle connections, which Close frees.
type Store struct {
	core      minio.Core
	transport *http.Transport
	bucket    string
	timeout   time.Duration
	// unsigned: the payload's hash is not part of the signature, because TLS or the
	// loopback protects it. Its CRC32C, which is, guards against corruption.
	unsigned bool
}

var _ objstore.Store = (*Store)(nil)

// New connects to the bucket of cfg, and creates it if it is missing and cfg allows.
// It does not check that the store honours conditional writes: objstore.Probe does.
func New(ctx context.Context, cfg Config) (*Store, error) {
	host, secure, err := cfg.validate()
	if err != nil {
		return nil, fmt.Errorf("s3 config: %w", err)
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 30 * time.Second
	}
	if cfg.Region == "" && !isAmazon(host) {
		cfg.Region = "us-east-1" // saves asking the store for it
	}
	transport := newTransport(cfg.Timeout)
	client, err := minio.New(host, &minio.Options{
		Creds:      creds(cfg),
		Secure:     secure,
		Region:     cfg.Region,
		Transport:  transport,
		MaxRetries: 1, // a conditional write repeated after a lost answer reports its own success as a conflict
		// Without it minio-go refuses checksum headers; with the header set it sends no trailer.
		TrailingHeaders: true,
	})
	if err != nil {
		return nil, fmt.Errorf("s3 config: %w", err)
	}
	client.SetAppInfo("tidemill", "0.1")
	s := &Store{
		core:      minio.Core{Client: client},
		transport: transport,
		bucket:    cfg.Bucket,
		timeout:   cfg.Timeout,
		unsigned:  secure || isLoopback(host),
	}
	if err := s.openBucket(ctx, cfg); err != nil {
		s.Close()
		return nil, fmt.Errorf("open bucket %s at %s: %w", cfg.Bucket, host, err)
	}
	return s, nil
}

func creds(cfg Config) *credentials.Credentials {
	if cfg.AccessKey != "" {
		return credentials.NewStaticV4(cfg.AccessKey, cfg.SecretKey.Reveal(), cfg.SessionToken.Reveal())
	}
	return credentials.NewChainCredentials([]credentials.Provider{
		&credentials.EnvAWS{}, &credentials.EnvMinio{}, &credentials.FileAWSCredentials{}, &credentials.IAM{},
	})
}

func newTransport(timeout time.Duration) *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: timeout,
		IdleConnTimeout:       90 * time.Second,
		MaxIdleConns:          256,
		MaxIdleConnsPerHost:   64,       // a table's parallel writes must not dial anew each time
		WriteBufferSize:       64 << 10, // bodies are often of a MB; the default of 4 kB costs 16 times the calls
		ReadBufferSize:        64 << 10,
		DisableCompression:    true, // content comes back as it was stored
	}
}

func (s *Store) openBucket(ctx context.Context, cfg Config) error {
	attempt, cancel := s.attempt(ctx, 0)
	defer cancel()
	ok, err := s.core.BucketExists(attempt, cfg.Bucket)
	if err != nil {
		return classify(ctx, attempt, false, err)
	}
	if ok {
		return nil
	}
	if !cfg.CreateBucket {
		return errors.New("no such bucket; create it first, or allow Tidemill to create it")
	}
	err = s.core.MakeBucket(attempt, cfg.Bucket, minio.MakeBucketOptions{Region: cfg.Region})
	if code := minio.ToErrorResponse(err).Code; code == minio.BucketAlreadyOwnedByYou {
		return nil // another process was first
	}
	if err != nil {
		return fmt.Errorf("create it: %w", classify(ctx, attempt, false, err))
	}
	return nil
}

// Close frees the idle connections. Calls under way go on.
func (s *Store) Close() { s.transport.CloseIdleConnections() }

// attempt bounds one attempt that sends size bytes.
func (s *Store) attempt(ctx context.Context, size int) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, s.timeout+time.Duration(size>>20)*time.Second, errTimeout)
}

// Get implements objstore.Store.
func (s *Store) Get(ctx context.Context, key string) ([]byte, error) {
	const op = "get"
	if err := objstore.CheckReadKey(key); err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	// A long body may take its time as long as it moves: the timer is of the last progress.
	attempt, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(s.timeout, func() { cancel(errTimeout) })
	defer watchdog.Stop()

	body, info, _, err := s.core.GetObject(attempt, s.bucket, key, minio.GetObjectOptions{})
	if err != nil {
		return nil, mapError(ctx, attempt, op, key, false, err)
	}
	defer body.Close()
	data, err := readBody(body, info.Size, func() { watchdog.Reset(s.timeout) })
	if err != nil {
		return nil, mapError(ctx, attempt, op, key, false, err)
	}
	return data, nil
}

// readBody reads a body of the given size into a slice of exactly that size, in steps
// that it reports. A body that ends early is an error; net/http cuts off a longer one.
func readBody(r io.Reader, size int64, progress func()) ([]byte, error) {
	if size < 0 {
		return io.ReadAll(r)
	}
	data := make([]byte, size)
	for n := 0; n < len(data); {
		m, err := r.Read(data[n:])
		n += m
		if n < len(data) && err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		progress()
	}
	// The end is read too: else the connection cannot be used again.
	_, _ = r.Read(make([]byte, 1))
	return data, nil
}

// Stat implements objstore.Store.
func (s *Store) Stat(ctx context.Context, key string) (objstore.Object, error) {
	const op = "stat"
	if err := objstore.CheckReadKey(key); err != nil {
		return objstore.Object{}, fmt.Errorf("%s: %w", op, err)
	}
	attempt, cancel := s.attempt(ctx, 0)
	defer cancel()
	info, err := s.core.StatObject(attempt, s.bucket, key, minio.StatObjectOptions{})
	if err != nil {
		return objstore.Object{}, mapError(ctx, attempt, op, key, false, err)
	}
	return object(key, info), nil
}

func object(key string, info minio.ObjectInfo) objstore.Object {
	return objstore.Object{Key: key, Size: info.Size, ModTime: info.LastModified, ETag: info.ETag}
}

// Put implements objstore.Store.
func (s *Store) Put(ctx context.Context, key string, data []byte) error {
	return s.put(ctx, "put", key, data, false)
}

// PutIfAbsent implements objstore.Store.
func (s *Store) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	return s.put(ctx, "put if absent", key, data, true)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (s *Store) put(ctx context.Context, op, key string, data []byte, ifAbsent bool) error {
	if err := objstore.CheckKey(key); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	attempt, cancel := s.attempt(ctx, len(data))
	defer cancel()
	sum := binary.BigEndian.AppendUint32(nil, crc32.Checksum(data, castagnoli))
	opts := minio.PutObjectOptions{
		ContentType:          "application/octet-stream",
		DisableMultipart:     true, // one request, so that it is atomic and the condition holds for all of it
		DisableContentSha256: s.unsigned,
		UserMetadata:         map[string]string{"x-amz-checksum-crc32c": base64.StdEncoding.EncodeToString(sum)},
	}
	if ifAbsent {
		opts.SetMatchETagExcept("*")
	}
	_, err := s.core.Client.PutObject(attempt, s.bucket, key, bytes.NewReader(data), int64(len(data)), opts)
	return mapError(ctx, attempt, op, key, ifAbsent, err)
}

// Delete implements objstore.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	const op = "delete"
	if err := objstore.CheckKey(key); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	attempt, cancel := s.attempt(ctx, 0)
	defer cancel()
	err := s.core.RemoveObject(attempt, s.bucket, key, minio.RemoveObjectOptions{})
	if minio.ToErrorResponse(err).Code == minio.NoSuchKey {
		return nil
	}
	return mapError(ctx, attempt, op, key, false, err)
}

// List implements objstore.Store. Keys that CheckKey refuses, such as the directory
// markers of other tools ("a/"), are left out: no other method could name them.
func (s *Store) List(ctx context.Context, prefix, startAfter string) iter.Seq2[objstore.Object, error] {
	return func(yield func(objstore.Object, error) bool) {
		attempt, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		// Of the store's answers only: the time the caller takes between two is its own.
		watchdog := time.AfterFunc(s.timeout, func() { cancel(errTimeout) })
		defer watchdog.Stop()
		noOwner := false
		for info := range s.core.ListObjectsIter(attempt, s.bucket, minio.ListObjectsOptions{
			Prefix: prefix, StartAfter: startAfter, Recursive: true, FetchOwner: &noOwner,
		}) {
			watchdog.Stop()
			if info.Err != nil {
				yield(objstore.Object{}, mapError(ctx, attempt, "list", prefix, false, info.Err))
				return
			}
			if objstore.CheckKey(info.Key) == nil && !yield(object(info.Key, info), nil) {
				return
			}
			watchdog.Reset(s.timeout)
		}
		// minio-go ends a listing without an error when its context is done, and half a
		// listing must not pass for a whole one.
		if err := context.Cause(attempt); err != nil {
			yield(objstore.Object{}, mapError(ctx, attempt, "list", prefix, false, err))
		}
	}
}
