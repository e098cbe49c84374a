// Package secret holds the type for passwords, keys and tokens: a string that
// prints as *** however it is printed, so that a careless log line, error, JSON
// answer or test diff cannot give it away. What libraries that were handed a
// value do with it is undone by [Scrub], through which every text passes on its
// way out. [Resolve] reads values from files and commands. The package neither
// encrypts nor stores anything.
package secret

import (
	"fmt"
	"io"
	"log/slog"
	"unique"
)

// Mask is what every secret prints as, whatever its value, the empty one included:
// even its length and presence stay private.
const Mask = "***"

// String is a secret. Its zero value is the empty secret. It can be read from JSON,
// YAML and flags (UnmarshalText), compared with ==, but never written back: every way of printing or
// encoding it gives Mask. Only Reveal gives the value.
type String struct {
	// A handle and not the string: fmt prints unexported fields of a struct that holds
	// a String without asking its methods, and would print the value; of a handle it
	// prints an address. Equal secrets still compare equal. The empty one has no handle.
	value unique.Handle[string]
}

// New makes a secret of s, which is scrubbed from texts from then on.
func New(s string) String {
	if s == "" {
		return String{}
	}
	Note(s)
	return String{value: unique.Make(s)}
}

// Reveal gives the value, for the one call that must have it.
func (s String) Reveal() string {
	if s.Empty() {
		return ""
	}
	return s.value.Value()
}

// Empty reports whether there is no secret.
func (s String) Empty() bool { return s == String{} }

// String prints Mask.
func (String) String() string { return Mask }

// GoString prints Mask.
func (String) GoString() string { return Mask }

// Format prints Mask for every verb and flag.
func (String) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Mask) }

// MarshalJSON encodes Mask.
func (String) MarshalJSON() ([]byte, error) { return []byte(`"` + Mask + `"`), nil }

// MarshalText encodes Mask.
func (String) MarshalText() ([]byte, error) { return []byte(Mask), nil }

// MarshalYAML encodes Mask.
func (String) MarshalYAML() (any, error) { return Mask, nil }

// LogValue logs Mask.
func (String) LogValue() slog.Value { return slog.StringValue(Mask) }

// UnmarshalText takes the value from text, JSON strings and flags included.
func (s *String) UnmarshalText(text []byte) error {
	*s = New(string(text))
	return nil
}
