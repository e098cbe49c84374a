// Package quarantine is the shape of a quarantine table: one row for every row
// that came in and could not go on, with its raw bytes, where it came from and
// why. Both hops write it. Writing and committing are package lakehouse's.
package quarantine

import (
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/internal/batch"
)

// Classes of errors: the stage that turned the row away.
const (
	ClassDecode   = "decode"   // the bytes do not fit the contract's columns
	ClassCheck    = "check"    // a check of the contract failed
	ClassFeatures = "features" // the features expression failed on the row
	ClassScore    = "score"    // the model rejected the row
	ClassSink     = "sink"     // a sink refused the row, which is in the scored table all the same
)

// Suffix is what a quarantine table's name adds to its landed table's.
const Suffix = "_quarantine"

// Columns of rows that were replayed: taken out of quarantine and into the landed table
// again. Such a row stays for the record; it does not count as quarantined any more.
const (
	ColReplay     = "replay"      // which replay took the row; null for a row that is in quarantine
	ColReplayedAt = "replayed_at" // when
	ColReplayRow  = "replay_row"  // its _offset in the landed table, where its _source is ReplaySource
)

// ReplaySource is the source partition of rows that came back out of quarantine. Their
// offsets are counted through all replays of a table.
const ReplaySource = "_tidemill/replay"

// ReplayTxn is the transaction of a quarantine table that counts its replayed rows: its
// version is the last offset that was given out.
const ReplayTxn = "replay"

// Row is one quarantined row.
type Row struct {
	Source, Rule, Class, Column, Message string
	Offset                               int64
	Raw                                  []byte

	// Of rows that had landed; LandedVersion is -1 for rows that never did.
	LandedVersion int64
	LandedFile    string
	LandedRow     int64

	Contract     string
	Model        string // empty when no model was involved
	ModelVersion int64
}

// Schema returns the columns of a quarantine table: source position, raw
// bytes, reason, and what the row can be traced by.
func Schema() *arrow.Schema {
	str, long := arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64
	return arrow.NewSchema([]arrow.Field{
		{Name: "quarantined_at", Type: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}},
		{Name: "class", Type: str},
		{Name: "rule", Type: str},
		{Name: "column", Type: str, Nullable: true},
		{Name: "message", Type: str},
		{Name: "raw", Type: arrow.BinaryTypes.Binary},
		{Name: batch.ColSource, Type: str},
		{Name: batch.ColOffset, Type: long},
		{Name: "landed_version", Type: long, Nullable: true},
		{Name: "landed_file", Type: str, Nullable: true},
		{Name: "landed_row", Type: long, Nullable: true},
		{Name: "contract", Type: str},
		{Name: "model", Type: str, Nullable: true},
		{Name: "model_version", Type: long, Nullable: true},
		{Name: ColReplay, Type: str, Nullable: true},
		{Name: ColReplayedAt, Type: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}, Nullable: true},
		{Name: ColReplayRow, Type: long, Nullable: true},
	}, nil)
}

// Record builds a record of quarantined rows. The caller releases it.
func Record(mem memory.Allocator, now time.Time, rows []Row) arrow.Record {
	b := array.NewRecordBuilder(mem, Schema())
	defer b.Release()
	str := func(i int, s string) { b.Field(i).(*array.StringBuilder).Append(s) }
	optional := func(i int, s string) {
		if s == "" {
			b.Field(i).AppendNull()
			return
		}
		str(i, s)
	}
	long := func(i int, v int64) { b.Field(i).(*array.Int64Builder).Append(v) }
	for _, r := range rows {
		b.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(now.UnixMicro()))
		str(1, r.Class)
		str(2, r.Rule)
		optional(3, r.Column)
		str(4, r.Message)
		raw := r.Raw
		if raw == nil {
			raw = []byte{}
		}
		b.Field(5).(*array.BinaryBuilder).Append(raw)
		str(6, r.Source)
		long(7, r.Offset)
		if r.LandedVersion < 0 {
			b.Field(8).AppendNull()
			b.Field(9).AppendNull()
			b.Field(10).AppendNull()
		} else {
			long(8, r.LandedVersion)
			str(9, r.LandedFile)
			long(10, r.LandedRow)
		}
		str(11, r.Contract)
		optional(12, r.Model)
		if r.Model == "" {
			b.Field(13).AppendNull()
		} else {
			long(13, r.ModelVersion)
		}
		for i := 14; i < 17; i++ {
			b.Field(i).AppendNull()
		}
	}
	return b.NewRecord()
}
