package activities

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/internal/predicate"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/quarantine"
)

// RescoreInput asks for rows of a scored table to be scored again.
type RescoreInput struct {
	Table string `json:"table"`
	// Where is an SQL condition over the scored table's columns; empty: all rows.
	Where string `json:"where,omitempty"`
	// DryRun only counts.
	DryRun bool `json:"dry_run,omitempty"`
}

// RescoreResult says what one attempt did.
type RescoreResult struct {
	Files    int    `json:"files"`          // looked into
	Skipped  int    `json:"skipped"`        // by partition and statistics, without a look
	Rows     int64  `json:"rows"`           // scored again, or to be in a dry run
	Kept     int64  `json:"kept"`           // rows that the contract or the model refuses today: they stay as they were
	Rule     string `json:"rule,omitempty"` // that most of Kept failed
	Model    string `json:"model,omitempty"`
	Version  int64  `json:"version,omitempty"` // of the model
	Contract string `json:"contract,omitempty"`
	More     bool   `json:"more"` // time was up; call again
}

// rescoreFor is how long one attempt goes on.
const rescoreFor = 5 * time.Minute

// Rescore brings rows of a scored table up to today's contract and model: features and
// scores are computed anew from the row's own columns. Rows that are up to date are left
// alone, so that it can be repeated and goes on where it was cut off. Each file is
// replaced in one commit, with all of its rows; the pipeline goes on meanwhile.
//
// Files are skipped by partition and statistics, with the condition and with what they
// say of model and contract.
func (a *Activities) Rescore(ctx context.Context, in RescoreInput) (res RescoreResult, err error) {
	shared, err := a.state(in.Table)
	if err != nil {
		return res, err
	}
	stop := heartbeats(ctx)
	defer stop()
	// A state of its own: turns need not wait, and its model's process ends with it.
	s := &state{name: shared.name, contract: shared.contract}
	defer s.closeAfter(&err)
	if err := a.open(ctx, s); err != nil {
		return res, err
	}
	if s.scored == nil {
		return res, Permanent(ErrTypeInput, fmt.Errorf("table %s%s does not exist yet: nothing has been scored", in.Table, Suffix))
	}
	if err := a.prepare(ctx, s); err != nil {
		return res, err
	}
	r := &rescoring{a: a, s: s, in: in, done: map[string]bool{}, rules: map[string]int64{}, deadline: a.o.Now().Add(rescoreFor)}
	if r.where, err = a.condition(ctx, s, in.Where); err != nil {
		return res, err
	}
	err = r.run(ctx)
	r.res.Contract = s.contract.Version()
	if s.model != nil {
		r.res.Model, r.res.Version = s.model.Name, int64(s.model.Version)
	}
	if len(r.rules) > 0 {
		r.res.Rule = slices.MaxFunc(slices.Sorted(maps.Keys(r.rules)), func(a, b string) int { return int(r.rules[a] - r.rules[b]) })
	}
	return r.res, err
}

type rescoring struct {
	a        *Activities
	s        *state
	in       RescoreInput
	where    *predicate.Node
	as       *arrow.Schema   // the scored table's, when s was prepared
	done     map[string]bool // files that need no look: what we wrote, or found nothing in
	rules    map[string]int64
	deadline time.Time
	res      RescoreResult
}

// outdated is the condition for a file to have rows that are not up to date. The hash of
// the model is not in it: it is longer than the bounds that files have.
func (s *state) outdated() *predicate.Node {
	differs := func(column string, want predicate.Value) *predicate.Node {
		return predicate.Any(predicate.Null([]string{column}, true), predicate.Compare(predicate.Ne, []string{column}, want))
	}
	n := differs(batch.ColContract, predicate.String(s.contract.Version()))
	if s.model != nil {
		n = predicate.Any(n, differs(batch.ColModelVersion, predicate.Int(int64(s.model.Version))), differs(batch.ColModel, predicate.String(s.model.Name)))
	}
	return n
}

// run goes through the files until none is left, or time is up. Others change the table
// meanwhile: what they have rewritten is looked at again.
func (r *rescoring) run(ctx context.Context) error {
	for {
		snap, err := r.s.scored.Refresh(ctx)
		if err != nil {
			return err
		}
		if snap.Schema() != r.as {
			if err := r.columns(ctx); err != nil {
				return err
			}
			continue
		}
		files, skipped := snap.Prune(predicate.All(r.where, r.s.outdated()))
		files = slices.DeleteFunc(files, func(f lakehouse.File) bool { return r.done[f.Path] })
		if r.res.Files == 0 {
			r.res.Skipped = skipped.Files
		}
		if len(files) == 0 {
			return nil
		}
		for _, f := range files {
			if r.a.o.Now().After(r.deadline) {
				r.res.More = true
				return nil
			}
			err := r.file(ctx, f)
			if _, moved := errors.AsType[*lakehouse.ConflictError](err); moved || errors.Is(err, errNewColumns) {
				break // compacted, say: its rows are in another file now
			}
			if err != nil {
				return err
			}
			r.res.Files++
			r.done[f.Path] = true
		}
	}
}

// errNewColumns: the scored table has got columns that rows scored now would lack.
var errNewColumns = errors.New("the scored table has new columns")

// columns takes in columns that the tables got since they were last looked at, so that
// rows keep what they have there.
func (r *rescoring) columns(ctx context.Context) error {
	if _, err := r.s.landed.Refresh(ctx); err != nil {
		return err
	}
	as := r.s.scored.Snapshot().Schema()
	r.s.schema = nil
	if err := r.a.prepare(ctx, r.s); err != nil {
		return err
	}
	r.as = as
	return nil
}

// file replaces one file.
func (r *rescoring) file(ctx context.Context, f lakehouse.File) error {
	rec, err := r.s.scored.ReadFile(ctx, f)
	if err != nil {
		return err
	}
	defer rec.Release()
	if !rec.Schema().Equal(r.as) {
		return errNewColumns
	}
	todo, err := r.choose(ctx, rec)
	if err != nil || len(todo) == 0 {
		return err
	}
	if r.in.DryRun {
		r.res.Rows += int64(len(todo))
		return nil
	}
	p := &piece{a: r.a, s: r.s, poison: poisonQuarantine, out: outcome{warned: map[string]int64{}},
		origin: []origin{{segment: segment{file: f, to: rec.NumRows()}}}, raw: []arrow.Record{rec}}
	scored, err := r.score(ctx, p, rec, todo)
	defer func() { releaseAll(scored) }()
	if err != nil {
		return err
	}
	for _, b := range p.out.bad { // they stay as they are
		delete(todo, b.LandedRow)
		r.rules[b.Rule]++
		r.res.Kept++
	}
	if len(todo) == 0 {
		return nil
	}
	return r.replace(ctx, f, rec, scored, todo)
}

// choose returns the ordinals of a file's rows that are not up to date and meet the condition.
func (r *rescoring) choose(ctx context.Context, rec arrow.Record) (map[int64]bool, error) {
	return r.a.rowsWhere(ctx, rec, r.outdatedSQL(), r.in.Where)
}

// rowsWhere returns the ordinals of a record's rows that meet a condition of ours and, unless
// it is empty, one of the user's.
func (a *Activities) rowsWhere(ctx context.Context, rec arrow.Record, ours, where string) (map[int64]bool, error) {
	n := int(rec.NumRows())
	rows := ordinals(a.mem, 0, n)
	defer rows.Release()
	fields := append(slices.Clone(rec.Schema().Fields()), arrow.Field{Name: batch.ColRow, Type: rows.DataType()})
	with := array.NewRecord(arrow.NewSchema(fields, nil), append(slices.Clone(rec.Columns()), rows), int64(n))
	defer with.Release()
	sql := "SELECT " + batch.ColRow + " FROM batch WHERE (" + ours + ")"
	if where != "" {
		sql += " AND (" + where + "\n)"
	}
	recs, err := a.o.Engine.Run(ctx, sql, map[string][]arrow.Record{"batch": {with}})
	if err != nil {
		return nil, fmt.Errorf("where: %w", err)
	}
	defer releaseAll(recs)
	out := map[int64]bool{}
	for _, rec := range recs {
		c, err := column[*array.Int64](rec, batch.ColRow)
		if err != nil {
			return nil, err
		}
		for _, v := range c.Int64Values() {
			out[v] = true
		}
	}
	return out, nil
}

// sqlText writes a text as SQL.
func sqlText(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

func (r *rescoring) outdatedSQL() string {
	differs := func(column, want string) string { return column + " IS DISTINCT FROM " + sqlText(want) }
	sql := differs(batch.ColContract, r.s.contract.Version())
	if m := r.s.model; m != nil {
		sql += " OR " + differs(batch.ColModelSHA256, m.SHA256) + " OR " + differs(batch.ColModel, m.Name)
	}
	return sql
}

// score runs checks, features and model over the chosen rows.
func (r *rescoring) score(ctx context.Context, p *piece, rec arrow.Record, todo map[int64]bool) ([]arrow.Record, error) {
	work, err := r.work(rec)
	if err != nil {
		return nil, err
	}
	defer work.Release()
	chosen, err := filter(r.a.mem, work, func(i int) bool { return todo[int64(i)] })
	if err != nil {
		return nil, err
	}
	defer chosen.Release()
	res, err := r.s.plan.Run(ctx, []arrow.Record{chosen})
	if err != nil {
		return nil, fmt.Errorf("check %s: %w", r.s.name, err)
	}
	defer res.Release()
	for _, f := range res.Failed {
		p.out.bad = append(p.out.bad, quarantine.Row{LandedRow: f.Row, Rule: f.Rule})
	}
	var out []arrow.Record
	for _, passed := range res.Passed {
		scored, err := p.score(ctx, passed)
		out = append(out, scored...)
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// work gives scored rows the columns that checks and features run over.
func (r *rescoring) work(rec arrow.Record) (arrow.Record, error) { return r.a.workOf(r.s, rec) }

// workOf gives rows of any of a contract's tables the columns that checks and features run over.
func (a *Activities) workOf(s *state, rec arrow.Record) (arrow.Record, error) {
	schema := s.work
	n := int(rec.NumRows())
	cols := make([]arrow.Array, schema.NumFields())
	defer func() {
		for _, c := range cols {
			if c != nil {
				c.Release()
			}
		}
	}()
	for i, f := range schema.Fields() {
		at := rec.Schema().FieldIndices(f.Name)
		switch {
		case f.Name == batch.ColRow:
			cols[i] = ordinals(a.mem, 0, n)
		case len(at) > 0:
			cols[i] = rec.Column(at[0])
			cols[i].Retain()
		case f.Name == batch.ColLandedVersion: // of rows that have not landed yet
			cols[i] = constantLong(a.mem, -1, n)
		case f.Nullable:
			cols[i] = array.MakeArrayOfNull(a.mem, f.Type, n)
		default:
			return nil, Permanent(ErrTypeContract, fmt.Errorf("%s: the scored rows have no column %s, which the contract requires", s.contract.File(), f.Name))
		}
	}
	return array.NewRecord(schema, cols, int64(n)), nil
}

// replace commits the rows that were scored again, and those that stay as they are, in
// the place of their file.
func (r *rescoring) replace(ctx context.Context, f lakehouse.File, rec arrow.Record, scored []arrow.Record, todo map[int64]bool) error {
	var adds []lakehouse.File
	rows := int64(0)
	if int64(len(todo)) < rec.NumRows() {
		rest, err := filter(r.a.mem, rec, func(i int) bool { return !todo[int64(i)] })
		if err != nil {
			return err
		}
		defer rest.Release()
		scored = append(slices.Clone(scored), rest)
	}
	for _, part := range scored {
		files, err := r.s.scored.WriteFiles(ctx, part, nil)
		if err != nil {
			return err
		}
		adds, rows = append(adds, files...), rows+part.NumRows()
	}
	if rows != rec.NumRows() {
		return fmt.Errorf("file %s has %d rows, and %d after scoring; nothing was changed", f.Path, rec.NumRows(), rows)
	}
	_, err := r.s.scored.Commit(ctx, lakehouse.Commit{
		Removes: []lakehouse.File{f}, Adds: adds, Operation: "UPDATE",
		Parameters: map[string]string{"predicate": r.in.Where, "contract": r.s.contract.Version()},
	})
	if err != nil {
		return fmt.Errorf("commit %s%s: %w", r.s.name, Suffix, err)
	}
	for _, f := range adds {
		r.done[f.Path] = true
	}
	r.res.Rows += int64(len(todo))
	return nil
}

// condition checks the user's condition over the scored table and returns what of it can skip files.
func (a *Activities) condition(ctx context.Context, s *state, where string) (*predicate.Node, error) {
	return a.conditionOver(ctx, s.scored, s.name+Suffix, where)
}

// conditionOver checks the user's condition over a table's columns and returns what of it can
// skip files; nil for no condition.
func (a *Activities) conditionOver(ctx context.Context, t *lakehouse.Table, name, where string) (*predicate.Node, error) {
	if where == "" {
		return nil, nil
	}
	schema := t.Snapshot().Schema()
	fields := append(slices.Clone(schema.Fields()), arrow.Field{Name: batch.ColRow, Type: arrow.PrimitiveTypes.Int64})
	need, err := a.o.Engine.Needed(ctx, "SELECT "+batch.ColRow+" FROM batch WHERE ("+where+"\n)", "batch", arrow.NewSchema(fields, nil))
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, Permanent(ErrTypeInput, fmt.Errorf(`input: "where" is no condition over the columns of %s: %w; they are %s`, name, err, names(schema)))
	}
	return need, nil
}

func names(s *arrow.Schema) string {
	out := make([]string, s.NumFields())
	for i, f := range s.Fields() {
		out[i] = f.Name
	}
	return strings.Join(out, ", ")
}
