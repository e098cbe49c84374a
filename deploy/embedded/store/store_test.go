package store_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/tidemill/tidemill/deploy/embedded/store"
	"github.com/tidemill/tidemill/internal/secret"
	"github.com/tidemill/tidemill/internal/testserver"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/objstore/s3"
	"github.com/tidemill/tidemill/lakehouse/objstore/storetest"
)

var key = secret.New("store-test-secret")

func start(tb testing.TB, o store.Options) (*store.Store, *s3.Store) {
	tb.Helper()
	if o.Dir == "" {
		o.Dir = tb.TempDir()
	}
	if o.Addr == "" {
		o.Addr = testserver.Addr(testserver.FreePort(tb))
	}
	o.Region, o.AccessKey, o.SecretKey = "us-east-1", "tidemill", key
	s, err := store.Start(tb.Context(), o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			tb.Error(err)
		}
	})
	c, err := s3.New(tb.Context(), s3.Config{Endpoint: o.Addr, Bucket: "lake", AccessKey: "tidemill", SecretKey: key, CreateBucket: true})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.Close)
	return s, c
}

func TestConformance(t *testing.T) {
	for _, sidecar := range []bool{false, true} {
		t.Run(fmt.Sprintf("sidecar=%t", sidecar), func(t *testing.T) {
			s, c := start(t, store.Options{Sidecar: sidecar})
			if sidecar != s.Sidecar() {
				t.Skip("no extended attributes in the temporary directory")
			}
			var n atomic.Int32
			storetest.Run(t, func(*testing.T) objstore.Store {
				return objstore.WithPrefix(c, fmt.Sprintf("run%d", n.Add(1)))
			})
		})
	}
}

func BenchmarkPut(b *testing.B) {
	for _, nosync := range []bool{false, true} {
		_, c := start(b, store.Options{NoSync: nosync})
		for _, size := range []int{1 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("nosync=%t,size=%d", nosync, size), func(b *testing.B) {
				data := make([]byte, size)
				b.SetBytes(int64(size))
				for i := 0; b.Loop(); i++ {
					if err := c.PutIfAbsent(b.Context(), fmt.Sprintf("t/log/%d/%d", size, i), data); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
