// Package interop holds the tests that let other engines open the tables that
// Tidemill writes, and Tidemill the tables that they write.
//
// The engines are delta-rs (the Python package deltalake, with Arrow's dataset and with
// DataFusion), DuckDB with its delta extension, Polars, and Spark with Delta. They run
// as Python processes that answer calls (engine.py); what they read comes back as Arrow
// files, so that one function tells whether rows are the same, and filters come as data,
// which every engine puts into its own language and Go judges by itself.
//
// foreign_test.go reads, as `table scan` does, what delta-rs and Arrow write at random:
// types nested in each other, old timestamps, partitions, lives of tables.
//
// interop_test.go does the same with what the whole product wrote, and with `tidemill sql`.
//
// There is only test code here, and the Python beside it.
package interop
