package parquet

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

// TestStream: small records become large row groups, with the same rows, and no memory
// is left.
func TestStream(t *testing.T) {
	for seed := range uint64(6) {
		mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
		r := rand.New(rand.NewPCG(seed, 9))
		var out bytes.Buffer
		s, err := NewStream(&out, everyType(), Options{Zstd: seed%2 == 0})
		if err != nil {
			t.Fatal(err)
		}
		var recs []arrow.Record
		rows := int64(0)
		for range r.IntN(40) {
			rec := random(mem, everyType(), r, []int{0, 1, 30, 9000}[r.IntN(4)], []int{1, 3, 1 << 20}[r.IntN(3)])
			if err := s.Write(rec); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			recs, rows = append(recs, rec), rows+rec.NumRows()
		}
		if err := s.Close(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		rd, err := NewReader(out.Bytes())
		if err != nil || rd.NumRows() != rows || rd.NumRowGroups() > int(rows/streamRows)+1 {
			t.Fatalf("seed %d: %v, %d rows in %d groups, want %d", seed, err, rd.NumRows(), rd.NumRowGroups(), rows)
		}
		got, err := Decode(t.Context(), out.Bytes())
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		at := int64(0)
		for _, want := range recs {
			part := got.NewSlice(at, at+want.NumRows())
			sameRows(t, "stream", want, part)
			part.Release()
			at += want.NumRows()
			want.Release()
		}
		got.Release()
		mem.AssertSize(t, 0)
	}
}

// full takes so many bytes, and then no more.
type full struct{ left int }

var errFull = errors.New("disk full")

func (f *full) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errFull
	}
	return len(p), nil
}

// TestStreamHoldsLittle: what was written is not kept, and an error of the writer ends it.
func TestStreamHoldsLittle(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}}, nil)
	r := rand.New(rand.NewPCG(1, 2))
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	for range streamRows {
		b.Field(0).(*array.Int64Builder).Append(r.Int64())
	}
	rec := b.NewRecord()
	defer rec.Release()
	out := &full{left: 5 << 20} // five row groups of 1 MiB, all but
	s, err := NewStream(out, schema, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Abort()
	for i := range 10 {
		if err = s.Write(rec); err != nil {
			if i < 3 {
				t.Errorf("after %d row groups: %v", i, err)
			}
			break
		}
		if s.w.Len() != 0 {
			t.Errorf("%d bytes are kept", s.w.Len())
		}
	}
	if !errors.Is(err, errFull) {
		t.Errorf("the writer's error came as %v", err)
	}
	if err := s.Write(rec); err == nil {
		t.Error("a stream that has failed goes on")
	}
	if err := s.Close(); err == nil {
		t.Error("a stream that has failed ends well")
	}
}
