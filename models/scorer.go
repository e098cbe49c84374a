package models

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/contract"
)

// Rows go to the model in chunks, which bounds the buffers and the messages to
// the child process: at most maxChunkRows, fewer of wide rows.
const (
	maxChunkRows     = 16 << 10
	maxChunkElements = 1 << 20 // 8 MiB of doubles
)

func chunkRows(feeds []feed) int {
	width := 1
	for _, f := range feeds {
		width += len(f.columns)
	}
	return max(1, min(maxChunkRows, maxChunkElements/width))
}

// ScorerOptions describe a [Scorer]. Runtime, Version, Data and Score must be set.
type ScorerOptions struct {
	Runtime Runtime
	Version Version
	Data    []byte // the version's bytes, from [Registry.Load]
	Score   *contract.Score

	// Scored is the schema of the table that the columns go into, if there is one
	// already: a float output takes the float type that the table has.
	Scored    *arrow.Schema
	Processes int           // child processes at most; 0: 1
	Timeout   time.Duration // of one call of the model; 0: the runtime's default
	MaxMemory int64         // bytes; 0: the runtime's default
	Allocator memory.Allocator
}

// Scorer runs one model version over records. It is safe for concurrent use.
type Scorer struct {
	version Version
	session Session
	feeds   []feed
	picks   []pick
	mem     memory.Allocator
	chunk   int       // rows
	scratch sync.Pool // of *[]Tensor, for chunk rows
}

// NewScorer opens the model. The error is a [BindError] if the contract's score
// section does not fit it, else what [Runtime.Open] gives.
func NewScorer(ctx context.Context, o ScorerOptions) (*Scorer, error) {
	sig := o.Version.Signature
	feeds, is := bindInputs(sig, o.Score.Inputs)
	picks, tensors, more := bindOutputs(sig, o.Score.Outputs, o.Scored)
	if err := append(is, more...).err(); err != nil {
		return nil, fmt.Errorf("model %s: %w", o.Version.Ref(), err)
	}
	session, err := o.Runtime.Open(ctx, o.Data, OpenOptions{
		InProcess: o.Score.Isolation == contract.IsolationNone, Outputs: tensors,
		Processes: o.Processes, Timeout: o.Timeout, MaxMemory: o.MaxMemory,
	})
	if err != nil {
		return nil, fmt.Errorf("open model %s: %w", o.Version.Ref(), err)
	}
	if o.Allocator == nil {
		o.Allocator = memory.DefaultAllocator
	}
	s := &Scorer{version: o.Version, session: session, feeds: feeds, picks: picks, mem: o.Allocator, chunk: chunkRows(feeds)}
	s.scratch.New = func() any {
		tensors := make([]Tensor, len(feeds))
		for i, f := range feeds {
			tensors[i] = NewTensor(f.info.Type, f.shape(s.chunk)...)
		}
		return &tensors
	}
	return s, nil
}

// Version is the model that scores.
func (s *Scorer) Version() Version { return s.version }

// Fields are the columns that Score gives, in order. None is nullable.
func (s *Scorer) Fields() []arrow.Field { return fields(s.picks) }

// Close ends the model's processes. It is idempotent.
func (s *Scorer) Close() error { return s.session.Close() }

// Score gives one array for each of [Scorer.Fields], as long as the record; the
// caller releases them. Columns that the model does not take are ignored.
//
//	*RowsError   these rows cannot be scored: a null, a number that does not fit the
//	             input's type, or an answer that is not a finite number
//	ErrRejected  the model refuses the rows, or answers what is no answer: try parts
//	ErrCrashed   the model's process died: try again, then parts
//	*BindError   the record lacks columns or has them in a type that does not fit
//
// NaN and infinity in float columns go to the model as they are: tree models
// take NaN for missing. A score that is NaN or infinite is an error of its row,
// because comparisons with it mean something else in every engine.
func (s *Scorer) Score(ctx context.Context, rec arrow.Record) ([]arrow.Array, error) {
	at, is := checkColumns(s.feeds, rec.Schema())
	if err := is.err(); err != nil {
		return nil, fmt.Errorf("model %s: %w", s.version.Ref(), err)
	}
	rows := int(rec.NumRows())
	out := make([]collector, len(s.picks))
	for i, p := range s.picks {
		out[i] = newCollector(s.mem, p, rows)
	}
	defer func() {
		for _, c := range out {
			c.release()
		}
	}()
	pooled := s.scratch.Get().(*[]Tensor)
	defer s.scratch.Put(pooled)
	scratch := *pooled
	var bad rowErrors
	inputs := make([]Tensor, len(scratch))
	for first := 0; first < rows; first += s.chunk {
		n := min(s.chunk, rows-first)
		bad.first = first
		s.fill(scratch, inputs, rec, at, first, n, &bad)
		if len(bad.byRow) > 0 {
			continue // find the others too: the caller takes all of them out at once
		}
		if err := s.run(ctx, inputs, first, n, out, &bad); err != nil {
			return nil, fmt.Errorf("score with %s: %w", s.version.Ref(), err)
		}
	}
	if len(bad.byRow) > 0 {
		e := &RowsError{Total: rows}
		for _, row := range slices.Sorted(maps.Keys(bad.byRow)) {
			e.Rows = append(e.Rows, bad.byRow[row])
		}
		return nil, e
	}
	arrays := make([]arrow.Array, len(out))
	for i, c := range out {
		arrays[i] = c.array()
	}
	return arrays, nil
}

// fill points inputs at scratch, cut to n rows, and writes rows from first on.
func (s *Scorer) fill(scratch, inputs []Tensor, rec arrow.Record, at [][]int, first, n int, bad *rowErrors) {
	for f, feed := range s.feeds {
		width := len(feed.columns)
		inputs[f] = Tensor{Type: feed.info.Type, Shape: feed.shape(n)}
		if feed.info.Type == String {
			inputs[f].Strings = scratch[f].Strings[:n*width]
		} else {
			inputs[f].Data = scratch[f].Data[:n*width*feed.info.Type.Size()]
		}
		for c, name := range feed.columns {
			bad.column = name
			column := rec.Column(at[f][c])
			if n < column.Len() {
				column = array.NewSlice(column, int64(first), int64(first+n))
			} else {
				column.Retain()
			}
			fill(inputs[f], c, width, column, bad)
			column.Release()
		}
	}
}

func (s *Scorer) run(ctx context.Context, inputs []Tensor, first, n int, out []collector, bad *rowErrors) error {
	tensors, err := s.session.Run(ctx, inputs)
	if err != nil {
		return err
	}
	for i, p := range s.picks {
		if p.tensor >= len(tensors) {
			return fmt.Errorf("%w: it gave %d outputs", ErrRejected, len(tensors))
		}
		t := tensors[p.tensor]
		width, err := outputWidth(t, p, n)
		if err != nil {
			return err
		}
		bad.column = p.column
		out[i].take(t, max(p.index, 0), width, first, bad)
	}
	return nil
}

// outputWidth is how many values a row an output has, once it is known to be
// one that the pick can be taken from.
func outputWidth(t Tensor, p pick, rows int) (int, error) {
	width := int64(1)
	ok := t.Type == p.info.Type && len(t.Shape) >= 1 && len(t.Shape) <= 2 && t.Shape[0] == int64(rows)
	if ok && len(t.Shape) == 2 {
		width = t.Shape[1]
	}
	if !ok || int64(max(p.index, 0)) >= width || p.index < 0 && width > 1 {
		return 0, fmt.Errorf("%w: for %d rows its output %s is %s%s, which column %s cannot be taken from",
			ErrRejected, rows, p.info, t.Type, shapeText(t.Shape), p.column)
	}
	return int(width), nil
}

// IsRowFault says whether an error of [Scorer.Score] may be the fault of some
// rows, so that scoring parts of the record can help.
func IsRowFault(err error) bool {
	var rows *RowsError
	return errors.As(err, &rows) || errors.Is(err, ErrRejected) || errors.Is(err, ErrCrashed)
}
