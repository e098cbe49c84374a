// Package activities is hop two's work: the steps that the workflows order,
// one file per activity. They read landed rows, check and score them, commit
// the scored and the quarantine table, and put models through the gate.
//
// What is done stands in the tables' logs and nowhere else, so every activity
// can be repeated by anyone at any moment: it reads the log, does what is
// missing and commits with a compare-and-swap on its own transaction id. An
// activity's inputs and results are names, versions and counts, never rows.
//
// Errors are mapped here, once: what a person must mend (a contract, a model)
// is not retried, see [Permanent]; everything else is.
package activities
