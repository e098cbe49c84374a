package checkpoint

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/file"

	"github.com/tidemill/tidemill/lakehouse/delta"
)

// contents are a checkpoint's actions.
type contents struct {
	Protocol []delta.Protocol
	Metadata []delta.Metadata
	Txns     []delta.Txn
	Adds     []delta.Add
	Removes  []delta.Remove
}

func (c *contents) visitor() Visitor {
	return Visitor{
		Protocol: func(x delta.Protocol) error { c.Protocol = append(c.Protocol, x); return nil },
		Metadata: func(x delta.Metadata) error { c.Metadata = append(c.Metadata, x); return nil },
		Txn:      func(x delta.Txn) error { c.Txns = append(c.Txns, x); return nil },
		Add:      func(x delta.Add) error { c.Adds = append(c.Adds, x); return nil },
		Remove:   func(x delta.Remove) error { c.Removes = append(c.Removes, x); return nil },
	}
}

func (c *contents) state() State {
	var t tally
	for _, a := range c.Adds {
		t.add(a.Path, a.Size)
	}
	for _, x := range c.Txns {
		t.txn(x.AppID, x.Version)
	}
	return State{Version: 7, Files: t.files, Bytes: t.bytes, Txns: t.txns, Digest: t.digest.String()}
}

func (c *contents) encode(tb testing.TB) ([]byte, Info) {
	tb.Helper()
	e := NewEncoder()
	for _, x := range c.Protocol {
		check(tb, e.Protocol(x))
	}
	for _, x := range c.Metadata {
		check(tb, e.Metadata(x))
	}
	for _, x := range c.Txns {
		check(tb, e.Txn(x))
	}
	for _, x := range c.Adds {
		check(tb, e.Add(x))
	}
	for _, x := range c.Removes {
		check(tb, e.Remove(x))
	}
	data, info, err := e.Finish(c.state())
	check(tb, err)
	return data, info
}

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func decodeAll(data []byte) (*contents, *State, error) {
	c := &contents{}
	s, err := Decode(context.Background(), data, c.visitor())
	return c, s, err
}

func ptr(s string) *string { return &s }

func some(n int) *contents {
	c := &contents{
		Protocol: []delta.Protocol{{MinReaderVersion: 1, MinWriterVersion: 2}},
		Metadata: []delta.Metadata{{
			ID: "3f2c", Name: "n", Description: "d", Format: delta.Format{Provider: "parquet", Options: map[string]string{"o": "p"}},
			SchemaString: `{"type":"struct","fields":[]}`, PartitionColumns: []string{"d", "e"}, Configuration: map[string]string{"a": "b", "c": ""}, CreatedTime: 5,
		}},
	}
	for i := range n {
		c.Txns = append(c.Txns, delta.Txn{AppID: fmt.Sprint("app", i), Version: int64(i), LastUpdated: int64(i)})
		a := delta.Add{Path: fmt.Sprintf("d=%d/x%d.parquet", i%5, i), Size: int64(i), ModificationTime: 17e11 + int64(i)}
		switch i % 4 {
		case 0:
			a.PartitionValues = map[string]*string{"d": ptr(fmt.Sprint(i % 5)), "e": nil}
			a.Stats = `{"numRecords":1}`
		case 1:
			a.Tags = map[string]string{"tidemill.ranges": fmt.Sprintf(`{"p":[[%d,%d]]}`, i, i+9), "z": ""}
		case 2:
			a.PartitionValues = map[string]*string{"d": ptr("")}
		}
		c.Adds = append(c.Adds, a)
		r := delta.Remove{Path: fmt.Sprintf("y%d.parquet", i), DeletionTimestamp: int64(i)}
		if i%2 == 0 {
			r.ExtendedFileMetadata, r.Size = true, int64(i)
		}
		if i%6 == 0 {
			r.PartitionValues = map[string]*string{"d": nil, "e": ptr("x")}
		}
		c.Removes = append(c.Removes, r)
	}
	return c
}

func TestRoundTrip(t *testing.T) {
	for _, n := range []int{0, 1, 3, 1000, 60_000} {
		want := some(n)
		data, info := want.encode(t)
		if info != (Info{Actions: int64(2 + 3*n), Adds: int64(n), Removes: int64(n)}) {
			t.Errorf("%d: info %+v", n, info)
		}
		got, state, err := decodeAll(data)
		if err != nil {
			t.Fatalf("%d: %v", n, err)
		}
		if *state != want.state() {
			t.Errorf("%d: state %+v", n, state)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%d: got\n%+v\nwant\n%+v", n, got.Adds[:min(n, 5)], want.Adds[:min(n, 5)])
		}
	}
}

// table is like a day's table: small files with statistics and tags, most of them compacted away.
func table(adds, removes int) *contents {
	rng := rand.New(rand.NewPCG(1, 2))
	c := some(0)
	uuid := func() string {
		return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", rng.Uint32(), rng.Uint32()&0xffff, rng.Uint32()&0xfff, rng.Uint32()&0xffff, rng.Uint64()&0xffffffffffff)
	}
	for i := range 32 {
		c.Txns = append(c.Txns, delta.Txn{AppID: fmt.Sprintf("connector/topic/%d", i), Version: int64(i) * 1e6, LastUpdated: 17e11})
	}
	for i := range adds {
		c.Adds = append(c.Adds, delta.Add{
			Path: "part-00000-" + uuid() + ".c000.snappy.parquet", PartitionValues: map[string]*string{}, Size: 10_000 + rng.Int64N(1e6), ModificationTime: 17e11 + int64(i)*250,
			Stats: fmt.Sprintf(`{"numRecords":%d,"minValues":{"id":"%s","ts":"2026-01-01T00:%02d:00.000Z","value":%g,"n":%d},"maxValues":{"id":"%s","ts":"2026-01-01T00:%02d:59.000Z","value":%g,"n":%d},"nullCount":{"id":0,"ts":0,"value":%d,"n":0}}`,
				rng.IntN(5000), uuid()[:8], i%60, rng.Float64(), rng.IntN(1e6), uuid()[:8], i%60, 1+rng.Float64(), rng.IntN(1e6), rng.IntN(100)),
			Tags: map[string]string{"tidemill.ranges": fmt.Sprintf(`{"connector/topic/%d":[[%d,%d]]}`, rng.IntN(32), i*1000, i*1000+999)},
		})
	}
	for i := range removes {
		c.Removes = append(c.Removes, delta.Remove{Path: "part-00000-" + uuid() + ".c000.snappy.parquet", DeletionTimestamp: 17e11 + int64(i)*250, ExtendedFileMetadata: true, Size: 10_000 + rng.Int64N(1e6)})
	}
	return c
}

func BenchmarkEncode(b *testing.B) {
	for _, n := range [][2]int{{100_000, 0}, {5_000, 350_000}} {
		c := table(n[0], n[1])
		b.Run(fmt.Sprintf("adds=%d,removes=%d", n[0], n[1]), func(b *testing.B) {
			b.ReportAllocs()
			var data []byte
			for b.Loop() {
				data, _ = c.encode(b)
			}
			b.ReportMetric(float64(len(data))/1e6, "MB")
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, n := range [][2]int{{100_000, 0}, {5_000, 350_000}} {
		data, _ := table(n[0], n[1]).encode(b)
		for _, removes := range []bool{false, true} {
			b.Run(fmt.Sprintf("adds=%d,removes=%d,visited=%v", n[0], n[1], removes), func(b *testing.B) {
				b.ReportAllocs()
				v := Visitor{
					Protocol: func(delta.Protocol) error { return nil }, Metadata: func(delta.Metadata) error { return nil },
					Txn: func(delta.Txn) error { return nil }, Add: func(delta.Add) error { return nil },
				}
				if removes {
					v.Remove = func(delta.Remove) error { return nil }
				}
				for b.Loop() {
					_, err := Decode(context.Background(), data, v)
					check(b, err)
				}
			})
		}
	}
}

// Readers that leave out pages count on each beginning with a row.
func TestPagesBeginWithRows(t *testing.T) {
	c := some(0)
	for i := range 200 {
		tags := map[string]string{}
		for k := range 3*levelsPerWrite - 7*i {
			tags[fmt.Sprint("key", k)] = fmt.Sprint("some value of some length", i*k)
		}
		c.Adds = append(c.Adds, delta.Add{Path: fmt.Sprint(i), Tags: tags})
	}
	data, _ := c.encode(t)
	d := openDecoder(t, data)
	pages := 0
	for g := range d.r.NumRowGroups() {
		chunk, err := d.chunk(g, addTagValue)
		check(t, err)
		values := chunk.(*file.ByteArrayColumnChunkReader)
		p, err := d.pages(g, addTagValue)
		check(t, err)
		for p.Next() {
			n := int64(p.Page().NumValues())
			reps := make([]int16, n)
			if _, _, err := values.ReadBatch(n, make([]parquet.ByteArray, n), make([]int16, n), reps); err != nil || reps[0] != 0 {
				t.Fatalf("page %d of %d values begins with repetition level %d, %v", pages, n, reps[0], err)
			}
			pages++
		}
	}
	if pages < 10 {
		t.Errorf("only %d pages", pages)
	}
	if got, _, err := decodeAll(data); err != nil || !reflect.DeepEqual(got, c) {
		t.Errorf("other contents, %v", err)
	}
}
