// Package sqlpoll reads the rows of a SQL table or query behind a cursor: one or
// several columns that together are unique and grow.
//
// A page is `… WHERE (a, b) > (?, ?) ORDER BY a, b LIMIT n`, so that a database with an
// index on the columns never reads what was read before. The state behind a row is the
// row's own values of these columns, each with its type.
//
// # Rows that become visible late
//
// Values are given when a row is written, and rows are visible when their transaction
// commits: 7 may be seen before 6. A reader that takes 7 at once has passed 6. With
// [Config.Settle] it looks at the highest value there is, waits that long, and then reads
// up to that value: a row below it had been written before the look, and has been
// committed by then if its transaction lasted no longer. It asks for no clock of the
// database and works with any type.
//
// The package knows database/sql, and neither drivers nor Benthos nor tables.
package sqlpoll
