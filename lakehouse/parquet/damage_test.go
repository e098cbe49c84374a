package parquet

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestDamagedFiles flips bits and cuts files: each gives an error or a record, and none
// ends the process. Chunk sizes and offsets in the footer are hit on purpose.
func TestDamagedFiles(t *testing.T) {
	rec := transactions(200)
	defer rec.Release()
	buf, err := Encode(rec, Options{Deltas: []string{"_offset"}})
	if err != nil {
		t.Fatal(err)
	}
	whole := slices.Clone(buf.Bytes())
	buf.Release()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	const footer = 1500 // bytes at the end
	errs, n := 0, 400
	for i := range n {
		data := slices.Clone(whole)
		at := rnd.IntN(len(data))
		if i%2 == 0 {
			at = len(data) - 1 - rnd.IntN(footer)
		}
		switch i % 5 {
		case 0:
			data = data[:at]
		default:
			data[at] ^= 1 << rnd.IntN(8)
		}
		got, err := Decode(t.Context(), data)
		if err != nil {
			errs++
			continue
		}
		got.Release()
	}
	if errs == 0 || errs == n {
		t.Errorf("%d of %d damaged files were refused", errs, n)
	}
}
