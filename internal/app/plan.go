package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemill/tidemill/activities"
	"github.com/tidemill/tidemill/connectors"
	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/internal/problem"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/models/onnx"
	"github.com/tidemill/tidemill/query"
)

// Plan says what the project's files would change of what runs.
type Plan struct {
	Project    string          `json:"project"`
	Against    string          `json:"against"` // what the files were compared with
	Breaks     bool            `json:"breaks"`
	Connectors []PlannedChange `json:"connectors"`
	Tables     []PlannedTable  `json:"tables"`
	Models     []string        `json:"models,omitempty"` // that would be registered
}

// PlannedChange is one connector that would start, stop or restart.
type PlannedChange struct {
	Name   string `json:"name"`
	Change string `json:"change"` // start | stop | restart
	Why    string `json:"why"`
}

// PlannedTable is one contract that is new, changed or gone.
type PlannedTable struct {
	Name     string                `json:"name"`
	Change   string                `json:"change"` // new | changed | removed | unknown: nothing runs to compare with
	Contract []contract.Difference `json:"contract,omitempty"`
	Adds     []string              `json:"adds,omitempty"`    // columns that the landed table would get
	Refused  problem.List          `json:"refused,omitempty"` // what the tables or the model cannot follow
	Replay   *Rehearsed            `json:"replay,omitempty"`
	Note     string                `json:"note,omitempty"`
}

// Rehearsed is what became of recent rows under the contract that runs and the new one.
type Rehearsed struct {
	Rows    int64         `json:"rows"`
	Decoded int64         `json:"decoded"` // of them, from the bytes they came as; the others as they landed
	Compare bool          `json:"compare"` // there was a contract to compare with: Before counts
	Rules   []RuleOutcome `json:"rules"`   // that quarantine rows, or warn of them
	Model   string        `json:"model,omitempty"`
}

// RuleOutcome is how many rows fail a rule.
type RuleOutcome struct {
	Rule    string `json:"rule"`
	Warns   bool   `json:"warns,omitempty"` // the rows pass
	Before  int64  `json:"before"`
	Now     int64  `json:"now"`
	Example string `json:"example,omitempty"` // what one of the rows is told now
}

// Plan compares the project's files with what runs and with the tables that there are,
// and replays each changed table's last rows, about as many as asked for. The files must be without problems: see
// [Lint]. Nothing is written.
func (c *Client) Plan(ctx context.Context, address string, rows int) (Plan, error) {
	p := Plan{Project: c.home.Name(), Connectors: []PlannedChange{}, Tables: []PlannedTable{}}
	runs, err := c.whatRuns(ctx, address)
	if err != nil {
		return p, err
	}
	p.Against = "the tables alone; nothing that runs the project answers"
	if runs != nil {
		p.Against = fmt.Sprintf("generation %d", runs.Generation)
	}
	engine, err := query.Open(query.Options{})
	if err != nil {
		return p, err
	}
	defer engine.Close()
	pl := &planner{c: c, rows: rows, acts: activities.New(activities.Options{
		Contracts: c.project.Contracts(), Tables: c.tables, Models: c.registry, Runtime: onnx.Runtime{Logger: c.log}, Engine: engine,
		Cache: lakehouse.NewRecordCache(0), Logger: c.log,
	})}
	defer pl.acts.Close()
	if p.Models, err = pl.models(ctx); err != nil {
		return p, err
	}
	old, err := oldContracts(runs)
	if err != nil {
		return p, err
	}
	changed := map[string]bool{}
	for _, t := range c.project.Contracts() {
		was := old[t.Name()]
		if was != nil && was.Version() == t.Version() {
			continue
		}
		changed[t.Name()] = true
		pt, err := pl.table(ctx, was, t, runs != nil)
		if err != nil {
			return p, fmt.Errorf("table %s: %w", t.Name(), err)
		}
		p.Tables = append(p.Tables, pt)
		p.Breaks = p.Breaks || pt.breaks()
	}
	for _, name := range sortedKeys(old) {
		if _, ok := c.project.Contract(name); !ok {
			changed[name] = true
			p.Tables = append(p.Tables, PlannedTable{Name: name, Change: "removed", Note: "its pipeline ends; the tables and what is in them stay"})
		}
	}
	if runs != nil && slices.Contains(runs.Roles, "connect") {
		p.Connectors, err = c.connectorChanges(runs, changed)
	}
	return p, err
}

// breaks says whether something is refused, or rows fail that did not before.
func (t PlannedTable) breaks() bool {
	return len(t.Refused) > 0 || t.Replay != nil && slices.ContainsFunc(t.Replay.Rules, func(r RuleOutcome) bool {
		return t.Replay.Compare && !r.Warns && r.Now > r.Before
	})
}

// whatRuns asks what runs for its files; nil when nothing answers.
func (c *Client) whatRuns(ctx context.Context, address string) (*ProjectStatus, error) {
	s, err := askStatus(ctx, c.home.Dir(), address, "?files=1")
	if errors.Is(err, ErrUnavailable) && address == "" {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for i, p := range s.Projects {
		if p.Project == c.home.Name() && p.Files != nil {
			return &s.Projects[i], nil
		}
	}
	return nil, nil
}

func oldContracts(runs *ProjectStatus) (map[string]*contract.Table, error) {
	old := map[string]*contract.Table{}
	if runs == nil {
		return old, nil
	}
	for _, text := range runs.Files.Contracts {
		t, err := contract.Parse("the contract that runs", text)
		if err != nil {
			return nil, fmt.Errorf("contracts of the process that runs, which may be of another version: %w", err)
		}
		old[t.Name()] = t
	}
	return old, nil
}

func (c *Client) connectorChanges(runs *ProjectStatus, changed map[string]bool) ([]PlannedChange, error) {
	out := []PlannedChange{}
	have := map[string]bool{}
	for _, path := range c.project.Connectors() {
		conf, err := connectors.ReadConfig(path)
		if err != nil {
			return nil, err
		}
		have[conf.Name] = true
		sum, ok := runs.Files.Connectors[conf.Name]
		switch {
		case !ok:
			out = append(out, PlannedChange{conf.Name, "start", "it is new"})
		case sum != conf.Sum():
			out = append(out, PlannedChange{conf.Name, "restart", "its file has changed"})
		case changed[conf.Table]:
			out = append(out, PlannedChange{conf.Name, "restart", "the contract of " + conf.Table + " has changed"})
		}
	}
	for _, name := range sortedKeys(runs.Files.Connectors) {
		if !have[name] {
			out = append(out, PlannedChange{name, "stop", "its file is gone"})
		}
	}
	slices.SortFunc(out, func(a, b PlannedChange) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

type planner struct {
	c    *Client
	acts *activities.Activities
	rows int
	new  map[string]bool // models that are yet to be registered
}

// models lists those of tidemill.yaml that would be registered.
func (p *planner) models(ctx context.Context) (names []string, err error) {
	p.new = map[string]bool{}
	for _, m := range p.c.project.Models() {
		_, err := p.c.registry.Resolve(ctx, m.Name+"@"+m.Alias)
		if errors.Is(err, fs.ErrNotExist) {
			names = append(names, m.Name+"@"+m.Alias)
			p.new[m.Name] = true
		} else if err != nil {
			return nil, err
		}
	}
	return names, nil
}

func (p *planner) table(ctx context.Context, was, now *contract.Table, compare bool) (t PlannedTable, err error) {
	t = PlannedTable{Name: now.Name(), Change: "changed"}
	switch {
	case !compare:
		t.Change = "unknown"
	case was == nil:
		t.Change = "new"
	default:
		if t.Contract, err = contract.Diff(was, now); err != nil {
			return t, err
		}
	}
	added, err := checkLanded(ctx, p.c.tables, now)
	if err != nil && problem.Of(err) == nil {
		return t, err
	}
	t.Refused.Add(problem.Of(err)...)
	for _, f := range added {
		t.Adds = append(t.Adds, f.Name+" "+contract.TypeName(f.Type))
	}
	if s := now.Score(); s != nil {
		if name, _, _ := strings.Cut(s.Model, "@"); p.new[name] {
			t.Note = "not replayed: the model " + name + " is registered when the edit is taken in"
			return t, nil
		}
	}
	if err := p.acts.CheckChange(ctx, now); err != nil {
		if problem.Of(err) == nil {
			return t, err
		}
		t.Refused.Add(problem.Of(err)...)
	}
	if len(t.Refused) > 0 {
		t.Note = "not replayed, since it is refused"
		return t, nil
	}
	t.Replay, err = p.replay(ctx, was, now)
	return t, err
}

// replay runs recent rows through both contracts.
func (p *planner) replay(ctx context.Context, was, now *contract.Table) (*Rehearsed, error) {
	recs, err := p.recent(ctx, now.Name())
	defer func() {
		for _, r := range recs {
			r.Release()
		}
	}()
	if err != nil || len(recs) == 0 {
		return nil, err
	}
	after, err := p.through(ctx, now, recs)
	if err != nil {
		return nil, err
	}
	before := &passage{}
	if was != nil {
		// The contract that runs may be unable to by now, for want of its model: then there is nothing to compare with.
		if before, err = p.through(ctx, was, recs); err != nil && problem.Of(err) == nil {
			return nil, err
		} else if err != nil {
			was, before = nil, &passage{}
		}
	}
	r := &Rehearsed{Rows: after.rows, Decoded: after.decoded, Compare: was != nil, Model: after.model, Rules: []RuleOutcome{}}
	for _, warns := range []bool{false, true} {
		a, b := after.failed, before.failed
		if warns {
			a, b = after.warned, before.warned
		}
		rules := map[string]bool{}
		for rule := range a {
			rules[rule] = true
		}
		for rule := range b {
			rules[rule] = true
		}
		for _, rule := range sortedKeys(rules) {
			r.Rules = append(r.Rules, RuleOutcome{Rule: rule, Warns: warns, Before: b[rule], Now: a[rule], Example: after.examples[rule]})
		}
	}
	return r, nil
}

// recent returns a table's last landed rows, about as many as were asked for.
func (p *planner) recent(ctx context.Context, table string) (recs []arrow.Record, err error) {
	t, err := p.c.tables.Open(ctx, table)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s, err := t.Refresh(ctx)
	if err != nil {
		return nil, err
	}
	files := slices.Collect(s.Files())
	slices.SortFunc(files, func(a, b lakehouse.File) int {
		return cmp.Or(cmp.Compare(b.Version, a.Version), strings.Compare(a.Path, b.Path))
	})
	left := int64(p.rows)
	for _, f := range files {
		if left <= 0 {
			break
		}
		last, err := lastRows(ctx, t, s, f, left)
		recs = append(recs, last...)
		if err != nil {
			return recs, err
		}
		for _, r := range last {
			left -= r.NumRows()
		}
	}
	return recs, nil
}

// lastRows returns the last n rows of a file.
func lastRows(ctx context.Context, t *lakehouse.Table, s *lakehouse.Snapshot, f lakehouse.File, n int64) (kept []arrow.Record, err error) {
	have := int64(0)
	for rec, err := range t.Scan(ctx, s, []lakehouse.File{f}) {
		if err != nil {
			return kept, err
		}
		kept, have = append(kept, rec), have+rec.NumRows()
		for len(kept) > 0 && have-kept[0].NumRows() >= n {
			have -= kept[0].NumRows()
			kept[0].Release()
			kept = kept[1:]
		}
	}
	if over := have - n; over > 0 {
		first := kept[0]
		kept[0] = first.NewSlice(over, first.NumRows())
		first.Release()
	}
	return kept, nil
}

// passage is what became of rows on their way through one contract.
type passage struct {
	rows, decoded  int64
	failed, warned map[string]int64
	examples       map[string]string
	model          string
}

// through takes landed rows through a contract: what has its bytes is decoded from them,
// the rest is taken as it landed.
func (p *planner) through(ctx context.Context, c *contract.Table, landed []arrow.Record) (*passage, error) {
	out := &passage{failed: map[string]int64{}, examples: map[string]string{}}
	var work, own []arrow.Record
	defer func() {
		for _, r := range own {
			r.Release()
		}
	}()
	for _, rec := range landed {
		out.rows += rec.NumRows()
		raw := connectors.RawColumn(rec)
		if raw == nil || raw.NullN() > 0 {
			work = append(work, rec)
			continue
		}
		recs, bad, err := connectors.Redecode(c, raw)
		own, work = append(own, recs...), append(work, recs...)
		if err != nil {
			return nil, err
		}
		out.decoded += rec.NumRows()
		for _, b := range bad {
			rule := b.Rule
			if b.Column != "" {
				rule += " of " + b.Column
			}
			out.failed[rule]++
			out.examples[rule] = b.Message
		}
	}
	r, err := p.acts.Rehearse(ctx, c, work)
	if err != nil {
		return nil, err
	}
	out.model, out.warned = r.Model, r.Warned
	for rule, n := range r.Quarantined {
		out.failed[rule] += n
		out.examples[rule] = r.Examples[rule]
	}
	return out, nil
}

// checkLanded says which columns a contract would give its landed table, or why the
// table cannot follow it.
func checkLanded(ctx context.Context, tables *tables, c *contract.Table) ([]arrow.Field, error) {
	t, err := tables.Open(ctx, c.Name())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s, err := t.Refresh(ctx)
	if err != nil {
		return nil, err
	}
	added, err := s.Accepts(connectors.LandedSchema(c), c.PartitionBy())
	if err != nil {
		return nil, activities.SchemaProblems(c, c.Name(), err)
	}
	return added, nil
}

// PlanOptions of [PlanOf].
type PlanOptions struct {
	Dir     string // the files
	Running string // the directory of the project that runs, where that is another
	Address string // host:port of the process to compare with; "": the one that is found
	Rows    int    // that are replayed of each changed table
	Logger  *slog.Logger
}

// PlanOf checks a project's files and plans what they would change.
func PlanOf(ctx context.Context, o PlanOptions) (Plan, error) {
	if err := Lint(ctx, o.Dir); err != nil {
		return Plan{}, err
	}
	c, err := connect(ctx, o.Dir, cmp.Or(o.Running, o.Dir), o.Logger)
	if err != nil {
		return Plan{}, err
	}
	defer c.Close()
	return c.Plan(ctx, o.Address, o.Rows)
}
