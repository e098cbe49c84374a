package sources

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/jackc/pgx/v5"

	"github.com/tidemill/tidemill/internal/testserver"
	"github.com/tidemill/tidemill/lakehouse"
)

const changesTable = "changes"

const changesYAML = `table: changes
columns:
  - {name: id, type: long, required: true}
  - {name: rev, type: long}
  - {name: cdc_op, type: string, required: true}
  - {name: cdc_lsn, type: long, required: true}
  - {name: cdc_index, type: long, required: true}
key: [id]
`

// shop is a table that somebody changes all the time, and what has been changed.
type shop struct {
	conn *pgx.Conn
	r    *rand.Rand
	rev  int64
	live []int64

	mu   sync.Mutex
	done map[string]bool // "op id rev" of what was committed since done was made
}

// step changes some rows in one transaction; the server may be gone by then.
func (s *shop) step(dsn string) error {
	ctx := context.Background()
	if s.conn == nil || s.conn.IsClosed() {
		c, err := pgx.Connect(ctx, dsn)
		if err != nil {
			return err
		}
		s.conn = c
	}
	live := slices.Clone(s.live)
	var sql, did []string
	for range 1 + s.r.IntN(4) {
		s.rev++
		switch k := s.r.IntN(4); {
		case k < 2 || len(live) < 10:
			sql = append(sql, fmt.Sprintf("INSERT INTO orders VALUES (%d, %d)", s.rev, s.rev))
			did = append(did, fmt.Sprintf("insert %d %d", s.rev, s.rev))
			live = append(live, s.rev)
		case k == 2:
			id := live[s.r.IntN(len(live))]
			sql = append(sql, fmt.Sprintf("UPDATE orders SET rev = %d WHERE id = %d", s.rev, id))
			did = append(did, fmt.Sprintf("update %d %d", id, s.rev))
		default:
			i := s.r.IntN(len(live))
			sql = append(sql, fmt.Sprintf("DELETE FROM orders WHERE id = %d", live[i]))
			did = append(did, fmt.Sprintf("delete %d 0", live[i]))
			live = slices.Delete(live, i, i+1)
		}
	}
	if _, err := s.conn.PgConn().Exec(ctx, "BEGIN;"+strings.Join(sql, ";")+";COMMIT").ReadAll(); err != nil {
		return err
	}
	s.live = live
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range did {
		if s.done != nil {
			s.done[d] = true
		}
	}
	return nil
}

// change is a row as it landed.
type change struct {
	op         string
	id, rev    int64
	lsn, index int64
}

func (w *world) changes(ctx context.Context) ([]change, error) {
	t, err := lakehouse.Open(ctx, w.store, changesTable)
	if err != nil {
		return nil, err
	}
	var out []change
	for f := range t.Snapshot().Files() {
		rec, err := t.ReadFile(ctx, f)
		if err != nil {
			return nil, err
		}
		number := func(name string, i int) int64 {
			if c := column[*array.Int64](rec, name); c.IsValid(i) {
				return c.Value(i)
			}
			return 0
		}
		for i := range int(rec.NumRows()) {
			out = append(out, change{op: column[*array.String](rec, "cdc_op").Value(i), id: number("id", i), rev: number("rev", i), lsn: number("cdc_lsn", i), index: number("cdc_index", i)})
		}
		rec.Release()
	}
	slices.SortFunc(out, func(a, b change) int {
		if a.lsn != b.lsn {
			return int(a.lsn - b.lsn)
		}
		return int(a.index - b.index)
	})
	return out, nil
}

// TestPostgresChanges kills the product at every step of a row's way, in the snapshot and behind
// it, while the table changes, and the server too. Processors have pages land in pieces. The rows,
// replayed by key, are the table; and each change is there once.
func TestPostgresChanges(t *testing.T) {
	w := newWorld(t, changesTable)
	pg := testserver.StartPostgres(t)
	pg.Exec(t, "CREATE TABLE orders (id int8 PRIMARY KEY, rev int8)", "INSERT INTO orders SELECT i, i FROM generate_series(1, 400) i")
	dir := w.project(t, changesTable, w.addr.S3, map[string]string{changesTable: fmt.Sprintf("input:\n  postgres_changes: {dsn: %q, slot: tidemill, tables: [orders], page_rows: 60, batch_rows: 20}\npipeline: {processors: [{mapping: root = this}]}\noutput:\n  lakehouse:\n    table: changes\n    batching: {period: 30ms, count: 50}\n", pg.DSN)})
	start := func(fault string) *member {
		return w.member(t, dir, testserver.FreePort(t), nil, "TIDEMILL_FAULT="+fault)
	}
	s := &shop{r: newRand(t), rev: 1000}
	for id := range int64(400) {
		s.live = append(s.live, id+1)
	}
	ctx, stop := context.WithCancel(t.Context())
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				_ = s.step(pg.DSN)
			}
		}
	}()
	defer func() { stop(); <-stopped }()
	for i := range 2 {
		for _, point := range points {
			start(fmt.Sprintf("%s:%d", point, 1+i*3)).dies(t)
			if have, err := w.changes(t.Context()); err == nil && len(have) > 0 {
				s.mu.Lock()
				if s.done == nil { // from now on the slot stays
					s.done = map[string]bool{}
				}
				s.mu.Unlock()
			}
		}
	}
	m := start("")
	m.runs(t, 1, time.Time{})
	stop()
	<-stopped
	pg.Kill()
	pg.Restart(t)
	eventually(t, "a change after the server came back", func(context.Context) error { return s.step(pg.DSN) })
	var have []change
	eventually(t, "all changes", func(ctx context.Context) (err error) {
		m.alive(t)
		if have, err = w.changes(ctx); err != nil {
			return err
		}
		seen := counts(have)
		for d := range s.done {
			if seen[d] == 0 {
				return errors.New("there is no " + d + "\n" + last(m.Output()))
			}
		}
		return nil
	})
	for c, n := range counts(have) {
		if n > 1 {
			t.Errorf("%s is there %d times", c, n)
		}
	}
	replayed := map[int64]int64{}
	for _, c := range have {
		if c.op == "delete" {
			delete(replayed, c.id)
		} else {
			replayed[c.id] = c.rev
		}
	}
	conn := pg.Connect(t)
	rows, err := conn.Query(t.Context(), "SELECT id, rev FROM orders")
	if err != nil {
		t.Fatal(err)
	}
	source := map[int64]int64{}
	var id, rev int64
	if _, err := pgx.ForEachRow(rows, []any{&id, &rev}, func() error { source[id] = rev; return nil }); err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(replayed, source) {
		for id, rev := range source {
			if replayed[id] != rev {
				t.Errorf("row %d is %d in the lake and %d in the table", id, replayed[id], rev)
			}
			delete(replayed, id)
		}
		t.Errorf("rows that the table does not have: %v", replayed)
	}
	t.Logf("%d rows landed, %d changes were watched, %d rows are in the table", len(have), len(s.done), len(source))
}

func counts(have []change) map[string]int {
	out := map[string]int{}
	for _, c := range have {
		out[fmt.Sprintf("%s %d %d", c.op, c.id, c.rev)]++
	}
	return out
}
