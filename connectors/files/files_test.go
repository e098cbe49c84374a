package files

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/lakehouse/objstore"
)

func numbered(first, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "{\"id\":%d}\n", first+i)
	}
	return b.String()
}

func packed(tb testing.TB, how, s string) string {
	tb.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch how {
	case "gz":
		w = gzip.NewWriter(&b)
	case "zst":
		z, err := zstd.NewWriter(&b)
		if err != nil {
			tb.Fatal(err)
		}
		w = z
	default:
		return s
	}
	if _, err := io.WriteString(w, s); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.String()
}

// same compares sets of rows.
func same(tb testing.TB, got, want []string) {
	tb.Helper()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		tb.Fatalf("%d rows, want %d; first difference: %s", len(got), len(want), difference(got, want))
	}
}

func difference(got, want []string) string {
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			return "lacks " + want[i]
		case i >= len(want):
			return "has " + got[i]
		case got[i] != want[i]:
			return fmt.Sprintf("%.300q, want %.300q", got[i], want[i])
		}
	}
	return ""
}

func linesOf(s string) []string { return strings.Split(strings.TrimSuffix(s, "\n"), "\n") }

// TestAllOfADirectory: formats by ending, packed and not, and by how they begin; what is
// hidden and what is no data is left out; and a second reader opens nothing again.
func TestAllOfADirectory(t *testing.T) {
	dir := t.TempDir()
	var want []string
	for i, c := range []struct{ name, how string }{
		{"a.ndjson", ""}, {"b.jsonl.gz", "gz"}, {"c.json.zst", "zst"}, {"deep/er/d.log", ""}, {"misnamed.ndjson", "gz"},
	} {
		text := numbered(1000*i, 500)
		want = append(want, linesOf(text)...)
		write(t, filepath.Join(dir, c.name), packed(t, c.how, text))
	}
	for i, c := range []struct{ name, how string }{{"e.csv", ""}, {"f.csv.gz", "gz"}, {"g.csv.zst", "zst"}} {
		text := "id\n"
		for k := range 500 {
			text += fmt.Sprintf("%d\n", 100_000+1000*i+k)
			want = append(want, fmt.Sprintf(`{"id":"%d"}`, 100_000+1000*i+k))
		}
		write(t, filepath.Join(dir, c.name), packed(t, c.how, text))
	}
	write(t, filepath.Join(dir, "README"), "not data\n")
	write(t, filepath.Join(dir, "_SUCCESS"), "")
	write(t, filepath.Join(dir, "_temporary/x.ndjson"), "{}\n")
	write(t, filepath.Join(dir, ".hidden.ndjson"), "{}\n")
	s := newSink()
	s.drain(t, s.config(t, dir))
	same(t, s.texts(), want)
	if !strings.Contains(s.log(), "README") {
		t.Errorf("nothing is said of README:\n%s", s.log())
	}
	before := s.blocks
	s.drain(t, s.config(t, dir, filepath.Join(dir, "*.ndjson")))
	if s.blocks != before || len(s.twice) > 0 {
		t.Errorf("a second reader read %d blocks again", s.blocks-before)
	}
}

func TestGlobs(t *testing.T) {
	for _, c := range []struct {
		pattern string
		want    string
	}{
		{"x/*.ndjson", "x/a.ndjson"},
		{"x/**/*.ndjson", "x/a.ndjson x/y/b.ndjson x/y/z/c.ndjson"},
		{"x/*/[bc].ndjson", "x/y/b.ndjson"},
		{"x/y", "x/y/b.ndjson x/y/z/c.ndjson"},
		{"x/y/b.ndjson", "x/y/b.ndjson"},
		{"nowhere/*", ""},
		{"x/_*/*", "x/_h/d.ndjson"},
	} {
		dir := t.TempDir()
		for _, n := range []string{"x/a.ndjson", "x/y/b.ndjson", "x/y/z/c.ndjson", "x/_h/d.ndjson"} {
			write(t, filepath.Join(dir, n), "{}\n")
		}
		p, err := Local(filepath.Join(dir, c.pattern))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for o, err := range p.List(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, strings.TrimPrefix(o.Name, dir+"/"))
		}
		slices.Sort(got)
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q, want %q", c.pattern, got, c.want)
		}
	}
}

// TestGoesOn: what the table has of an object is not handed over again, wherever in the
// object that ends.
func TestGoesOn(t *testing.T) {
	text := numbered(0, 40_000) // several blocks
	all := linesOf(text)
	for _, name := range []string{"a.ndjson", "a.ndjson.gz", "a.csv"} {
		dir := t.TempDir()
		content, rows := text, all
		if strings.HasSuffix(name, ".gz") {
			content = packed(t, "gz", text)
		}
		if strings.HasSuffix(name, ".csv") {
			content, rows = "id\n"+strings.NewReplacer(`{"id":`, "", "}", "").Replace(text), nil
			for _, r := range all {
				rows = append(rows, strings.Replace(r, ":", `:"`, 1)[:len(r)]+`"}`)
			}
		}
		write(t, filepath.Join(dir, name), content)
		whole := newSink()
		whole.drain(t, whole.config(t, dir))
		same(t, whole.texts(), slices.Clone(rows))
		for part := range whole.in {
			for _, in := range []int64{0, 2, 17_001, 39_999, 40_000} {
				s := newSink()
				s.in[part] = batch.Intervals{{First: 0, Last: in - 1}}
				if in == 0 {
					s.in = batch.Claims{}
				}
				s.drain(t, s.config(t, dir))
				same(t, s.texts(), slices.Clone(rows[in:]))
			}
		}
	}
}

// TestFollows: a file grows while it is read, in whole lines and in parts of lines.
func TestFollows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	write(t, path, "{\"id\":1}\n\n{\"id\":2}\n{\"id\":")
	s := newSink()
	c := s.config(t, path)
	c.Poll, c.Still = 5*time.Millisecond, time.Hour
	r := New(c)
	defer r.Close()
	has := func(n int) func() bool { return func() bool { return s.count() == n } }
	s.until(t, r, "whole lines", has(3))
	appendTo(t, path, "3}\n{\"id\":4}\n{\"i")
	s.until(t, r, "what was appended", has(5))
	appendTo(t, path, "d\":5}\n")
	s.until(t, r, "the line that was completed", has(6))
	same(t, s.texts(), []string{`{"id":1}`, "", `{"id":2}`, `{"id":3}`, `{"id":4}`, `{"id":5}`})
	if len(s.in) != 1 || len(s.twice) > 0 {
		t.Errorf("partitions %v, rows handed over twice: %v", s.in, s.twice)
	}
	// A reader that begins anew goes on there, and takes a last line that stays without an end.
	appendTo(t, path, `{"id":6}`)
	s.drain(t, s.config(t, path))
	if s.count() != 7 || len(s.twice) > 0 || len(s.in) != 1 {
		t.Errorf("%d rows, twice %v; partitions %v", s.count(), s.twice, s.in)
	}
	appendTo(t, path, "\n{\"id\":7}\n")
	s.drain(t, s.config(t, path))
	if s.count() != 8 || len(s.twice) > 0 || len(s.in) != 1 {
		t.Errorf("after the end of the last line: %d rows, twice %v; partitions %v", s.count(), s.twice, s.in)
	}
}

// TestHalfALine: the old fault. A line that is half written when it is read is no row,
// not even as the first of its file.
func TestHalfALine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.ndjson")
	write(t, path, `{"id":1,"na`)
	s := newSink()
	c := s.config(t, path)
	c.Poll, c.Still = 5*time.Millisecond, time.Hour
	r := New(c)
	defer r.Close()
	looks := atomic.Int64{}
	s.until(t, r, "a few looks", func() bool { return looks.Add(1) > 5 })
	if s.count() != 0 {
		t.Fatalf("half a line was taken: %v", s.texts())
	}
	appendTo(t, path, "me\":\"x\"}\n")
	s.until(t, r, "the line", func() bool { return s.count() == 1 })
	same(t, s.texts(), []string{`{"id":1,"name":"x"}`})
}

// TestAnotherContent: what is replaced is another source, what is cut off or changed is
// said, and nothing is read twice.
func TestAnotherContent(t *testing.T) {
	const first = "{\"id\":1}\n{\"id\":2}\n{\"id\":3}\n"
	for _, c := range []struct {
		name, to, says string
		rows, parts    int
	}{
		{"another first line", "{\"id\":7}\n{\"id\":8}\n", "another source", 5, 2},
		{"cut off", "{\"id\":1}\n", "cut off or changed", 3, 1},
		{"changed in the middle", "{\"id\":1}\n{\"id\":9}\n{\"id\":3}\n{\"id\":4}\n", "cut off or changed", 3, 1},
		{"grown", first + "{\"id\":4}\n", "", 4, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a.ndjson")
			write(t, path, first)
			s := newSink()
			conf := s.config(t, path)
			conf.Poll = 5 * time.Millisecond
			r := New(conf)
			defer r.Close()
			s.until(t, r, "the first content", func() bool { return s.count() == 3 })
			write(t, path+".new", c.to)
			if err := os.Rename(path+".new", path); err != nil {
				t.Fatal(err)
			}
			s.until(t, r, c.name, func() bool { return s.count() == c.rows && strings.Contains(s.log(), c.says) })
			if len(s.in) != c.parts || len(s.twice) > 0 {
				t.Errorf("partitions %v; twice %v", s.in, s.twice)
			}
		})
	}
	// Another process finds fewer lines than the table has rows of it.
	path := filepath.Join(t.TempDir(), "a.ndjson")
	write(t, path, first)
	s := newSink()
	s.drain(t, s.config(t, path))
	write(t, path, "{\"id\":1}\n")
	s.drain(t, s.config(t, path))
	if !strings.Contains(s.log(), "fewer lines") {
		t.Errorf("nothing is said of a file that was cut off while nobody read it:\n%s", s.log())
	}
	// A packed file with other content.
	path = filepath.Join(t.TempDir(), "a.ndjson.gz")
	write(t, path, packed(t, "gz", first))
	s = newSink()
	s.drain(t, s.config(t, path))
	write(t, path, packed(t, "gz", numbered(10, 3)))
	s.drain(t, s.config(t, path))
	if s.count() != 6 || len(s.in) != 2 {
		t.Errorf("%d rows of %d partitions, want 6 of 2", s.count(), len(s.in))
	}
}

// TestBroken: what cannot be read goes to quarantine at its place, the rest goes on, and
// a second reader does not try it again.
func TestBroken(t *testing.T) {
	gz := packed(t, "gz", numbered(0, 50_000))
	zst := packed(t, "zst", numbered(0, 50_000))
	crc := []byte(gz)
	crc[len(crc)-8] ^= 1
	for _, c := range []struct {
		name, content string
		rows          int // at least
		bad           []string
	}{
		{"half.ndjson.gz", gz[:len(gz)/2], 1000, []string{RuleUnreadable}},
		{"crc.ndjson.gz", string(crc), 50_000, []string{RuleUnreadable}},
		{"header.ndjson.gz", "\x1f\x8b\x08\xff", 0, []string{RuleUnreadable}},
		{"half.ndjson.zst", zst[:len(zst)/2], 0, []string{RuleUnreadable}},
		{"long.ndjson", "{\"id\":1}\n" + strings.Repeat("x", 5<<20) + "\n{\"id\":2}\n", 2, []string{RuleTooLong}},
		{"fields.csv", "a,b\n1,2\n1\n1,2,3\n3,4\n", 2, []string{RuleCSV, RuleCSV}},
		{"quote.csv", "a,b\n1,\"x\n2,y\n3,z\n", 2, []string{RuleCSV}},
		{"after.csv", "a,b\n1,\"x\"y\n3,z\n", 1, []string{RuleCSV}},
		{"long.csv", "a,b\n1," + strings.Repeat("y", 3<<20) + "\n3,z\n", 1, []string{RuleTooLong}},
		{"twice.csv", "a,a\n1,2\n", 0, []string{RuleUnreadable}},
		{"torn.parquet", "PAR1 and then nothing", 0, []string{RuleUnreadable}},
		{"torn.avro", "Obj\x01 and then nothing", 0, []string{RuleUnreadable}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, c.name), c.content)
			write(t, filepath.Join(dir, "good.ndjson"), "{\"good\":1}\n")
			s := newSink()
			s.drain(t, s.config(t, dir))
			var rules []string
			for _, b := range s.bad {
				rules = append(rules, b.Rule)
			}
			if s.count() < c.rows+1 || strings.Join(rules, " ") != strings.Join(c.bad, " ") || s.count() > 50_001 {
				t.Errorf("%d rows, bad %v; want at least %d and %v\n%s", s.count(), s.bad, c.rows+1, c.bad, s.log())
			}
			blocks := s.blocks
			s.drain(t, s.config(t, dir))
			if s.blocks != blocks {
				t.Errorf("%d blocks came again", s.blocks-blocks)
			}
		})
	}
}

// flaky is a place whose reads fail a few times, as those of a network do.
type flaky struct {
	Place
	left atomic.Int64
}

func (f *flaky) Open(ctx context.Context, o Object) (Content, error) {
	c, err := f.Place.Open(ctx, o)
	return flakyContent{c, f}, err
}

type flakyContent struct {
	Content
	f *flaky
}

func (c flakyContent) ReadAt(p []byte, off int64) (int, error) {
	if c.f.left.Add(-1) >= 0 {
		n, _ := c.Content.ReadAt(p[:min(len(p), 100)], off)
		return n, objstore.Transient(errors.New("connection reset"))
	}
	return c.Content.ReadAt(p, off)
}

// TestBrokenOffReads: a read that ends early, anywhere, makes no other partition and
// costs no row.
func TestBrokenOffReads(t *testing.T) {
	first := `{"id":0,"long":"` + strings.Repeat("x", 70_000) + "\"}\n"
	for _, name := range []string{"a.ndjson", "a.ndjson.gz"} {
		for fails := range int64(4) {
			path := filepath.Join(t.TempDir(), name)
			content := first + numbered(1, 100)
			if strings.HasSuffix(name, "gz") {
				content = packed(t, "gz", content)
			}
			write(t, path, content)
			var parts []string
			for _, n := range []int64{0, fails} {
				s := newSink()
				c := s.config(t, path)
				f := &flaky{Place: c.Places[0]}
				f.left.Store(n)
				c.Places[0] = f
				s.drain(t, c)
				if s.count() != 101 || len(s.in) != 1 || len(s.twice) > 0 || len(s.bad) > 0 {
					t.Fatalf("%s, %d reads broken off: %d rows of %d partitions, twice %v, bad %v\n%s", name, n, s.count(), len(s.in), s.twice, s.bad, s.log())
				}
				for p := range s.in {
					parts = append(parts, p)
				}
			}
			if parts[0] != parts[1] {
				t.Errorf("%s: partition %s, after broken off reads %s", name, parts[0], parts[1])
			}
		}
	}
}

// many is a place of any number of objects of one row.
type many struct {
	Place
	n      int
	opened atomic.Int64
}

func (m *many) List(context.Context) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		for i := range m.n {
			if !yield(Object{Name: fmt.Sprintf("s3://bucket/some/prefix/of/objects/%08d.ndjson", i), Size: 9, Version: fmt.Sprint("etag", i), Fixed: true}, nil) {
				return
			}
		}
	}
}

func (m *many) Open(context.Context, Object) (Content, error) {
	m.opened.Add(1)
	return struct {
		io.ReaderAt
		io.Closer
	}{strings.NewReader("{\"id\":1}\n"), io.NopCloser(nil)}, nil
}

// TestManyObjects: each is opened once, and of those that are in none.
func TestManyObjects(t *testing.T) {
	const n = 5000
	s := newSink()
	c := s.config(t)
	place := &many{n: n}
	c.Places = []Place{place}
	s.drain(t, c)
	if s.count() != n || place.opened.Load() != n {
		t.Fatalf("%d rows of %d objects opened, want %d", s.count(), place.opened.Load(), n)
	}
	s.drain(t, c)
	if len(s.twice) > 0 || place.opened.Load() != n {
		t.Errorf("%d objects were opened again", place.opened.Load()-n)
	}
}

// TestNewObjects come while others are read, and one that cannot be read holds up none.
func TestNewObjects(t *testing.T) {
	dir := t.TempDir()
	s := newSink()
	c := s.config(t, dir)
	c.Poll = 5 * time.Millisecond
	r := New(c)
	defer r.Close()
	write(t, filepath.Join(dir, "a.ndjson"), numbered(0, 1000))
	s.until(t, r, "the first", func() bool { return s.count() > 0 })
	if err := os.Symlink(filepath.Join(dir, "loop.ndjson"), filepath.Join(dir, "loop.ndjson")); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		write(t, filepath.Join(dir, fmt.Sprintf("b%d.ndjson.gz", i)), packed(t, "gz", numbered(1000*(i+1), 1000)))
	}
	s.until(t, r, "all", func() bool { return s.count() == 6000 })
	if len(s.twice) > 0 {
		t.Errorf("twice: %d", len(s.twice))
	}
}
