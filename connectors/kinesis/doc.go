// Package kinesis is the input aws_kinesis: records of AWS Kinesis' streams, whose shards
// processes share by leases in a DynamoDB table, each record with its sequence number as position.
//
// It takes the place of Benthos' input of that name, and reads the same config and the same
// table. It is our own because with that one a shard can stand still for ever, when a
// process dies before it has checkpointed anything of it or while its shards are named in
// the config, and because it skips what is unread in a shard that was closed meanwhile.
//
// # Leases
//
// An item of the table is a shard: hash key StreamID, range key ShardID, and as text
//
//	SequenceNumber  everything up to it has been acked; missing: nothing yet
//	ClientID        who reads the shard; missing: nobody
//	LeaseTimeout    when that lease ends by its owner's clock
//	WantedBy        who asked its owner for the shard, to have as many as others
//	StartTime       with start_from_oldest: false, from when on records count
//	ShardEnd        the shard has been read to its end: the sequence number that it began with
//
// of which the last three are ours. Every change is conditional on the owner. An owner renews
// its lease at least three times in a lease_period, which changes LeaseTimeout. The lease of
// another is over when it has been seen unchanged for a lease_period: so no clock is
// compared with another's. Nothing depends on that for the rows to be right: two readers of one
// shard read the same records with the same positions.
//
// A process has no item of its own, since Benthos' input would take one for a shard. One that has
// fewer shards than others asks for one of theirs (WantedBy), and the owner stops
// reading it, waits a little for what is on its way, and hands it over with its checkpoint.
//
// A shard is read when each of its parents that the stream still lists has been read to its
// end and acked. The item of a shard that was read stays until the stream does not list it any more.
//
// # Position
//
// See [placer].
package kinesis
