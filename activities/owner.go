package activities

import (
	"context"
	"fmt"

	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/delta"
)

// ownerID is the transaction that says who works under an application id.
func ownerID(app string) string { return "owner/" + app }

// own makes the caller the only one whose commits under an application id can
// still succeed, and brings both tables' snapshots up to that moment.
//
// Two tables do not commit as one, and two workers that take the same range
// need not come to the same result: a contract, a model or a check that looks
// at the clock may have changed in between. If one of them put a row into
// quarantine and the other one scored it, the row would be in both. So a worker
// that begins counts the owner up, in the scored table first and then in the
// quarantine table, and every later commit expects to find its own number.
// After that no commit of an earlier owner can come in any more, and what it
// had committed before is in the snapshots that the range is planned on.
//
// A loser gets a *lakehouse.TxnMovedError. The number stays valid until another
// worker comes, so it costs two empty commits per change of worker and nothing
// per turn.
func (a *Activities) own(ctx context.Context, s *state, app string) (int64, error) {
	id := ownerID(app)
	scored, quarantined := txn(s.scored, id), txn(s.quarantine, id)
	epoch := max(scored, quarantined, 0) + 1
	for _, t := range []struct {
		table *lakehouse.Table
		have  int64
	}{{s.scored, scored}, {s.quarantine, quarantined}} {
		_, err := t.table.Commit(ctx, lakehouse.Commit{
			Txns:      []delta.Txn{{AppID: id, Version: epoch, LastUpdated: a.o.Now().UnixMilli()}},
			ExpectTxn: map[string]int64{id: t.have}, Operation: "TAKE OVER",
		})
		if err != nil {
			return 0, fmt.Errorf("take over %s: %w", app, err)
		}
	}
	return epoch, nil
}
