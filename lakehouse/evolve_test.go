package lakehouse

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/internal/testserver"
	"github.com/tidemill/tidemill/lakehouse/delta"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
	"github.com/tidemill/tidemill/lakehouse/objstore/s3"
)

func text(name string) arrow.Field {
	return arrow.Field{Name: name, Type: arrow.BinaryTypes.String, Nullable: true}
}

func TestSchemaErrorNamesEveryProblem(t *testing.T) {
	fields := append(landed().Fields(), text("note"))
	tbl := mustCreate(t, mem.New(), CreateOptions{Schema: newSchema(fields), PartitionBy: []string{"country"}})
	want := []arrow.Field{
		{Name: "country", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "Note", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: batch.ColSource, Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "more", Type: arrow.BinaryTypes.String},
		text("fine"),
	}
	err := tbl.Evolve(t.Context(), newSchema(want), []string{"country", "day"})
	se, ok := errors.AsType[*SchemaError](err)
	if !ok {
		t.Fatalf("got %v", err)
	}
	var got []string
	for _, p := range se.Problems {
		got = append(got, fmt.Sprint(p.Change, " ", p.Have.Name, " ", p.Want.Name))
	}
	expect := []string{
		fmt.Sprint(Retyped, " country country"), fmt.Sprint(Renamed, " note Note"), fmt.Sprint(MadeNullable, " _source _source"),
		fmt.Sprint(AddedRequired, "  more"), fmt.Sprint(Dropped, " id "), fmt.Sprint(Dropped, " _offset "), fmt.Sprint(Repartitioned, "  "),
	}
	if !slices.Equal(got, expect) || se.Table != "tables/t" || len(strings.Split(se.Error(), "\n")) != len(expect) {
		t.Errorf("got %q in %v", got, se)
	}
	required := slices.Clone(fields)
	required[4].Nullable = false
	err = tbl.Evolve(t.Context(), newSchema(required), []string{"country"})
	if se, ok := errors.AsType[*SchemaError](err); !ok || len(se.Problems) != 1 || se.Problems[0].Change != MadeRequired {
		t.Errorf("nullable to required: %v", err)
	}
	if v := tbl.Snapshot().Version(); v != 0 {
		t.Errorf("a refused schema left version %d", v)
	}
}

// TestExtendSeesTheWinner lets two tables add a column of one name and other types:
// the one that comes second is asked again and sees what there is.
func TestExtendSeesTheWinner(t *testing.T) {
	store := mem.New()
	first := mustCreate(t, store, CreateOptions{})
	second := mustOpen(t, store)
	pick := func(typ arrow.DataType, asked *int) func(*arrow.Schema) []arrow.Field {
		return func(have *arrow.Schema) []arrow.Field {
			*asked++
			if have.HasField("x") {
				return nil
			}
			return []arrow.Field{{Name: "x", Type: typ}}
		}
	}
	var one, two int
	if err := first.Extend(t.Context(), pick(arrow.PrimitiveTypes.Int64, &one)); err != nil {
		t.Fatal(err)
	}
	if err := second.Extend(t.Context(), pick(arrow.BinaryTypes.String, &two)); err != nil {
		t.Fatal(err)
	}
	f, _ := second.Snapshot().Schema().FieldsByName("x")
	if one != 1 || two != 2 || len(f) != 1 || f[0].Type.ID() != arrow.INT64 || !f[0].Nullable || second.Snapshot().Version() != 1 {
		t.Errorf("asked %d and %d times; %v at version %d", one, two, f, second.Snapshot().Version())
	}
}

func TestEvolveUnderAppends(t *testing.T) {
	t.Run("mem", func(t *testing.T) { evolveUnderAppends(t, mem.New(), 8, 12) })
	t.Run("minio", func(t *testing.T) {
		if testing.Short() {
			t.Skip("starts a server")
		}
		m := testserver.StartMinIO(t)
		s, err := s3.New(t.Context(), s3.Config{Endpoint: m.Addr, Bucket: "lake", AccessKey: m.AccessKey, SecretKey: m.SecretKey, CreateBucket: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		evolveUnderAppends(t, s, 4, 8)
	})
}

// evolveUnderAppends races processes that append and, in between, add columns: each its
// own and one that all add. A row appended after its process has added a column has a
// value there; all others have null. One process is a pipeline: it stores files, then
// commits them under a transaction.
func evolveUnderAppends(t *testing.T, store objstore.Store, processes, steps int) {
	mustCreate(t, store, CreateOptions{})
	var wg sync.WaitGroup
	want := make([]map[string]string, processes) // id -> values of the columns, as "column=value …"
	for p := range processes {
		want[p] = map[string]string{}
		tbl := mustOpen(t, store)
		wg.Go(func() {
			if err := evolvingProcess(t, tbl, p, steps, want[p]); err != nil {
				t.Errorf("process %d: %v", p, err)
			}
		})
	}
	wg.Wait()
	all := map[string]string{}
	for _, w := range want {
		maps.Copy(all, w)
	}
	final := mustOpen(t, store)
	if n := final.Snapshot().Schema().NumFields(); n != landed().NumFields()+processes+1 {
		t.Errorf("%d columns: %s", n, names(final.Snapshot().Schema()))
	}
	got := valuesByID(t, final)
	for _, id := range slices.Sorted(maps.Keys(all)) {
		if len(got[id]) != 1 || got[id][0] != all[id] {
			t.Errorf("row %s is %q in the table, want once %q", id, got[id], all[id])
		}
		delete(got, id)
	}
	if len(got) > 0 {
		t.Errorf("%d rows in the table that nobody appended", len(got))
	}
}

// evolvingProcess appends rows and adds a column in the middle of them.
func evolvingProcess(t *testing.T, tbl *Table, p, steps int, want map[string]string) error {
	app := NewAppender(tbl, AppenderOptions{})
	own := fmt.Sprint("own", p)
	var columns []string
	for step := range steps {
		if step == steps/2 {
			columns = []string{own, "shared"}
			if err := tbl.AddColumns(t.Context(), newSchema(append(landed().Fields(), text(own), text("shared")))); err != nil {
				return err
			}
		}
		run := perRow(fmt.Sprint("p", p), int64(step*3), int64(step*3+2))
		rec, ids := rowsWith(run, columns)
		for _, id := range ids {
			want[id] = ""
			for _, c := range columns {
				want[id] += c + "=" + c + id + " "
			}
		}
		err := func() error {
			defer rec.Release()
			if p == 0 {
				files, err := tbl.WriteFiles(t.Context(), rec, nil)
				if err != nil {
					return err
				}
				_, err = tbl.Commit(t.Context(), Commit{
					Adds: files, Txns: []delta.Txn{{AppID: "pipeline/t", Version: int64(step)}}, ExpectTxn: map[string]int64{"pipeline/t": int64(step - 1)},
				})
				return err
			}
			out, err := app.Append(t.Context(), Append{Record: rec, Runs: []batch.Run{run}})
			if out.Record != nil {
				out.Record.Release()
			}
			return err
		}()
		if err != nil {
			return err
		}
	}
	return app.Close(t.Context())
}

// rowsWith are the rows of a run with further text columns, each value the column's
// name and the row's id.
func rowsWith(run batch.Run, columns []string) (arrow.Record, []string) {
	base := rows(memory.DefaultAllocator, run)
	defer base.Release()
	fields, cols := base.Schema().Fields(), slices.Clone(base.Columns())
	var ids []string
	for i := range int(base.NumRows()) {
		ids = append(ids, strings.Clone(base.Column(0).(*array.String).Value(i)))
	}
	for _, c := range columns {
		b := array.NewStringBuilder(memory.DefaultAllocator)
		for _, id := range ids {
			b.Append(c + id)
		}
		a := b.NewArray()
		b.Release()
		defer a.Release()
		fields, cols = append(fields, text(c)), append(cols, a)
	}
	return array.NewRecord(newSchema(fields), cols, base.NumRows()), ids
}

// valuesByID reads a table: for each id what each row of it has in the columns beyond
// landed's, nulls left out.
func valuesByID(t *testing.T, tbl *Table) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for f := range tbl.Snapshot().Files() {
		rec, err := tbl.ReadFile(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		for i := range int(rec.NumRows()) {
			var values []string
			for c := landed().NumFields(); c < int(rec.NumCols()); c++ {
				if a := rec.Column(c).(*array.String); a.IsValid(i) {
					values = append(values, rec.ColumnName(c)+"="+a.Value(i)+" ")
				}
			}
			slices.Sort(values) // own before shared
			id := strings.Clone(rec.Column(0).(*array.String).Value(i))
			out[id] = append(out[id], strings.Join(values, ""))
		}
		rec.Release()
	}
	return out
}
