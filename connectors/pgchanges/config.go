package pgchanges

import (
	"context"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/internal/secret"
	"github.com/tidemill/tidemill/lakehouse/objstore"
)

// Config says what to read.
type Config struct {
	DSN         secret.String
	Slot        string
	Publication string   // default: the slot's name
	Tables      []string // schema.table, or table for one of the schema public
	Snapshot    bool     // read the rows that are there when the slot is created
	Include     []Op     // which changes become rows; default insert, update, delete
	JSONAsText  bool     // json and jsonb as strings
	PageRows    int      // rows of a page of the snapshot; default 10,000
	BatchRows   int      // changes handed over at once, at most; default 1000
	Lines       bool     // a page of the snapshot is one message with a line per row; else each row is one
	Log         *slog.Logger

	// At returns how far a partition has come in the table's log; see package
	// connectors' resumer.
	At func(ctx context.Context, partition string) (Standing, error)
	// Pages returns where a page of the snapshot is kept while it is on its way: a place of the
	// connector's own, which goes when the table goes.
	Pages func(ctx context.Context) (objstore.Store, error)

	room int64 // changes of a transaction that have offsets before the next commit's; tests have fewer
}

// Standing is how far a partition has come in the table's log.
type Standing struct {
	Found  bool   // there is a cursor
	Offset int64  // of it
	Cursor string // its text
	In     batch.Intervals
}

const (
	defaultPageRows  = 10_000
	defaultBatchRows = 1000
	pageBytes        = 4 << 20 // of a page of the snapshot, or one row more
	batchBytes       = 1 << 20 // of changes handed over at once, or one row more
)

func (c Config) withDefaults() Config {
	if c.Publication == "" {
		c.Publication = c.Slot
	}
	if len(c.Include) == 0 {
		c.Include = []Op{OpInsert, OpUpdate, OpDelete}
	}
	if c.PageRows <= 0 {
		c.PageRows = defaultPageRows
	}
	if c.BatchRows <= 0 {
		c.BatchRows = defaultBatchRows
	}
	if c.room == 0 {
		c.room = roomy
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

var slotName = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

// CheckSlot returns what is wrong with a slot's name; empty when nothing is.
func CheckSlot(name string) string {
	switch {
	case name == "":
		return "missing; name the replication slot that remembers how far this connector has come, for example `slot: tidemill_orders`"
	case !slotName.MatchString(name):
		return fmt.Sprintf("%q is no name for a slot; use lower-case letters, digits and underscores, 63 at most", name)
	}
	return ""
}

// CheckTable returns what is wrong with a table's name; empty when nothing is.
func CheckTable(name string) string {
	schema, table, two := strings.Cut(name, ".")
	if name == "" || two && (schema == "" || table == "") || strings.Contains(table, ".") {
		return fmt.Sprintf("%q is no name of a table; write schema.table, or table for one of the schema public", name)
	}
	return ""
}

// CheckOp returns what is wrong with an element of include; empty when nothing is.
func CheckOp(op string) string {
	switch Op(op) {
	case OpInsert, OpUpdate, OpDelete, OpTruncate:
		return ""
	case OpSnapshot:
		return "snapshot is a field of its own: `snapshot: true`"
	}
	return fmt.Sprintf("%q is no change; there are insert, update, delete and truncate", op)
}

// qualified puts the schema public before a table's name that has none.
func qualified(name string) string {
	if strings.Contains(name, ".") {
		return name
	}
	return "public." + name
}

// identifier returns a table's name as SQL has it.
func identifier(table string) string {
	schema, name, _ := strings.Cut(table, ".")
	return pgx.Identifier{schema, name}.Sanitize()
}

// session are the parameters under which a server's text is what [types] reads.
var session = map[string]string{
	"client_encoding": "UTF8", "datestyle": "ISO", "timezone": "UTC", "extra_float_digits": "3", "bytea_output": "hex",
	"application_name": "tidemill",
}

// connect opens a connection; errors do not show the DSN.
func (c Config) connect(ctx context.Context, replication bool) (*pgx.Conn, error) {
	conf, err := pgx.ParseConfig(c.DSN.Reveal())
	if err != nil {
		return nil, fmt.Errorf("dsn: it cannot be read; write postgres://user:password@host:5432/database, or host=… user=… dbname=…")
	}
	for k, v := range session {
		conf.RuntimeParams[k] = v
	}
	if replication {
		conf.RuntimeParams["replication"] = "database"
	}
	if conf.ConnectTimeout == 0 {
		conf.ConnectTimeout = 15 * time.Second
	}
	conf.DefaultQueryExecMode = pgx.QueryExecModeExec
	conn, err := pgx.ConnectConfig(ctx, conf)
	if err != nil {
		return nil, fmt.Errorf("connect to PostgreSQL: %w", plain(err))
	}
	return conn, nil
}

// plain leaves the connection's parameters out of an error.
func plain(err error) error {
	if e, ok := unwrapTo[*pgconn.ConnectError](err); ok {
		if inner := e.Unwrap(); inner != nil {
			return inner
		}
	}
	return err
}
