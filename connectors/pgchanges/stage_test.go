package pgchanges

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
)

// TestStage: whoever puts a page second gets the first one's, unless that is done with or of
// another snapshot; and what is no page says so, with its name.
func TestStage(t *testing.T) {
	ctx := t.Context()
	store := mem.New()
	began := time.Now()
	of := func(first int64, lines ...string) *page {
		p := &page{first: first, rows: len(lines), mark: mark{Snapshot: "7:9:8", LSN: 0x1A, Time: began, Table: "public.t", Key: []string{"k"}, Rows: first + int64(len(lines))}}
		for _, l := range lines {
			p.lines = append(p.lines, []byte(l))
		}
		if err := p.pack(); err != nil {
			t.Fatal(err)
		}
		return p
	}
	text := func(p *page, err error) string {
		if err != nil {
			return err.Error()
		}
		if p == nil {
			return "none"
		}
		return fmt.Sprintf("%d: %s, done %v, acked %v, %d rows before", p.first, p.lines, p.mark.Done, p.acked, p.mark.Rows-int64(p.rows))
	}
	want := func(what, got, want string) {
		t.Helper()
		if !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	s := &stage{store: store, log: slog.New(slog.DiscardHandler)}
	want("empty", text(s.newest(ctx)), "none")
	one, err := s.put(ctx, of(20, "a", "b"))
	want("put", text(one, err), "20: [a b], done false, acked false, 20 rows before")
	want("another's", text((&stage{store: store}).put(ctx, of(20, "b"))), "20: [a b]")
	other := of(20, "c")
	other.mark.Time = began.Add(1)
	want("another snapshot's", text(s.put(ctx, other)), "000000000000001A/00000000000000000020.page is another process's")

	s.kept = one
	two, err := s.put(ctx, of(22, "c"))
	want("the next", text(two, err), "22: [c]")
	want("the one before", text(s.load(ctx, one.key())), "not exist")
	two.mark.Done = true
	if err := s.end(ctx, two); err != nil {
		t.Fatal(err)
	}
	want("the end", text(s.newest(ctx)), "22: [], done true, acked true, 22 rows before")
	want("behind the end", text(s.put(ctx, of(22, "d"))), "which has gone on")

	for what, data := range map[string]string{"no page": "x", "cut off": string(must(of(30, "a", "b").encode())[:150]), "another's name": string(must(of(31, "a").encode()))} {
		key := of(30).key()
		if err := store.Put(ctx, key, []byte(data)); err != nil {
			t.Fatal(err)
		}
		want(what, text(s.newest(ctx)), "page "+key+": ")
	}
	short := of(30, "a")
	short.rows = 2
	if err := store.Put(ctx, short.key(), must(short.encode())); err != nil {
		t.Fatal(err)
	}
	want("short", text(s.newest(ctx)), "it has 1 rows of 2")
	if err := s.clear(ctx); err != nil {
		t.Fatal(err)
	}
	want("cleared", text(s.newest(ctx)), "none")
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}
