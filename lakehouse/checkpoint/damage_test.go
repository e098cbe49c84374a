package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/lakehouse/delta"
)

// random returns contents in which everything that may be null, empty or long is.
func random(rng *rand.Rand, n int) *contents {
	word := func() string {
		switch rng.IntN(100) {
		case 0:
			return strings.Repeat("long ü ", rng.IntN(20_000))
		case 1, 2, 3, 4, 5:
			return "漢字/%20 \"\\\x00\n"
		}
		return fmt.Sprintf("%x", rng.Uint64()>>rng.IntN(64))
	}
	sometimes := func(f func() string) string {
		if rng.IntN(3) == 0 {
			return ""
		}
		return f()
	}
	texts := func() map[string]string {
		m := map[string]string{}
		for range []int{0, 0, 0, 0, 1, 1, 2, 3, 7, 1500}[rng.IntN(10)] {
			m[word()] = sometimes(word)
		}
		if len(m) == 0 {
			return nil
		}
		return m
	}
	values := func() map[string]*string {
		m := map[string]*string{}
		for k, v := range texts() {
			if m[k] = &v; rng.IntN(3) == 0 {
				m[k] = nil
			}
		}
		if len(m) == 0 {
			return nil
		}
		return m
	}
	number := func() int64 { return int64(rng.Uint64()) >> rng.IntN(64) }
	c := some(0)
	c.Metadata[0] = delta.Metadata{ID: word(), Name: sometimes(word), Description: sometimes(word), SchemaString: word(), CreatedTime: number(), Configuration: texts(), Format: delta.Format{Provider: word(), Options: texts()}}
	for range rng.IntN(5) {
		c.Metadata[0].PartitionColumns = append(c.Metadata[0].PartitionColumns, word())
	}
	for i := range rng.IntN(n) {
		c.Txns = append(c.Txns, delta.Txn{AppID: fmt.Sprint(i, word()), Version: number(), LastUpdated: number()})
	}
	for i := range rng.IntN(n) {
		c.Adds = append(c.Adds, delta.Add{Path: fmt.Sprint(i, word()), PartitionValues: values(), Size: number(), ModificationTime: number(), Stats: sometimes(word), Tags: texts()})
	}
	for i := range rng.IntN(n) {
		r := delta.Remove{Path: fmt.Sprint(i, word()), DeletionTimestamp: number(), PartitionValues: values()}
		if rng.IntN(2) == 0 {
			r.ExtendedFileMetadata, r.Size = true, number()
		}
		c.Removes = append(c.Removes, r)
	}
	return c
}

func TestRandom(t *testing.T) {
	seed := rand.Uint64()
	t.Log("seed", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 20 {
		want := random(rng, 40)
		e := NewEncoder()
		e.group = 1 + rng.IntN(50)
		// In any order, as long as those of a kind keep theirs.
		var steps []func() error
		step := func(f func() error) { steps = append(steps, f) }
		step(func() error { return e.Metadata(want.Metadata[0]) })
		for i := 0; i < max(len(want.Txns), len(want.Adds), len(want.Removes)); i++ {
			if i < len(want.Removes) {
				step(func() error { return e.Remove(want.Removes[i]) })
			}
			if i < len(want.Adds) {
				step(func() error { return e.Add(want.Adds[i]) })
			}
			if i < len(want.Txns) {
				step(func() error { return e.Txn(want.Txns[i]) })
			}
		}
		step(func() error { return e.Protocol(want.Protocol[0]) })
		for _, f := range steps {
			check(t, f())
		}
		data, _, err := e.Finish(want.state())
		check(t, err)
		got, state, err := decodeAll(data)
		check(t, err)
		if *state != want.state() || !reflect.DeepEqual(got, want) {
			t.Fatalf("seed %d: %d txns, %d adds, %d removes came out as %d, %d, %d or with other values", seed,
				len(want.Txns), len(want.Adds), len(want.Removes), len(got.Txns), len(got.Adds), len(got.Removes))
		}
	}
}

// Whatever bit of our file is wrong, and wherever it ends, its reader hears of it.
func TestDamaged(t *testing.T) {
	want := some(9)
	data, _ := want.encode(t)
	for n := range data {
		if _, _, err := decodeAll(data[:n]); err == nil {
			t.Fatalf("cut at byte %d of %d: no error", n, len(data))
		}
	}
	seed := rand.Uint64()
	t.Log("seed", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	unnoticed := 0
	for at := range data {
		bad, bit := slices.Clone(data), rng.IntN(8)
		bad[at] ^= 1 << bit
		got, state, err := decodeAll(bad)
		if err != nil {
			continue
		}
		unnoticed++
		if !reflect.DeepEqual(got, want) || state != nil && *state != want.state() {
			t.Errorf("bit %d of byte %d: other contents, no error", bit, at)
		}
	}
	t.Logf("%d of %d flips made no difference", unnoticed, len(data))
	for _, text := range []string{"", "PAR1", "PAR1PAR1", strings.Repeat("PAR1", 100), `{"add":{}}`} {
		if _, _, err := decodeAll([]byte(text)); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}

// Others' files have no checksum: what can be noticed is an error, and nothing panics
// or asks for memory without bounds.
func TestDamagedForeign(t *testing.T) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(1 << 30))
	_, data := checkpointIn(t, filepath.Join("testdata", "delta_rs", "_delta_log"))
	seed := rand.Uint64()
	t.Log("seed", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	failed := 0
	for range 3000 {
		bad := slices.Clone(data)
		for range 1 + rng.IntN(3) {
			bad[rng.IntN(len(bad))] ^= 1 << rng.IntN(8)
		}
		if rng.IntN(2) == 0 { // the footer is where most lengths are
			bad[len(bad)-1-rng.IntN(len(bad)/2)] = byte(rng.Uint32())
		}
		if _, _, err := decodeAll(bad); err != nil {
			failed++
		}
	}
	for n := 0; n < len(data); n += 7 {
		if _, _, err := decodeAll(data[:n]); err == nil {
			t.Fatalf("cut at byte %d of %d: no error", n, len(data))
		}
	}
	if failed == 0 {
		t.Error("nothing was noticed")
	}
}

// A file that is whole, and does not hold what it says.
func TestLies(t *testing.T) {
	truth := some(20)
	for name, lie := range map[string]func(*contents){
		"its state says 20 live files, it has 19": func(c *contents) { c.Adds = c.Adds[1:] },
		"its state says 190 bytes":                func(c *contents) { c.Adds[3].Size++ },
		"its state says 20 txns, it has 21":       func(c *contents) { c.Txns = append(c.Txns, delta.Txn{AppID: "x"}) },
		"its state says digest":                   func(c *contents) { c.Txns[3].Version++ },
		"its files and txns have":                 func(c *contents) { c.Adds[3].Path += "x" },
	} {
		c := some(20)
		lie(c)
		e := NewEncoder()
		for _, err := range []error{e.Protocol(c.Protocol[0]), e.Metadata(c.Metadata[0])} {
			check(t, err)
		}
		for _, x := range c.Txns {
			check(t, e.Txn(x))
		}
		for _, x := range c.Adds {
			check(t, e.Add(x))
		}
		honest := *e
		if _, _, err := honest.Finish(truth.state()); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("encode: %v, want %s", err, name)
		}
		e.tally = tally{} // the encoder would notice
		for _, x := range truth.Txns {
			e.tally.txn(x.AppID, x.Version)
		}
		for _, x := range truth.Adds {
			e.tally.add(x.Path, x.Size)
		}
		data, _, err := e.Finish(truth.state())
		check(t, err)
		if _, _, err := decodeAll(data); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("decode: %v, want %s", err, name)
		}
	}
}

func TestEncoderErrors(t *testing.T) {
	e := NewEncoder()
	if _, _, err := e.Finish(State{}); err == nil || !strings.Contains(err.Error(), "0 protocol and 0 metaData actions") {
		t.Error(err)
	}
	if err := e.Add(delta.Add{}); err == nil {
		t.Error("goes on after an error")
	}
	e = NewEncoder()
	err := e.Protocol(delta.Protocol{MinReaderVersion: 3, MinWriterVersion: 7, ReaderFeatures: []string{"deletionVectors"}})
	if u := (*delta.UnsupportedError)(nil); !errors.As(err, &u) || u.Feature != "deletionVectors" {
		t.Error(err)
	}
}

// What a visitor returns comes out as it is, and ends the reading; its panic is not taken for damage.
func TestVisitor(t *testing.T) {
	data, _ := some(5).encode(t)
	stop, calls := errors.New("stop"), 0
	_, err := Decode(context.Background(), data, Visitor{Add: func(delta.Add) error { calls++; return stop }})
	if err != stop || calls != 1 { //nolint:errorlint // the error itself
		t.Errorf("%v after %d calls", err, calls)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Decode(ctx, data, (&contents{}).visitor()); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	defer func() {
		if recover() != "mine" {
			t.Error("a visitor's panic was caught")
		}
	}()
	_, _ = Decode(context.Background(), data, Visitor{Add: func(delta.Add) error { panic("mine") }})
}

func TestDigest(t *testing.T) {
	var a, b Digest
	if a.String() != strings.Repeat("0", 32) {
		t.Error(a)
	}
	a.AddFile("x", 1)
	a.AddFile("y", 2)
	a.AddTxn("app", 3)
	b.AddTxn("app", 3)
	b.AddFile("z", 9)
	b.AddFile("y", 2)
	b.AddTxn("app", 4)
	b.AddFile("x", 1)
	b.RemoveFile("z", 9)
	b.RemoveTxn("app", 4)
	if a != b || a.String() != "0a5d609c6f4f3cc3fc718386472ec70e" {
		t.Errorf("%s and %s", a, b) // stored: it may not change
	}
	seen := map[Digest]bool{}
	for _, d := range []Digest{item('f', "x", 1), item('t', "x", 1), item('f', "x", 2), item('f', "x\x01", 1), item('f', strings.Repeat("x", 300), 1), item('f', strings.Repeat("x", 301), 1)} {
		if seen[d] {
			t.Error("two items are one")
		}
		seen[d] = true
	}
}

func TestHint(t *testing.T) {
	n := int64(3)
	for _, h := range []Hint{{}, {Version: 5, Size: 9}, {Version: 5, Size: 9, Parts: &n, SizeInBytes: &n, NumOfAddFiles: &n}} {
		got, err := DecodeHint(EncodeHint(h))
		if err != nil || !reflect.DeepEqual(got, h) {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if s := string(EncodeHint(Hint{Version: 5, Size: 9, SizeInBytes: &n})); s != `{"version":5,"size":9,"sizeInBytes":3}` {
		t.Error(s)
	}
	h, err := DecodeHint([]byte(`{"version":20,"size":3,"checkpointSchema":{"type":"struct"},"tags":{"a":"b"},"checksum":"x","parts":null}`))
	if err != nil || h.Version != 20 || h.Parts != nil {
		t.Errorf("%+v, %v", h, err)
	}
	for _, text := range []string{"", "{", "{}", `{"version":-1}`, `{"version":"x"}`, `{"version":1,"parts":0}`, "[]"} {
		if h, err := DecodeHint([]byte(text)); err == nil || !strings.Contains(err.Error(), "_last_checkpoint") {
			t.Errorf("%s: %+v, %v", text, h, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	files, _ := filepath.Glob(filepath.Join("testdata", "delta_rs", "_delta_log", "*.parquet"))
	for _, name := range files {
		data, err := os.ReadFile(name)
		check(f, err)
		f.Add(data)
	}
	data, _ := some(3).encode(f)
	f.Add(data)
	f.Fuzz(func(_ *testing.T, data []byte) { _, _, _ = decodeAll(data) })
}
