// Package decode turns the bytes of messages into Arrow records of a landed
// table, and cuts byte streams into blocks of rows.
//
// Rows go straight from bytes into column buffers: no generic JSON value is
// built on the way. A row that does not fit the contract's columns leaves
// nothing behind in any column and comes back as a [BadRow] that says why. The
// package knows columns (an Arrow schema), neither contract files nor tables
// nor Benthos.
//
// # Messages and rows
//
// A message is one JSON object (on one line or many), a block of lines that
// each hold an object (NDJSON, LF or CRLF, blank lines allowed), or a JSON
// array of objects. A byte order mark before it is skipped. An array that is
// not well-formed to its end is one bad row: none of it lands. An object that
// spans lines is a row only when it is the whole message.
//
// # JSON
//
// RFC 8259 to the letter, and beyond it: text must be valid UTF-8, escapes must
// not leave half a surrogate pair, and no object that the contract describes
// may name a key twice. Fields that are no columns are checked for the same and
// then dropped, dropped and told of ([Decoder.NewFields]), or they send the row
// to quarantine ([Options.OnNewField]); objects inside such a field may repeat keys.
//
// A column that is not required takes null, and a missing field is null.
// Apart from that each type takes these values; nothing is converted that could
// lose a digit, except where it says so:
//
//	string      a string
//	long, int   a number without a fractional part that fits: 1, 1.0, 1e3
//	double      a number, rounded to the nearest; beyond the largest is out_of_range
//	float       the same in 32 bits, rounded once
//	boolean     true or false
//	decimal     a number, or a string that holds one; never rounded
//	date        a string "2026-01-31"
//	timestamp   a string, RFC 3339 or with a space for the T; without a zone it is UTC, and so is a lone date;
//	            up to 9 digits of a second, of which 6 are kept
//	            a number, Unix time: in seconds when its integer part has at most 11 digits, in milliseconds
//	            up to 14, in microseconds up to 17, otherwise in nanoseconds; what is finer than a
//	            microsecond is dropped
//	list        an array; elements may be null
//	struct      an object, by the same rules as the row
//
// Dates and timestamps lie in the years 1 to 9999.
//
// The landed table may have columns that are derived from others
// ([Options.Derived]); they are filled when a record is flushed.
package decode
