package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemill/tidemill/connectors"
	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
)

// puttingFails is a store that cannot be written to for a while.
type puttingFails struct {
	objstore.Store
	fails bool
	puts  int
}

func (s *puttingFails) Put(ctx context.Context, key string, data []byte) error {
	s.puts++
	if s.fails {
		return errors.New("no")
	}
	return s.Store.Put(ctx, key, data)
}

func recorded(t *testing.T, s objstore.Store) []string {
	t.Helper()
	fields, err := readFields(t.Context(), s, "t")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range fields {
		out = append(out, fmt.Sprint(f.Name, " ", f.Type, " ", f.Rows, " ", f.Example, " ", f.Source, " ", f.FirstSeen.Format("15:04"), " ", f.LastSeen.Format("15:04"), " ", f.Ignored))
	}
	return out
}

func same(t *testing.T, what string, got, want []string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s:\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestFieldBook has two processes record fields of one table, through failures.
func TestFieldBook(t *testing.T) {
	store := &puttingFails{Store: mem.New()}
	now := time.Date(2026, 5, 1, 10, 0, 0, 0, time.UTC)
	counts := map[string]int{}
	open := func() *fieldBook {
		b := newFieldBook(store, "t", slog.New(slog.DiscardHandler), func(outcome string) { counts[outcome]++ })
		b.now = func() time.Time { return now }
		return b
	}
	long, str := arrow.PrimitiveTypes.Int64, arrow.BinaryTypes.String
	one, two := open(), open()
	one.met(t.Context(), []connectors.Field{{Name: "n", Type: long, Rows: 3, Example: "1", Source: "a"}, {Name: "user-id", Type: str, Rows: 2, Example: `"x"`, Source: "a", Ignored: "why"}})
	same(t, "at once", recorded(t, store), []string{`n long 0 1 a 10:00 10:00 `, `user-id string 2 "x" a 10:00 10:00 why`})

	now = now.Add(time.Second)
	puts := store.puts
	one.landed(map[string]int64{"n": 3})
	one.met(t.Context(), []connectors.Field{{Name: "user-id", Type: str, Rows: 5, Ignored: "why"}})
	one.landed(nil)
	one.wg.Wait()
	if store.puts != puts {
		t.Error("counts are written at once")
	}
	now = now.Add(time.Minute)
	store.fails = true
	one.landed(map[string]int64{"n": 4})
	one.wg.Wait()
	two.met(t.Context(), []connectors.Field{{Name: "late", Type: str, Rows: 1, Example: `{}`, Source: "b"}})
	two.landed(map[string]int64{"n": 10, "late": 1})
	store.fails = false
	now = now.Add(time.Minute)
	two.close(t.Context())
	one.landed(map[string]int64{"n": 1})
	one.close(t.Context())
	same(t, "after failures", recorded(t, store), []string{
		`n long 18 1 a 10:00 10:02 `, `user-id string 7 "x" a 10:00 10:00 why`, `late string 1 {} b 10:01 10:01 `,
	})

	three := open()
	for i := range 3 * maxIgnored {
		three.met(t.Context(), []connectors.Field{{Name: fmt.Sprint("-", i), Type: str, Ignored: "no name"}})
	}
	three.met(t.Context(), []connectors.Field{{Name: "user-id", Type: long, Rows: 1, Example: "7", Source: "c"}}) // it can be a column after all
	three.close(t.Context())
	got := recorded(t, store)
	if len(got) != 3+maxIgnored || got[1] != `user-id long 7 7 c 10:00 10:02 ` || counts["ignored"] != 1+maxIgnored || counts["added"] != 3 {
		t.Errorf("%d fields, %s; %v", len(got), got[1], counts)
	}
	if err := store.Store.Put(t.Context(), fieldsPrefix+"/t.json", []byte("{")); err != nil {
		t.Fatal(err)
	}
	if _, err := readFields(t.Context(), store, "t"); err == nil || !strings.Contains(err.Error(), "_tidemill/fields/t.json") {
		t.Errorf("a damaged record: %v", err)
	}
}

// TestFieldsAsYAML pastes what ContractFields prints into the contract.
func TestFieldsAsYAML(t *testing.T) {
	store := mem.New()
	const source = "table: t\ncolumns:\n  - {name: id, type: long, required: true}\n%son_new_field: add\n"
	c, err := contract.Parse("tables/t.yaml", []byte(fmt.Sprintf(source, "")))
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	client := &Client{store: store, log: log, tables: &tables{store: store, contracts: map[string]*contract.Table{"t": c}, open: map[string]*lakehouse.Table{}, log: log}}
	if _, err := client.ContractFields(t.Context(), "u"); err == nil || !strings.Contains(err.Error(), "there are: t") {
		t.Errorf("no such contract: %v", err)
	}
	none, err := client.ContractFields(t.Context(), "t")
	if err != nil || none.YAML() != "# no field was met that tables/t.yaml does not know\n" {
		t.Errorf("%q, %v", none.YAML(), err)
	}

	table, err := client.tables.Create(t.Context(), "t", lakehouse.CreateOptions{Schema: connectors.LandedSchema(c)})
	if err != nil {
		t.Fatal(err)
	}
	types := []arrow.DataType{arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64, arrow.FixedWidthTypes.Timestamp_us, &arrow.Decimal128Type{Precision: 9, Scale: 2},
		arrow.StructOf(arrow.Field{Name: "a", Type: arrow.PrimitiveTypes.Float64, Nullable: true})}
	var fields []arrow.Field
	for i, name := range []string{"null", "NO", "y", "coupon", "Off", "true", "meta", "E1", "date"} {
		fields = append(fields, arrow.Field{Name: name, Type: types[i%len(types)]})
	}
	if err := table.Extend(t.Context(), func(*arrow.Schema) []arrow.Field { return fields }); err != nil {
		t.Fatal(err)
	}
	book := newFieldBook(store, "t", log, func(string) {})
	book.met(t.Context(), []connectors.Field{
		{Name: "meta", Type: arrow.PrimitiveTypes.Int64, Rows: 1, Example: "{\"a\":\n [1, \"#: \"]}", Source: "in/f"}, // another type has won
		{Name: "id", Type: arrow.BinaryTypes.String},                                                                  // the contract's by now
		{Name: "user-id\n", Type: arrow.BinaryTypes.String, Ignored: "its name cannot be a column's"},
	})
	book.landed(map[string]int64{"meta": 12})
	book.close(t.Context())
	got, err := client.ContractFields(t.Context(), "t")
	if err != nil {
		t.Fatal(err)
	}
	yaml := got.YAML()
	for _, want := range []string{"# for columns: of tables/t.yaml\n", `  - {name: coupon, type: "decimal(9,2)"}` + "\n", `  - {name: meta, type: long}  # 12 rows since `, `such as {"a": [1, "#: "]}`, "#   user-id: its name cannot be a column's\n"} {
		if !strings.Contains(yaml, want) {
			t.Errorf("%q is not in\n%s", want, yaml)
		}
	}
	pasted, err := contract.Parse("tables/t.yaml", []byte(fmt.Sprintf(source, yaml)))
	if err != nil {
		t.Fatalf("%v\nin\n%s", err, yaml)
	}
	if err := table.Evolve(t.Context(), connectors.LandedSchema(pasted), nil); err != nil || len(pasted.Columns()) != 1+len(fields) {
		t.Errorf("%d columns pasted, %v", len(pasted.Columns()), err)
	}
}
