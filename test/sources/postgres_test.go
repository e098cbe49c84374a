package sources

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tidemill/tidemill/internal/testserver"
)

// postgresSources are two tables of one server that rows are inserted into: one whose changes are
// followed, and one that is polled. The slot of the first is read by one process at a time, while
// the other one waits to take over; the second is read by both. A column of type jsonb holds what
// the contract does not take.
func postgresSources(t *testing.T, _ [2]string) []source {
	t.Helper()
	p := testserver.StartForward(t)
	pg := testserver.StartPostgres(t)
	pg.Exec(t, "CREATE TABLE events (id int8 PRIMARY KEY, pad jsonb)", "CREATE TABLE polled (n bigserial PRIMARY KEY, id int8, pad jsonb)")
	at, err := url.Parse(pg.DSN)
	if err != nil {
		t.Fatal(err)
	}
	p.Aim(at.Host)
	dsn := strings.Replace(pg.DSN, at.Host, p.Addr, 1)
	insert := func(sql string) func(context.Context, message) error {
		var conn *pgx.Conn
		return func(ctx context.Context, m message) (err error) {
			if conn == nil || conn.IsClosed() {
				if conn, err = pgx.Connect(ctx, pg.DSN); err != nil {
					return err
				}
			}
			row := fmt.Sprintf("%q", pad(m[0]))
			if poison(m[0]) {
				row = "{}" // no string
			}
			_, err = conn.Exec(ctx, sql, m[0], row)
			return err
		}
	}
	return []source{
		{
			name: "postgres", once: true, proxy: p,
			input: fmt.Sprintf("  postgres_changes:\n    dsn: %q\n    slot: tidemill\n    tables: [events]\n    page_rows: 50\n", dsn),
			send:  insert("INSERT INTO events VALUES ($1, $2::jsonb)"),
			kill:  func() { pg.Kill() }, start: func(t *testing.T) { t.Helper(); pg.Restart(t) },
		},
		{
			name: "sql_poll", once: true, proxy: p,
			input: fmt.Sprintf("  sql_poll:\n    driver: pgx\n    dsn: %q\n    table: polled\n    cursor: [n]\n    batch: 40\n    interval: 50ms\n    retry_min: 50ms\n    retry_max: 500ms\n", dsn),
			send:  insert("INSERT INTO polled (id, pad) VALUES ($1, $2::jsonb)"),
		},
	}
}
