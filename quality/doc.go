// Package quality checks micro-batches against their table's contract and
// computes their features: which rows go on, with which columns, which do not
// and why. It compiles a contract's SQL once ([Compile]) and runs it batch
// after batch ([Plan.Run]). SQL itself is package query's; what becomes of
// failures and warnings is the caller's.
//
// # What goes in
//
// Records with the contract's columns, found by name and of the contract's
// types, and any other columns that have no feature's name: the system columns
// of landed tables, and those that the contract does not know. SQL sees a
// relation "batch" with the contract's columns and "_row" only; the others are
// out of its sight, so that features cost nothing for them.
//
// A record may bring a column "_row" (long, no nulls, no value twice in a
// call), and failures then name rows by it. Without one, rows are numbered
// from 0 over all records of the call.
//
// # What comes out
//
// For every record with rows that passed, one record: the contract's columns,
// the features in the order of the SQL, then the other columns that came in.
// Rows keep their order. `_row` is among them exactly if it came in.
//
// # Checks
//
// A check is an SQL boolean expression. A row fails when it is false; null
// passes, as in a CHECK constraint of SQL. A row that fails several checks is
// reported for the first one in the contract's order. Failures of checks with
// `on_fail: warn` are counted only. Features are computed over the rows that
// passed, so they may rely on the checks.
//
// # Features
//
// One SELECT over "batch" that keeps the contract's columns and `_row`, each
// row once: `SELECT *, … FROM batch`. Joins of the batch with itself, windows
// and subqueries are fine. In the usual form, expressions over single rows
// behind a bare `*`, checks and features are computed in one query and the
// contract's columns are not copied.
//
// # Rows that SQL stumbles over
//
// A cast or an overflow fails a whole query. The rows to blame are found by
// halving and become failures with DuckDB's message; the others go on. An
// error that no single row causes, such as a sum over the batch that
// overflows, fails the batch.
package quality
