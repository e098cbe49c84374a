// Package connectors is the Benthos side of Tidemill: hop one, from a source
// to a landed table.
//
// A connector is one Benthos config whose output is `lakehouse`. This package
// registers that output, wraps every input so that each message carries its
// source position (see [Position]), cuts line files into blocks of rows,
// lints connector files and runs them. It knows tables (package lakehouse) and
// contracts, and neither workflows nor activities: whoever wires it is told of
// a commit through [Landing.Committed].
//
// # Exactly once
//
// The wrapped input numbers what it reads: a Kafka message by topic, partition
// and offset, a row of a file by its line. The output hands rows with their
// positions to the table's appender, which drops what the table's log already
// has. A message is acked after the commit that holds its rows, so the source
// may redeliver as it likes.
//
// Acks also flow back to the wrapper: once every message up to an offset has
// been acked (landed, or dropped by the user's own processors), the span is
// settled, and the next commit records it as one number per partition. That
// keeps the table's memory of a partition small however many offsets a
// processor filters out.
//
// # Looking without keeping
//
// `connector try`, `connector test` and `contract infer` run a connector's own stream with
// three parts changed: the source wrapper acks nothing, the output keeps messages in
// memory, and, for tests, the input hands out messages that were given. What they show
// went through the same positions, decoder, checks, features and scorer as hops one and
// two do; only tables are not there. How each kind of input is read so that nobody misses
// a message (a group of its own, messages given back, options that delete switched off, or
// a refusal) is one table, trials in trial.go; an input that is added belongs there.
package connectors
