package interop

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/internal/testserver"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/delta"
	"github.com/tidemill/tidemill/test/product"
)

// sparkTable is a table that Spark writes. In its statements {t} is the table.
type sparkTable struct {
	name       string
	settings   map[string]any // of the session while it writes; nil takes one back
	statements []string
	log        []string // what must stand in the log's names, lest the test be about something else
	onS3       bool
	parse      int64 // the checkpoint whose statistics become columns; 0: none
}

const sparkTypes = `id BIGINT NOT NULL, tiny TINYINT, small SMALLINT, mid INT, f FLOAT, d DOUBLE, flag BOOLEAN, ts TIMESTAMP, day DATE,
	price DECIMAL(38,10), fee DECIMAL(5,2), mean DECIMAL(15,6), text STRING, fixed CHAR(6), bounded VARCHAR(300), raw BINARY, longs ARRAY<BIGINT>,
	place STRUCT<city: STRING, deep: STRUCT<zip: BIGINT, days: ARRAY<DATE>>>, places ARRAY<STRUCT<n: INT, at: TIMESTAMP>>, attrs MAP<STRING, ARRAY<INT>>`

// sparkRows is a query of rows with all those types, first to last. Each seventh is null.
func sparkRows(first, last int) string {
	text := `element_at(array('plain', 'naïve café', 'Ελληνικά', 'עברית', '漢字かな', '🦆🇪🇺👩‍🔬', 'a/b c=d%20&e', 'line\nbreak', 'NULL', repeat('long ', 60)), cast(id % 10 + 1 AS INT))`
	ts := `timestamp_micros(id * 7919 * 1000003 * 86400 % 253000000000000000 - 31000000000000000)`
	return fmt.Sprintf(`SELECT id, IF(gone, NULL, tiny), IF(gone, NULL, small), IF(gone, NULL, mid), IF(gone, NULL, f), IF(gone, NULL, d), IF(gone, NULL, flag),
		IF(gone, NULL, ts), IF(gone, NULL, day), IF(gone, NULL, price), IF(gone, NULL, fee), IF(gone, NULL, mean), IF(gone, NULL, text), IF(gone, NULL, 'padded'),
		IF(gone, NULL, text), IF(gone, NULL, unhex(hex(id))), IF(gone, NULL, longs), IF(gone, NULL, place), IF(gone, NULL, places), IF(gone, NULL, attrs)
		FROM (SELECT *, named_struct('city', text, 'deep', IF(id %% 5 = 0, NULL, named_struct('zip', id, 'days', array(day, NULL)))) AS place,
			array(named_struct('n', mid, 'at', ts), NULL) AS places FROM (SELECT id, id %% 7 = 0 AS gone, cast(id %% 100 - 50 AS TINYINT) AS tiny, cast(id * 30 - 900 AS SMALLINT) AS small,
			cast(id * 10000000 - 300000000 AS INT) AS mid, IF(id %% 11 = 0, float('NaN'), cast(id / 3 AS FLOAT)) AS f,
			CASE id %% 4 WHEN 0 THEN double('Infinity') WHEN 1 THEN double('-Infinity') WHEN 2 THEN double('NaN') ELSE id / 7 END AS d, id %% 2 = 0 AS flag,
			%s AS ts, cast(%s AS DATE) AS day, cast(concat(IF(id %% 2 = 0, '-', ''), '999999999999999999999999999', id %% 10, '.0123456789') AS DECIMAL(38,10)) AS price,
			cast(id - 999.99 AS DECIMAL(5,2)) AS fee, cast(id * 1000.000001 - 3 AS DECIMAL(15,6)) AS mean, %s AS text,
			transform(sequence(0, id %% 4), x -> IF(x %% 2 = 0, x, NULL)) AS longs, map('k', array(cast(id AS INT), NULL), 'κ', NULL) AS attrs FROM range(%d, %d)))`,
		ts, ts, text, first, last)
}

func insert(first, last int) string { return "INSERT INTO {t} " + sparkRows(first, last) }

const oddValues = `array(NULL, 'plain', 'a/b c=d%20&e', '漢字', 'quote"\'\\', 'line\nbreak', ' ', '%41', '__HIVE_DEFAULT_PARTITION__ ', 'ü', '#?;:+@*[]{}|^~')`

var sparkScenarios = []sparkTable{
	{name: "types", onS3: true, statements: []string{"CREATE TABLE {t} (" + sparkTypes + ") USING delta", insert(0, 30), insert(30, 60)}},
	{name: "int96", settings: map[string]any{"spark.sql.parquet.outputTimestampType": "INT96"},
		statements: []string{"CREATE TABLE {t} (" + sparkTypes + ") USING delta", insert(0, 40)}},
	{name: "partitions", onS3: true, statements: []string{
		`CREATE TABLE {t} (id BIGINT, text STRING, flag BOOLEAN, day DATE, ts TIMESTAMP, n INT, fee DECIMAL(5,2)) USING delta PARTITIONED BY (text, flag, day, ts, n, fee)`,
		`INSERT INTO {t} SELECT id, element_at(` + oddValues + `, cast(id % 11 + 1 AS INT)), IF(id % 3 = 0, NULL, id % 2 = 0), IF(id % 5 = 0, NULL, date_add(DATE '0001-01-01', cast(id * 90000 AS INT))),
			IF(id % 6 = 0, NULL, timestamp_micros(id * 1000003 - 5000000)), IF(id % 7 = 0, NULL, -id), IF(id % 8 = 0, NULL, cast(id / 7 - 1 AS DECIMAL(5,2))) FROM range(33)`,
		`DELETE FROM {t} WHERE text = 'a/b c=d%20&e'`, `UPDATE {t} SET n = 77 WHERE day IS NULL`,
	}},
	{name: "changes", log: []string{".checkpoint.parquet"}, statements: []string{
		`CREATE TABLE {t} (` + sparkTypes + `) USING delta TBLPROPERTIES ('delta.checkpointInterval' = '3')`, insert(0, 30), insert(30, 60),
		`DELETE FROM {t} WHERE id % 5 = 1`, `UPDATE {t} SET text = 'updated', price = -price WHERE id > 40`,
		`MERGE INTO {t} t USING (SELECT id * 3 AS id, concat('merged ', id) AS text FROM range(30)) s ON t.id = s.id
			WHEN MATCHED AND s.id % 2 = 0 THEN DELETE WHEN MATCHED THEN UPDATE SET text = s.text WHEN NOT MATCHED THEN INSERT (id, text) VALUES (s.id, s.text)`,
		`ALTER TABLE {t} ADD COLUMNS (more STRING AFTER mid, place.extra INT)`, `UPDATE {t} SET more = concat('more ', id) WHERE id < 10`, `OPTIMIZE {t}`,
		`RESTORE TABLE {t} TO VERSION AS OF 3`, `INSERT OVERWRITE {t} SELECT * FROM {t} WHERE id < 8`,
	}},
	{name: "parts", log: []string{".checkpoint.0000000001.000000000"}, settings: map[string]any{"spark.databricks.delta.checkpoint.partSize": "5"}, statements: []string{
		`CREATE TABLE {t} (id BIGINT, text STRING) USING delta PARTITIONED BY (text) TBLPROPERTIES ('delta.checkpointInterval' = '2')`,
		`INSERT INTO {t} SELECT id, concat('p', id % 6) FROM range(60)`, `INSERT INTO {t} SELECT id, concat('p', id % 6) FROM range(60)`, `INSERT INTO {t} VALUES (1, NULL)`,
	}},
	// Partition values as columns, no statistics at all.
	{name: "no_stats", log: []string{".checkpoint.parquet"}, statements: []string{
		`CREATE TABLE {t} (` + sparkTypes + `) USING delta PARTITIONED BY (flag) TBLPROPERTIES ('delta.checkpointInterval' = '2', 'delta.checkpoint.writeStatsAsStruct' = 'true', 'delta.checkpoint.writeStatsAsJson' = 'false')`,
		insert(0, 20), insert(20, 40), insert(40, 50),
	}},
	{name: "parsed", log: []string{".checkpoint.parquet"}, parse: 2, statements: []string{
		`CREATE TABLE {t} (` + sparkTypes + `) USING delta PARTITIONED BY (flag) TBLPROPERTIES ('delta.checkpointInterval' = '2')`, insert(0, 20), insert(20, 40), insert(40, 50),
	}},
	// What writers must know and readers need not: checks, a feed of changes, clustering.
	{name: "writer_only", log: []string{"_change_data/"}, statements: []string{
		`CREATE TABLE {t} (id BIGINT, text STRING, day DATE) USING delta CLUSTER BY (id) TBLPROPERTIES ('delta.enableChangeDataFeed' = 'true')`,
		`ALTER TABLE {t} ADD CONSTRAINT positive CHECK (id >= 0)`, `INSERT INTO {t} (id, text, day) SELECT id, concat('t', id), date_add(DATE '2026-01-01', cast(id AS INT) * 11) FROM range(20)`,
		`UPDATE {t} SET text = 'changed' WHERE id % 2 = 0`,
	}},
}

// refused are tables that we must not read as if we could.
var refused = []struct {
	feature    string
	statements []string
}{
	{"deletionVectors", []string{`CREATE TABLE {t} (id BIGINT) USING delta TBLPROPERTIES ('delta.enableDeletionVectors' = 'true')`, `INSERT INTO {t} SELECT id FROM range(20)`, `DELETE FROM {t} WHERE id = 3`}},
	{"columnMapping", []string{`CREATE TABLE {t} (id BIGINT, a INT) USING delta TBLPROPERTIES ('delta.columnMapping.mode' = 'name')`, `ALTER TABLE {t} RENAME COLUMN a TO b`}},
	{"v2Checkpoint", []string{`CREATE TABLE {t} (id BIGINT) USING delta TBLPROPERTIES ('delta.checkpointPolicy' = 'v2', 'delta.checkpointInterval' = '1')`, `INSERT INTO {t} VALUES (1)`}},
	{"timestampNtz", []string{`CREATE TABLE {t} (id BIGINT, at TIMESTAMP_NTZ) USING delta`}},
	{"typeWidening", []string{`CREATE TABLE {t} (id SMALLINT) USING delta TBLPROPERTIES ('delta.enableTypeWidening' = 'true')`, `INSERT INTO {t} VALUES (1)`, `ALTER TABLE {t} ALTER COLUMN id TYPE INT`}},
}

// sparkWrites runs statements on a table, with settings for the time.
func (e *engines) sparkWrites(t *testing.T, name string, settings map[string]any, statements []string) {
	t.Helper()
	p := e.Spark(t)
	back := map[string]any{}
	for k := range settings {
		back[k] = nil
	}
	p.must(t, "settings", args{"values": settings}, nil)
	defer p.must(t, "settings", args{"values": back}, nil)
	uri := strings.Replace(e.at.uri(name), "s3://", "s3a://", 1)
	replaced := make([]string, len(statements))
	for i, s := range statements {
		replaced[i] = strings.ReplaceAll(s, "{t}", "delta.`"+uri+"`")
	}
	p.must(t, "sql", args{"statements": replaced}, nil)
}

// sparkTables reads what Spark writes, and refuses by name what it must not read.
func sparkTables(t *testing.T, e *engines, disk *site) {
	for _, table := range sparkScenarios {
		e := e
		if !table.onS3 {
			e = e.on(disk)
		}
		t.Run(e.at.name+"/"+table.name, func(t *testing.T) {
			e.sparkWrites(t, "spark_"+table.name, table.settings, table.statements)
			var versions []int64
			e.Spark(t).must(t, "versions", args{"uri": e.at.uri("spark_" + table.name)}, &versions)
			for _, part := range table.log {
				if !slices.ContainsFunc(keys(t, e.at, "spark_"+table.name), func(k string) bool { return strings.Contains(k, part) }) {
					t.Errorf("Spark wrote no %s", part)
				}
			}
			if table.parse > 0 {
				e.parsed(t, "spark_"+table.name, table.parse)
			}
			e.sameVersions(t, e.all(t, "spark")[0], "spark_"+table.name, versions[0], versions[len(versions)-1])
		})
	}
	e = e.on(disk)
	for _, r := range refused {
		t.Run("refused/"+r.feature, func(t *testing.T) {
			name := "refused_" + r.feature
			e.sparkWrites(t, name, nil, r.statements)
			_, err := lakehouse.Open(t.Context(), disk, name)
			var unsupported *delta.UnsupportedError
			if !errors.As(err, &unsupported) || !strings.Contains(unsupported.Feature, r.feature) {
				t.Errorf("%v", err)
			}
			out := product.Binary{Path: testserver.Tidemill(t)}.Run(t, "table", "scan", disk.uri(name), "--out", "-")
			if out.Code != 1 || !strings.Contains(out.Stderr, r.feature) {
				t.Errorf("tidemill table scan: code %d, %s", out.Code, out.Output())
			}
		})
	}
}

// parsed makes columns of a checkpoint's statistics, and looks for what they say.
func (e *engines) parsed(t *testing.T, name string, version int64) {
	t.Helper()
	stats := func() (out []string) {
		tbl, err := lakehouse.Open(t.Context(), e.at, name)
		if err != nil {
			t.Fatal(err)
		}
		for f := range tbl.Snapshot().Files() {
			var v any
			if err := json.Unmarshal([]byte(f.Stats), &v); err != nil {
				t.Fatalf("statistics %q: %v", f.Stats, err)
			}
			out = append(out, leaves(f.Path, v)...)
		}
		slices.Sort(out)
		return slices.DeleteFunc(out, func(s string) bool { // which we take for no bounds
			return strings.HasSuffix(s, "=NaN") || strings.HasSuffix(s, "Infinity")
		})
	}
	asJSON := stats()
	e.Spark(t).must(t, "parse_stats", args{"uri": e.at.uri(name), "version": version}, nil)
	sameLines(t, "statistics that are columns", stats(), asJSON)
}

// leaves are the values of a JSON text with their paths.
func leaves(path string, v any) []string {
	m, ok := v.(map[string]any)
	if !ok {
		return []string{fmt.Sprintf("%s=%v", path, v)}
	}
	var out []string
	for k, v := range m {
		out = append(out, leaves(path+" "+k, v)...)
	}
	return out
}

func keys(t *testing.T, at *site, table string) []string {
	t.Helper()
	var out []string
	for o, err := range at.List(t.Context(), table+"/", "") {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, o.Key)
	}
	return out
}
