package s3_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/tidemill/tidemill/internal/testserver"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/objstore/s3"
	"github.com/tidemill/tidemill/lakehouse/objstore/storetest"
)

func config(m *testserver.MinIO) s3.Config {
	return s3.Config{Endpoint: m.Addr, Bucket: "lake", AccessKey: m.AccessKey, SecretKey: m.SecretKey, CreateBucket: true}
}

func open(tb testing.TB, cfg s3.Config) *s3.Store {
	tb.Helper()
	s, err := s3.New(tb.Context(), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Close)
	return s
}

// fresh gives each subtest a prefix of its own in one bucket.
func fresh(s objstore.Store) func(*testing.T) objstore.Store {
	var n atomic.Int32
	return func(*testing.T) objstore.Store {
		return objstore.WithPrefix(s, fmt.Sprintf("run%d", n.Add(1)))
	}
}

func TestConformanceMinIO(t *testing.T) {
	m := testserver.StartMinIO(t)
	t.Run("unsigned payloads", func(t *testing.T) { storetest.Run(t, fresh(open(t, config(m)))) })
	t.Run("signed payloads", func(t *testing.T) {
		cfg := config(m)
		cfg.Bucket = "signed"
		s := open(t, cfg)
		s.SignPayloads()
		storetest.Run(t, fresh(s))
	})
}

func BenchmarkPut(b *testing.B) {
	m := testserver.StartMinIO(b)
	for _, signed := range []bool{false, true} {
		s := open(b, config(m))
		if signed {
			s.SignPayloads()
		}
		for _, size := range []int{1 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("size=%d,signed=%t", size, signed), func(b *testing.B) {
				data := make([]byte, size)
				b.SetBytes(int64(size))
				for i := 0; b.Loop(); i++ {
					if err := s.PutIfAbsent(b.Context(), fmt.Sprintf("bench%t/%d/%d", signed, size, i), data); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
