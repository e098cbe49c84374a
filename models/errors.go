package models

import (
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrCrashed: the process that ran the model died, hung beyond its deadline or
	// was killed for its memory. It cost this call only; the next one finds a new
	// process. The same rows may well do it again: try parts of them.
	ErrCrashed = errors.New("the model's process died")
	// ErrRejected: the runtime ran and refused the model or its input, by an error
	// of its own. The same rows fail again; parts of them may not.
	ErrRejected = errors.New("the model rejects it")
	// ErrRuntime: there is no usable ONNX Runtime on this machine. No model runs
	// until somebody mends that; no row is at fault.
	ErrRuntime = errors.New("no usable ONNX Runtime")
	// ErrClosed: the session or scorer was closed.
	ErrClosed = errors.New("model session is closed")
	// ErrNotONNX: the bytes are not an ONNX model that Tidemill can read.
	ErrNotONNX = errors.New("not an ONNX model")
)

// RowError says why one row cannot be scored. Its text holds no value of the row.
type RowError struct {
	Row     int    // index in the record given to [Scorer.Score]
	Column  string // input or output column
	Message string
}

// RowsError names the rows that cannot be scored for their own sake, each once,
// in ascending order. No row of the record was scored: call again without them.
type RowsError struct {
	Total int // rows in the record
	Rows  []RowError
}

// Error names the first few rows.
func (e *RowsError) Error() string {
	const shown = 3
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d rows cannot be scored", len(e.Rows), e.Total)
	for i, r := range e.Rows {
		if i == shown {
			b.WriteString("; …")
			break
		}
		fmt.Fprintf(&b, "; row %d: %s: %s", r.Row, r.Column, r.Message)
	}
	return b.String()
}
