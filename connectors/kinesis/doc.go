// Package kinesis is the input aws_kinesis: records of Kinesis streams, whose shards
// several processes share by leases in a DynamoDB table.
//
// It takes the place of Benthos' input of that name, and reads the same config and the same table. It
// is our own because that one leaves shards behind: a lease without a sequence number (an owner
// that was killed early, a shard that never had a record) cannot be taken over, nor can any of a
// shard that is named in the config; and a shard that is closed by resharding while nobody reads is
// taken for finished, with what is in it.
//
// # Leases
//
// An item of the table is a shard: how far it is acked, who has it, and a text that its owner
// changes from time to time. Whoever sees it unchanged for the lease period takes the shard
// over. Every change of an item is conditional on its owner. Nothing depends on two readers never
// having the same shard: rows that come twice are dropped by the table's log, so a reader that was
// asleep costs work and no more.
//
// A shard that has been read to its end keeps an item that says so, and its children are not begun
// before. The item goes when Kinesis does not know the shard any more.
package kinesis
