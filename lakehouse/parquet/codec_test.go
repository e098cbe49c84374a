package parquet

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/apache/arrow/go/v17/parquet/compress"
	reference "github.com/golang/snappy"
	"github.com/klauspost/compress/zstd"
)

// What is written must be Snappy for everyone, not only for the package that wrote it.
func TestSnappyIsSnappy(t *testing.T) {
	codec, err := compress.GetCodec(compress.Codecs.Snappy)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := codec.(snappy); !ok {
		t.Fatalf("the codec in use is %T", codec)
	}
	r := rand.New(rand.NewPCG(3, 5))
	line := []byte(`{"tx_id":"tx-000000000001","card_id":"card-00012345","amount":12.50,"country":"DE"}` + "\n")
	buf := make([]byte, 0, 64)
	for _, size := range []int{0, 1, 15, 16, 17, 1000, 1 << 16, 1<<16 + 1, 300_000, 5 << 20} {
		for kind, fill := range map[string]func(i int) byte{
			"zeros": func(int) byte { return 0 },
			"noise": func(int) byte { return byte(r.Uint32()) },
			"lines": func(i int) byte {
				if r.IntN(12) == 0 {
					return byte('0' + r.IntN(10))
				}
				return line[i%len(line)]
			},
			"far": func(i int) byte { return byte(i >> 3 * 2654435761 >> 13) }, // repeats beyond 64 kB
		} {
			src := make([]byte, size)
			for i := range src {
				src[i] = fill(i)
			}
			for _, dst := range [][]byte{nil, buf, make([]byte, 0, 2*size+1024)} {
				out := codec.EncodeLevel(dst, src, 0)
				if int64(len(out)) > codec.CompressBound(int64(size)) {
					t.Errorf("%s of %d: %d bytes, more than the bound", kind, size, len(out))
				}
				back, err := reference.Decode(nil, out)
				if err != nil || !bytes.Equal(back, src) {
					t.Fatalf("%s of %d bytes come back different: %v", kind, size, err)
				}
			}
		}
	}
}

// TestZstd: an encoder that is shared writes into the room that it is given, and makes
// a frame of nothing, too.
func TestZstd(t *testing.T) {
	codec, err := compress.GetCodec(compress.Codecs.Zstd)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := codec.(zstandard); !ok {
		t.Fatalf("the codec in use is %T", codec)
	}
	d, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, size := range []int{0, 1, 1000, 1<<17 + 1, 3 << 20} {
		src := bytes.Repeat([]byte("tidemill"), size/8+1)[:size]
		room := make([]byte, 0, codec.CompressBound(int64(size))+64)
		for _, out := range [][]byte{codec.Encode(room, src), codec.EncodeLevel(nil, src, compress.DefaultCompressionLevel)} {
			if back, err := d.DecodeAll(out, nil); len(out) == 0 || err != nil || !bytes.Equal(back, src) {
				t.Fatalf("%d bytes come back different: %v", size, err)
			}
		}
	}
}
