package files

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
)

// partitionOf names one content of an object. The hash is over what tells it from another.
func partitionOf(name string, told ...[]byte) string {
	h := sha256.New()
	for _, t := range told {
		h.Write(t)
	}
	return name + "@" + hex.EncodeToString(h.Sum(nil)[:4])
}

// fixedPartition names an object whose content does not change, by its version; a local
// file by its size and ends.
func fixedPartition(at io.ReaderAt, o Object, head []byte) (string, error) {
	if o.Fixed {
		return partitionOf(o.Name, []byte(o.Version)), nil
	}
	tail, err := readTail(at, o.Size)
	if err != nil {
		return "", err
	}
	return partitionOf(o.Name, fmt.Append(nil, o.Size, " "), head, tail), nil
}

// readError makes what io.ReadFull says of a file that ends early an error that is worth
// another look: it has become shorter since it was listed.
func readError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it has become shorter", ErrReplaced)
	}
	return err
}

// rows opens the rows of a content, from one on. Errors that are no damage are worth
// another attempt.
func (c *Config) rows(ctx context.Context, at io.ReaderAt, o Object, f Format, head []byte, from int64) (rowReader, error) {
	if f == Parquet {
		if compressionOf(head) != Plain {
			return nil, damaged("a compressed Parquet file cannot be read; Parquet compresses by itself")
		}
		return newParquetReader(ctx, at, o.Size, from)
	}
	s := newStream(at, 0, o.Size, c.chunk(o))
	r, closeFn, err := compressionOf(head).unpack(s)
	if err != nil {
		return nil, err
	}
	var rows rowReader
	switch f {
	case CSV:
		opts := c.CSV
		if opts.Delimiter == 0 && strings.EqualFold(pathExt(o.Name), ".tsv") {
			opts.Delimiter = '\t'
		}
		rows, err = newCSVReader(r, opts, csvKinds(c.Schema), c.MaxRowBytes, from, closeFn)
	case Avro:
		rows, err = newAvroReader(s, r, from, closeFn)
	default:
		lines := newLineReader(r, c.MaxRowBytes, 0, from, false, closeFn)
		lines.room = int(min(blockBytes, 8*o.Size+1)) // there may be very many small ones
		return lines, nil
	}
	if err != nil {
		closeFn()
		return nil, err
	}
	return rows, nil
}

func (c *Config) chunk(o Object) int {
	if o.Fixed {
		return s3Chunk
	}
	return diskChunk
}
