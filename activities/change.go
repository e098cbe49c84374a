package activities

import (
	"context"
	"errors"
	"io/fs"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/models"
	"github.com/tidemill/tidemill/quality"
)

// lock returns a table's state, locked.
func (a *Activities) lock(table string) (*state, error) {
	for {
		s, err := a.state(table)
		if err != nil {
			return nil, err
		}
		s.mu.Lock()
		if !s.gone {
			return s, nil
		}
		s.mu.Unlock() // it was replaced while we waited
	}
}

// SetContracts puts other contracts in the place of those there are. A table whose
// contract is as it was goes on undisturbed. Of another one the turn at hand ends
// first; the next begins as that of a new worker does: it reads the log, takes the
// table over (see own), and knows nothing of the contract before.
func (a *Activities) SetContracts(contracts []*contract.Table) error {
	want := map[string]*contract.Table{}
	a.mu.Lock()
	a.contracts = contracts
	for _, c := range contracts {
		want[c.Name()] = c
		if a.states[c.Name()] == nil {
			a.states[c.Name()] = &state{name: c.Name(), contract: c}
		}
	}
	var old []*state
	for name, s := range a.states {
		if c := want[name]; c == nil || c.Version() != s.contract.Version() {
			old = append(old, s)
		}
	}
	a.mu.Unlock()
	var errs []error
	for _, s := range old {
		errs = append(errs, a.replace(s, want[s.name]))
	}
	return errors.Join(errs...)
}

// replace puts a new state in the place of one, or none when there is no contract any more.
func (a *Activities) replace(s *state, c *contract.Table) error {
	s.leave.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = true
	a.mu.Lock()
	if c == nil {
		delete(a.states, s.name)
	} else {
		a.states[s.name] = &state{name: s.name, contract: c}
	}
	a.mu.Unlock()
	return s.closeScorer()
}

// CheckChange says why the scored table or the model that there is cannot follow a
// contract that is to be put in another one's place: problems of the contract's file.
// Nothing is written. Other errors are of the store or the runtime.
func (a *Activities) CheckChange(ctx context.Context, c *contract.Table) (err error) {
	s := &state{name: c.Name(), contract: c}
	defer func() { err = errors.Join(err, s.closeScorer()) }()
	if s.plan, err = quality.Compile(ctx, a.o.Engine, c, workSchema(c, nil)); err != nil {
		return err
	}
	if s.landed, err = a.o.Tables.Open(ctx, s.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if s.scored, err = a.o.Tables.Open(ctx, s.name+Suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := s.refreshAll(ctx); err != nil {
		return err
	}
	if err := a.resolve(ctx, s); err != nil {
		return err
	}
	if err := a.checkInputs(ctx, s); err != nil {
		return err
	}
	if s.landed == nil || s.scored == nil {
		return nil
	}
	carried := s.carried(s.landed.Snapshot().Schema())
	if _, err = s.scored.Snapshot().Accepts(scoredSchema(s, carried), c.PartitionBy()); err != nil {
		return SchemaProblems(c, s.name+Suffix, err)
	}
	return nil
}

// checkInputs says what the model would say of the columns that it is to be given.
func (a *Activities) checkInputs(ctx context.Context, s *state) error {
	if s.scorer == nil {
		return nil
	}
	columns := s.plan.Columns()
	none := make([]arrow.Array, columns.NumFields())
	for i, f := range columns.Fields() {
		none[i] = array.MakeArrayOfNull(a.mem, f.Type, 0)
		defer none[i].Release()
	}
	rec := array.NewRecord(columns, none, 0)
	defer rec.Release()
	scores, err := s.scorer.Score(ctx, rec)
	for _, c := range scores {
		c.Release()
	}
	if _, ok := errors.AsType[*models.BindError](err); ok {
		return s.contract.Problem("score", "%v", err)
	}
	return err
}
