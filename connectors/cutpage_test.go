package connectors

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/tidemill/tidemill/connectors/decode"
	"github.com/tidemill/tidemill/connectors/pgchanges"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
)

// pageRow is a row of the snapshot as postgres_changes hands it over; "x" is no number.
func pageRow(id, amount string, index int) string {
	return fmt.Sprintf(`{"id":%s,"amount":%q,"cdc_op":"snapshot","cdc_table":"public.t","cdc_lsn":7,"cdc_index":%d,"cdc_time":"2026-01-01T00:00:00.000000Z"}`, id, amount, index)
}

func page(offset int64, rows ...string) service.MessageBatch {
	cursor := fmt.Sprint("behind ", offset)
	return service.MessageBatch{withPosition(service.NewMessage([]byte(strings.Join(rows, "\n"))), &stamped{
		Position: Position{Partition: "c/slot/snapshot", Offset: offset, Cursor: cursor}, cursor: lakehouse.Cursor{Offset: offset, Text: cursor},
	}, false)}
}

// TestCutPage: a process dies between a page's two commits. The page is read again under
// another offset, without a row that has changed since; what is in quarantine of it is not
// put there twice, and what follows is.
func TestCutPage(t *testing.T) {
	store := mem.New()
	open := func() *output {
		o := &output{table: "events", maxRow: decode.DefaultMaxRowBytes, tables: newLake(t, store, ordersContract)}
		if err := o.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		return o
	}
	write := func(o *output, msgs service.MessageBatch) {
		t.Helper()
		if err := o.WriteBatch(t.Context(), msgs); err != nil {
			t.Fatal(err)
		}
	}
	o := open()
	write(o, page(0, pageRow("1", "1", 0), pageRow("2", "x", 1)))
	d, _, _, err := o.decodeNow(t.Context(), page(1, pageRow("3", "3", 2), pageRow("4", "4", 3), pageRow("5", "x", 4), pageRow("6", "x", 5)))
	if err != nil {
		t.Fatal(err)
	}
	if err := o.quarantineRows(t.Context(), d, &Outcome{Quarantined: map[string]int64{}}); err != nil {
		t.Fatal(err)
	}
	d.rec.Release()

	o = open() // 3 has changed, so that 5 and 6 have other numbers
	write(o, page(2, pageRow("4", "4", 2), pageRow("5", "x", 3), pageRow("6", "x", 4), pageRow("7", "x", 5)))
	write(o, page(3, pageRow("8", "8", 6), pageRow("9", "x", 7)))
	if got := rows(t, store, "events", "id"); !slices.Equal(got, []string{"1", "4", "8"}) {
		t.Errorf("landed %q", got)
	}
	var ids []string
	for _, raw := range rows(t, store, "events_quarantine", "raw") {
		id, _, _ := strings.Cut(strings.TrimPrefix(raw, `{"id":`), ",")
		ids = append(ids, id)
	}
	if slices.Sort(ids); !slices.Equal(ids, []string{"2", "5", "6", "7", "9"}) {
		t.Errorf("quarantined %q", ids)
	}
	if _, ok := pgchanges.Identity([]byte(`{"cdc_op":"insert","cdc_index":1}`)); ok {
		t.Error("a change is taken for a row of the snapshot")
	}
}
