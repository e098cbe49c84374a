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
// The rows that commits bring, in the order of the table's versions. Commits that take
// files out bring none: they rewrite rows which the table has (compaction, rescoring,
// expiry, a restore). A file is read as it was added, also when the table does not have it
// any more: clean-up and vacuum leave alone for [HoldFor] what a sink has not sent, see
// [Hold]; compaction and expiry go on.
//
// A sink sends one batch at a time unless told otherwise, and so does its output: Benthos
// would send 64 rows side by side, in any order.
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
// _tidemill/sinks/<table>/<sink>/ of the store, each written if it is not there yet: compare
// and swap, lease and fence in one. Of two processes one gets on, and the other, or one
// that slept, finds its number taken and sees that it has lost the sink. An object that
// nobody has followed up for [leaseFor] is one whose owner is gone. At most one is written
// a second, and none but a sign of life every few seconds while nothing is sent. With it
// lies what its owner tells of the sink, for people; see [Told].
//
// It may be lost. The scored table's own log has a transaction sink/<name> with a version
// up to which all was sent, from when the sink was new and from then on about every hour:
// without objects the sink begins there, and what was sent since then is sent again.
//
// # Rows that a sink refuses
//
// One error looks like another, so a batch that fails is halved until the rows to blame
// are known. A row counts as refused when it fails by itself while the sink takes others:
// that is seen from rows sent after it, and else from sending the last accepted row once
// more. After some such attempts it goes to the quarantine table and the rest goes on. When
// nothing is taken at all, the sink is down and everything is tried again for ever.
//
// # Memory
//
// A sink holds the batches in flight, as many again that wait, and what reading one file
// takes. Nothing is read ahead of that.
package sinks
