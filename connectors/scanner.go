package connectors

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"iter"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/tidemill/tidemill/connectors/decode"
	"github.com/tidemill/tidemill/connectors/position"
)

// rowsScanner is the name of the scanner that takes the place of `lines` in
// front of the lakehouse output.
const rowsScanner = "tidemill_rows"

// peekBytes bounds how much of a file is looked at to tell it from another
// file at the same path.
const peekBytes = 64 << 10

func rowsScannerSpec() *service.ConfigSpec {
	return service.NewConfigSpec().
		Summary("Cuts a stream of lines into messages that know their line numbers.").
		Description("Takes the place of the `lines` scanner for inputs that feed the `lakehouse` output. Without processors a message is a block of whole lines, which costs Benthos next to nothing per row; with processors it is one line.").
		Field(service.NewBoolField("blocks").Default(true)).
		Field(service.NewIntField("max_row_bytes").Default(decode.DefaultMaxRowBytes))
}

type rowsScannerCreator struct {
	blocks bool
	maxRow int
}

func newRowsScanner(conf *service.ParsedConfig, _ *service.Resources) (service.BatchScannerCreator, error) {
	blocks, err := conf.FieldBool("blocks")
	if err != nil {
		return nil, err
	}
	maxRow, err := conf.FieldInt("max_row_bytes")
	if err != nil {
		return nil, err
	}
	return &rowsScannerCreator{blocks: blocks, maxRow: maxRow}, nil
}

func (c *rowsScannerCreator) Create(r io.ReadCloser, ack service.AckFunc, d *service.ScannerSourceDetails) (service.BatchScanner, error) {
	br := bufio.NewReaderSize(r, peekBytes)
	head, err := br.Peek(peekBytes)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
		return nil, err
	}
	s := &rowsReader{
		src:       r,
		partition: filePartition(d.Name(), head),
		blocks:    decode.NewBlockReader(br, c.maxRow),
		single:    !c.blocks,
	}
	return service.AutoAggregateBatchScannerAcks(s, ack), nil
}

func (c *rowsScannerCreator) Close(context.Context) error { return nil }

// filePartition names a file by its path and its first line, so that a new
// file at an old path is a new source, while a file that grows stays the same.
func filePartition(path string, head []byte) string {
	for i, b := range head {
		if b == '\n' {
			head = head[:i]
			break
		}
	}
	return path + "@" + hashHex(string(head))[:8]
}

func hashHex(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:16])
}

type rowsReader struct {
	src       io.Closer
	partition string
	blocks    *decode.BlockReader
	single    bool
}

func (r *rowsReader) NextBatch(context.Context) (service.MessageBatch, error) {
	for {
		block, first, err := r.blocks.Next()
		if err != nil {
			return nil, err
		}
		if !r.single {
			rows := countLines(block)
			return service.MessageBatch{r.message(block, Position{Partition: r.partition, Offset: first, PerRow: true, Rows: rows})}, nil
		}
		var out service.MessageBatch
		for line := range lines(block) {
			if len(line) > 0 {
				out = append(out, r.message(line, Position{Partition: r.partition, Offset: first}))
			}
			first++
		}
		if len(out) > 0 {
			return out, nil
		}
	}
}

func (r *rowsReader) message(data []byte, p Position) *service.Message {
	return position.Stamp(service.NewMessage(data), p)
}

func (r *rowsReader) Close(context.Context) error { return r.src.Close() }

// lines yields the lines of a block without their ends.
func lines(block []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for len(block) > 0 {
			line, rest, _ := bytes.Cut(block, []byte{'\n'})
			if !yield(bytes.TrimSuffix(line, []byte{'\r'})) {
				return
			}
			block = rest
		}
	}
}

// countLines counts the lines of a block, the last one with or without its end.
func countLines(block []byte) int64 {
	n := int64(bytes.Count(block, []byte{'\n'}))
	if len(block) > 0 && block[len(block)-1] != '\n' {
		n++
	}
	return n
}
