package activities

import (
	"context"
	"errors"
	"fmt"

	"github.com/tidemill/tidemill/lakehouse"
)

// Recover tries once more to score the rows of a part that crashed the model.
// It commits all of the part or nothing: with Last, rows that still crash the
// model are quarantined; without, they make it fail as ErrTypePoison. It is
// idempotent: a part that is done is reported as such.
func (a *Activities) Recover(ctx context.Context, in RecoverInput) (RecoverResult, error) {
	stop := heartbeats(ctx)
	defer stop()
	s, err := a.lock(in.Table)
	if err != nil {
		return RecoverResult{}, err
	}
	defer s.mu.Unlock()
	if err := a.open(ctx, s); err != nil {
		return RecoverResult{}, err
	}
	if err := s.refreshAll(ctx); err != nil {
		return RecoverResult{}, err
	}
	app := in.Part.ID()
	if have := txn(s.scored, app); have != partOpen {
		if have == partDone {
			return RecoverResult{}, nil
		}
		return RecoverResult{}, Permanent(ErrTypeInput, fmt.Errorf("the scored table's log knows of no part %s", app))
	}
	if err := a.prepare(ctx, s); err != nil {
		return RecoverResult{}, err
	}
	owner, err := a.own(ctx, s, app)
	if err != nil {
		return RecoverResult{}, err
	}
	w, err := s.part(ctx, in.Part)
	if err != nil {
		return RecoverResult{}, err
	}
	policy := poisonFail
	if in.Last {
		policy = poisonQuarantine
	}
	out, err := a.process(ctx, s, w, policy)
	if err != nil {
		return RecoverResult{}, err
	}
	err = a.commit(ctx, s, commitInput{
		appID: app, expect: partOpen, version: partDone, first: in.Part.Version, last: in.Part.Version, operation: "RECOVER", owner: owner, out: out,
	})
	if _, ok := errors.AsType[*lakehouse.TxnMovedError](err); ok {
		return RecoverResult{}, fmt.Errorf("another worker recovers the same part: %w", err)
	}
	if err != nil {
		return RecoverResult{}, err
	}
	a.observe(s, out)
	return RecoverResult{Scored: out.scored, Quarantined: out.quarantined()}, nil
}

// part is a recovery's range: the part's rows without those that an attempt
// which was cut off has quarantined.
func (s *state) part(ctx context.Context, p Part) (work, error) {
	w := work{from: p.Version - 1, to: p.Version}
	changes, err := s.landed.Changes(ctx, p.Version-1, p.Version)
	if err != nil {
		return w, fmt.Errorf("landed version %d: %w", p.Version, err)
	}
	for _, c := range changes {
		for _, f := range c.Adds {
			if f.Path == p.File {
				w.segments = append(w.segments, segment{p.Version, f, p.From, min(p.To, f.Rows)})
			}
		}
	}
	if len(w.segments) == 0 {
		return w, Permanent(ErrTypeInput, fmt.Errorf("landed version %d has no file %s", p.Version, p.File))
	}
	w.skip, err = s.quarantined(ctx, p.ID(), p.Version, p.Version)
	return w, err
}
