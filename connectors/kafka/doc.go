// Package kafka reads topics as members of a consumer group, and hands their records over
// as blocks of rows: consecutive records of one partition, a line each.
//
// A general reader makes a message of every record, with a map of metadata. That costs
// several times what the row costs from there to the table, so where nobody looks at a
// record by itself, none is made: records are taken apart in memory that is used again,
// and their values are copied once, into the block.
//
// It knows neither Benthos nor tables. What was handed over is acked block by block, in
// any order; the group's offset follows the first that is not.
package kafka
