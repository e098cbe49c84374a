package strictyaml

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tidemill/tidemill/internal/problem"
)

// NodeKind is the shape of a node.
type NodeKind uint8

const (
	Null NodeKind = iota
	Scalar
	Mapping
	Sequence
)

// Node is one value of a document, or the document itself. Methods that look
// below a node may be called on nil, and then find nothing.
type Node struct {
	File         string
	Path         string // such as "checks[1].expr"; "" for the document
	Line, Column int    // 1-based

	Kind    NodeKind
	Tag     string  // of a scalar: what plain YAML takes it for, such as "!!int"
	Value   string  // of a scalar
	Block   bool    // a scalar written with | or >: its text begins on the next line
	Entries []Entry // of a mapping, in file order; keys are unique
	Items   []*Node // of a sequence

	source       string // the text before variables were filled in, "" when there were none
	interpolated bool
	bad          bool // a problem has been reported; Get and Each pass over it
}

// Entry is one key of a mapping and its value.
type Entry struct {
	Key          string
	Line, Column int // of the key
	Value        *Node
}

// Problem returns a problem that stands at the node.
func (n *Node) Problem(format string, args ...any) problem.Problem {
	return problem.Problem{File: n.File, Line: n.Line, Column: n.Column, Field: n.Path, Message: fmt.Sprintf(format, args...)}
}

// Has reports whether a mapping has a key, be its value good or bad.
func (n *Node) Has(key string) bool { return n.entry(key) != nil }

// Get returns the value of a key of a mapping, or nil when there is none or a
// problem has been reported for it.
func (n *Node) Get(key string) *Node {
	if e := n.entry(key); e != nil && !e.Value.bad {
		return e.Value
	}
	return nil
}

func (n *Node) entry(key string) *Entry {
	if n == nil {
		return nil
	}
	for i := range n.Entries {
		if n.Entries[i].Key == key {
			return &n.Entries[i]
		}
	}
	return nil
}

// Or returns the node, or other for nil.
func (n *Node) Or(other *Node) *Node {
	if n == nil {
		return other
	}
	return n
}

// Each returns the items of a sequence for which no problem has been reported.
func (n *Node) Each() []*Node {
	if n == nil {
		return nil
	}
	items := make([]*Node, 0, len(n.Items))
	for _, item := range n.Items {
		if !item.bad {
			items = append(items, item)
		}
	}
	return items
}

// Text returns a scalar's text, "" for nil.
func (n *Node) Text() string {
	if n == nil {
		return ""
	}
	return n.Value
}

// TextOr returns a scalar's text, or def for nil.
func (n *Node) TextOr(def string) string {
	if n == nil {
		return def
	}
	return n.Value
}

// Texts returns the texts of a sequence of scalars, nil when there are none.
func (n *Node) Texts() []string {
	var out []string
	for _, item := range n.Each() {
		out = append(out, item.Value)
	}
	return out
}

// Bool returns a boolean, false for nil.
func (n *Node) Bool() bool { return n != nil && n.Value == "true" }

// IntOr returns a whole number, or def for nil.
func (n *Node) IntOr(def int) int {
	if n == nil {
		return def
	}
	v, err := strconv.Atoi(n.Value)
	if err != nil {
		return def // Check has reported it
	}
	return v
}

// Duration returns a duration, 0 for nil.
func (n *Node) Duration() time.Duration {
	if n == nil {
		return 0
	}
	d, _ := parseDuration(n.Value) // Check has parsed it
	return d
}

// Off is what a Duration may say instead where its Spec allows it.
const Off = "off"

// DurationOr returns a duration, def for nil, and 0 for [Off].
func (n *Node) DurationOr(def time.Duration) time.Duration {
	if n == nil {
		return def
	}
	return n.Duration()
}

// BytesOr returns a size in bytes, or def for nil.
func (n *Node) BytesOr(def int64) int64 {
	if n == nil {
		return def
	}
	v, err := parseBytes(n.Value)
	if err != nil {
		return def // Check has reported it
	}
	return v
}

// Quoted returns the node's text for a message: shortened, and as it stands in
// the file, because what a variable holds may be a secret.
func (n *Node) Quoted() string {
	text := n.Value
	if n.interpolated {
		text = n.source
	}
	return Quote(text)
}

// Quote returns a text in quotes, shortened for a message.
func Quote(text string) string {
	const most = 60
	if runes := []rune(text); len(runes) > most {
		text = string(runes[:most]) + "…"
	}
	return strconv.Quote(text)
}

var units = []struct {
	suffix string
	bytes  float64
}{
	// A suffix stands before those that end like it.
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1}, {"", 1},
}

func parseBytes(text string) (int64, error) {
	for _, u := range units {
		number, ok := strings.CutSuffix(text, u.suffix)
		if !ok {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || !(v >= 0) || v*u.bytes >= 1<<62 {
			break
		}
		return int64(v * u.bytes), nil
	}
	return 0, fmt.Errorf("is not a size; write a number and a unit, such as 256MiB or 2GiB")
}
