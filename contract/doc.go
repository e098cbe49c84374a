// Package contract holds table contracts: the YAML files in a project's
// tables/ directory that say what a table's columns, keys, checks, features
// and scores are.
//
// A file is read strictly and all of its problems are reported at once, each
// with file, line and field ([Parse]); what comes out is a [Table], a value
// that is valid and never changes. The field table in spec.go is the one
// description of the format: the reader and [JSONSchema] both follow it.
//
// What needs more than the file is judged elsewhere: whether SQL compiles, by
// package quality; whether a model fits, by the gate in package models.
// Nothing here does I/O beyond reading the files.
package contract
