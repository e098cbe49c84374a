package activities

import (
	"context"
	"errors"
	"fmt"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/quarantine"
	"github.com/tidemill/tidemill/quality"
)

// Rehearsal is what would become of landed rows under a contract.
type Rehearsal struct {
	Rows        int64
	Scored      int64
	Quarantined map[string]int64  // by rule
	Examples    map[string]string // by rule: what one of the rows would be told
	Warned      map[string]int64  // rows by failed warn check
	Model       string            // such as fraud@3, "" without a score
}

// Rehearse checks and scores landed records under a contract, which need not be one of
// those that run, and writes nothing. The records have the contract's columns and those
// that say where a row came from.
func (a *Activities) Rehearse(ctx context.Context, c *contract.Table, recs []arrow.Record) (r Rehearsal, err error) {
	r = Rehearsal{Quarantined: map[string]int64{}, Examples: map[string]string{}, Warned: map[string]int64{}}
	s := &state{name: c.Name(), contract: c}
	defer func() { err = errors.Join(err, s.closeScorer()) }()
	plan, err := quality.Compile(ctx, a.o.Engine, c, workSchema(c, nil))
	if err != nil {
		return r, err
	}
	s.plan = plan.WithClock(a.o.Now)
	if err := a.resolve(ctx, s); err != nil {
		return r, err
	}
	if s.model != nil {
		r.Model = s.model.Ref().String()
	}
	s.work, s.schema = workSchema(c, nil), scoredSchema(s, nil)
	for _, rec := range recs {
		if rec.NumRows() == 0 {
			continue
		}
		p := &piece{a: a, s: s, poison: poisonQuarantine, out: outcome{warned: map[string]int64{}},
			origin: []origin{{segment: segment{file: lakehouse.File{Path: "rehearsal"}, to: rec.NumRows()}}}, raw: []arrow.Record{rec}}
		n, err := p.rehearse(ctx, rec)
		if err != nil {
			return r, err
		}
		r.Rows += rec.NumRows()
		r.Scored += n
		for _, b := range p.out.bad {
			r.Quarantined[b.Rule]++
			r.Examples[b.Rule] = b.Message
		}
		for check, n := range p.out.warned {
			r.Warned[check] += n
		}
	}
	return r, nil
}

// rehearse is run without what it writes; it returns how many rows would be scored.
func (p *piece) rehearse(ctx context.Context, landed arrow.Record) (int64, error) {
	work, err := p.work(landed, p.origin[0].segment, 0)
	if err != nil {
		return 0, err
	}
	defer work.Release()
	res, err := p.s.plan.Run(ctx, []arrow.Record{work})
	if err != nil {
		return 0, fmt.Errorf("check %s: %w", p.s.name, err)
	}
	defer res.Release()
	for _, f := range res.Failed {
		p.out.bad = append(p.out.bad, quarantine.Row{Class: f.Class, Rule: f.Rule, Column: f.Column, Message: f.Message})
	}
	for check, n := range res.Warnings {
		p.out.warned[check] += n
	}
	rows := int64(0)
	for _, passed := range res.Passed {
		scored, err := p.score(ctx, passed)
		for _, r := range scored {
			rows += r.NumRows()
		}
		releaseAll(scored)
		if err != nil {
			return 0, err
		}
	}
	return rows, nil
}
