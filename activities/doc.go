// Package activities is hop two's work: the steps that the workflows order,
// one file per activity. They read landed rows, check and score them, commit
// the scored and the quarantine table, and put models through the gate.
//
// What is done stands in the tables' logs and nowhere else, so every activity
// can be repeated by anyone at any moment: it reads the log, does what is
// missing and commits with a compare-and-swap on its own transaction id. An
// activity's inputs and results are names, versions and counts, never rows.
//
// The logs of a table's scored and quarantine tables know these transactions:
//
//	pipeline/<table>        landed version up to which all rows are in; in the
//	                        quarantine table ahead of the scored one while a turn
//	                        is between its two commits
//	recover/<part>          0 while a part is being recovered, 1 once it is done
//	owner/<one of those>    counts the workers that took it over; commits of any
//	                        but the last are refused
//
// Errors are mapped here, once: what a person must mend (a contract, a model)
// is not retried, see [Permanent]; everything else is.
package activities
