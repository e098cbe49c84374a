// Package checkpoint turns the state of a Delta table into a checkpoint file and back:
// actions of package delta to Parquet, and those of any writer's Parquet to actions.
// Which actions a checkpoint must hold, where it is kept and when it is written is
// package lakehouse's.
//
// # What we write
//
// A V1 checkpoint of the Delta Transaction Log Protocol in one Parquet file. A row is an
// action: one of the columns is not null, all others are. In the notation of Parquet,
// with T for binary (String):
//
//	optional group txn      { required T appId; required int64 version; optional int64 lastUpdated }
//	optional group add      { required T path; required map partitionValues<T, optional T>; required int64 size;
//	                          required int64 modificationTime; required boolean dataChange; optional T stats;
//	                          optional map tags<T, optional T> }
//	optional group remove   { required T path; optional int64 deletionTimestamp; required boolean dataChange;
//	                          optional boolean extendedFileMetadata; optional map partitionValues<T, optional T>;
//	                          optional int64 size }
//	optional group metaData { required T id; optional T name; optional T description;
//	                          required group format { required T provider; required map options<T, T> };
//	                          required T schemaString; required list partitionColumns<T>;
//	                          required map configuration<T, T>; optional int64 createdTime }
//	optional group protocol { required int32 minReaderVersion; required int32 minWriterVersion }
//
// Maps are repeated group key_value {key, value}, lists repeated group list {element}.
// dataChange is false, as the actions of a checkpoint change nothing. A remove has no
// stats or tags: the protocol has it so. Absent texts, times of 0 and empty tags are null.
//
// A row group has up to 50,000 actions or 32 MiB of text. Its rows are in the order
// protocol, metaData, txn, add, remove, so a row group of a large checkpoint mostly has
// actions of one kind, and costs next to nothing in the columns of the others. Pages are
// of version 1, compressed with zstd, and end where a row ends. Statistics are there for
// the one column of each action that it always has (txn.appId, add.path, remove.path,
// metaData.id, protocol.minReaderVersion): their null counts tell readers, ours too,
// which row groups have no such action.
//
// The file's key-value metadata says what the file is, for our own readers:
//
//	tidemill.state  {"version":…,"files":…,"bytes":…,"txns":…,"digest":"…"}: see State
//	tidemill.sum    CRC-32C of the whole file, 8 hexadecimal digits, computed with 00000000 in its place
//
// The two find different things. The sum finds a file that is not as it was written:
// any wrong bit, anywhere. The state finds one that was written wrong, because its
// writer's idea of the table was not what it gave to the encoder; the encoder checks
// that too, before anybody can read it.
//
// # What we read
//
// V1 checkpoints of any writer, one part of a checkpoint in several parts, too. Columns
// that are not there are null, unknown ones (partitionValues_parsed, baseRowId,
// domainMetadata, …) are ignored. Row groups may be of any size, actions in any order.
// Statistics that are only in add.stats_parsed become JSON: see parsedStats.
//
// # Why not Arrow
//
// A checkpoint's columns are structs with maps and lists, nearly all of which are null in
// any row. So columns are written and read level by level, which says exactly what is
// null, and costs nothing for the actions that a row is not. A reader holds of each
// column one page and 1024 levels; a writer one row group, and refers to the strings
// that it was given.
//
// A file that is damaged is an error, and neither a panic nor an endless loop nor more
// memory than a file of its size can need: page headers and levels are checked here
// before the library decodes a page, whose own reader does none of this.
package checkpoint
