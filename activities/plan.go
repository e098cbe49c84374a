package activities

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/tidemill/tidemill/lakehouse"
)

// States of a part's transaction in the scored table.
const (
	partOpen int64 = 0
	partDone int64 = 1
)

// Tags that hop two puts on the quarantine table's files, so that a turn that
// was cut off between its two commits is found again.
const (
	tagLanded = "tidemill.landed" // "first-last" landed version
	tagTxn    = "tidemill.txn"    // the transaction the commit was made under
)

// segment is consecutive rows of one landed file.
type segment struct {
	version  int64
	file     lakehouse.File
	from, to int64
}

// work is a range of landed versions to be scored.
type work struct {
	segments        []segment
	from, to        int64 // landed versions, from exclusive
	oldest          time.Time
	skip            skipped
	backlogVersions int64
	backlogRows     int64 // an estimate when there are many versions
}

// skipped are rows that the quarantine table has already, with the rule that
// each was turned away by: landed file -> row -> rule.
type skipped map[string]map[int64]string

func (s skipped) add(file string, row int64, rule string) {
	if s[file] == nil {
		s[file] = map[int64]string{}
	}
	s[file][row] = rule
}

// plan takes landed versions after the cursor until there are enough rows. A
// turn that was cut off after its quarantine commit is taken up as it was: the
// same range, without the rows that are in quarantine.
func (a *Activities) plan(ctx context.Context, s *state, cursor, latest, maxRows int64) (work, error) {
	w := work{from: cursor, to: latest}
	if q := txn(s.quarantine, s.appID()); q > cursor {
		w.to = min(q, latest)
		var err error
		if w.skip, err = s.quarantined(ctx, s.appID(), cursor+1, w.to); err != nil {
			return w, err
		}
		maxRows = 0
	} else if maxRows == 0 {
		maxRows = a.o.MaxRows
	}
	var taken, left, seen int64
	full := false
	for after := cursor; after < latest && !full; {
		upTo := min(after+changesWindow, latest)
		changes, err := s.landed.Changes(ctx, after, upTo)
		if err != nil {
			return w, fmt.Errorf("landed versions %d to %d: %w", after+1, upTo, err)
		}
		for _, c := range changes {
			n := int64(0)
			for _, f := range c.Adds {
				n += f.Rows
			}
			full = full || c.Version > w.to || maxRows > 0 && taken > 0 && taken+n > maxRows
			if full {
				w.to = min(w.to, c.Version-1)
				left += n
				continue
			}
			if len(c.Adds) > 0 && w.oldest.IsZero() {
				w.oldest = c.Time
			}
			taken += n
			for _, f := range c.Adds {
				w.segments = append(w.segments, segment{c.Version, f, 0, f.Rows})
			}
		}
		after, seen = upTo, upTo-cursor
	}
	w.backlogVersions, w.backlogRows = latest-w.to, left
	if unread := latest - cursor - seen; unread > 0 {
		w.backlogRows += (taken + left) / seen * unread
	}
	return w, nil
}

// changesWindow is how many landed versions are looked at in one go. Behind a
// worker that was away for hours there may be a hundred thousand, and reading
// them all in each turn would take longer than the turns do.
const changesWindow = 512

// quarantined reads which landed rows the quarantine table has from commits
// under a transaction, for landed versions first to last.
func (s *state) quarantined(ctx context.Context, app string, first, last int64) (skipped, error) {
	out := skipped{}
	for f := range s.quarantine.Snapshot().Files() {
		from, to, ok := strings.Cut(f.Tags[tagLanded], "-")
		if !ok || f.Tags[tagTxn] != app {
			continue
		}
		lo, err1 := strconv.ParseInt(from, 10, 64)
		hi, err2 := strconv.ParseInt(to, 10, 64)
		if err1 != nil || err2 != nil || hi < first || lo > last {
			continue
		}
		rec, err := s.quarantine.ReadFile(ctx, f)
		if err != nil {
			return nil, fmt.Errorf("quarantined rows: %w", err)
		}
		err = out.read(rec)
		rec.Release()
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (s skipped) read(rec arrow.Record) error {
	files, err := column[*array.String](rec, "landed_file")
	if err != nil {
		return err
	}
	rows, err := column[*array.Int64](rec, "landed_row")
	if err != nil {
		return err
	}
	rules, err := column[*array.String](rec, "rule")
	if err != nil {
		return err
	}
	for i := range int(rec.NumRows()) {
		if files.IsValid(i) && rows.IsValid(i) {
			s.add(strings.Clone(files.Value(i)), rows.Value(i), strings.Clone(rules.Value(i)))
		}
	}
	return nil
}

// column finds a record's column by name and type.
func column[T arrow.Array](rec arrow.Record, name string) (T, error) {
	var zero T
	at := rec.Schema().FieldIndices(name)
	if len(at) == 0 {
		return zero, fmt.Errorf("no column %s", name)
	}
	c, ok := rec.Column(at[0]).(T)
	if !ok {
		return zero, fmt.Errorf("column %s is %s", name, rec.Column(at[0]).DataType())
	}
	return c, nil
}

// pieces cuts segments into parts of about pieceRows rows, to be worked on side
// by side. Files are cut only when they are much larger than that: each part of
// a file that is not in memory reads the whole of it.
func pieces(segments []segment) [][]segment {
	var out [][]segment
	var piece []segment
	var rows int64
	flush := func() {
		if rows > 0 {
			out, piece, rows = append(out, piece), nil, 0
		}
	}
	for _, s := range segments {
		for s.from < s.to {
			n := s.to - s.from
			if n > 2*pieceRows {
				n = pieceRows
			}
			if rows+n > pieceRows+pieceRows/2 {
				flush()
			}
			piece = append(piece, segment{s.version, s.file, s.from, s.from + n})
			s.from += n
			if rows += n; rows >= pieceRows {
				flush()
			}
		}
	}
	flush()
	return out
}

// pieceRows is large enough for the fixed cost of a query and a model call to
// vanish, and small enough for a turn to keep every core busy.
const pieceRows = 32 << 10

// parsePart reads a Part back from its ID.
func parsePart(id string) (Part, bool) {
	rest, ok := strings.CutPrefix(id, "recover/")
	if !ok {
		return Part{}, false
	}
	version, rest, ok1 := strings.Cut(rest, "/")
	rows, file, ok2 := strings.Cut(rest, "/")
	from, to, ok3 := strings.Cut(rows, "-")
	if !ok1 || !ok2 || !ok3 {
		return Part{}, false
	}
	p := Part{File: file}
	for _, x := range []struct {
		text string
		to   *int64
	}{{version, &p.Version}, {from, &p.From}, {to, &p.To}} {
		n, err := strconv.ParseInt(x.text, 10, 64)
		if err != nil {
			return Part{}, false
		}
		*x.to = n
	}
	return p, true
}
