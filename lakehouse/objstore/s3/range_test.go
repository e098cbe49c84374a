package s3_test

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/internal/testserver"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/objstore/faulty"
)

// TestGetRange: parts of an object in one version only.
func TestGetRange(t *testing.T) {
	m := testserver.StartMinIO(t)
	s := open(t, config(m))
	content := strings.Repeat("0123456789", 100_000)
	if err := s.Put(t.Context(), "k", []byte(content)); err != nil {
		t.Fatal(err)
	}
	var etag string
	for o, err := range s.List(t.Context(), "k", "") {
		if err != nil {
			t.Fatal(err)
		}
		etag = o.ETag
	}
	for _, c := range []struct{ off, n int }{{0, 10}, {5, 1}, {999_999, 1}, {100_003, 700_000}, {0, 1_000_000}, {7, 0}} {
		p := make([]byte, c.n)
		if err := s.GetRange(t.Context(), "k", etag, p, int64(c.off)); err != nil || string(p) != content[c.off:c.off+c.n] {
			t.Errorf("%+v: %v, %.40q", c, err, p)
		}
	}
	if err := s.GetRange(t.Context(), "absent", "", make([]byte, 1), 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	if err := s.GetRange(t.Context(), "k", etag, make([]byte, 20), 999_990); err == nil {
		t.Error("bytes beyond the end")
	}
	if err := s.Put(t.Context(), "k", []byte("something else")); err != nil {
		t.Fatal(err)
	}
	if err := s.GetRange(t.Context(), "k", etag, make([]byte, 1), 0); !errors.Is(err, fs.ErrExist) {
		t.Errorf("replaced: %v", err)
	}

	proxy, err := faulty.StartProxy(m.Addr, faulty.ProxyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	cfg := config(m)
	cfg.Endpoint = proxy.Addr
	away := open(t, cfg)
	proxy.Set(faulty.ProxyOptions{Fault: faulty.Nth(1, faulty.Unavailable)})
	if err := away.GetRange(t.Context(), "k", "", make([]byte, 1), 0); !objstore.Retryable(err) {
		t.Errorf("unavailable: %v", err)
	}
}
