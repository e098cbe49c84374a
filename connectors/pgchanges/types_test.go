package pgchanges

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/internal/secret"
	"github.com/tidemill/tidemill/internal/testserver"
)

// values are one of each type, and the JSON that it becomes.
var values = []struct{ typ, sql, want string }{
	{"bool", "true", "true"},
	{"int2", "-7", "-7"},
	{"int4", "2147483647", "2147483647"},
	{"int8", "9223372036854775807", "9223372036854775807"},
	{"float4", "0.1", "0.1"},
	{"float8", "1e300", "1e+300"},
	{"float8", "'NaN'", `"NaN"`},
	{"numeric", "123456789012345678901234567890.12345678901234567890", "123456789012345678901234567890.12345678901234567890"},
	{"numeric(10,2)", "5", "5.00"},
	{"numeric", "'NaN'", `"NaN"`},
	{"text", `E'a"\\\nü\x01'`, `"a\"\\\nü\u0001"`},
	{"char(4)", "'ab'", `"ab  "`},
	{"timestamptz", "'2026-01-31 12:00:00.123456+02'", `"2026-01-31T10:00:00.123456Z"`},
	{"timestamp", "'2026-01-31 12:00:00'", `"2026-01-31T12:00:00"`},
	{"date", "'2026-01-31'", `"2026-01-31"`},
	{"time", "'23:59:59'", `"23:59:59"`},
	{"interval", "'1 day'", `"1 day"`},
	{"uuid", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", `"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"`},
	{"bytea", `'\x00ff10'`, `"AP8Q"`},
	{"json", "E'{\"b\":1,\\n\"a\":[null]}'", `{"b":1, "a":[null]}`},
	{"jsonb", `'{"b":1,"a":"x"}'`, `{"a": "x", "b": 1}`},
	{"int4[]", "'{{1,2},{3,NULL}}'", "[[1,2],[3,null]]"},
	{"text[]", `ARRAY['a,b', NULL, 'NULL', '"']`, `["a,b",null,"NULL","\""]`},
	{"jsonb[]", `ARRAY['{"a":1}'::jsonb]`, `[{"a": 1}]`},
	{"timestamptz[]", "ARRAY['2026-01-31 12:00:00+00'::timestamptz]", `["2026-01-31T12:00:00Z"]`},
	{"mood", "'happy'", `"happy"`},
	{"mood[]", "ARRAY['happy'::mood]", `["happy"]`},
	{"cents", "12", "12"},
	{"cents[]", "ARRAY[1,2]::cents[]", "[1,2]"},
	{"inet", "'10.0.0.1'", `"10.0.0.1"`},
	{"int4", "NULL", "null"},
}

// one reads until some rows have come, and acks them.
func some(t *testing.T, s *Source, n int) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out []string
	for len(out) < n {
		b, err := s.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range b.Rows {
			if !json.Valid(r.Data) {
				t.Fatalf("no JSON: %s", r.Data)
			}
			out = append(out, string(r.Data))
		}
		b.Ack()
	}
	return out
}

// testTypes: a value becomes the same JSON in a page of the snapshot and in a change,
// and keeps every digit.
func testTypes(t *testing.T, p *testserver.Postgres) {
	cols, vals, want := []string{"id int PRIMARY KEY"}, []string{}, []string{}
	for i, v := range values {
		cols = append(cols, fmt.Sprintf("c%d %s", i, v.typ))
		vals = append(vals, v.sql)
		want = append(want, fmt.Sprintf(`"c%d":%s`, i, v.want))
	}
	insert := func(id int) string {
		return fmt.Sprintf("INSERT INTO types VALUES (%d, %s)", id, strings.Join(vals, ", "))
	}
	p.Exec(t, "CREATE TYPE mood AS ENUM ('happy', 'sad')", "CREATE DOMAIN cents AS int8", "CREATE TABLE types ("+strings.Join(cols, ", ")+")", insert(1))
	c := config(p, newLake())
	c.Slot, c.Tables, c.Lines = "types", []string{"public.types"}, false
	s := open(t, c)
	defer s.Close()
	first := some(t, s, 1)[0]
	p.Exec(t, insert(2))
	change := some(t, s, 1)[0]
	for what, line := range map[string]string{"snapshot": first, "change": change} {
		_, line, _ := strings.Cut(line, ",")
		if rest, ok := strings.CutPrefix(line, strings.Join(want, ",")); !ok || !strings.HasPrefix(rest, `,"cdc_op":`) {
			t.Errorf("%s:\n%s\nwant\n%s", what, line, strings.Join(want, ","))
		}
	}
}

// testOldAndUnchanged: what updates and deletes say of the row before, with either identity, and of large
// values that did not change.
func testOldAndUnchanged(t *testing.T, p *testserver.Postgres) {
	large := "(SELECT string_agg(md5(i::text), '') FROM generate_series(1, 400) i)"
	p.Exec(t, "CREATE TABLE docs (id int PRIMARY KEY, title text, body text)", "CREATE TABLE whole (id int PRIMARY KEY, title text, body text)", "ALTER TABLE whole REPLICA IDENTITY FULL")
	c := config(p, newLake())
	c.Slot, c.Tables, c.Snapshot, c.Include = "docs", []string{"docs", "whole"}, false, []Op{OpInsert, OpUpdate, OpDelete, OpTruncate}
	s := open(t, c)
	defer s.Close()
	type row struct {
		ID        *int   `json:"id"`
		Title     string `json:"title"`
		Body      *string
		Op        Op       `json:"cdc_op"`
		Table     string   `json:"cdc_table"`
		Unchanged []string `json:"cdc_unchanged"`
		Old       *struct {
			ID    *int
			Title *string
			Body  *string
		} `json:"cdc_old"`
	}
	for _, table := range []string{"docs", "whole"} {
		p.Exec(t, "INSERT INTO "+table+" VALUES (1, 'a', "+large+")", "UPDATE "+table+" SET title = 'b'", "UPDATE "+table+" SET id = 2", "DELETE FROM "+table, "TRUNCATE "+table)
		got := make([]row, 5)
		for i, line := range some(t, s, 5) {
			if err := json.Unmarshal([]byte(line), &got[i]); err != nil {
				t.Fatal(err)
			}
			if got[i].Table != "public."+table {
				t.Errorf("%s", line)
			}
		}
		full := table == "whole"
		if ops := []Op{got[0].Op, got[1].Op, got[2].Op, got[3].Op, got[4].Op}; !reflect.DeepEqual(ops, []Op{OpInsert, OpUpdate, OpUpdate, OpDelete, OpTruncate}) {
			t.Fatalf("%s: %v", table, ops)
		}
		if u := got[1]; full != (u.Body != nil) || full != (len(u.Unchanged) == 0) || full != (u.Old != nil) || full && *u.Old.Title != "a" {
			t.Errorf("%s: update %+v", table, u)
		}
		if u := got[2]; u.Old == nil || *u.Old.ID != 1 || *u.ID != 2 || full != (u.Old.Title != nil) {
			t.Errorf("%s: update of the key %+v", table, u)
		}
		if d := got[3]; *d.ID != 2 || full != (d.Title == "b") || full != (d.Body != nil) || d.Old != nil {
			t.Errorf("%s: delete %+v", table, d)
		}
		if got[4].ID != nil {
			t.Errorf("%s: truncate %+v", table, got[4])
		}
	}
}

// testInTheWay: what is wrong with a database is said all at once, with what to do.
func testInTheWay(t *testing.T, p *testserver.Postgres) {
	p.Exec(t, "CREATE TABLE nokey (a int)", "CREATE TABLE good (id int PRIMARY KEY)")
	c := config(p, newLake())
	c.Slot, c.Tables = "s", []string{"nokey", "absent", "good"}
	_, err := Open(t.Context(), c)
	for _, want := range []string{"no table public.absent", "nokey has no primary key", "ALTER TABLE \"public\".\"nokey\" REPLICA IDENTITY FULL"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	c.Tables = []string{"good"}
	s := open(t, c)
	if _, err := Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second reader: %v", err)
	}
	s.Close()
	c.Tables = []string{"good", "later"}
	p.Exec(t, "CREATE TABLE later (id int PRIMARY KEY)")
	if _, err := Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), `ALTER PUBLICATION "s" ADD TABLE "public"."later"`) {
		t.Errorf("a table that is not published: %v", err)
	}
	c.DSN = secret.New("postgres://u:hunter2@127.0.0.1:1/db?sslmode=disable")
	if _, err := Open(t.Context(), c); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("no server: %v", err)
	}
	c.DSN = secret.New("postgres://u:hunter2@[/db")
	if _, err := Open(t.Context(), c); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("no DSN: %v", err)
	}
}

// testSlotIsGone: a slot that was dropped under a table that has its changes is not made
// anew in silence, and neither is a server taken that has written less than the table has.
func testSlotIsGone(t *testing.T, p *testserver.Postgres) {
	anewTable(t, p)
	l := newLake()
	c := config(p, l)
	drain(t, p, c, l)
	anewTable(t, p)
	if _, err := Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), "slot orders is gone") {
		t.Errorf("dropped: %v", err)
	}
	for part, in := range l.in {
		in[len(in)-1].Last += 1 << 40
		l.in[part] = in
	}
	if _, err := Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), "only up to") {
		t.Errorf("behind: %v", err)
	}
}

// testLargeTransaction has more changes than there are offsets before the next commit's: the
// rest counts in a partition of its own. Memory is that of a batch.
func testLargeTransaction(t *testing.T, p *testserver.Postgres) {
	anewTable(t, p)
	l := newLake()
	c := config(p, l)
	c.BatchRows, c.room = 500, 10_000
	s := open(t, c)
	const n = 20_000
	p.Exec(t, fmt.Sprintf("INSERT INTO orders SELECT i, i FROM generate_series(1, %d) i", n))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for got, batches := 0, 0; got < n; batches++ {
		b, err := s.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if len(b.Rows) > 500 {
			t.Errorf("a batch has %d rows", len(b.Rows))
		}
		got += len(b.Rows)
		l.commit(b)
		if batches == 30 { // it dies in the middle, and sees all of it again
			s.Close()
			s, got = open(t, c), 0
			continue
		}
		b.Ack()
	}
	s.Close()
	drain(t, p, c, l)
	seen := map[int64]bool{}
	for _, e := range l.events(t) {
		if seen[e.ID] {
			t.Fatalf("row %d is there twice", e.ID)
		}
		seen[e.ID] = true
	}
	if len(seen) != n+1 || len(l.in) != 2 {
		t.Errorf("%d rows of %d, in %d partitions", len(seen), n+1, len(l.in))
	}
}
