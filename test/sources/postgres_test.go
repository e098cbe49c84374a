package sources

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tidemill/tidemill/internal/testserver"
)

// postgresSource is a table that rows are inserted into. Its slot is read by one process at a
// time; the other one waits to take over. A column of type jsonb holds what the contract does not take.
func postgresSource(t *testing.T, p *testserver.Forward) source {
	t.Helper()
	pg := testserver.StartPostgres(t)
	pg.Exec(t, "CREATE TABLE events (id int8 PRIMARY KEY, pad jsonb)")
	at, err := url.Parse(pg.DSN)
	if err != nil {
		t.Fatal(err)
	}
	p.Aim(at.Host)
	var conn *pgx.Conn
	return source{
		name: "postgres", once: true,
		input: fmt.Sprintf("  postgres_changes:\n    dsn: %q\n    slot: tidemill\n    tables: [events]\n    page_rows: 50\n", strings.Replace(pg.DSN, at.Host, p.Addr, 1)),
		send: func(ctx context.Context, body []byte) (err error) {
			var row struct {
				ID  int64  `json:"id"`
				Pad string `json:"pad"`
			}
			pad := "{}" // no string
			if json.Unmarshal(body, &row) == nil {
				pad = fmt.Sprintf("%q", row.Pad)
			} else if _, err := fmt.Sscanf(string(body), `{"id": %d`, &row.ID); err != nil {
				return err
			}
			if conn == nil || conn.IsClosed() {
				if conn, err = pgx.Connect(ctx, pg.DSN); err != nil {
					return err
				}
			}
			_, err = conn.Exec(ctx, "INSERT INTO events VALUES ($1, $2::jsonb)", row.ID, pad)
			return err
		},
		kill: func() { pg.Kill() }, start: func(t *testing.T) { t.Helper(); pg.Restart(t) },
	}
}
