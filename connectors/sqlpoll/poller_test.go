package sqlpoll

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	_ "github.com/lib/pq"
	_ "modernc.org/sqlite"

	"github.com/tidemill/tidemill/connectors/paging"
	"github.com/tidemill/tidemill/internal/secret"
	"github.com/tidemill/tidemill/internal/testserver"
)

func exec(t *testing.T, db *sql.DB, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := db.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func open(t *testing.T, driver, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func poller(t *testing.T, driver, dsn string, tune func(*Config)) *Poller {
	t.Helper()
	c := Config{Driver: driver, DSN: secret.New(dsn), Table: "orders", Cursor: []string{"id"}, Batch: 3, Interval: time.Millisecond, Timeout: 20 * time.Second}
	if tune != nil {
		tune(&c)
	}
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// read returns n rows and the states behind them.
func read(t *testing.T, p *Poller, n int) (rows, states []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for len(rows) < n {
		page, err := p.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for i, row := range page.Rows {
			rows, states = append(rows, string(row)), append(states, page.State(i))
		}
	}
	return rows, states
}

func equal(t *testing.T, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Fatalf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestServers runs what asks real databases, on one server.
func TestServers(t *testing.T) {
	pg := testserver.StartPostgres(t)
	t.Run("keyset", func(t *testing.T) { keyset(t, pg.DSN) })
	t.Run("types", func(t *testing.T) { postgresTypes(t, pg.DSN) })
	t.Run("settle", func(t *testing.T) { settling(t, pg.DSN) })
}

// keyset reads with one and with two cursor columns, while rows are added; from behind
// any row a new poller goes on with the next.
func keyset(t *testing.T, pg string) {
	for driver, dsn := range map[string]string{
		"sqlite": "file:" + filepath.Join(t.TempDir(), "orders.db") + "?_pragma=busy_timeout(10000)", "pgx": pg, "postgres": pg,
	} {
		t.Run(driver, func(t *testing.T) {
			db := open(t, dialects[driver].driver, dsn)
			exec(t, db, "DROP TABLE IF EXISTS orders", "CREATE TABLE orders (grp BIGINT NOT NULL, id TEXT NOT NULL, n INTEGER)")
			var want []string
			add := func(from, to int) {
				for i := from; i < to; i++ {
					exec(t, db, fmt.Sprintf("INSERT INTO orders VALUES (%d, 'k%03d', %d)", 1<<53+1+i/4, i, i))
					want = append(want, fmt.Sprintf(`{"grp":%d,"id":"k%03d","n":%d}`, 1<<53+1+i/4, i, i))
				}
			}
			for name, tune := range map[string]func(*Config){
				"one":   func(c *Config) { c.Where = "n >= 0" },
				"two":   func(c *Config) { c.Cursor = []string{"grp", `"id"`} },
				"query": func(c *Config) { c.Table, c.Query = "", "SELECT * FROM orders WHERE n >= 0;" },
			} {
				t.Run(name, func(t *testing.T) {
					want = nil
					exec(t, db, "DELETE FROM orders")
					add(0, 10)
					p := poller(t, driver, dsn, tune)
					got, states := read(t, p, 10)
					add(10, 13)
					more, moreStates := read(t, p, 3)
					got, states = append(got, more...), append(states, moreStates...)
					equal(t, got, want...)
					for i, s := range states[:len(states)-1] {
						q := poller(t, driver, dsn, tune)
						if err := q.Resume(s); err != nil {
							t.Fatal(err)
						}
						rows, _ := read(t, q, 1)
						equal(t, rows[:1], want[i+1])
						_ = q.Close()
					}
				})
			}
		})
	}
}

// TestExpandedComparison gives the form for databases that know no tuples the same rows.
func TestExpandedComparison(t *testing.T) {
	dsn := "file:" + filepath.Join(t.TempDir(), "x.db")
	db := open(t, "sqlite", dsn)
	exec(t, db, "CREATE TABLE t (a INTEGER, b INTEGER, c INTEGER)")
	for i := range 27 {
		exec(t, db, fmt.Sprintf("INSERT INTO t VALUES (%d, %d, %d)", i/9, i/3%3, i%3))
	}
	c := Config{Table: "t", Cursor: []string{"a", "b", "c"}}
	for i := range 27 {
		at := []any{i / 9, i / 3 % 3, i % 3}
		for _, d := range []dialect{{"sqlite", question, true, limit}, {"sqlite", question, false, limit}} {
			for _, q := range []struct {
				after, upTo []any
				want        int
			}{{at, nil, 26 - i}, {nil, at, i + 1}} {
				text, args := c.page(d, q.after, q.upTo, 100)
				var n int
				if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM ("+text+")", args...).Scan(&n); err != nil || n != q.want {
					t.Fatalf("%s %v: %d rows, want %d; %v", text, args, n, q.want, err)
				}
			}
		}
	}
}

// TestQueryTexts of the databases that there is no server of here.
func TestQueryTexts(t *testing.T) {
	c := Config{Query: "SELECT 1;", Where: "x OR y", Cursor: []string{"a", "b"}, Columns: []string{"a", "b"}}
	for driver, want := range map[string]string{
		"mssql":  "SELECT a, b FROM (SELECT 1) t WHERE (x OR y) AND ((a > @p1) OR (a = @p2 AND b > @p3)) ORDER BY a, b OFFSET 0 ROWS FETCH NEXT 5 ROWS ONLY",
		"oracle": "SELECT a, b FROM (SELECT 1) t WHERE (x OR y) AND ((a > :1) OR (a = :2 AND b > :3)) ORDER BY a, b FETCH NEXT 5 ROWS ONLY",
		"mysql":  "SELECT a, b FROM (SELECT 1) t WHERE (x OR y) AND (a, b) > (?, ?) ORDER BY a, b LIMIT 5",
	} {
		if text, _ := c.page(dialects[driver], []any{1, 2}, nil, 5); text != want {
			t.Errorf("%s:\n%s\nwant\n%s", driver, text, want)
		}
	}
}

// postgresTypes: what each type becomes, by both drivers.
func postgresTypes(t *testing.T, pg string) {
	db := open(t, "pgx", pg)
	exec(t, db, "DROP TABLE IF EXISTS orders", `CREATE TABLE orders (id bigserial PRIMARY KEY, i int, n numeric, f float8, b bool, s text, d date, ts timestamp, tz timestamptz, j jsonb, u uuid, x bytea, z int)`,
		`INSERT INTO orders (i, n, f, b, s, d, ts, tz, j, u, x) VALUES (-7, 12345678901234567890.5, 1e300, true, E'a"\n世', '2026-01-31', '2026-01-31 08:00:00.123456', '2026-01-31 08:00:00+02', '{"a": [1, 2]}', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '\x00ff')`,
		`INSERT INTO orders (n, f) VALUES ('NaN', 'Infinity')`)
	for _, driver := range []string{"pgx", "postgres"} {
		rows, _ := read(t, poller(t, driver, pg, nil), 2)
		equal(t, rows,
			`{"id":1,"i":-7,"n":12345678901234567890.5,"f":1e+300,"b":true,"s":"a\"\n世","d":"2026-01-31","ts":"2026-01-31T08:00:00.123456Z","tz":"2026-01-31T06:00:00Z","j":{"a":[1,2]},"u":"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11","x":"AP8=","z":null}`,
			`{"id":2,"i":null,"n":"NaN","f":"+Inf","b":null,"s":null,"d":null,"ts":null,"tz":null,"j":null,"u":null,"x":null,"z":null}`)
		// Times are cursors to the microsecond.
		for _, column := range []string{"tz", "ts", "n"} {
			exec(t, db, "DROP TABLE IF EXISTS times", "CREATE TABLE times AS SELECT g AS id, '2026-01-31 08:00:00.000000'::timestamp + g * interval '1 microsecond' AS ts, '2026-01-31 08:00:00+05'::timestamptz + g * interval '1 microsecond' AS tz, g + 0.5 AS n FROM generate_series(1, 20) g")
			p := poller(t, driver, pg, func(c *Config) {
				c.Table, c.Columns, c.Cursor, c.Batch = "times", []string{"id", column}, []string{column}, 1
			})
			rows, _ := read(t, p, 20)
			for i, row := range rows {
				if !strings.HasPrefix(row, `{"id":`+strconv.Itoa(i+1)+`,`) {
					t.Fatalf("%s %s: row %d is %s", driver, column, i, row)
				}
			}
		}
	}
}

// settling: a row that becomes visible after a higher one is read in its place, and
// without settling it is passed over, which is what the setting is for.
func settling(t *testing.T, pg string) {
	db := open(t, "pgx", pg)
	for _, settle := range []time.Duration{0, time.Minute} {
		exec(t, db, "DROP TABLE IF EXISTS orders", "CREATE TABLE orders (id bigserial PRIMARY KEY)")
		now := time.Unix(0, 0)
		p := poller(t, "pgx", pg, func(c *Config) {
			c.Settle, c.Now = settle, func() time.Time { return now }
		})
		late, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := late.ExecContext(t.Context(), "INSERT INTO orders DEFAULT VALUES"); err != nil {
			t.Fatal(err)
		}
		exec(t, db, "INSERT INTO orders DEFAULT VALUES")
		look := func() []string {
			page, err := p.look(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var rows []string
			for _, r := range page.Rows {
				rows = append(rows, string(r))
			}
			return rows
		}
		if settle == 0 {
			equal(t, look(), `{"id":2}`)
		} else {
			equal(t, look())
			now = now.Add(settle - 1)
			equal(t, look())
		}
		if err := late.Commit(); err != nil {
			t.Fatal(err)
		}
		exec(t, db, "INSERT INTO orders DEFAULT VALUES") // after the look that counts
		now = now.Add(1)
		if settle == 0 {
			equal(t, look(), `{"id":3}`)
			continue
		}
		equal(t, look(), `{"id":1}`, `{"id":2}`)
		now = now.Add(settle)
		equal(t, look(), `{"id":3}`)
	}
}

// TestProblems: what a person can mend is told, without secrets.
func TestProblems(t *testing.T) {
	dsn := "file:" + filepath.Join(t.TempDir(), "x.db")
	db := open(t, "sqlite", dsn)
	exec(t, db, "CREATE TABLE orders (id INTEGER, at TIMESTAMP, x BLOB)", "INSERT INTO orders VALUES (1, '2026-01-31 08:00:00', x'00'), (2, '2026-01-31 08:00:00', NULL), (2, NULL, NULL)")
	for want, tune := range map[string]func(*Config){
		"two rows have the same id":     nil,
		"column at is a time, which":    func(c *Config) { c.Cursor, c.Where = []string{"at", "id"}, "at IS NOT NULL" },
		"column at is null in a row":    func(c *Config) { c.Cursor = []string{"at", "id"} },
		"column id is not in the res":   func(c *Config) { c.Columns = []string{"at"} },
		"no such column: nix":           func(c *Config) { c.Where = "nix" },
		"column x is binary":            func(c *Config) { c.Cursor, c.Where = []string{"x"}, "id = 1" },
		"no such table: does_not_exist": func(c *Config) { c.Table = "does_not_exist" },
	} {
		_, err := poller(t, "sqlite", dsn, tune).Next(t.Context())
		if _, ok := errors.AsType[*paging.Unavailable](err); !ok || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	_, err := New(Config{Driver: "db2", Table: "a", Query: "b", Settle: -1})
	for _, want := range []string{"driver: ", "dsn: ", "table: ", "cursor: ", "batch: ", "interval and timeout: ", "settle: "} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
	for driver, dsn := range map[string]string{
		"pgx": "postgres://app:planted@127.0.0.1:1/x?connect_timeout=2", "postgres": "postgres://app:planted@127.0.0.1:notaport/x",
		"sqlite": "file:/nowhere/planted?password=planted",
	} {
		p, err := New(Config{Driver: driver, DSN: secret.New(dsn), Table: "a", Cursor: []string{"id"}, Batch: 1, Interval: 1, Timeout: 5 * time.Second})
		if err == nil {
			_, err = p.Next(t.Context())
		}
		if err == nil || strings.Contains(err.Error(), "planted") {
			t.Errorf("%s: %v", driver, err)
		}
	}
	for _, dsn := range []string{"app:pl@nted@tcp(db:3306)/x", "host=a password='pl@nted' user=b", "sqlserver://app:pl%40nted@host?database=x", "server=a;Password=pl@nted;x=y"} {
		if got := hider(dsn).Replace("denied for pl@nted in " + dsn); strings.Contains(got, "nted") {
			t.Errorf("%s: %s", dsn, got)
		}
	}
}
