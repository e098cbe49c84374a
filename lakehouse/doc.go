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
// A source's numbers may have gaps (entry ids, log sequence numbers). Where it vouches
// that no row has, or will ever have, the offsets right before a row's, these come in
// with the row (batch.Run's Void), so that such a partition, too, is a few intervals
// in the log and in memory. It is enough to be careful in one place: whether a row is in is
// asked of its own offset, never of the void ones before it. So what is said to be in is
// always the offsets of rows that are, and offsets that no row has; that two readers say
// it of different stretches, before or after a restart, changes nothing. A reader that
// cannot know what lies before a row says nothing, and the row is an interval by itself
// until the source's word (below) closes the gap.
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
// # Cursors
//
// Some sources have no offset from which they could go on: what they can be asked for is
// "the page behind this token", "the rows behind this key". Their offsets are running
// numbers from 0, and what they go on from is a short text, the [Cursor] behind an offset.
// It is in the log with the rows: a file has a tag "tidemill.cursors",
// {"connector/orders":[{"offset":199,"cursor":"…"}]}, with the last cursor of its record
// for each partition. A cursor that came in need not count, for the rows of earlier offsets may
// still be on their way, or lost with a process. The one that counts is the highest below
// which all offsets from 0 on are in. [ResumeAt] tells it, over all tables that
// the partition's rows go to. So a cursor is never ahead of the rows, and it never goes
// back:
//
//   - An Appender remembers, of each partition, the one that counts and the highest 64
//     above it. It takes them in with each commit and looks at all files only once.
//   - A file that replaces others has the cursor that counts, going by the log's spans and
//     its own ranges, and those above it.
//   - When the last file that remembers a cursor is taken out, by expiry or by a restore, a
//     file without rows takes its place in the same commit, and that of earlier ones like it.
//
// Other writers' compactions and deletes drop tags; a source then goes on from an earlier
// cursor, or from its beginning, and offsets that are in are left out as ever.
//
// # Rows without positions
//
// With [AppenderOptions].Dedupe, a row of a "~" or "#" partition is left out also when the
// table has a row with the same values in some columns that landed within a window. There
// is no other record of them than the rows: an appender keeps hashes of those columns,
// read from the window's files at its start. A file landed at its modification time, or,
// if it replaces others, at "tidemill.landed_at" of its tags, the newest of theirs. Before
// a commit is planned, and again after every lost version, the files that others have
// added are read, so a row is compared with all that is in below its own commit; a file
// of which any row has come in is written again without it, as with offsets. Rows with
// positions are compared with, never left out. What is remembered is bounded by number;
// past it the oldest are forgotten before the window is over, and the log says so.
//
// # A log that does not grow old
//
// At a few commits a second, a log has a hundred thousand entries a day. So:
//
//   - A Table that commits writes a checkpoint, the table's state as one object, every
//     delta.checkpointInterval commits (100) or 60 s, in the background. Reading begins at
//     the newest checkpoint that is whole: _last_checkpoint says where to list from, a
//     listing says what is there, and the checkpoint says of itself what it must hold
//     (package checkpoint). One that is torn, edited or another version's is passed over
//     for an older one, named in the log, and made up for by the next.
//   - Knowing a version, a Table finds the next by asking for it. A refresh costs the
//     new commits, a cold open one checkpoint and its tail.
//   - [Table.CleanLog] deletes what is older than delta.logRetentionDuration and than a
//     checkpoint that was just read and found whole, the oldest first. Of checkpoints
//     that are older than ten minutes one an hour is kept meanwhile.
//   - [Table.Compact] makes large files of small ones, [Table.Expire] takes rows out that
//     are too old, [Table.Vacuum] deletes the files of neither, [Table.Restore] brings a
//     version's rows back. All of them are commits like others, or deletions of what no
//     version in retention names.
//
// Whoever deletes goes by the store's clock, or by ours if that is behind. Three rules
// keep those who are slow safe from it:
//
//   - A writer does not commit files that it stored longer ago than half of
//     delta.deletedFileRetentionDuration, since vacuuming may take them for left over.
//   - A writer that has not looked at the log for a quarter of its retention (ten minutes
//     at most) lists it first; if that much time passes in the middle of a commit, the
//     commit counts only if the one before it is still there, because clean-up would
//     have deleted that one earlier than this version.
//   - A follower's position ([MaintainOptions].Hold) keeps the commits after it, and the
//     files they brought, from being deleted, compacted or expired.
//
// What a follower sees in [Table.Changes] are new rows: the files that a compaction, a
// delete or a restore adds had their rows in the table before.
//
// Tombstones, which outnumber the files, are not kept in memory: they are carried from
// one checkpoint to the next until their files have been vacuumed. The objects
// _tidemill_maintenance and _tidemill_clock in the log are notes that only save work.
//
// # Compaction
//
// [Table.Compact] replaces small files by larger ones with the same rows
// (part-00000-<uuid>.c000.zstd.parquet), in commits with dataChange false. Their tags are
// the ranges, keys and cursors of what they replace, "tidemill.level" with how often their rows
// were put together, and "tidemill.sorted" with the columns that they are sorted by, with
// commas. Other tags are not carried on. Their footers have bounds per row group.
//
// # Memory
//
// A snapshot shares its files with those before and after it; a commit costs what it
// changes. The offsets that are in are kept as intervals, so a partition without
// gaps is one interval. A key of Dedupe takes 21 to 32 bytes. Keys and replay-less partitions are bounded by number. The last
// 1024 commits are kept for those who follow a table with [Table.Changes].
package lakehouse
