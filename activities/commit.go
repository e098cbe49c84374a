package activities

import (
	"context"
	"fmt"

	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/delta"
	"github.com/tidemill/tidemill/lakehouse/quarantine"
)

// commitInput is one range, or one recovered part, ready to be committed.
type commitInput struct {
	appID       string // the transaction in both tables
	expect      int64  // its version in the scored table before, -1: none
	version     int64  // and after
	first, last int64  // landed versions
	operation   string
	owner       int64 // what own has returned
	out         *outcome
}

// commit commits the quarantine table and then the scored table. A crash in
// between leaves a quarantine transaction ahead of the scored one, which plan
// and Recover find; a repetition of the whole finds both and is refused with a
// *lakehouse.TxnMovedError. So is whoever has lost the tables to another worker,
// see own.
func (a *Activities) commit(ctx context.Context, s *state, in commitInput) error {
	start := a.o.Now()
	if len(in.out.bad) > 0 {
		if err := a.commitQuarantine(ctx, s, in); err != nil {
			return err
		}
	}
	txns := []delta.Txn{{AppID: in.appID, Version: in.version, LastUpdated: start.UnixMilli()}}
	for _, p := range in.out.poison {
		txns = append(txns, delta.Txn{AppID: p.ID(), Version: partOpen, LastUpdated: start.UnixMilli()})
	}
	_, err := s.scored.Commit(ctx, lakehouse.Commit{
		Adds: in.out.files, Txns: txns, ExpectTxn: map[string]int64{in.appID: in.expect, ownerID(in.appID): in.owner}, Operation: in.operation,
		Parameters: map[string]string{"landed": in.landed(), "contract": s.contract.Version()},
		Fault:      a.scoredFault,
	})
	if err != nil {
		return fmt.Errorf("commit %s%s: %w", s.name, Suffix, err)
	}
	now := a.o.Now()
	in.out.obs.Commit = now.Sub(start)
	if in.out.obs.Latency != nil {
		in.out.latencies(now)
	}
	return nil
}

func (in commitInput) landed() string { return fmt.Sprintf("%d-%d", in.first, in.last) }

// scoredFault names the fault points of the scored table's commit.
func (a *Activities) scoredFault(point string) { a.o.Fault(point + "-scored") }

func (a *Activities) commitQuarantine(ctx context.Context, s *state, in commitInput) error {
	rec := quarantine.Record(a.mem, a.o.Now(), in.out.bad)
	defer rec.Release()
	files, err := s.quarantine.WriteFiles(ctx, rec, map[string]string{tagLanded: in.landed(), tagTxn: in.appID})
	if err != nil {
		return fmt.Errorf("write quarantine: %w", err)
	}
	_, err = s.quarantine.Commit(ctx, lakehouse.Commit{
		Adds: files, Operation: in.operation,
		Txns:      []delta.Txn{{AppID: in.appID, Version: in.version, LastUpdated: a.o.Now().UnixMilli()}},
		ExpectTxn: map[string]int64{in.appID: txn(s.quarantine, in.appID), ownerID(in.appID): in.owner},
	})
	if err != nil {
		return fmt.Errorf("commit quarantine: %w", err)
	}
	a.o.Fault("after-quarantine-commit")
	return nil
}
