package connectors

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
)

const addContract = eventsContract + "on_new_field: add\n"

// input writes a file of rows and returns a connector that reads it.
func input(t *testing.T, name string, rows ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(strings.Join(rows, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return fileConf(path, "")
}

// told are the fields that a process was told of, as "name type rows" or "name: reason".
func (l *lake) told() []string {
	var out []string
	for _, f := range l.fields {
		if f.Ignored != "" {
			out = append(out, f.Name+": "+f.Ignored)
		} else {
			out = append(out, fmt.Sprint(f.Name, " ", f.Type, " ", f.Rows, " ", f.Example))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func TestAddNewFields(t *testing.T) {
	store := mem.New()
	l := newLake(t, store, addContract)
	l.run(input(t, "a.ndjson",
		`{"id":1,"none":null,"coupon":"SAVE10","n":1}`, `{"id":2,"n":2.5,"meta":{"ip": "::1"}}`, `{"id":3,"name":"x","ok":true,"at":"2026-01-31T08:30:00Z"}`))
	equal(t, "landed", rows(t, store, "events", "id", "name", "coupon", "n", "meta", "ok", "at"), []string{
		`1 (null) SAVE10 1 (null) (null) (null)`, `2 (null) (null) 2.5 {"ip": "::1"} (null) (null)`, `3 x (null) (null) (null) true 2026-01-31 08:30:00Z`,
	})
	equal(t, "told", l.told(), []string{`at timestamp[us, tz=UTC] 1 "2026-01-31T08:30:00Z"`, `coupon utf8 1 "SAVE10"`, `meta utf8 1 {"ip": "::1"}`, `n float64 2 1`, `ok bool 1 true`})
	if l.sum.Extra["n"] != 2 || l.sum.Extra["coupon"] != 1 || len(l.sum.Quarantined) > 0 {
		t.Errorf("%+v", l.sum)
	}

	// Another process begins with the columns that are there. What does not fit goes
	// to quarantine, what cannot be a column is ignored.
	again := newLake(t, store, addContract)
	again.run(input(t, "b.ndjson",
		`{"id":4,"coupon":5,"n":7,"none":null}`, `{"id":5,"n":"seven"}`, `{"id":6,"NAME":"y","user-id":1,"_x":1,"new":1,"NEW":2}`, `{"id":"seven","bad":1}`))
	equal(t, "landed", rows(t, store, "events", "id", "coupon", "n", "NEW")[3:], []string{"4 5 7 (null)", "6 (null) (null) 2"})
	equal(t, "quarantined", rows(t, store, "events_quarantine", "rule", "column", "raw"), []string{
		`wrong_type id {"id":"seven","bad":1}`, `wrong_type n {"id":5,"n":"seven"}`,
	})
	const noName = "its name cannot be a column's: those are letters, digits and _, begin with a letter, and have at most 128 characters"
	equal(t, "told", again.told(), []string{
		"NAME: the table has the column name, and readers cannot tell the two apart",
		"NEW int64 1 2",
		"_x: " + noName,
		"new: the table has the column NEW, and readers cannot tell the two apart",
		"user-id: " + noName,
	})
	table, err := lakehouse.Open(t.Context(), store, "events")
	if err != nil {
		t.Fatal(err)
	}
	if s := table.Snapshot().Schema(); s.HasField("none") || s.HasField("bad") || s.HasField("user-id") {
		t.Errorf("columns %v", s)
	}
}

// TestNewFieldsStayWhenContractsChange reads with contracts that know a column, and
// with one that ignores new fields.
func TestNewFieldsStayWhenContractsChange(t *testing.T) {
	store := mem.New()
	newLake(t, store, addContract).run(input(t, "a.ndjson", `{"id":1,"coupon":"A"}`))
	newLake(t, store, eventsContract).run(input(t, "b.ndjson", `{"id":2,"coupon":"B"}`))
	declared := strings.Replace(addContract, "key:", "  - {name: coupon, type: string}\nkey:", 1)
	newLake(t, store, declared).run(input(t, "c.ndjson", `{"id":3,"coupon":"C"}`, `{"id":4,"coupon":5}`))
	equal(t, "landed", rows(t, store, "events", "id", "coupon"), []string{"1 A", "2 (null)", "3 C"})
	equal(t, "quarantined", rows(t, store, "events_quarantine", "rule", "raw"), []string{`wrong_type {"id":4,"coupon":5}`})
	typed := strings.Replace(addContract, "key:", "  - {name: coupon, type: long}\nkey:", 1)
	if _, err := newLake(t, store, typed).Landing(t.Context(), "events"); err == nil || !strings.Contains(err.Error(), "coupon") {
		t.Errorf("another type: %v", err)
	}
}

func TestNewColumnsAreBounded(t *testing.T) {
	store := mem.New()
	l := newLake(t, store, addContract)
	var lines []string
	for i := range 3 * maxNewColumns {
		lines = append(lines, fmt.Sprintf(`{"id":%d,"f%d":%d}`, i, i, i))
	}
	l.run(input(t, "a.ndjson", lines...))
	table, err := lakehouse.Open(t.Context(), store, "events")
	if err != nil {
		t.Fatal(err)
	}
	if n := len(extraColumns(l.contract, table.Snapshot().Schema())); n != maxNewColumns || l.sum.Landed != int64(len(lines)) {
		t.Errorf("%d columns, %d rows landed", n, l.sum.Landed)
	}
	ignored := 0
	for _, f := range l.fields {
		if strings.Contains(f.Ignored, "100 columns") {
			ignored++
		}
	}
	if ignored < 2*maxNewColumns {
		t.Errorf("%d fields were said to be ignored", ignored)
	}
}

// TestOneTypeWins has a process infer a type for a field that another, which it has
// not heard of yet, has given a column of another type.
func TestOneTypeWins(t *testing.T) {
	store := mem.New()
	late := newLake(t, store, addContract)
	if _, err := late.Landing(t.Context(), "events"); err != nil { // as the table is before
		t.Fatal(err)
	}
	newLake(t, store, addContract).run(input(t, "a.ndjson", `{"id":1,"x":1}`))
	late.run(input(t, "b.ndjson", `{"id":2,"x":"two","y":1}`, `{"id":3,"x":3}`, `{"id":4,"y":2}`))
	equal(t, "landed", rows(t, store, "events", "id", "x", "y"), []string{"1 1 (null)", "3 3 (null)", "4 (null) 2"})
	equal(t, "quarantined", rows(t, store, "events_quarantine", "rule", "column", "raw"), []string{`wrong_type x {"id":2,"x":"two","y":1}`})
	equal(t, "told", late.told(), []string{"y int64 2 1"})
}

// TestProcessesRaceForFields has processes meet the same new fields with values of
// several types at once. Every row must be in one table, with its value if it landed.
func TestProcessesRaceForFields(t *testing.T) {
	store := mem.New()
	const processes, each = 6, 40
	var wg sync.WaitGroup
	for p := range processes {
		l := newLake(t, store, addContract)
		if _, err := l.Landing(t.Context(), "events"); err != nil {
			t.Fatal(err)
		}
		var lines []string
		for i := range each {
			id := p*each + i
			value := []string{fmt.Sprint(id), fmt.Sprintf(`"v%d"`, id), "true"}[(p+i/4)%3]
			lines = append(lines, fmt.Sprintf(`{"id":%d,"f%d":%s}`, id, i/4, value))
		}
		conf := input(t, fmt.Sprint("p", p, ".ndjson"), lines...)
		wg.Go(func() { l.run(conf) })
	}
	wg.Wait()
	checkRace(t, store, processes, each)
}

func checkRace(t *testing.T, store objstore.Store, processes, each int) {
	t.Helper()
	landed := rows(t, store, "events", "id", batch.ColRaw)
	bad := rows(t, store, "events_quarantine", "raw")
	seen := map[string]int{}
	for _, r := range landed {
		seen[r[strings.Index(r, "{"):]]++
	}
	for _, r := range bad {
		seen[r]++
	}
	if len(seen) != processes*each || len(landed)+len(bad) != processes*each {
		t.Errorf("%d rows landed, %d in quarantine, %d different ones, of %d", len(landed), len(bad), len(seen), processes*each)
	}
	for f := range each / 4 {
		name := fmt.Sprint("f", f)
		for _, r := range rows(t, store, "events", "id", name, batch.ColRaw) {
			parts := strings.SplitN(r, " ", 3)
			want := "(null)"
			if _, value, ok := strings.Cut(parts[2], `"`+name+`":`); ok {
				want = strings.Trim(value, `"}`)
			}
			if parts[1] != want {
				t.Errorf("row %s has %s = %s, want %s", parts[0], name, parts[1], want)
			}
		}
	}
	table, err := lakehouse.Open(context.Background(), store, "events")
	if err != nil {
		t.Fatal(err)
	}
	counts := map[arrow.Type]int{}
	for f := range each / 4 {
		typ, _ := table.Snapshot().Schema().FieldsByName(fmt.Sprint("f", f))
		if len(typ) != 1 {
			t.Fatalf("f%d is %v", f, typ)
		}
		counts[typ[0].Type.ID()]++
	}
	t.Logf("types that won: %v; %d rows in quarantine", counts, len(bad))
}
