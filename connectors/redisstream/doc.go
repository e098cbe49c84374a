// Package redisstream is the input redis_streams: entries of Redis streams, read
// through a consumer group, each with its entry id as position.
//
// It takes the place of Benthos' input of that name and reads the same config. It is
// our own because that one loses what a table would miss: it skips entries without
// the body's key and never acks them, leaves alone what a dead member of its group
// had, drops acks that fail, forgets the stream's name, and hands over one entry at a time.
//
// # Position
//
// An entry id is a time in ms and a number within it. The offset is both in one
// integer, see offsetOf. Ids have gaps. The entries of one XREADGROUP reply follow each
// other in the stream, since the group's last-delivered id moves over all that is
// there; so what lies between them is void (package position). Between replies other
// members may have been served: that gap is settled by the group's own account, see
// [stream.account].
package redisstream
