package connectors

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync"

	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/tidemill/tidemill/connectors/decode"
	"github.com/tidemill/tidemill/connectors/pgchanges"
	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/lakehouse"
)

// cutPages knows what is in quarantine of pages that a process died in. A page's rows share
// one offset, and some are committed to the quarantine table before the others land. A process that
// dies between the two leaves an offset which is in one table only and whose cursor does not
// count; the page is read again, under another offset, and rows that have changed since are
// no longer in it. So its rows are told by what they are. Only the snapshot of postgres_changes has
// such pages.
type cutPages struct {
	mu   sync.Mutex
	left map[string]map[[sha256.Size]byte]int // by partition: rows, and how often each is there; nil: it was looked for
}

// repeated returns which bad rows are in quarantine from a page that was cut off.
func (c *cutPages) repeated(ctx context.Context, d decoded, landed, quarantined *lakehouse.Appender) (map[int]bool, error) {
	var out map[int]bool
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, b := range d.bad {
		id, ok := pgchanges.Identity(b.Raw)
		if !ok || !d.paged[b.Partition] {
			continue
		}
		left, looked := c.left[b.Partition]
		if !looked {
			var err error
			if left, err = cutPage(ctx, b, landed, quarantined); err != nil {
				return nil, err
			}
			if c.left == nil {
				c.left = map[string]map[[sha256.Size]byte]int{}
			}
			c.left[b.Partition] = left
		}
		row := sha256.Sum256(id)
		if left[row] > 0 {
			left[row]--
			if out == nil {
				out = map[int]bool{}
			}
			out[i] = true
		}
	}
	return out, nil
}

// cutPage reads the rows of the last page before one of a bad row's that is in the quarantine
// table and not in the other: it was cut off, or had bad rows only, and then none of
// them comes again.
func cutPage(ctx context.Context, of decode.BadRow, landed, quarantined *lakehouse.Appender) (map[[sha256.Size]byte]int, error) {
	in := quarantined.Claims(of.Partition)
	for _, v := range landed.Claims(of.Partition) {
		in = in.Remove(v)
	}
	at := int64(-1)
	for _, v := range in {
		if v.First < of.Offset {
			at = max(at, min(v.Last, of.Offset-1))
		}
	}
	if at < 0 {
		return nil, nil
	}
	rows := map[[sha256.Size]byte]int{}
	for rec, err := range quarantined.CameWith(ctx, of.Partition, at, batch.ColSource, batch.ColOffset, "raw") {
		if err != nil {
			return nil, fmt.Errorf("look for the page that was cut off: %w", err)
		}
		source, ok := rec.Column(0).(*array.String)
		offset, ok2 := rec.Column(1).(*array.Int64)
		raw, ok3 := rec.Column(2).(*array.Binary)
		if !ok || !ok2 || !ok3 {
			rec.Release()
			return nil, fmt.Errorf("look for the page that was cut off: the quarantine table has %s", rec.Schema())
		}
		for i := range int(rec.NumRows()) {
			if id, ok := pgchanges.Identity(raw.Value(i)); ok && offset.Value(i) == at && source.Value(i) == of.Partition {
				rows[sha256.Sum256(id)]++
			}
		}
		rec.Release()
	}
	return rows, nil
}
