package query

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
)

// ErrClosed is returned by every method of an engine that was closed.
var ErrClosed = errors.New("query engine is closed")

// Error is what DuckDB has to say about a statement.
type Error struct {
	Class   string   // DuckDB's name: "Binder", "Parser", "Conversion", "Out of Range", ...
	Message string   // without the class, and without DuckDB's picture of the statement
	Offset  int      // byte of the statement that is meant, -1 when unknown
	Name    string   // the name that was not found, when one was
	Near    []string // names that exist and resemble it, best first

	inUsersText bool // Offset is one of the text as the user wrote it, not of what was made of it
}

// Error returns the class and the message.
func (e *Error) Error() string {
	if e.Class == "" {
		return e.Message
	}
	return e.Class + " error: " + e.Message
}

// ByRow reports whether values of single rows caused the error, so that the
// statement may succeed on the other rows: a cast, an overflow, a logarithm of
// a negative number.
func (e *Error) ByRow() bool {
	switch e.Class {
	case "Conversion", "Out of Range", "Invalid Input", "Divide by Zero", "Mismatch Type", "Decimal", "Object Size":
		return true
	}
	return false
}

// ByAuthor reports whether whoever wrote the statement has to change it.
func (e *Error) ByAuthor() bool {
	switch e.Class {
	case "Binder", "Parser", "Syntax", "Catalog", "Not implemented", "Permission", "Parameter Not Resolved", "Parameter Not Allowed", "Statement":
		return true
	}
	return e.ByRow()
}

// fatal reports whether the database refuses all work from now on.
func (e *Error) fatal() bool {
	return e.Class == "FATAL" || e.Class == "INTERNAL" || strings.Contains(e.Message, "database has been invalidated")
}

// parseError reads an error that DuckDB wrote as JSON (setting errors_as_json)
// or, from paths that know no settings, as text.
func parseError(text string) *Error {
	var j struct {
		Type     string `json:"exception_type"`
		Message  string `json:"exception_message"`
		Position string `json:"position"`
		Name     string `json:"name"`
		Near     string `json:"candidates"`
	}
	e := &Error{Offset: -1, Message: text}
	object := text[max(strings.IndexByte(text, '{'), 0):] // a parser error has its class before the JSON
	if json.Unmarshal([]byte(object), &j) == nil && j.Type != "" {
		e.Class, e.Message, e.Name = j.Type, j.Message, j.Name
		if n, err := strconv.Atoi(j.Position); err == nil {
			e.Offset = n
		}
		if j.Near != "" {
			e.Near = strings.Split(j.Near, ",")
		}
	} else if class, message, ok := strings.Cut(text, " Error: "); ok && len(class) < 30 {
		e.Class, e.Message = class, message
	}
	if i := strings.Index(e.Message, "\n\nLINE "); i >= 0 {
		e.Message = e.Message[:i]
	}
	if e.Class == "Out of Memory" { // the rest is advice on settings that are locked here
		e.Message, _, _ = strings.Cut(e.Message, "\n")
	}
	e.Message = strings.TrimSpace(e.Message)
	return e
}

func asError(err error) *Error {
	e, _ := errors.AsType[*Error](err)
	return e
}
