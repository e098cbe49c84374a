package interop

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/internal/app"
	"github.com/tidemill/tidemill/internal/testserver"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/test/product"
)

// foreign is the Python that writes tables as others do, and where they are.
type foreign struct {
	*process
	dir string
}

func startForeign(t *testing.T) *foreign {
	t.Helper()
	return &foreign{startPython(t, t, "foreign.py"), t.TempDir()}
}

func (f *foreign) path(name string) string { return filepath.Join(f.dir, name) }

// scan writes a table to a Parquet file as `table scan` does, and returns what Arrow's
// reader finds in it.
func (f *foreign) scan(t *testing.T, table *app.Table, at app.At, columns ...string) (rows []string, names []string) {
	t.Helper()
	out := f.path("scan.parquet")
	done, err := table.Scan(t.Context(), at, columns, out)
	if err != nil {
		t.Fatal(err)
	}
	names = f.read(t, out)
	rows = lines(load(t, f.path("scan.arrow")))
	if int(done.Rows) != len(rows) {
		t.Errorf("the scan says that it wrote %d rows, and wrote %d", done.Rows, len(rows))
	}
	return rows, names
}

func (f *foreign) read(t *testing.T, file string) (names []string) {
	t.Helper()
	f.must(t, "parquet", args{"path": file, "out": f.path("scan.arrow")}, &names)
	return names
}

func open(t *testing.T, where string) *app.Table {
	t.Helper()
	table, err := app.OpenTable(t.Context(), ".", where, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(table.Close)
	return table
}

// TestForeignTypes: tables of random types, nested three deep with nulls at every level,
// are read value for value.
func TestForeignTypes(t *testing.T) {
	f := startForeign(t)
	first := rand.IntN(1 << 30)
	for seed := first; seed < first+60; seed++ {
		uri, want := f.path(fmt.Sprint("nested", seed)), f.path("want.arrow")
		var schema []string
		f.must(t, "nested", args{"uri": uri, "out": want, "seed": seed}, &schema)
		got, _ := f.scan(t, open(t, uri), app.At{})
		if !sameLines(t, fmt.Sprintf("seed %d", seed), got, lines(load(t, want))) {
			t.Logf("columns: %s", strings.Join(schema, "; "))
		}
	}
}

func TestOldTimestamps(t *testing.T) {
	f := startForeign(t)
	for unit, physical := range map[string]string{"int96": "int96", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"} {
		uri, want := f.path(unit), f.path("want.arrow")
		var schema string
		f.must(t, "old_timestamps", args{"uri": uri, "out": want, "unit": unit}, &schema)
		if !strings.Contains(schema, physical) {
			t.Fatalf("%s: the file is %s", unit, schema)
		}
		got, _ := f.scan(t, open(t, uri), app.At{})
		sameLines(t, unit, got, lines(load(t, want)))
		info, err := open(t, uri).Show(t.Context(), app.At{}, true)
		if err != nil || info.Rows != nil || info.DataFiles[0].Rows != nil {
			t.Errorf("rows of a table without statistics: %v, %v", info.Rows, err)
		}
	}
}

func TestForeignPartitions(t *testing.T) {
	f := startForeign(t)
	var types []string
	f.must(t, "partitioned", args{"uri": f.path("by"), "out": f.path("want")}, &types)
	for n, typ := range types {
		table := open(t, f.path(fmt.Sprint("by/", n)))
		got, names := f.scan(t, table, app.At{})
		sameLines(t, "partitioned by "+typ, got, lines(load(t, f.path(fmt.Sprint("want", n)))))
		if want := []string{"id", "P q", "z"}; !slices.Equal(names, want) {
			t.Errorf("columns %q, want %q", names, want)
		}
		// Some columns, in an order of their own, and found without regard to case.
		if _, names = f.scan(t, table, app.At{}, "z", "p Q"); !slices.Equal(names, []string{"z", "P q"}) {
			t.Errorf("columns %q", names)
		}
	}
}

// told is what delta-rs says of one version of a table.
type told struct {
	Columns        []string
	Files, Rows    int64
	Bytes          int64
	ID             string
	PartitionBy    []string `json:"partition_by"`
	Properties     map[string]string
	Reader, Writer int
	Paths          []string
}

// TestForeignLives: whatever happens to a table, each of its versions is what delta-rs
// says it is.
func TestForeignLives(t *testing.T) {
	f := startForeign(t)
	first := rand.IntN(1 << 30)
	compared, clean := 0, 0
	for seed := first; seed < first+6; seed++ {
		uri := f.path(fmt.Sprint("life", seed))
		var answer struct {
			Steps    []string
			Versions []told
		}
		f.must(t, "life", args{"uri": uri, "out": f.path("at"), "seed": seed, "steps": 18}, &answer)
		found, _ := filepath.Glob(uri + "/_delta_log/*.checkpoint.parquet")
		forgotten := len(found) > 0 && clean%2 == 0
		if forgotten {
			forget(t, uri, found)
		}
		if len(found) > 0 {
			clean++
		}
		before := tree(t, uri)
		table := open(t, uri)
		for v, want := range answer.Versions {
			version := int64(v)
			at, what := app.At{Version: &version}, fmt.Sprintf("seed %d, version %d of %v", seed, v, answer.Steps)
			info, err := table.Show(t.Context(), at, true)
			if err != nil {
				if _, ok := errors.AsType[*lakehouse.VersionError](err); ok && forgotten && v < len(answer.Versions)-1 {
					continue
				}
				t.Fatalf("%s: %v", what, err)
			}
			compared++
			want.check(t, what, info)
			rows, names := f.scan(t, table, at)
			sameLines(t, what, rows, lines(load(t, f.path(fmt.Sprint("at", v)))))
			if !slices.Equal(names, want.Columns) {
				t.Errorf("%s: columns %q, want %q", what, names, want.Columns)
			}
		}
		if hs, err := table.History(t.Context(), 0); err != nil || len(hs) == 0 || hs[0].Version != int64(len(answer.Versions)-1) {
			t.Errorf("seed %d: history %v, %v", seed, hs, err)
		}
		if after := tree(t, uri); !maps.Equal(before, after) {
			t.Errorf("seed %d: reading has changed the table", seed)
		}
	}
	t.Logf("seeds from %d: %d versions compared, %d tables with a checkpoint", first, compared, clean)
	if compared < 30 || clean == 0 {
		t.Error("that is too little to tell anything")
	}
}

func (l told) check(t *testing.T, what string, info app.TableInfo) {
	t.Helper()
	var paths, columns []string
	for _, f := range info.DataFiles {
		paths = append(paths, f.Path)
	}
	for _, c := range info.Columns {
		columns = append(columns, c.Name)
	}
	slices.Sort(paths)
	if info.Files != l.Files || info.Rows == nil || *info.Rows != l.Rows || info.Bytes != l.Bytes || info.ID != l.ID || !slices.Equal(info.PartitionBy, l.PartitionBy) ||
		!maps.Equal(info.Properties, l.Properties) || info.Protocol.MinReaderVersion != l.Reader || info.Protocol.MinWriterVersion != l.Writer ||
		!slices.Equal(columns, l.Columns) || len(paths) != len(l.Paths) {
		t.Errorf("%s: we say %+v, delta-rs %+v", what, info, l)
	}
}

// forget deletes the commits before a table's last checkpoint, as cleaning up does.
func forget(t *testing.T, uri string, checkpoints []string) {
	t.Helper()
	slices.Sort(checkpoints)
	last := filepath.Base(checkpoints[len(checkpoints)-1])
	commits, err := filepath.Glob(uri + "/_delta_log/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range commits {
		if filepath.Base(c) < last {
			if err := os.Remove(c); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// tree is what a directory holds: sizes and times by path.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			out[path] = fmt.Sprint(info.Size(), info.ModTime())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestForeignCommands runs the commands themselves, without a project, on a directory and
// on S3.
func TestForeignCommands(t *testing.T) {
	f := startForeign(t)
	uri := f.path("life ü%20")
	var answer struct{ Versions []told }
	f.must(t, "life", args{"uri": f.path("life"), "out": f.path("at"), "seed": 7, "steps": 6}, &answer)
	if err := os.Rename(f.path("life"), uri); err != nil { // delta-rs takes a path for a URL
		t.Fatal(err)
	}
	last := answer.Versions[len(answer.Versions)-1]
	want := lines(load(t, f.path(fmt.Sprint("at", len(answer.Versions)-1))))
	at := onMinIO(t)
	upload(t, at, uri, "some/table")
	const password = "not-the-password-of-anything"
	var env []string
	for k, v := range at.options {
		env = append(env, k+"="+v)
	}
	b := product.Binary{Path: testserver.Tidemill(t), Env: env}
	fileURL := "file://" + strings.NewReplacer("%", "%25", " ", "%20").Replace(uri)
	for _, where := range []string{uri, fileURL, at.uri("some/table")} {
		var info app.TableInfo
		if err := json.Unmarshal([]byte(b.Must(t, "table", "show", where, "--json", "--files")), &info); err != nil {
			t.Fatal(err)
		}
		last.check(t, where, info)
		out := f.path("cli.parquet")
		r := b.Run(t, "table", "scan", where, "--out", out)
		if r.Code != 0 || r.Stdout != "" || !strings.Contains(r.Stderr, fmt.Sprintf("%d rows of version %d, from %d files", len(want), info.Version, last.Files)) {
			t.Errorf("scan %s: %+v", where, r)
		}
		f.read(t, out)
		sameLines(t, where, lines(load(t, f.path("scan.arrow"))), want)
		if err := os.WriteFile(out, []byte(b.Must(t, "table", "scan", where, "--version", "0", "--columns", "id", "--out", "-")), 0o600); err != nil {
			t.Fatal(err)
		}
		if names := f.read(t, out); !slices.Equal(names, []string{"id"}) {
			t.Errorf("columns %v", names)
		}
		if h := b.Must(t, "table", "history", where); !strings.Contains(h, "VERSION") || strings.Count(h, "\n") != len(answer.Versions)+1 {
			t.Errorf("history:\n%s", h)
		}
	}
	refused := product.Binary{Path: b.Path, Env: append(slices.Clone(env), "AWS_SECRET_ACCESS_KEY="+password)}
	for _, c := range []struct {
		b    product.Binary
		args []string
		code int
		want string
	}{
		{b, []string{"table", "show", f.dir}, 1, "holds no Delta table"},
		{b, []string{"table", "show", f.path("none")}, 1, "there is no such directory"},
		{b, []string{"table", "show", "gs://b/t"}, 1, "scheme gs:// is not known"},
		{b, []string{"table", "show", "s3://lake/none"}, 1, "s3://lake/none holds no Delta table"},
		{b, []string{"table", "show", "s3://no-such/none"}, 1, "no such bucket"},
		{b, []string{"table", "show", uri, "--version", "99"}, 1, "has no version 99"},
		{b, []string{"table", "scan", uri, "--columns", "id,nope", "--out", f.path("x.parquet")}, 1, "no column nope"},
		{b, []string{"table", "scan", uri}, 2, "--out"},
		{b, []string{"table", "scan", uri, "--version", "1", "--timestamp", "2026-01-01", "--out", "-"}, 2, "give one"},
		{b, []string{"table", "scan", uri, "--timestamp", "1999-01-01", "--out", f.path("x.parquet")}, 1, "1999-01-01"},
		{refused, []string{"table", "show", "s3://lake/some/table"}, 1, "AWS_SECRET_ACCESS_KEY"},
	} {
		r := c.b.Run(t, c.args...)
		if r.Code != c.code || !strings.Contains(r.Stderr, c.want) || strings.Contains(r.Output(), password) {
			t.Errorf("%v: %+v, want %q", c.args, r, c.want)
		}
	}
	if found, _ := filepath.Glob(f.path("*x.parquet*")); len(found) > 0 {
		t.Errorf("a scan that failed left %v", found)
	}
}

// upload copies a directory to a store.
func upload(t *testing.T, at *site, dir, prefix string) {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for path := range tree(t, dir) {
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			t.Fatal(err)
		}
		f, err := root.Open(rel)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(f)
		f.Close()
		if err != nil { // a directory
			continue
		}
		if err := at.Put(t.Context(), prefix+"/"+filepath.ToSlash(rel), data); err != nil {
			t.Fatal(err)
		}
	}
}
