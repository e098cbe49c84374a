package decode

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
)

// readBlocks reads all blocks and checks each one's first line ordinal.
func readBlocks(t *testing.T, r *BlockReader) (blocks [][]byte, err error) {
	t.Helper()
	line := int64(0)
	for {
		block, first, err := r.Next()
		if err != nil {
			return blocks, err
		}
		if first != line || len(block) == 0 {
			t.Fatalf("block of %d bytes begins at line %d, want %d", len(block), first, line)
		}
		line += int64(bytes.Count(block, []byte("\n")))
		blocks = append(blocks, block)
	}
}

func TestBlocksAreWholeLines(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for round := range 40 {
		var b bytes.Buffer
		for range r.IntN(3000) {
			n := r.IntN(400)
			if r.IntN(300) == 0 {
				n = r.IntN(3 * DefaultBlockBytes)
			}
			b.WriteString(strings.Repeat("x", n))
			b.WriteString([]string{"\n", "\r\n", "\n\n"}[r.IntN(3)])
		}
		if r.IntN(2) == 0 {
			b.WriteString("the last line has no end")
		}
		for name, in := range map[string]io.Reader{
			"file":   bytes.NewReader(b.Bytes()),
			"pieces": iotest.HalfReader(bytes.NewReader(b.Bytes())),
			"eof":    iotest.DataErrReader(bytes.NewReader(b.Bytes())),
		} {
			blocks, err := readBlocks(t, NewBlockReader(in, 0))
			if !errors.Is(err, io.EOF) {
				t.Fatalf("round %d, %s: %v", round, name, err)
			}
			if !bytes.Equal(bytes.Join(blocks, nil), b.Bytes()) {
				t.Fatalf("round %d, %s: blocks are not what was read", round, name)
			}
			for i, block := range blocks {
				if i < len(blocks)-1 && block[len(block)-1] != '\n' {
					t.Fatalf("round %d, %s: block %d of %d ends inside a line", round, name, i, len(blocks))
				}
			}
			if want := b.Len()/DefaultBlockBytes*3/2 + 3; name == "file" && len(blocks) > want {
				t.Errorf("round %d: %d blocks of %d bytes", round, len(blocks), b.Len())
			}
		}
	}
}

func TestBlocksStayTheCallers(t *testing.T) {
	in := strings.Repeat("0123456789\n", 100_000)
	r := NewBlockReader(strings.NewReader(in), 0)
	var out []byte
	for {
		block, _, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, block...)
		block = append(block, '#') // must not reach into the next block
		for k := range block {
			block[k] = '#'
		}
	}
	if string(out) != in {
		t.Error("blocks are not what was read")
	}
}

// A source that has no more for now must not hold back what it gave.
func TestBlockWithoutWaiting(t *testing.T) {
	pr, pw := io.Pipe()
	defer pw.Close()
	go pw.Write([]byte("one\ntwo\nthr"))
	r := NewBlockReader(pr, 0)
	block, first, err := r.Next()
	if string(block) != "one\ntwo\n" || first != 0 || err != nil {
		t.Fatalf("got %q, %d, %v", block, first, err)
	}
	go func() { pw.Write([]byte("ee\n")); pw.Close() }()
	block, first, err = r.Next()
	if string(block) != "three\n" || first != 2 || err != nil {
		t.Fatalf("got %q, %d, %v", block, first, err)
	}
	if _, _, err = r.Next(); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
}

func TestBlockErrors(t *testing.T) {
	broken := errors.New("cable cut")
	for _, c := range []struct {
		name  string
		in    io.Reader
		limit int
		lines string
		err   error
		text  string
	}{
		{"nothing", strings.NewReader(""), 0, "", io.EOF, "EOF"},
		{"breaks off", io.MultiReader(strings.NewReader("a\nb\nhalf"), iotest.ErrReader(broken)), 0, "a\nb\n", broken, "cable cut"},
		{"a long line", strings.NewReader("a\n" + strings.Repeat("x", 4<<20-1) + "\n"), 1 << 20, "a\n" + strings.Repeat("x", 4<<20-1) + "\n", io.EOF, "EOF"},
		{"a line too long", strings.NewReader("a\n" + strings.Repeat("x", 5<<20) + "\n"), 1 << 20, "a\n", ErrLineTooLong, "read line 1: line too long: more than 4194304 bytes"},
	} {
		r := NewBlockReader(c.in, c.limit)
		blocks, err := readBlocks(t, r)
		if got := string(bytes.Join(blocks, nil)); got != c.lines {
			t.Errorf("%s: got %d bytes, want %d", c.name, len(got), len(c.lines))
		}
		if !errors.Is(err, c.err) || err.Error() != c.text {
			t.Errorf("%s: error %v", c.name, err)
		}
		if _, _, again := r.Next(); fmt.Sprint(again) != c.text {
			t.Errorf("%s: then %v", c.name, again)
		}
	}
}
