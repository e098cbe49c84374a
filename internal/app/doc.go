// Package app wires a Tidemill process together: it is the only place that
// knows the drivers (S3, Temporal, DuckDB, ONNX Runtime, Prometheus) and hands
// them to the packages that only know interfaces. What the commands of
// cmd/tidemill do, they do through it. It holds no logic of the two hops.
//
// # Generations
//
// dev and run follow the project's files: package edits looks, reload.go decides. The
// files are checked as a whole before anything stops. Then what differs from the running
// generation is moved in the order of the rows' path:
//
//   - Connectors whose file or contract has changed stop as at a process' end. Positions
//     make their next start exact.
//   - Hop two changes contracts between two turns: a table's state is not changed but
//     replaced, once its turn has ended, so that what still holds the old one sees one
//     contract throughout. The new state takes the table over as another worker would.
//   - Hop one gets new landings. The appenders stay: what an expiring grace left on its
//     way lands through the one that its redelivery meets. Only where dedupe has changed
//     the old one is closed first, with all that it has taken committed.
//   - Sinks of changed contracts, or that have changed themselves, end and begin anew at
//     their cursors.
//   - The new connectors start. One whose components cannot be made undoes the step, by
//     the same moves backwards.
//   - Models that the edit has brought are registered, which cannot be undone. The checks
//     have registered them in memory, so it hardly fails; turns that need them wait.
//
// Columns that a contract adds are only ever added, so going back needs nothing of the
// tables.
package app
