package connectors

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tidemill/tidemill/internal/testserver"
	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
)

// TestSQLPollCrashes: a table that grows, read by processes that die at every step: every row is
// in once.
func TestSQLPollCrashes(t *testing.T) {
	pg := testserver.StartPostgres(t)
	db, err := pgx.Connect(t.Context(), pg.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close(context.Background()) }()
	for name, pipeline := range map[string]string{
		"pages": "", "row by row": "pipeline: {threads: 1, processors: [{mapping: root = this}]}\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("TEST_SQL_DSN", pg.DSN)
			if _, err := db.Exec(t.Context(), "DROP TABLE IF EXISTS orders; CREATE TABLE orders (day date NOT NULL, no int NOT NULL, id jsonb)"); err != nil {
				t.Fatal(err)
			}
			store := mem.New()
			conf := "input:\n  sql_poll: {driver: pgx, dsn: '${TEST_SQL_DSN}', table: orders, cursor: [day, no], batch: 5, interval: 2ms, retry_min: 1ms, retry_max: 5ms}\n" + pipeline + "output:\n  lakehouse: {table: events, max_in_flight: 2, batching: {count: 4, period: 5ms}}\n"
			total := 0
			crashes(t, store, conf, func(int) {
				for range 23 {
					id := fmt.Sprint(total)
					if badID(total) {
						id = fmt.Sprintf(`"bad %d"`, total)
					}
					if _, err := db.Exec(t.Context(), "INSERT INTO orders VALUES (date '2026-01-01' + $1::int, $2, $3::text::jsonb)", total/20, total, id); err != nil {
						t.Fatal(err)
					}
					total++
				}
			}, func() bool { return countRows(t, store, "events")+countRows(t, store, "events_quarantine") >= total })
			var landed int
			seen := map[string]bool{}
			for _, id := range append(rows(t, store, "events", "id"), rows(t, store, "events_quarantine", "raw")...) {
				if seen[id] {
					t.Errorf("%s is in twice", id)
				}
				seen[id] = true
				landed++
			}
			if landed != total || len(rows(t, store, "events_quarantine", "raw")) != (total+7)/11 {
				t.Errorf("%d rows of %d", landed, total)
			}
		})
	}
}
