// Package query runs SQL with DuckDB: over micro-batches in memory ([Engine])
// and over tables in the lakehouse ([Tables]). All of the project's DuckDB cgo
// is here; nothing here knows contracts, commits or object stores.
//
// # Records and vectors
//
// Arrow records enter a query through a table function of ours (scan.go,
// vector.go) and leave it through a reader of DuckDB's result chunks
// (result.go). DuckDB's own Arrow interface is not used, for four reasons. Its
// stream can be read once, so a query that names a view twice (a self-join)
// silently sees no rows the second time. It knows no projection, so every
// column is converted for every query. It returns a record per 2048 rows, and
// records of another major version of the Arrow module. And a statement over
// it cannot be prepared once and run again on the next batch. Numbers are
// copied in blocks, 16 bytes a value at most; strings are not copied on their
// way in: DuckDB's string headers point into the Arrow buffers, which stay
// pinned until the result has been read.
//
// # Types
//
// Views have the types of table contracts. A `timestamp` column is a DuckDB
// TIMESTAMP that holds UTC, so that hour(ts) and date_trunc need no time zone
// rules; comparisons with now() and with literals that carry an offset are
// right because the session's time zone is UTC. TIMESTAMP and TIMESTAMPTZ
// results both become timestamps in UTC, microseconds. Narrow integers are
// widened, UUID, ENUM, TIME and INTERVAL become text; what no contract type
// can hold is an error that names the CAST to write (types.go).
//
// # Tables
//
// A statement over tables is rewritten where it names a version or a path
// (travel.go), its tables are opened, the conditions on each are read off
// DuckDB's syntax tree (needs.go, condition.go), DuckDB computes their constants
// (constant.go), and the table's source brings the files that may hold rows that
// are needed. Each table becomes a view over those files, and the statement runs
// on the views. All that is one transaction: now() is one moment.
//
// # What SQL may do
//
// One statement that reads. File system, network, extensions and settings are
// out of its reach: external access is off and the configuration is locked
// before the first statement of a user runs.
package query
