// Package workflows orders the work of hop two: which activity runs when, what
// is retried, what waits for a person. It is deterministic: no clock, no
// randomness, no I/O but through the SDK. Histories of real runs are committed
// under testdata and replayed by a test; a change that breaks them needs a
// version marker.
//
// [Pipeline] runs for as long as its table lives. [RegisterModel] and
// [RecoverBatch] come to an end. All take one JSON object with defaults, so
// that a person can start them from the Temporal UI.
//
// # Maintenance
//
// [Maintain] runs per contract, on a Temporal Schedule: expire, compact, checkpoint,
// clean, vacuum, for each of the three tables, each step an activity. It adds nothing to
// what the log says: a step that is cut off anywhere is done again by the next run, and
// rows, offsets and cursors are the same before and after.
//
// Of the landed table nothing after the pipeline's cursor, or from the first open part
// on, is touched. The cursor only grows, and a part is opened by the commit that moves
// it, so a stale look errs on the safe side. Quarantine files whose tags a cut-off turn
// would look for stay apart until the scored table's log says that their transaction is
// done. What sinks have not sent is held, too; see package sinks.
//
// The work is done under the workflow id maintain/<project>/<table> only; whatever starts
// under another id runs that one as its child. In a process one step works at a time,
// over all tables, which bounds memory. Between pieces of work, a step rests as long as
// it has worked while rows are landed or scored in the process.
package workflows
