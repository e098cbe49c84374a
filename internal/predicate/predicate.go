// Package predicate holds conditions over a table's columns in the form in which files
// can be judged by them: by the least and the greatest value of a column, by its number
// of nulls, by a partition's value.
//
// A condition here says which rows may matter, and it is allowed to say "maybe" for more
// of them, never for fewer. What cannot be said in these terms is [Unknown]. Comparisons
// follow DuckDB and SQL's three values: a comparison with null is not true, strings
// compare by their UTF-8 bytes, NaN equals itself and is greater than every other number.
//
// The package knows neither SQL nor files: package query makes conditions of SQL,
// package lakehouse judges files by them.
package predicate

import (
	"slices"
	"strings"
)

// Op is what a [Node] does.
type Op uint8

// Operators. Comparisons have one value, on the right; In has any number.
const (
	Unknown   Op = iota // may be true of any row
	And                 // of Args
	Or                  // of Args
	Eq                  // Column = Values[0]
	Ne                  // Column <> Values[0]
	Lt                  // Column < Values[0]
	Le                  // Column <= Values[0]
	Gt                  // Column > Values[0]
	Ge                  // Column >= Values[0]
	In                  // Column equals one of Values
	IsNull              // Column is null
	IsNotNull           // Column is not null
	Prefix              // Column begins with Values[0], or may: its negation is not known
)

var opNames = [...]string{"unknown", "AND", "OR", "=", "<>", "<", "<=", ">", ">=", "IN", "IS NULL", "IS NOT NULL", "STARTS WITH"}

// String returns the operator as SQL writes it.
func (o Op) String() string { return opNames[o] }

// Node is a condition or a part of one. It is not changed once it is made. A nil *Node
// is Unknown.
type Node struct {
	Op     Op
	Column []string // the path: more than one name for a field of a struct
	Values []Value
	Args   []*Node
}

// Compare is a comparison of a column with a constant: Eq, Ne, Lt, Le, Gt, Ge or Prefix.
func Compare(op Op, column []string, v Value) *Node {
	return &Node{Op: op, Column: column, Values: []Value{v}}
}

// OneOf says that a column equals one of the values. None at all is Unknown.
func OneOf(column []string, values ...Value) *Node {
	if len(values) == 0 {
		return nil
	}
	return &Node{Op: In, Column: column, Values: values}
}

// Null says that a column is null, or with is false that it is not.
func Null(column []string, is bool) *Node {
	if is {
		return &Node{Op: IsNull, Column: column}
	}
	return &Node{Op: IsNotNull, Column: column}
}

// Between says that a column is in a closed interval.
func Between(column []string, low, high Value) *Node {
	return All(Compare(Ge, column, low), Compare(Le, column, high))
}

// All is the conjunction. What is Unknown in it is left out: without it the condition is
// true of more rows, not of fewer.
func All(nodes ...*Node) *Node {
	var known []*Node
	for _, n := range nodes {
		switch {
		case n.IsUnknown():
		case n.Op == And:
			known = append(known, n.Args...)
		default:
			known = append(known, n)
		}
	}
	switch len(known) {
	case 0:
		return nil
	case 1:
		return known[0]
	}
	return &Node{Op: And, Args: known}
}

// Any is the disjunction. It is Unknown if one of its parts is, and if it has none.
func Any(nodes ...*Node) *Node {
	var parts []*Node
	for _, n := range nodes {
		switch {
		case n.IsUnknown():
			return nil
		case n.Op == Or:
			parts = append(parts, n.Args...)
		default:
			parts = append(parts, n)
		}
	}
	switch len(parts) {
	case 0:
		return nil
	case 1:
		return parts[0]
	}
	return &Node{Op: Or, Args: parts}
}

// IsUnknown says whether nothing is known of a condition, so that no file can be left out.
func (n *Node) IsUnknown() bool { return n == nil || n.Op == Unknown }

// String returns the condition in a form like SQL.
func (n *Node) String() string {
	if n.IsUnknown() {
		return "unknown"
	}
	column := strings.Join(n.Column, ".")
	switch n.Op {
	case And, Or:
		parts := make([]string, len(n.Args))
		for i, a := range n.Args {
			parts[i] = a.String()
		}
		return "(" + strings.Join(parts, " "+n.Op.String()+" ") + ")"
	case IsNull, IsNotNull:
		return column + " " + n.Op.String()
	case In:
		parts := make([]string, len(n.Values))
		for i, v := range n.Values {
			parts[i] = v.String()
		}
		return column + " IN (" + strings.Join(parts, ", ") + ")"
	}
	return column + " " + n.Op.String() + " " + n.Values[0].String()
}

// Columns returns the paths that the condition names, each once.
func (n *Node) Columns() [][]string {
	var out [][]string
	var walk func(n *Node)
	walk = func(n *Node) {
		if n == nil {
			return
		}
		if len(n.Column) > 0 && !slices.ContainsFunc(out, func(c []string) bool { return slices.Equal(c, n.Column) }) {
			out = append(out, n.Column)
		}
		for _, a := range n.Args {
			walk(a)
		}
	}
	walk(n)
	return out
}
