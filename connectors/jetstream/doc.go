// Package jetstream is the input nats_jetstream: messages of a NATS JetStream stream,
// read through a pull consumer, each with its stream sequence as position.
//
// It takes the place of Benthos' input of that name and reads the same config. It is
// our own because that one says nothing of the stream, reads one message at a time, and
// stands still, without an error, after a server has forgotten its consumer.
//
// # Position
//
// The partition is the stream with the moment in which it was made, since a stream
// that is made anew counts from 1 again, and with the subjects that are read of it. The
// offset is the stream sequence. Sequences have gaps where other subjects' messages or
// deleted ones were. A consumer numbers its deliveries: of two that follow each other
// and are both first ones, nothing that the consumer reads lies between, whoever else
// shares it (void, see package position). All other gaps are settled by the
// consumer's ack floor.
package jetstream
