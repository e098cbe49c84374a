// Package problem holds the one form in which Tidemill tells a person what is
// wrong with something they wrote: file, line, field, what is wrong and what
// to do about it. Readers of configuration collect problems in a [List] and
// report all of them at once. Faults that nobody can mend by editing a file
// (a network, a disk, a bug) are ordinary errors and do not belong here.
package problem

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tidemill/tidemill/internal/secret"
)

// Problem is one thing that is wrong with a file. Empty parts are left out of
// its text. Message never holds a secret's value.
type Problem struct {
	File    string `json:"file,omitempty"`   // as the user would write it, usually relative to the project
	Line    int    `json:"line,omitempty"`   // 1-based, 0 when the whole file is meant
	Column  int    `json:"column,omitempty"` // 1-based, 0 when unknown; for editors, not part of the text
	Field   string `json:"field,omitempty"`  // path of the field, such as "checks[1].expr"
	Message string `json:"message"`          // what is wrong and what to do
}

// Error returns "file:line: field: message".
func (p Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		if p.File == "" {
			b.WriteString("line ")
		} else {
			b.WriteByte(':')
		}
		b.WriteString(strconv.Itoa(p.Line))
	}
	for _, s := range []string{p.Field, p.Message} {
		if s == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteString(": ")
		}
		b.WriteString(s)
	}
	return b.String()
}

// List is every problem found in one go. The zero value is ready for use; as
// an error it is never empty, see [List.Err].
type List []Problem

// Error returns one line per problem.
func (l List) Error() string {
	lines := make([]string, len(l))
	for i, p := range l {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives errors.As each [Problem].
func (l List) Unwrap() []error {
	errs := make([]error, len(l))
	for i, p := range l {
		errs[i] = p
	}
	return errs
}

// Add appends problems.
func (l *List) Add(ps ...Problem) { *l = append(*l, ps...) }

// Addf appends a problem with a formatted message.
func (l *List) Addf(file string, line int, field, format string, args ...any) {
	l.Add(Problem{File: file, Line: line, Field: field, Message: fmt.Sprintf(format, args...)})
}

// AddErr appends what an error holds: the problems of a List or a Problem
// anywhere in its chain, or else the error's text as a problem of the file.
// A nil error adds nothing.
func (l *List) AddErr(file string, err error) {
	if err == nil {
		return
	}
	if ps := Of(err); ps != nil {
		l.Add(ps...)
		return
	}
	l.Add(Problem{File: file, Message: err.Error()})
}

// Err returns nil for an empty list, and otherwise a copy of it sorted by
// file, line and column, with repetitions left out.
func (l List) Err() error {
	if len(l) == 0 {
		return nil
	}
	out := slices.Clone(l)
	slices.SortStableFunc(out, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return slices.Compact(out)
}

// Scrubbed returns the list without secrets in its texts; see [secret.Scrub].
func (l List) Scrubbed() List {
	out := slices.Clone(l)
	for i := range out {
		out[i].Message = secret.Scrub(out[i].Message)
	}
	return out
}

// Of returns the problems that an error holds, or nil when it is an error of
// another kind: one that no edit of a file mends.
func Of(err error) List {
	if l, ok := errors.AsType[List](err); ok {
		return l
	}
	if p, ok := errors.AsType[Problem](err); ok {
		return List{p}
	}
	return nil
}
