// Package pgchanges reads a PostgreSQL database's changes by logical replication, and the
// rows that were there before them, as JSON rows that know their positions.
//
// It knows neither Benthos nor tables in the lake: package connectors makes an input of it, and
// tells it where the log of the table says to go on.
//
// # Positions of changes
//
// PostgreSQL sends transactions in the order of their commits, each whole, and sends the same
// again from wherever the slot was confirmed. A change is therefore known by its
// transaction's commit position and its number in it. Two commits' positions are at least 40
// bytes apart, the size of the smallest commit record, so
//
//	offset = commit position << 13 + number in the transaction
//
// has room for 327,680 changes before the next commit's. The changes of a transaction beyond that
// are in a partition of their own, counted from 0. A position fits as long as the server
// has written less than a petabyte of WAL. The numbers count what the server sends, so
// they stay the same when `include` is changed.
//
// The partition is <slot>/<system identifier>: a slot of the same name in another
// cluster, whose positions mean something else, is another source.
//
// Between two changes that the server sends one after the other there is none, so each stands
// for the offsets since the one before (Void). The first after a start stands for those
// since the last that is in below the slot's confirmed position, because all up to that
// has been acked.
//
// # The first rows
//
// The slot is created with an exported snapshot, and the rows are read in it, page by page along
// the primary key; the changes are read when all pages have been acked. The cursor
// that comes with a page holds the snapshot and the page's last key. A process that
// finds one without an end cannot go back into the snapshot, but goes on behind the key with
// rows whose version was visible in it: the others have changed since, and their changes come.
//
// What is visible is told by transaction numbers, of which a row has the lower 32 bits. In a
// cluster that has used them all up once, an old row can look like a new one. There,
// rows that changed meanwhile come both in a page and as changes, rather than not at all.
//
// Only one page is on its way at a time, and its rows count on from those of the page before. It
// may land in pieces: as one message its rows that go to quarantine are committed before the
// others, and with processors each row is a message. A process that dies in between
// leaves a part of it in, and the database does not give the same page again once a row of it
// has changed. So a page is put into the store before it is handed out, and whoever takes over hands out
// that one, see [stage]. An advisory lock keeps a second process from reading pages.
package pgchanges
