package sinks

import (
	"context"
	"fmt"
	"time"

	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/objstore"
)

// HoldFor is how long what a sink has not sent is kept for it: a sink that is away
// longer misses rows, which is logged and counted.
const HoldFor = 7 * 24 * time.Hour

// TxnID is the transaction id in a scored table's log under which it is known up to which
// version a sink has sent all rows, about.
func TxnID(sink string) string { return "sink/" + sink }

// Hold returns the last version of a scored table that all of a contract's sinks are done
// with, [lakehouse.NoHold] when there is none to wait for: what came after it must be
// neither cleaned up nor vacuumed. A sink does not hold what is older than [HoldFor].
func Hold(ctx context.Context, store objstore.Store, scored *lakehouse.Table, c *contract.Table, now time.Time) (int64, error) {
	hold := lakehouse.NoHold
	for _, s := range c.Sinks() {
		have, err := head(ctx, store, keyPrefix(c.Name(), s.Name), 0)
		if err != nil {
			return 0, fmt.Errorf("sink %s: %w", s.Name, err)
		}
		snap := scored.Snapshot()
		done := have.Version - 1
		if have.N == 0 || have.Table != snap.TableID() {
			v, ok := snap.Txn(TxnID(s.Name))
			if !ok {
				continue // it has yet to begin
			}
			done = v
		}
		if done >= snap.Version() {
			continue
		}
		first, _, err := scored.Commits(ctx)
		if err != nil {
			return 0, err
		}
		done = max(done, first-1) // what is gone cannot be held
		next, err := scored.Changes(ctx, done, done+1)
		if err != nil {
			return 0, err
		}
		if len(next) == 0 || now.Sub(next[0].Time) > HoldFor {
			continue
		}
		hold = min(hold, done)
	}
	return hold, nil
}
