// Package merge puts the rows of Arrow records in order: [Sort] those that are in memory,
// [Merge] those of sources that are sorted already, record by record, in memory that
// does not grow with the number of rows.
//
// The order is that of a [Key], the values of some columns, ascending: null after all
// values, NaN after all other numbers, -0 and 0 alike, strings and binary by their bytes,
// false before true. Rows with equal keys keep the order in which they came.
//
// Columns are compared by their bits, as far as possible: each fixed-width value becomes
// an unsigned integer of the same order, and a string begins to be compared at the first
// eight bytes after what all strings of a column have in common.
//
// Nothing here knows tables or files.
package merge
