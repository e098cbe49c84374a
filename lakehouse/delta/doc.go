// Package delta is the part of the Delta Lake protocol that is bytes and values: the
// actions of a commit, a schema's JSON, column statistics, partition values and paths.
//
// It follows the Delta Transaction Log Protocol (PROTOCOL.md of delta-io/delta) at
// reader version 1 and writer version 2, without table features, which is what every
// reader understands. Unknown actions and unknown fields are ignored when reading, as
// the protocol asks; a table that declares more than we support is refused with an
// [UnsupportedError] that names the feature.
//
// Nothing here does I/O: which object holds which commit, and who may write the next
// one, is package lakehouse's.
//
// # Types
//
//	Delta              Arrow
//	string             utf8
//	long, integer      int64, int32 (short, byte: int16, int8)
//	double, float      float64, float32
//	boolean            bool
//	timestamp          timestamp[us, tz=UTC]
//	date               date32
//	binary             binary
//	decimal(p,s)       decimal128(p, s)
//	array              list
//	struct             struct
//	map                map
//
// timestamp_ntz is a table feature and refused.
package delta
