package app

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLocations(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.Mkdir("here", 0o755); err != nil {
		t.Fatal(err)
	}
	for table, want := range map[string]bool{"./t": true, "/abs/t": true, "a/b": true, "s3://b/t": true, "file:///t": true, "here": true, "orders": false, "orders_scored": false} {
		if got := IsLocation(table); got != want {
			t.Errorf("%s: %v", table, got)
		}
	}
	for url, want := range map[string]string{
		"file:///a/b%20c": "/a/b c", "file://localhost/a": "/a", "file:///a%25b": "/a%b", "file://host/a": "", "file://": "", "file:///a?x=1": "", "file:///a%zz": "",
	} {
		if got, err := fileURL(url); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", url, got, err)
		}
	}
	for where, want := range map[string]string{"gs://b/t": "gs://", "s3://b": "want s3://bucket/path", "s3:///t": "want s3://bucket/path", "./none": "no such directory", "here": "here holds no Delta table"} {
		if _, err := openLocation(t.Context(), where, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", where, err)
		}
	}
	// A log that cannot be read is not the same as none.
	log := filepath.Join("here", "_delta_log")
	if err := os.Mkdir(log, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(log, "00000000000000000000.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openLocation(t.Context(), "here", slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "damaged log") {
		t.Error(err)
	}
}

func TestS3AsTheEnvironmentSays(t *testing.T) {
	for _, c := range []struct {
		env              map[string]string
		endpoint, region string
	}{
		{nil, "https://s3.amazonaws.com", ""},
		{map[string]string{"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "us-east-2"}, "https://s3.eu-west-1.amazonaws.com", "eu-west-1"},
		{map[string]string{"AWS_DEFAULT_REGION": "us-east-2", "AWS_ENDPOINT_URL": "http://a:9000"}, "http://a:9000", "us-east-2"},
		{map[string]string{"AWS_ENDPOINT_URL_S3": "http://b:9000", "AWS_ENDPOINT_URL": "http://a:9000"}, "http://b:9000", ""},
	} {
		env := func(k string) string {
			return map[string]string{"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "token"}[k] + c.env[k]
		}
		got := environmentS3("b", env)
		if got.Endpoint != c.endpoint || got.Region != c.region || got.AccessKey != "id" || got.SecretKey.Reveal() != "secret" || got.SessionToken.Reveal() != "token" || got.CreateBucket {
			t.Errorf("%v: %+v", c.env, got)
		}
	}
}
