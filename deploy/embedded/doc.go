// Package embedded runs what Tidemill needs beside itself on one machine, with nothing
// to install: a Temporal server on SQLite, its web UI, and an S3 object store, all on
// the loopback, their state in one directory. A restart finds everything again.
//
// Layout of the directory:
//
//	lock                the pid of the process that uses it, held by flock
//	credentials.json    of the object store, readable by its owner only
//	temporal/           temporal.db (SQLite, WAL) and schema.json, written once it is set up
//	store/              data/ (one directory per bucket), meta/ where extended attributes are missing
//
// Temporal's state may lag behind a power cut (synchronous=NORMAL): the tables' logs
// are the truth, and lie in the object store, which acknowledges what is on disk.
//
// Nothing here calls out: no version checks, news or telemetry.
package embedded
