package pgchanges

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
)

func unwrapTo[T error](err error) (T, bool) { return errors.AsType[T](err) }

// database is what is known of the server before changes are read.
type database struct {
	system string
	wal    pglogrepl.LSN // how far it has written
	types  *types
	tables []*table // in the order of their names
}

// oldest is the first version with publish_via_partition_root and pg_visible_in_snapshot.
const oldest = 130000

// table is one of the tables that are read.
type table struct {
	name     string // schema.table
	identity string // relreplident
	columns  []column
	key      []column // the primary key's, in its order
}

// look reads what has to be known, and says everything that is in the way at once.
func (c Config) look(ctx context.Context, conn, repl *pgx.Conn) (*database, error) {
	db := &database{types: newTypes(c.JSONAsText)}
	id, err := pglogrepl.IdentifySystem(ctx, repl.PgConn())
	if err != nil {
		return nil, fmt.Errorf("look at the server: %w", err)
	}
	db.system, db.wal = id.SystemID, id.XLogPos
	var level string
	var version int
	if err := conn.QueryRow(ctx, `SELECT current_setting('wal_level'), current_setting('server_version_num')::int`).Scan(&level, &version); err != nil {
		return nil, fmt.Errorf("look at the server: %w", err)
	}
	if level != "logical" {
		return nil, fmt.Errorf("the server has wal_level = %s; set wal_level = logical in postgresql.conf and start it anew", level)
	}
	if version < oldest {
		return nil, fmt.Errorf("the server is PostgreSQL %d; version %d is the oldest that will do", version/10000, oldest/10000)
	}
	if err := db.types.load(ctx, conn); err != nil {
		return nil, err
	}
	var problems []error
	var names []string
	for _, name := range c.Tables {
		names = append(names, qualified(name))
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		t, err := lookAt(ctx, conn, name)
		if err != nil {
			return nil, err
		}
		if t == nil {
			problems = append(problems, fmt.Errorf("tables: there is no table %s in the database; correct the name, or grant USAGE on its schema", name))
			continue
		}
		if len(t.key) == 0 && c.Snapshot {
			problems = append(problems, fmt.Errorf("tables: %s has no primary key, along which its rows could be read; add one, or set `snapshot: false`", t.name))
		}
		if len(t.key) == 0 && t.identity == "d" || t.identity == "n" {
			problems = append(problems, fmt.Errorf("tables: PostgreSQL would refuse updates and deletes of %s once it is published, for their rows would have no identity; add a primary key, or run: ALTER TABLE %s REPLICA IDENTITY FULL", t.name, identifier(t.name)))
		}
		db.tables = append(db.tables, t)
	}
	return db, errors.Join(problems...)
}

// lookAt reads a table's columns and its primary key; nil if there is none of the name.
func lookAt(ctx context.Context, conn *pgx.Conn, name string) (*table, error) {
	t := &table{name: name}
	err := conn.QueryRow(ctx, `SELECT relreplident::text FROM pg_class WHERE oid = to_regclass($1) AND relkind IN ('r', 'p')`, identifier(name)).Scan(&t.identity)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look at table %s: %w", name, err)
	}
	rows, err := conn.Query(ctx, `SELECT a.attname, a.atttypid::int8, coalesce(array_position(i.indkey::int2[], a.attnum), -1)
		FROM pg_attribute a LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary
		WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
		ORDER BY a.attnum`, identifier(name))
	if err != nil {
		return nil, fmt.Errorf("look at table %s: %w", name, err)
	}
	defer rows.Close()
	at := map[int]column{}
	for rows.Next() {
		var column string
		var oid int64
		var place int
		if err := rows.Scan(&column, &oid, &place); err != nil {
			return nil, fmt.Errorf("look at table %s: %w", name, err)
		}
		col := newColumn(column, uint32(oid), place >= 0) //nolint:gosec // oids have 32 bits
		t.columns = append(t.columns, col)
		if place >= 0 {
			at[place] = col
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("look at table %s: %w", name, err)
	}
	for _, place := range slices.Sorted(maps.Keys(at)) {
		t.key = append(t.key, at[place])
	}
	return t, nil
}

// publish makes the publication if there is none, and wants it to have all tables.
func (c Config) publish(ctx context.Context, conn *pgx.Conn, db *database) error {
	name := pgx.Identifier{c.Publication}.Sanitize()
	var there bool
	if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_publication WHERE pubname = $1)`, c.Publication).Scan(&there); err != nil {
		return fmt.Errorf("look for publication %s: %w", c.Publication, err)
	}
	var all []string
	for _, t := range db.tables {
		all = append(all, identifier(t.name))
	}
	if !there {
		sql := "CREATE PUBLICATION " + name + " FOR TABLE " + strings.Join(all, ", ") + " WITH (publish_via_partition_root = true)"
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("create publication %s (it takes the owner of its tables; or let an administrator run: %s): %w", c.Publication, sql, err)
		}
		return nil
	}
	rows, err := conn.Query(ctx, `SELECT schemaname || '.' || tablename FROM pg_publication_tables WHERE pubname = $1`, c.Publication)
	if err != nil {
		return fmt.Errorf("look at publication %s: %w", c.Publication, err)
	}
	has, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("look at publication %s: %w", c.Publication, err)
	}
	var missing []string
	for _, t := range db.tables {
		if !slices.Contains(has, t.name) {
			missing = append(missing, identifier(t.name))
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("publication %s does not have all tables; run: ALTER PUBLICATION %s ADD TABLE %s", c.Publication, name, strings.Join(missing, ", "))
	}
	return nil
}

// lock keeps other processes from reading the slot's snapshot, which the slot itself does not,
// as long as the connection lives.
func (c Config) lock(ctx context.Context, conn *pgx.Conn) error {
	var got bool
	if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock(hashtextextended($1, 0))`, "tidemill slot "+c.Slot).Scan(&got); err != nil {
		return fmt.Errorf("lock slot %s: %w", c.Slot, err)
	}
	if !got {
		return fmt.Errorf("slot %s is in use by another process; it is tried again", c.Slot)
	}
	return nil
}

// slot is what the server says of the replication slot.
type slot struct {
	active    bool
	confirmed pglogrepl.LSN
}

// findSlot returns nil if there is no slot of the name.
func (c Config) findSlot(ctx context.Context, conn *pgx.Conn) (*slot, error) {
	var s slot
	var plugin, database, here, confirmed, status string
	err := conn.QueryRow(ctx, `SELECT coalesce(plugin, ''), coalesce(database, ''), current_database(), active, coalesce(confirmed_flush_lsn, '0/0')::text, coalesce(wal_status, '')
		FROM pg_replication_slots WHERE slot_name = $1`, c.Slot).Scan(&plugin, &database, &here, &s.active, &confirmed, &status)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("look for slot %s: %w", c.Slot, err)
	case plugin != "pgoutput" || database != here:
		return nil, fmt.Errorf("slot %s is another's: it is of database %q with plugin %q; choose another name", c.Slot, database, plugin)
	case status == "lost":
		return nil, fmt.Errorf("slot %s is lost: the connector stayed away for longer than max_slot_wal_keep_size allows, and the server has removed WAL that it needs; changes are missing. %s", c.Slot, anew)
	}
	s.confirmed, err = pglogrepl.ParseLSN(confirmed)
	return &s, err
}

// anew says how to begin again when changes were lost.
const anew = "Use another slot name with `snapshot: true`: all rows come once more, as cdc_op snapshot, and the changes from there on"
