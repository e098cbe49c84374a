// Package sources holds what each source promises against everything that goes wrong
// on the way: two processes of the product share a real server, are killed between commit
// and ack and anywhere else, run out of their grace, have their connectors edited, lose their connections,
// their server and their store, and get everything once more, while the tables' sinks find nobody,
// or somebody who does not answer. Then the numbers of the rows in the scored and the quarantine table
// and of those that the sinks sent on are compared with those that were sent.
//
// A source is a value of type source in a file of its own; scenario_test.go does the
// rest. Sources of one process, whose rows are numbered for its run, are in run_test.go.
// docs/connectors/README.md has the matrix of sources and faults.
package sources
