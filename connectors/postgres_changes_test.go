package connectors

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/internal/testserver"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
)

const ordersContract = `table: events
columns:
  - {name: id, type: long, required: true}
  - {name: amount, type: "decimal(20,4)"}
  - {name: cdc_op, type: string, required: true}
  - {name: cdc_table, type: string}
  - {name: cdc_lsn, type: long}
  - {name: cdc_index, type: long}
  - {name: cdc_time, type: timestamp}
key: [id]
`

// TestPostgresChanges runs the input against a real server, in process after process, with and
// without processors. Each dies in the midst of things: its commits fail from some moment on.
// What is in the tables is what was in the database, and what changed.
func TestPostgresChanges(t *testing.T) {
	p := testserver.StartPostgres(t)
	for name, mapping := range map[string]string{
		"blocks":     "",
		"processors": "pipeline: {threads: 1, processors: [{mapping: 'root = this'}]}\n",
	} {
		t.Run(name, func(t *testing.T) {
			p.Exec(t, "CREATE TABLE "+name+" (id int8 PRIMARY KEY, amount numeric, bad text)")
			p.Exec(t, "INSERT INTO "+name+" SELECT i, i * 1.25 FROM generate_series(1, 300) i")
			p.Exec(t, "UPDATE "+name+" SET amount = 'NaN' WHERE id % 50 = 1") // no decimal takes it
			conf := fmt.Sprintf("input:\n  postgres_changes: {dsn: %q, slot: s_%s, tables: [%s], page_rows: 40, batch_rows: 30}\n%soutput:\n  lakehouse: {table: events, batching: {count: 25, period: 10ms}}\n", p.DSN, name, name, mapping)
			store := mem.New()
			var want []string
			for i := 1; i <= 300; i++ {
				if i%50 != 1 {
					want = append(want, fmt.Sprintf("snapshot %d", i))
				}
			}
			for run := range 6 {
				l := newLake(t, store, ordersContract)
				stop := l.start(t, conf)
				if run > 0 {
					for i := range 30 {
						id := run*1000 + i
						p.Exec(t, fmt.Sprintf("INSERT INTO %s VALUES (%d, 1)", name, id), fmt.Sprintf("UPDATE %s SET amount = 2 WHERE id = %d", name, id), fmt.Sprintf("DELETE FROM %s WHERE id = %d", name, id))
						want = append(want, fmt.Sprintf("insert %d", id), fmt.Sprintf("update %d", id), fmt.Sprintf("delete %d", id))
					}
				}
				if run == 5 {
					waitRows(t, store, "events", len(want))
					waitRows(t, store, "events_quarantine", 6)
				} else {
					waitRows(t, store, "events", min(len(want), (run+1)*60))
				}
				stop()
			}
			got := rows(t, store, "events", "cdc_op", "id")
			seen := map[string]int{}
			for _, r := range got {
				seen[r]++
			}
			for _, r := range want {
				if n := seen[r]; n != 1 {
					t.Errorf("%s is there %d times", r, n)
				}
				delete(seen, r)
			}
			for r := range seen {
				t.Errorf("%s is there", r)
			}
			if bad := rows(t, store, "events_quarantine", "raw"); len(bad) != 6 {
				t.Errorf("%d rows are in quarantine: %v", len(bad), bad)
			}
		})
	}
}

// start runs a connector until stop is called, which gives it no time to end.
func (l *lake) start(t *testing.T, conf string) (stop func()) {
	t.Helper()
	e, c := linted(t, Options{Tables: l}, conf)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx, c, time.Millisecond) }()
	return func() {
		cancel()
		<-done // of a stop without time it is an error, or not
	}
}

func waitRows(t *testing.T, store objstore.Store, table string, n int) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if have, ok := rowsOf(t, store, table); ok && have >= n {
			return
		}
		select {
		case <-deadline.C:
			have, _ := rowsOf(t, store, table)
			t.Fatalf("%s has %d rows, want %d", table, have, n)
		case <-tick.C:
		}
	}
}

func TestPostgresChangesLint(t *testing.T) {
	e, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseConfig("connectors/in.yaml", []byte(`input:
  postgres_changes:
    dsn: postgres://localhost/db
    slot: Not-A-Slot
    tables: [orders, a.b.c]
    include:
      - insert
      - upsert
output:
  lakehouse: {table: events}
`))
	if err != nil {
		t.Fatal(err)
	}
	text := e.Lint(c, []string{"events"}).Error()
	for _, want := range []string{
		`connectors/in.yaml:4: input.postgres_changes.slot: "Not-A-Slot" is no name for a slot`,
		`connectors/in.yaml:5: input.postgres_changes.tables: "a.b.c" is no name of a table`,
		`connectors/in.yaml:8: input.postgres_changes.include: "upsert" is no change`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s\ndoes not say\n%s", text, want)
		}
	}
	c, err = ParseConfig("connectors/in.yaml", []byte("input:\n  postgres_changes: {dsn: x}\noutput: {lakehouse: {table: events}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	text = e.Lint(c, []string{"events"}).Error()
	for _, want := range []string{"slot: missing", "tables: missing"} {
		if !strings.Contains(text, want) {
			t.Errorf("%s\ndoes not say %s", text, want)
		}
	}
}
