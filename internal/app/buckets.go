package app

import (
	"context"
	"fmt"

	"github.com/tidemill/tidemill/connectors"
	"github.com/tidemill/tidemill/connectors/files"
	"github.com/tidemill/tidemill/lakehouse/objstore/s3"
)

// openBucket reaches a bucket that a connector reads. It is on the project's own store
// unless the connector names another one; keys that it does not give are those of that
// store, or the environment's.
func (p *process) openBucket(ctx context.Context, c connectors.S3) (files.Bucket, error) {
	cfg := bucketConfig(p.ends.Store.S3, c)
	b, err := s3.New(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("the S3 store at %s: %w", cfg.Endpoint, err)
	}
	p.bucketsOpened(b.Close)
	return b, nil
}

// bucketsOpened has a bucket's connections closed with the process.
func (p *process) bucketsOpened(closeBucket func()) {
	p.bucketsMu.Lock()
	defer p.bucketsMu.Unlock()
	p.buckets = append(p.buckets, closeBucket)
}

func (p *process) closeBuckets() {
	p.bucketsMu.Lock()
	defer p.bucketsMu.Unlock()
	for _, c := range p.buckets {
		c()
	}
	p.buckets = nil
}

// bucketConfig is how a connector's bucket is reached, beside the project's own store.
func bucketConfig(own s3.Config, c connectors.S3) s3.Config {
	cfg := s3.Config{Endpoint: c.Endpoint, Bucket: c.Bucket, Region: c.Region, AccessKey: c.AccessKey, SecretKey: c.SecretKey}
	if c.Endpoint != "" {
		return cfg
	}
	cfg.Endpoint, cfg.TLS = own.Endpoint, own.TLS
	if cfg.Region == "" {
		cfg.Region = own.Region
	}
	if cfg.AccessKey == "" {
		cfg.AccessKey, cfg.SecretKey, cfg.SessionToken = own.AccessKey, own.SecretKey, own.SessionToken
	}
	return cfg
}
