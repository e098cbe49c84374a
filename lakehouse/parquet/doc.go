// Package parquet turns Arrow records into Parquet files and back, as our tables have
// them: data pages of version 1, timestamps in microseconds adjusted to UTC, a field id
// for every column. A micro-batch is a file of one row group, in snappy; a big file has
// several, in zstd, and is written and read row group by row group.
//
// Encodings are chosen per column and record from a sample of its values, because a
// micro-batch is written once, at the speed of the stream: a dictionary where values
// repeat, plain where they do not, deltas for the column of source offsets. Their
// footers have no column statistics: a file's statistics stand in the table's log, where
// readers look before they open it. A big file's footer has those of its row groups,
// of which the log says nothing.
//
// Which columns a table has, and where files go, is package lakehouse's.
package parquet
