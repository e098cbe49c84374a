// Package lakehouse writes and reads Delta tables in an object store: tables, their
// snapshots and changes, commits, and appends that are exactly once by source position.
//
// What stands in a commit is package delta's, what stands in a data file package
// parquet's, where objects are kept package objstore's. Nothing here knows connectors,
// pipelines or contracts.
//
// # A version is won once
//
// Version N of a table is the object _delta_log/N.json (20 digits). It is written with a
// conditional PUT, so of many writers one wins it, and a log that everybody reads in the
// same order is all the coordination there is. Two things need care:
//
//   - An answer can be lost. Every commit has a random commitInfo.txnId. After any answer
//     but "stored", N is read back: our txnId means it is ours, another's that we lost,
//     and none that nothing is decided. Then the same bytes go to the same N again. N+1
//     is never tried while N is undecided, and a data file is never deleted after a doubt.
//   - A writer can be behind. Whoever lost N reads up to the log's end and judges what
//     the others did (see [Table.Commit]) before it tries the next version. A writer that
//     slept for minutes looks for a cleaned-up log before it believes that N is free.
//
// # Exactly once
//
// A source partition is a named sequence of offsets, and a source may deliver an offset
// again: with other neighbours, in another process, while the first delivery is still
// being written. So the table's log itself says which offsets are in, in two forms that
// are read together, as the union of what they say:
//
//   - Each file that an [Appender] adds has a tag "tidemill.ranges" with the offsets that
//     came in with its commit's record: {"connector/topic/3":[[100,199],[205,205]]},
//     inclusive. If a record became files in several table partitions, each of them has the
//     record's whole tag, for all of them came in at once.
//   - A commit has txn actions for spans, the stretches of a partition that have no gap:
//     {"txn":{"appId":"connector/topic/3","version":199}} says that offsets 0 to 199 are
//     all in, and appId "connector/topic/3@1000" the same for 1000 to its version. (A
//     partition whose own name ends in "@" and digits is written with "@0" for its span
//     from 0.) Spans that have grown together leave the upper one's txn behind; it stays
//     true.
//
// Most batches extend a span. One that overtook another is only in its tag until the gap
// is closed. Gaps that never close, since a source skips offsets or a user's processor
// dropped rows, are closed by the source side's word ([Append].Settled): it makes
// the span longer, in memory and with the next commit's txn. A file that replaces others
// carries their ranges on, but for those that a span has by then.
//
// An append then goes like this. The caller's goroutine leaves out the rows that are
// known to be in, encodes the rest and stores the file. The file queues. One commit at a
// time is under way; the next takes all that queued, without a timer: at low load a file
// waits for nothing, at high load a commit carries many. A commit is planned on the
// newest known snapshot, and again after every lost version, on all that the log has
// then: a file of which any offset has come in is not committed, its caller
// leaves those rows out and writes another. A file that overlaps with one of its own
// group waits for the next. Files left over this way are never in the table; vacuuming
// removes them.
//
// Why no row is in twice: a commit becomes version N only if it was planned on the
// snapshot of N-1, which holds every offset that is in by then, because each commit
// says in itself, atomically with its rows, what it brought; and none of its own
// offsets was among them. It does not matter how old the rows, the process, or what the
// source believes are. Why none is lost: an append returns without an error only when
// its rows' offsets are in the log's snapshot.
//
// Partitions whose name begins with "~" are of sources that cannot deliver again after
// a restart: their offsets are remembered in memory only. Those that begin with "#"
// stand for idempotency keys: they are in tags, never in a txn, and are
// remembered for AppenderOptions.KeyWindow. A file that replaces others says in its tag
// "tidemill.keys_at" when the newest of its keys came in.
//
// # Memory
//
// A snapshot shares its files with those before and after it; a commit costs what it
// changes. The offsets that are in are kept as intervals, so a partition without
// gaps is one interval. Keys and replay-less partitions are bounded by number. The last
// 1024 commits are kept for those who follow a table with [Table.Changes].
package lakehouse
