package activities

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/internal/predicate"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/delta"
	"github.com/tidemill/tidemill/lakehouse/quarantine"
)

// Replayer is hop one, as rows that come back out of quarantine need it.
type Replayer interface {
	// Compile checks a Bloblang mapping; "" is none. Its error is for the person who wrote it.
	Compile(mapping string) error
	// Repair maps rows and decodes them against the table's contract. It changes them in place.
	// The record has the landed table's columns and the rows without a Problem, in their order;
	// the caller releases it.
	Repair(ctx context.Context, table, mapping string, rows []ReplayRow) (arrow.Record, error)
	// Land puts rows into the landed table at [quarantine.ReplaySource] and their offsets, which
	// ascend. Rows that are in already are left out.
	Land(ctx context.Context, table string, rows []ReplayRow) (Landed, error)
}

// ReplayRow is a row out of quarantine.
type ReplayRow struct {
	Offset  int64  // its new one; of Land only
	Raw     []byte // as it came, and after Repair as it was repaired
	Meta    [][2]string
	Problem string // why it cannot go in, "" when it can
	Rule    string // of the problem
}

// Landed says what became of rows.
type Landed struct {
	Landed, Duplicates, Quarantined int64
}

// ReplayInput asks for quarantined rows to be put through the same path once more.
type ReplayInput struct {
	Table string `json:"table"`
	// ID names the replay: a repetition with the same one goes on with it.
	ID string `json:"id"`
	// Where is an SQL condition over the quarantine table's columns; empty: all rows.
	Where string `json:"where,omitempty"`
	// Repair is a Bloblang mapping over a row's bytes; empty: none.
	Repair string `json:"repair,omitempty"`
	// Before is the time, in ms, from which on rows are left: what this replay itself
	// brings back into quarantine is not taken again.
	Before int64 `json:"before"`
	DryRun bool  `json:"dry_run,omitempty"`
}

// ReplayResult says what one attempt did.
type ReplayResult struct {
	Files   int              `json:"files"`             // looked into
	Skipped int              `json:"skipped"`           // by statistics, without a look
	Chosen  int64            `json:"chosen"`            // rows that meet the condition
	Marked  int64            `json:"marked"`            // rows that were taken out of quarantine, or would be
	Kept    int64            `json:"kept"`              // rows that would not pass today, and stay
	Rules   map[string]int64 `json:"rules,omitempty"`   // what Kept would fail, by rule
	Example string           `json:"example,omitempty"` // one of these, in words
	Waiting int64            `json:"waiting,omitempty"` // rows that a turn may not be done with yet
	Landed  int64            `json:"landed"`
	Again   int64            `json:"again,omitempty"` // landed before, by an attempt that was cut off
	Back    int64            `json:"back,omitempty"`  // rows that hop one turned away once more
	More    bool             `json:"more"`            // time was up; call again
}

// Replay takes rows out of quarantine and lands them again.
//
// First they are marked, file by file: rows that decode and pass the checks today, repaired
// if need be, get the replay's id and an offset in the source partition
// [quarantine.ReplaySource]. A commit that marks rows moves the table's counter of offsets
// by compare-and-swap, so that no two replays, nor two attempts at one, give out the same.
// Then the rows that have the id are landed at these offsets, which the landed table's log
// takes in once. An attempt that is cut off anywhere is taken up by the next one: what is
// marked stays marked, and what has landed is left out.
func (a *Activities) Replay(ctx context.Context, in ReplayInput) (res ReplayResult, err error) {
	shared, err := a.state(in.Table)
	if err != nil {
		return res, err
	}
	if a.o.Replayer == nil {
		return res, errors.New("this worker cannot replay rows")
	}
	if err := a.o.Replayer.Compile(in.Repair); err != nil {
		return res, Permanent(ErrTypeInput, fmt.Errorf(`input: "repair" is no Bloblang mapping: %w`, err))
	}
	stop := heartbeats(ctx)
	defer stop()
	s := &state{name: shared.name, contract: shared.contract}
	defer s.closeAfter(&err)
	if err := a.open(ctx, s); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return res, nil // nothing has come in yet
		}
		return res, err
	}
	if err := s.refreshAll(ctx); err != nil {
		return res, err
	}
	if err := a.prepare(ctx, s); err != nil {
		return res, err
	}
	r := &replaying{a: a, s: s, in: in, done: map[string]bool{}, deadline: a.o.Now().Add(rescoreFor), res: ReplayResult{Rules: map[string]int64{}}}
	if r.where, err = a.conditionOver(ctx, s.quarantine, s.name+quarantine.Suffix, in.Where); err != nil {
		return res, err
	}
	if err := r.mark(ctx); err != nil {
		return r.res, err
	}
	if in.DryRun {
		return r.res, nil
	}
	return r.res, r.land(ctx)
}

type replaying struct {
	a        *Activities
	s        *state
	in       ReplayInput
	where    *predicate.Node
	done     map[string]bool // files that need no look: what we wrote, or found nothing in
	deadline time.Time
	res      ReplayResult
}

// mark goes through the files of the quarantine table until none is left, or time is up.
func (r *replaying) mark(ctx context.Context) error {
	need := predicate.All(r.where, predicate.Null([]string{quarantine.ColReplay}, true))
	for first := true; ; first = false {
		snap, err := r.s.quarantine.Refresh(ctx)
		if err != nil {
			return err
		}
		o, err := r.a.maintainOptions(ctx, r.s, r.s.name+quarantine.Suffix)
		if err != nil {
			return err
		}
		files, skipped := snap.Prune(need)
		if first {
			r.res.Skipped = skipped.Files
		}
		r.res.Waiting = 0
		moved := false
		for _, f := range files {
			if r.done[f.Path] {
				continue
			}
			if r.a.o.Now().After(r.deadline) {
				r.res.More = true
				return nil
			}
			// A dry run looks at these too: it changes nothing.
			err := r.file(ctx, f, o.Keep != nil && o.Keep(f) && !r.in.DryRun)
			if moved = again(err); moved {
				break
			}
			if err != nil {
				return err
			}
		}
		if !moved {
			return nil
		}
	}
}

// again says whether an error means that the table has changed, and is to be looked at anew.
func again(err error) bool {
	_, conflict := errors.AsType[*lakehouse.ConflictError](err)
	_, txn := errors.AsType[*lakehouse.TxnMovedError](err)
	return conflict || txn || errors.Is(err, fs.ErrNotExist)
}

// file marks the rows of one file. Of one that a turn may not be done with it only counts them.
func (r *replaying) file(ctx context.Context, f lakehouse.File, wait bool) error {
	rec, err := r.s.quarantine.ReadFile(ctx, f)
	if err != nil {
		return err
	}
	defer rec.Release()
	chosen, err := r.a.rowsWhere(ctx, rec, r.candidates(), r.in.Where)
	if err != nil {
		return err
	}
	if wait {
		r.res.Waiting += int64(len(chosen))
		return nil
	}
	rows, err := replayRows(rec, slices.Sorted(maps.Keys(chosen)))
	if err != nil {
		return err
	}
	for chunk := range chunks(rows) {
		if err := r.judge(ctx, chunk); err != nil {
			return err
		}
	}
	var take []int64
	for i, at := range slices.Sorted(maps.Keys(chosen)) {
		if rows[i].Problem == "" {
			take = append(take, at)
		}
	}
	if len(take) > 0 && !r.in.DryRun {
		if err := r.commit(ctx, f, rec, take); err != nil {
			return err
		}
	}
	r.count(rows, len(take))
	r.done[f.Path] = true
	return nil
}

func (r *replaying) count(rows []ReplayRow, taken int) {
	r.res.Files++
	r.res.Chosen += int64(len(rows))
	r.res.Marked += int64(taken)
	r.res.Kept += int64(len(rows) - taken)
	for _, row := range rows {
		if row.Problem == "" {
			continue
		}
		r.res.Rules[row.Rule]++
		if r.res.Example == "" {
			r.res.Example = row.Problem
		}
	}
}

// candidates are the rows that may be replayed, whatever the user's condition: those of a
// sink have been scored, and only did not get any further.
func (r *replaying) candidates() string {
	return fmt.Sprintf("%s IS NULL AND class <> 'sink' AND quarantined_at < to_timestamp(%d / 1000.0)", quarantine.ColReplay, r.in.Before)
}

// replayRows are the rows of a quarantine file at some places.
func replayRows(rec arrow.Record, at []int64) ([]ReplayRow, error) {
	raw, err := column[*array.Binary](rec, "raw")
	if err != nil {
		return nil, err
	}
	type text struct {
		name string
		col  *array.String
	}
	var texts []text
	for _, name := range []string{"class", "rule", "column", "message", batch.ColSource} {
		c, err := column[*array.String](rec, name)
		if err != nil {
			return nil, err
		}
		texts = append(texts, text{name, c})
	}
	rows := make([]ReplayRow, len(at))
	for i, row := range at {
		rows[i].Raw = raw.Value(int(row))
		for _, t := range texts {
			if t.col.IsValid(int(row)) {
				rows[i].Meta = append(rows[i].Meta, [2]string{t.name, t.col.Value(int(row))})
			}
		}
	}
	return rows, nil
}

// judge says of each row whether it would pass today: the mapping, the decoder, the checks
// and the features. What a model thinks of it is found out when it is scored.
func (r *replaying) judge(ctx context.Context, rows []ReplayRow) error {
	if len(rows) == 0 {
		return nil
	}
	rec, err := r.a.o.Replayer.Repair(ctx, r.s.name, r.in.Repair, rows)
	if err != nil {
		return err
	}
	defer rec.Release()
	var good []int // places in rows of the record's
	for i, row := range rows {
		if row.Problem == "" {
			good = append(good, i)
		}
	}
	if int64(len(good)) != rec.NumRows() {
		return fmt.Errorf("replay: %d rows decode, and the record has %d", len(good), rec.NumRows())
	}
	if len(good) == 0 {
		return nil
	}
	work, err := r.a.workOf(r.s, rec)
	if err != nil {
		return err
	}
	defer work.Release()
	res, err := r.s.plan.Run(ctx, []arrow.Record{work})
	if err != nil {
		return fmt.Errorf("check %s: %w", r.s.name, err)
	}
	defer res.Release()
	for _, f := range res.Failed {
		row := &rows[good[f.Row]]
		row.Problem, row.Rule = f.Message, f.Rule
	}
	return nil
}

// commit replaces a file by one in which some rows are marked.
func (r *replaying) commit(ctx context.Context, f lakehouse.File, rec arrow.Record, take []int64) error {
	have := txn(r.s.quarantine, quarantine.ReplayTxn)
	marked, err := r.marked(rec, take, have+1)
	if err != nil {
		return err
	}
	defer marked.Release()
	files, err := r.s.quarantine.WriteFiles(ctx, marked, f.Tags)
	if err != nil {
		return err
	}
	r.a.o.Fault("replay-before-mark")
	now := r.a.o.Now()
	_, err = r.s.quarantine.Commit(ctx, lakehouse.Commit{
		Removes: []lakehouse.File{f}, Adds: files, Operation: "UPDATE",
		Parameters: map[string]string{"replay": r.in.ID, "predicate": r.in.Where},
		Txns:       []delta.Txn{{AppID: quarantine.ReplayTxn, Version: have + int64(len(take)), LastUpdated: now.UnixMilli()}},
		ExpectTxn:  map[string]int64{quarantine.ReplayTxn: have},
	})
	if err != nil {
		return fmt.Errorf("commit %s%s: %w", r.s.name, quarantine.Suffix, err)
	}
	r.a.o.Fault("replay-after-mark")
	for _, f := range files {
		r.done[f.Path] = true
	}
	return nil
}

// marked is a record with the columns of the replay filled in for some rows.
func (r *replaying) marked(rec arrow.Record, take []int64, first int64) (arrow.Record, error) {
	n := int(rec.NumRows())
	id, at, row := array.NewStringBuilder(r.a.mem), array.NewTimestampBuilder(r.a.mem, &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}), array.NewInt64Builder(r.a.mem)
	defer id.Release()
	defer at.Release()
	defer row.Release()
	oldID, err := column[*array.String](rec, quarantine.ColReplay)
	if err != nil {
		return nil, err
	}
	oldAt, err := column[*array.Timestamp](rec, quarantine.ColReplayedAt)
	if err != nil {
		return nil, err
	}
	oldRow, err := column[*array.Int64](rec, quarantine.ColReplayRow)
	if err != nil {
		return nil, err
	}
	now := arrow.Timestamp(r.a.o.Now().UnixMicro())
	for i, next := 0, 0; i < n; i++ {
		switch {
		case next < len(take) && take[next] == int64(i):
			id.Append(r.in.ID)
			at.Append(now)
			row.Append(first + int64(next))
			next++
		case oldID.IsValid(i):
			id.Append(oldID.Value(i))
			at.Append(oldAt.Value(i))
			row.Append(oldRow.Value(i))
		default:
			id.AppendNull()
			at.AppendNull()
			row.AppendNull()
		}
	}
	made := map[string]arrow.Array{quarantine.ColReplay: id.NewArray(), quarantine.ColReplayedAt: at.NewArray(), quarantine.ColReplayRow: row.NewArray()}
	cols := slices.Clone(rec.Columns())
	for name, c := range made {
		defer c.Release()
		cols[rec.Schema().FieldIndices(name)[0]] = c
	}
	return array.NewRecord(rec.Schema(), cols, int64(n)), nil
}
