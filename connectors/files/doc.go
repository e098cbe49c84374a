// Package files reads the rows of files and S3 objects, for the input `files`.
//
// It finds objects by globs, directories and prefixes, tells one object from
// another at the same name, and turns what is in them into blocks of JSON lines
// with row numbers: NDJSON as it is, CSV, Parquet and Avro row by row. It knows
// neither Benthos nor tables: it is asked for blocks, and asks which rows of a
// partition are in already.
//
// # Partitions and rows
//
// An object is one partition, `<name>@<hash>`, and a row's offset is its number
// in it, from 0: the line of NDJSON (blank ones count), the record of a CSV file
// (its header does not), the row of Parquet and Avro. The hash tells one
// content from another at the same name:
//
//	S3 object               its ETag; the content of an ETag never changes
//	local NDJSON            the first line, or its first 64 KiB: the file may grow
//	any other local file    its size, first and last 64 KiB
//
// A local NDJSON file is followed: what is appended to it has the next numbers. Of
// all others the last block says that no row comes after it, so that the log can
// say "all of it is in" ([batch.EndOffset]) and a restart need not open them.
//
// # What is not read
//
// A local file that may still be being written waits until it has been still for
// a while; of NDJSON that is only a last line without its end. What is broken for
// good (a torn archive, a record with too many fields) is handed over as a [Bad]
// part at its row number, and the rest goes on as far as the format allows. What
// may mend itself (the network, a store that is down) is tried again.
package files
