// Package sinks sends the rows of a scored table on to other systems: one
// [Runner] per sink of a contract, each with a durable cursor of its own, so that a
// sink that is slow or away holds up nobody.
//
// It knows tables and contracts. The system that rows go to is an [Output], and a
// sink's condition a [Filter]; both are handed in, so that nothing here depends on
// Benthos or DuckDB.
//
// # What is sent
//
// The rows that commits bring, in the order of the table's versions. Commits that
// rewrite rows which the table has (compaction, rescoring, expiry, a restore) bring
// none. A file is read as it was added, also when the table does not have it any more:
// maintenance leaves such files alone for [HoldFor], see [Hold].
//
// # At least once, with one key
//
// A row's key is table/version/row: the scored table, the version whose commit brought
// the row, and its place among the commit's rows. Commits never change, so a row that
// is sent again has the key it had.
//
// # The cursor
//
// The next row to send, as (version, row). It lies in numbered objects below
// _tidemill/sinks/<table>/<sink>/ of the store, each written if it is not there yet; so
// of two processes one gets on (compare and swap), and the other sees that it has lost
// the sink. An object that nobody has followed up for [leaseFor] is one whose owner is
// gone. At most one is written a second, and none but a sign of life every few seconds
// while nothing is sent.
//
// It may be lost. The scored table's own log has a transaction sink/<name> with a version
// up to which all was sent, from when the sink was new and from then on about every hour:
// without objects the sink begins there, and what was sent since then is sent again.
//
// # Rows that a sink refuses
//
// A batch that fails is halved until the rows to blame are known. A row counts as
// refused when it fails by itself while the sink takes others: that is seen from rows
// sent after it, and else from sending the last accepted row once more. After some such
// attempts it goes to the quarantine table and the rest goes on. When nothing is
// taken at all, the sink is down and everything is tried again for ever.
//
// # Memory
//
// A sink holds the batches in flight, as many again that wait, and what reading one file
// takes. Nothing is read ahead of that.
package sinks
