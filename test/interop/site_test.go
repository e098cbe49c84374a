package interop

import (
	"testing"

	"github.com/tidemill/tidemill/internal/testserver"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/objstore/local"
	"github.com/tidemill/tidemill/lakehouse/objstore/s3"
)

// site is where a test's tables are.
type site struct {
	objstore.Store
	name    string
	url     string            // of its root, without a slash at the end
	options map[string]string // delta-rs' storage options
	spark   map[string]string // Spark's settings
}

func (p *site) uri(table string) string { return p.url + "/" + table }

// onMinIO makes a bucket on a new server.
func onMinIO(t *testing.T) *site { return onBucket(t, "lake") }

func onBucket(t *testing.T, bucket string) *site {
	t.Helper()
	m := testserver.StartMinIO(t)
	store, err := s3.New(t.Context(), s3.Config{
		Endpoint: "http://" + m.Addr, Bucket: bucket, Region: "us-east-1", AccessKey: m.AccessKey, SecretKey: m.SecretKey, CreateBucket: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	return &site{
		Store: objstore.Retry(store, objstore.RetryPolicy{}), name: "MinIO", url: "s3://" + bucket,
		options: map[string]string{
			"AWS_ENDPOINT_URL": "http://" + m.Addr, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": m.AccessKey,
			"AWS_SECRET_ACCESS_KEY": m.SecretKey.Reveal(), "AWS_CONDITIONAL_PUT": "etag",
		},
		spark: map[string]string{
			"fs.s3a.endpoint": "http://" + m.Addr, "fs.s3a.path.style.access": "true", "fs.s3a.connection.ssl.enabled": "false",
			"fs.s3a.access.key": m.AccessKey, "fs.s3a.secret.key": m.SecretKey.Reveal(), "fs.s3a.endpoint.region": "us-east-1",
		},
	}
}

// onDisk makes a directory.
func onDisk(t *testing.T) *site {
	t.Helper()
	dir := t.TempDir()
	store, err := local.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	return &site{Store: store, name: "disk", url: "file://" + dir, options: map[string]string{}, spark: map[string]string{}}
}
