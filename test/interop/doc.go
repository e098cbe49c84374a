// Package interop holds the tests that let other readers open tables which
// Tidemill wrote: delta-rs (the Python package deltalake) and DuckDB's own
// Parquet reader. What they read must be, value for value, what `tidemill sql`
// shows, with and without filters that prune files; and what delta-rs appends,
// Tidemill must read.
//
// There is only test code here, and the Python beside it.
package interop
