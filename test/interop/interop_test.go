package interop

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/internal/testserver"
	"github.com/tidemill/tidemill/test/product"
)

// columns have every type that a contract knows.
const columns = `columns:
  - {name: id, type: long, required: true}
  - {name: text, type: string}
  - {name: small, type: int}
  - {name: d, type: double}
  - {name: f, type: float}
  - {name: flag, type: boolean}
  - {name: ts, type: timestamp}
  - {name: day, type: date}
  - {name: price, type: "decimal(20,3)"}
  - {name: fee, type: "decimal(5,2)"}
  - {name: longs, type: list<long>}
  - {name: place, type: "struct<city: string, zip: long, tags: list<string>>"}
`

// JSON has no NaN and no infinity, features have.
const features = `features: |
  SELECT *,
    CASE id % 5 WHEN 0 THEN 'NaN'::DOUBLE WHEN 1 THEN 'Infinity'::DOUBLE WHEN 2 THEN '-Infinity'::DOUBLE WHEN 3 THEN NULL ELSE d / 3 END AS odd
  FROM batch
checks:
  - {name: not_thirteen, expr: "id % 100 <> 13", on_fail: quarantine}
`

func contractOf(table, further string) string { return "table: " + table + "\n" + columns + further }

func connector(table string) string {
	return fmt.Sprintf("input:\n  http_server: {path: /%s}\noutput:\n  lakehouse: {table: %s, batching: {period: 10ms}}\n", table, table)
}

// values is one row in the types that JSON has.
type values struct {
	ID    int64    `json:"id"`
	Text  *string  `json:"text"`
	Small *int32   `json:"small"`
	D     *float64 `json:"d"`
	F     *float64 `json:"f"`
	Flag  *bool    `json:"flag"`
	TS    *string  `json:"ts"`
	Day   *string  `json:"day"`
	Price *string  `json:"price"`
	Fee   *string  `json:"fee"`
	Longs []*int64 `json:"longs"`
	Place *place   `json:"place"`
}

type place struct {
	City *string   `json:"city"`
	Zip  int64     `json:"zip"`
	Tags []*string `json:"tags"`
}

var scripts = []string{
	"plain", "", "naïve café", "Ελληνικά", "Кириллица", "עברית", "العربية", "हिन्दी", "漢字かな", "한국어", "ไทย", "🦆🇪🇺👩‍🔬",
	"a/b c=d%20&e", "quote\"'`\\", "line\nbreak\ttab", "NULL", "__HIVE_DEFAULT_PARTITION__ ", strings.Repeat("long ", 200),
}

func row(i int) values {
	v := values{ID: int64(i)}
	if i%7 == 0 {
		return v // nulls everywhere
	}
	text := scripts[i%len(scripts)]
	small, d, f, flag := int32(i-150)*14_000_000, float64(i-150)/7e3, float64(i)/3, i%2 == 0
	// From 1 BC's neighbour to far ahead, with microseconds.
	ts := fmt.Sprintf("%04d-%02d-%02dT%02d:59:59.%06dZ", 1+i*33, 1+i%12, 1+i%28, i%24, (i*7919)%1_000_000)
	day := fmt.Sprintf("%04d-%02d-%02d", 1900+i, 1+i%12, 1+i%28)
	price, fee := fmt.Sprintf("%d.%03d", (int64(i)-150)*99_999_999_999_999, i), fmt.Sprintf("%d.%02d", i-150, i%100)
	v.Text, v.Small, v.D, v.F, v.Flag, v.TS, v.Day, v.Price, v.Fee = &text, &small, &d, &f, &flag, &ts, &day, &price, &fee
	v.Longs = []*int64{}
	for k := range i % 4 {
		n := int64(k) - 1
		v.Longs = append(v.Longs, &n, nil)
	}
	v.Place = &place{Zip: int64(i)}
	if i%3 == 0 {
		v.Place.City, v.Place.Tags = &text, []*string{&text, nil}
	}
	return v
}

// Rows of a table come in requests of idsPerFile, each of which becomes a file
// or one per partition, with ids of its own: statistics can tell them apart.
const (
	files      = 6
	idsPerFile = 50
)

// textOf makes one text of a row in any DuckDB, so that a reader's rows can be compared.
func textOf(cols map[string]string, order []string) string {
	var parts []string
	for _, c := range order {
		q := `"` + c + `"`
		expr := q + "::VARCHAR"
		switch cols[c] {
		case "TIMESTAMPTZ":
			expr = "epoch_us(" + q + ")::VARCHAR"
		case "BLOB":
			expr = "hex(" + q + ")"
		}
		parts = append(parts, "coalesce("+expr+", '∅')")
	}
	return strings.Join(parts, " || '│' || ")
}

type filter struct {
	SQL        string `json:"sql"`
	DataFusion string `json:"datafusion,omitempty"`
	Arrow      string `json:"arrow,omitempty"`
}

var filters = []filter{
	{SQL: "id = 123", Arrow: "field('id') == 123"},
	{SQL: "id >= 100 AND id < 150", Arrow: "(field('id') >= 100) & (field('id') < 150)"},
	{SQL: "text > '漢'", Arrow: "field('text') > '漢'"},
	{SQL: "text = ''", Arrow: "field('text') == ''"},
	{SQL: "small < -1000000000", Arrow: "field('small') < -1000000000"},
	{SQL: "d > 0.02", Arrow: "field('d') > 0.02"},
	{SQL: "d IS NULL", Arrow: "field('d').is_null()"},
	{SQL: "f <= 20.0", Arrow: "field('f') <= 20.0"},
	{SQL: "flag", Arrow: "field('flag') == True"},
	{SQL: "ts < TIMESTAMP '1970-01-01 00:00:00'", DataFusion: "ts < '1970-01-01T00:00:00Z'", Arrow: "field('ts') < scalar(0, type=pa.timestamp('us', tz='UTC'))"},
	{SQL: "day >= DATE '2150-01-01'", Arrow: "field('day') >= scalar(65744, type=pa.date32())"},
	{SQL: "price > 1000000000000", Arrow: "field('price') > scalar(Decimal(1000000000000), type=pa.decimal128(20, 3))"},
	{SQL: "fee = 27.77"},
	{SQL: "place.zip = 177", DataFusion: "place['zip'] = 177"},
	{SQL: "_offset = 3", DataFusion: `"_offset" = 3`},
}

// oddFilters are about values that statistics cannot order, so that the log has
// no bounds for their column. To deltalake 1.6's Arrow dataset a column without
// bounds has no values at all (it compares with null), so it is not asked for them.
var oddFilters = []filter{
	{SQL: "odd = 'Infinity'::DOUBLE", DataFusion: "odd = CAST('Infinity' AS DOUBLE)"},
	{SQL: "odd = '-Infinity'::DOUBLE", DataFusion: "odd = CAST('-Infinity' AS DOUBLE)"},
	{SQL: "isnan(odd)", Arrow: "field('odd') != field('odd')"},
	{SQL: "odd IS NULL", Arrow: "field('odd').is_null()"},
}

type lake struct {
	t       *testing.T
	binary  product.Binary
	dir     string
	addr    product.Addresses
	server  *product.Server
	python  string
	options map[string]string
}

func start(t *testing.T) *lake {
	t.Helper()
	l := &lake{t: t, binary: product.Binary{Path: testserver.Tidemill(t)}, python: testserver.Python(t)}
	l.dir = product.Project{
		"tidemill.yaml":          "project: lake\n",
		"connectors/plain.yaml":  connector("plain"),
		"connectors/parted.yaml": connector("parted"),
		"tables/plain.yaml":      contractOf("plain", features),
		"tables/parted.yaml":     contractOf("parted", "partition_by: [text, day]\n"),
	}.Write(t, "lake")
	var err error
	if l.server, l.addr, err = l.binary.Dev(l.dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.server.Stop() })
	var keys struct {
		AccessKey string `json:"access_key"`
		SecretKey string `json:"secret_key"`
	}
	data, err := os.ReadFile(filepath.Join(l.dir, ".tidemill", "addresses.json"))
	if err == nil {
		err = json.Unmarshal(data, &keys)
	}
	if err != nil {
		t.Fatal(err)
	}
	l.options = map[string]string{
		"AWS_ENDPOINT_URL": "http://" + l.addr.S3, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1",
		"AWS_ACCESS_KEY_ID": keys.AccessKey, "AWS_SECRET_ACCESS_KEY": keys.SecretKey, "AWS_CONDITIONAL_PUT": "etag",
	}
	return l
}

func (l *lake) post(table string, body []byte) {
	l.t.Helper()
	if code, err := product.Post(l.t.Context(), l.addr.HTTP+"/"+table, "", body); err != nil || code != 200 {
		l.t.Fatalf("POST /%s: %d, %v", table, code, err)
	}
}

func (l *lake) count(sql string) int {
	l.t.Helper()
	return product.Query[struct{ N int }](l.t, l.binary, l.dir, sql)[0].N
}

// answer is what read.py says.
type answer struct {
	Version        int64
	Partitions     []string
	Files          int
	Deltalake      []string
	DuckDB         []string
	DuckDBFiltered []int `json:"duckdb_filtered"`
	DataFusion     []int
	Dataset        []int
}

func (l *lake) read(t *testing.T, table string, types map[string]string, text string, fs []filter, appended int) answer {
	t.Helper()
	job, err := json.Marshal(map[string]any{
		"uri": "s3://" + l.addr.Bucket + "/lake/" + table, "storage_options": l.options,
		"row": text, "types": types, "filters": append([]filter{}, fs...), "append": appended,
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), l.python, "read.py")
	cmd.Stdin = bytes.NewReader(job)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("read.py: %v\n%s", err, errs.String())
	}
	var a answer
	if err := json.Unmarshal(out, &a); err != nil {
		t.Fatal(err)
	}
	return a
}

// describe returns a table's columns as DuckDB has them, in order.
func (l *lake) describe(t *testing.T, table string) (types map[string]string, order []string) {
	t.Helper()
	types = map[string]string{}
	for _, c := range product.Query[struct {
		Name string `json:"column_name"`
		Type string `json:"column_type"`
	}](t, l.binary, l.dir, "DESCRIBE SELECT * FROM "+table) {
		if c.Type == "TIMESTAMP WITH TIME ZONE" {
			c.Type = "TIMESTAMPTZ"
		}
		types[c.Name] = c.Type
		order = append(order, c.Name)
	}
	return types, order
}

// same lets all readers read a table and compares.
func (l *lake) same(t *testing.T, table string, rows int, fs []filter, appended int) answer {
	t.Helper()
	types, order := l.describe(t, table)
	text := textOf(types, order)
	a := l.read(t, table, types, text, fs, appended)
	var want []string
	for _, r := range product.Query[struct{ R string }](t, l.binary, l.dir, "SELECT "+text+" AS r FROM "+table) {
		want = append(want, r.R)
	}
	slices.Sort(want)
	if len(want) != rows {
		t.Errorf("tidemill sql has %d rows of %s, want %d", len(want), table, rows)
	}
	for reader, got := range map[string][]string{"deltalake": a.Deltalake, "DuckDB's Parquet reader": a.DuckDB} {
		slices.Sort(got)
		if slices.Equal(got, want) {
			continue
		}
		t.Errorf("%s: %s has %d rows, tidemill sql %d, and not the same ones", table, reader, len(got), len(want))
		for i := range min(len(got), len(want)) {
			if got[i] != want[i] {
				t.Logf("first difference:\n%q\n%q", got[i], want[i])
				break
			}
		}
	}
	for i, f := range fs {
		n := l.count("SELECT count(*) AS n FROM " + table + " WHERE " + f.SQL)
		if a.DuckDBFiltered[i] != n || a.DataFusion[i] != n || f.Arrow != "" && a.Dataset[i] != n {
			t.Errorf("%s WHERE %s: tidemill sql %d rows, DuckDB %d, DataFusion %d, Arrow dataset %d", table, f.SQL, n, a.DuckDBFiltered[i], a.DataFusion[i], a.Dataset[i])
		}
		if n == 0 || n == rows {
			t.Errorf("%s WHERE %s tells nothing: %d rows", table, f.SQL, n)
		}
	}
	t.Logf("%s: version %d, %d files, %d rows, %d filters: the same in all readers", table, a.Version, a.Files, rows, len(fs))
	return a
}

func TestOtherReaders(t *testing.T) {
	t.Parallel()
	l := start(t)
	for k := range files {
		var plain, parted bytes.Buffer
		for i := range idsPerFile {
			v := row(k*idsPerFile + i)
			line, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			plain.Write(append(line, '\n'))
			// Few partitions: their number is that of the files.
			day := fmt.Sprintf("19%d0-02-28", 6+i%2)
			if v.Day != nil {
				v.Day = &day
			}
			// delta-rs makes directories of values, and keys have at most 1,024 bytes.
			if v.Text != nil && len(*v.Text) > 100 {
				v.Text = nil
			}
			if line, err = json.Marshal(v); err != nil {
				t.Fatal(err)
			}
			if k < 2 {
				parted.Write(append(line, '\n'))
			}
		}
		plain.WriteString("{\"id\": \"bad \xff☃\"}\nnot JSON\n")
		l.post("plain", plain.Bytes())
		if k < 2 {
			l.post("parted", parted.Bytes())
		}
	}
	total, refused := files*idsPerFile, files*idsPerFile/100
	for sql, want := range map[string]int{
		"SELECT count(*) AS n FROM plain_scored": total - refused, "SELECT count(*) AS n FROM plain_quarantine": refused + 2*files, "SELECT count(*) AS n FROM parted_scored": 2 * idsPerFile,
	} {
		l.server.Until(t, func() error {
			if n := l.count(sql); n != want {
				return fmt.Errorf("%s: %d, want %d", sql, n, want)
			}
			return nil
		})
	}
	t.Run("landed", func(t *testing.T) { l.same(t, "plain", total, filters[:14], 0) })
	t.Run("scored", func(t *testing.T) {
		l.same(t, "plain_scored", total-refused, slices.Concat(filters[:14], oddFilters), 0)
	})
	t.Run("quarantine", func(t *testing.T) {
		l.same(t, "plain_quarantine", refused+2*files, []filter{
			{SQL: "class = 'check'", Arrow: "field('class') == 'check'"}, {SQL: "landed_version IS NULL", Arrow: "field('landed_version').is_null()"}, {SQL: "rule = 'not_json'"},
		}, 0)
	})
	t.Run("partitioned", func(t *testing.T) {
		a := l.same(t, "parted", 2*idsPerFile, []filter{
			{SQL: "text = '漢字かな'", Arrow: "field('text') == '漢字かな'"}, {SQL: "text = 'a/b c=d%20&e'", Arrow: "field('text') == 'a/b c=d%20&e'"},
			{SQL: "day = DATE '1960-02-28'", Arrow: "field('day') == scalar(-3595, type=pa.date32())"}, {SQL: "day IS NULL"}, {SQL: "id < 50", Arrow: "field('id') < 50"},
		}, 0)
		if !slices.Equal(a.Partitions, []string{"text", "day"}) || a.Files < 20 {
			t.Errorf("%d files by %v", a.Files, a.Partitions)
		}
	})
	t.Run("appended by delta-rs", func(t *testing.T) {
		const appended = 11
		l.same(t, "plain", total+appended, filters[:2], appended)
		l.same(t, "parted", 2*idsPerFile+appended, nil, appended)
		// What another writer landed is scored as well.
		l.server.Until(t, func() error {
			n := l.count("SELECT (SELECT count(*) FROM plain_scored) + (SELECT count(*) FROM plain_quarantine WHERE landed_version IS NOT NULL) AS n")
			if n != total+appended {
				return fmt.Errorf("%d rows are scored or refused, want %d", n, total+appended)
			}
			return nil
		})
		line, err := json.Marshal(row(302))
		if err != nil {
			t.Fatal(err)
		}
		l.post("plain", line)
		l.same(t, "plain", total+appended+1, nil, 0)
	})
}
