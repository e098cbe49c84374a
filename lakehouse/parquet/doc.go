// Package parquet turns Arrow records into Parquet files and back, as our tables have
// them: one row group per record, data pages of version 1, snappy, timestamps in
// microseconds adjusted to UTC, a field id for every column.
//
// Encodings are chosen per column and record from a sample of its values, because a
// micro-batch is written once, at the speed of the stream: a dictionary where values
// repeat, plain where they do not, deltas for the column of source offsets. Column
// statistics are left out of the footer: a file's statistics stand in the table's log,
// where readers look before they open it.
//
// Which columns a table has, and where files go, is package lakehouse's.
package parquet
