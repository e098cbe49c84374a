package files

import (
	"bytes"
	"io"
	"path"
	"strings"
)

// Format is what the rows of an object are written in.
type Format string

// Formats. Auto is decided object by object, by its name's ending, else by how it begins.
const (
	Auto    Format = "auto"
	NDJSON  Format = "ndjson"
	CSV     Format = "csv"
	Parquet Format = "parquet"
	Avro    Format = "avro"
)

var endings = map[string]Format{
	".ndjson": NDJSON, ".jsonl": NDJSON, ".json": NDJSON, ".log": NDJSON,
	".csv": CSV, ".tsv": CSV, ".parquet": Parquet, ".avro": Avro,
}

// bare takes the endings of compression off a name.
func bare(name string) string {
	for _, e := range []string{".gz", ".gzip", ".zst", ".zstd"} {
		if b, ok := strings.CutSuffix(name, e); ok {
			return b
		}
	}
	return name
}

// formatOf decides what an object's format is; "" when nothing tells.
func formatOf(f Format, name string, head []byte) Format {
	if f != Auto {
		return f
	}
	if f, ok := endings[strings.ToLower(path.Ext(bare(name)))]; ok {
		return f
	}
	switch {
	case bytes.HasPrefix(head, []byte("PAR1")):
		return Parquet
	case bytes.HasPrefix(head, []byte("Obj\x01")):
		return Avro
	}
	return ""
}

// block is what a rowReader returns.
type block struct {
	first, rows int64
	data        []byte
	bad         *Bad
}

// rowReader reads the rows of one object, from the row on that it was made for.
type rowReader interface {
	// next returns rows whose numbers follow each other. A bad block stands for what it
	// covers, and reading goes on after it. The error is io.EOF at the end, a damage
	// where nothing more can be read, or what reading ended with.
	next() (block, error)
	close()
}

// readHead returns the first bytes of a content of a size: all that are asked for,
// or an error. What a read that was broken off returned must not pass for it.
func readHead(at io.ReaderAt, size int64) ([]byte, error) {
	head := make([]byte, min(size, headBytes))
	if _, err := io.ReadFull(io.NewSectionReader(at, 0, int64(len(head))), head); err != nil {
		return nil, readError(err)
	}
	return head, nil
}

// readTail returns the last bytes of a content.
func readTail(at io.ReaderAt, size int64) ([]byte, error) {
	tail := make([]byte, min(size, headBytes))
	if _, err := io.ReadFull(io.NewSectionReader(at, size-int64(len(tail)), int64(len(tail))), tail); err != nil {
		return nil, readError(err)
	}
	return tail, nil
}
