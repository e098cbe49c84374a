package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/connectors/decode"
)

// schema is the contract's, as Arrow has it.
func schema() *arrow.Schema {
	str, long, double := arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Float64
	return arrow.NewSchema([]arrow.Field{
		{Name: "tx_id", Type: str}, {Name: "card_id", Type: str}, {Name: "amount", Type: double},
		{Name: "country", Type: str, Nullable: true}, {Name: "merchant_risk", Type: double}, {Name: "hour_of_day", Type: long},
		{Name: "is_foreign", Type: long}, {Name: "tx_per_hour", Type: long}, {Name: "channel", Type: str, Nullable: true},
		{Name: "ts", Type: arrow.FixedWidthTypes.Timestamp_us},
	}, nil)
}

const (
	decodeBytes = 32 << 20 // of the file
	decodeChunk = 20_000   // rows of a record
	decodeTimes = 3        // in turns; the best counts
)

// sideBySide reads the same bytes with the connector's decoder, which also keeps
// each row's raw bytes and position, and with Arrow's reader, in turns.
func sideBySide(file string) (ours, arrows float64, err error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, decodeBytes))
	if err != nil {
		return 0, 0, err
	}
	data = data[:bytes.LastIndexByte(data, '\n')+1]
	want := int64(bytes.Count(data, []byte{'\n'}))
	for range decodeTimes {
		for _, reader := range []struct {
			read func([]byte) (int64, error)
			best *float64
		}{{readOurs, &ours}, {readArrow, &arrows}} {
			start := time.Now()
			rows, err := reader.read(data)
			if err != nil {
				return 0, 0, err
			}
			if rows != want {
				return 0, 0, fmt.Errorf("read %d rows of %d", rows, want)
			}
			*reader.best = max(*reader.best, float64(rows)/time.Since(start).Seconds())
		}
	}
	return ours, arrows, nil
}

func readOurs(data []byte) (rows int64, err error) {
	plan, err := decode.NewPlan(schema(), decode.Options{})
	if err != nil {
		return 0, err
	}
	d := plan.NewDecoder(memory.DefaultAllocator)
	flush := func() error {
		rec, _, bad := d.Flush()
		defer rec.Release()
		rows += rec.NumRows()
		if len(bad) > 0 {
			return fmt.Errorf("row %d: %s", bad[0].Offset, bad[0].Message)
		}
		return nil
	}
	blocks := decode.NewBlockReader(bytes.NewReader(data), 0)
	for {
		block, first, err := blocks.Next()
		if errors.Is(err, io.EOF) {
			return rows, flush()
		}
		if err != nil {
			return rows, err
		}
		if err := d.Message(block, decode.Position{Partition: "cards/rows", First: first, PerRow: true}); err != nil {
			return rows, err
		}
		if d.Rows() >= decodeChunk {
			if err := flush(); err != nil {
				return rows, err
			}
		}
	}
}

func readArrow(data []byte) (rows int64, err error) {
	r := array.NewJSONReader(bytes.NewReader(data), schema(), array.WithChunk(decodeChunk))
	defer r.Release()
	for r.Next() {
		rows += r.Record().NumRows()
	}
	return rows, r.Err()
}
