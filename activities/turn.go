package activities

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/tidemill/tidemill/internal/hist"
	"github.com/tidemill/tidemill/lakehouse"
)

// Turn takes the landed versions since the scored table's own cursor as one
// range (up to MaxRows), checks and scores their rows, and commits the
// quarantine table and then the scored table. It is idempotent: a repetition
// reads the cursor and finds less or nothing to do, or finishes a range whose
// quarantine commit is in.
func (a *Activities) Turn(ctx context.Context, in TurnInput) (TurnResult, error) {
	s, err := a.lock(in.Table)
	if err != nil {
		return TurnResult{}, err
	}
	defer s.mu.Unlock()
	return a.turn(ctx, s, in)
}

// CatchUp does turns until the backlog is small, with heartbeats, for at most
// catchUpFor. Its result sums them up.
func (a *Activities) CatchUp(ctx context.Context, in TurnInput) (sum TurnResult, err error) {
	stop := heartbeats(ctx)
	defer stop()
	s, err := a.lock(in.Table)
	if err != nil {
		return sum, err
	}
	defer s.mu.Unlock()
	deadline := a.o.Now().Add(catchUpFor)
	for first := true; ; first = false {
		r, err := a.turn(ctx, s, in)
		if err != nil {
			if !first {
				return sum, nil // what was done is done; the next turn meets the error again
			}
			return sum, err
		}
		if first {
			sum.From = r.From
		}
		sum.To, sum.Contract, sum.BacklogVersions, sum.BacklogRows = r.To, r.Contract, r.BacklogVersions, r.BacklogRows
		if r.Model != "" {
			sum.Model, sum.ModelVersion = r.Model, r.ModelVersion
		}
		sum.Rows += r.Rows
		sum.Scored += r.Scored
		sum.Quarantined += r.Quarantined
		sum.Recovering += r.Recovering
		sum.Warnings += r.Warnings
		sum.Recover = append(sum.Recover, r.Recover...)
		if r.BacklogVersions == 0 || len(sum.Recover) > 0 || s.leave.Load() || a.o.Now().After(deadline) || ctx.Err() != nil {
			return sum, nil
		}
	}
}

const catchUpFor = time.Minute

// heartbeats tells Temporal that a long activity lives until stop is called.
func heartbeats(ctx context.Context) (stop func()) {
	if !activity.IsActivity(ctx) {
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		t := time.NewTicker(heartbeatEvery)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				activity.RecordHeartbeat(ctx)
			case <-done:
				return
			}
		}
	}()
	return func() { close(done) }
}

// turn does one range. The caller holds s.mu.
func (a *Activities) turn(ctx context.Context, s *state, in TurnInput) (TurnResult, error) {
	a.o.TurnStarted(in.Table)
	var err error
	if err = a.open(ctx, s); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return TurnResult{From: -1, To: -1}, nil // nothing has landed yet
		}
		return TurnResult{}, err
	}
	start := a.o.Now()
	if err := s.refreshAll(ctx); err != nil {
		return TurnResult{}, err
	}
	landed, cursor := s.landed.Snapshot().Version(), s.cursor()
	res := TurnResult{From: cursor, To: cursor, Contract: s.contract.Version(), Recover: s.openParts()}
	if landed <= cursor {
		return res, nil
	}
	a.o.Fault("between-hops")
	if err := a.prepare(ctx, s); err != nil {
		return TurnResult{}, err
	}
	if s.owner == 0 {
		if s.owner, err = a.own(ctx, s, s.appID()); err != nil {
			return res.moved(err)
		}
		if cursor = s.cursor(); landed <= cursor {
			res.From, res.To = cursor, cursor
			return res, nil
		}
		res.From, res.To = cursor, cursor
	}
	w, err := a.plan(ctx, s, cursor, landed, in.MaxRows)
	if err != nil {
		return TurnResult{}, err
	}
	res.BacklogVersions, res.BacklogRows = w.backlogVersions, w.backlogRows
	out, err := a.process(ctx, s, w, poisonHandOver)
	if err != nil {
		return TurnResult{}, err
	}
	if s.contract.EventTime() != "" {
		out.obs.Latency = &hist.Histogram{}
	}
	err = a.commit(ctx, s, commitInput{
		appID: s.appID(), expect: cursor, version: w.to, first: cursor + 1, last: w.to, operation: "SCORE", owner: s.owner, out: out,
	})
	if err != nil {
		s.owner = 0 // a request of ours may still be on its way
		return res.moved(err)
	}
	a.forget(s, w)
	res.To = w.to
	res.Rows, res.Scored = out.in, out.scored
	res.Quarantined, res.Recovering, res.Warnings = out.quarantined(), out.recovering(), out.warnings()
	res.Recover = append(res.Recover, out.poison...)
	if s.model != nil {
		res.Model, res.ModelVersion = s.model.Name, int64(s.model.Version)
	}
	now := a.o.Now()
	out.obs.Total, out.obs.Versions, out.obs.Backlog = now.Sub(start), w.to-cursor, w.backlogVersions
	if !w.oldest.IsZero() {
		out.obs.Lag = now.Sub(w.oldest)
	}
	a.observe(s, out)
	return res, nil
}

// moved is a turn's result when another worker took the table over, or did the
// range, meanwhile: there is something to look at again. Other errors pass.
func (r TurnResult) moved(err error) (TurnResult, error) {
	if _, ok := errors.AsType[*lakehouse.TxnMovedError](err); !ok {
		return TurnResult{}, err
	}
	r.BacklogVersions = max(1, r.BacklogVersions)
	return r, nil
}

// forget gives up the landed records of a range that is done: nobody needs them again.
func (a *Activities) forget(s *state, w work) {
	for _, seg := range w.segments {
		a.o.Cache.Remove(s.name + "/" + seg.file.Path)
	}
}

// observe tells of what was committed.
func (a *Activities) observe(s *state, out *outcome) {
	obs := out.obs
	obs.Table, obs.Rows, obs.Warned = s.name, out.scored, out.warned
	if s.model != nil {
		obs.Model = s.model.Ref().String()
	}
	obs.Quarantined = map[string]int64{}
	for _, b := range out.bad {
		obs.Quarantined[b.Rule]++
	}
	for _, rule := range out.before {
		obs.Quarantined[rule]++
	}
	a.o.Observe(obs)
}
