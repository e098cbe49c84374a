package query

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemill/tidemill/internal/predicate"
)

// versionSource has a table t whose version n has the one row (n), committed at noon of
// January n+1, and a table at a path. It notes what it is asked for.
type versionSource struct {
	paths map[int64]string
	plans int
	asked []string // references and conditions
	gone  int      // how many times the next fetches find a file vacuumed
}

func (v *versionSource) Names(context.Context) ([]string, error) { return []string{"t"}, nil }

func (v *versionSource) Open(_ context.Context, ref Ref) (*Source, error) {
	if ref.Name != "t" && !ref.Path || ref.Path && ref.Name != "s3://lake/t" {
		return nil, fs.ErrNotExist
	}
	version := int64(len(v.paths) - 1)
	switch {
	case ref.Version != nil:
		version = *ref.Version
	case ref.At != nil:
		version = int64(ref.At.Add(-12*time.Hour).Day() - 1)
	}
	if v.paths[version] == "" {
		return nil, fmt.Errorf("no version %d", version)
	}
	schema := schemaOf("n", arrow.PrimitiveTypes.Int64, "f", arrow.PrimitiveTypes.Float32, "s", arrow.BinaryTypes.String, "ts", arrow.FixedWidthTypes.Timestamp_us,
		"o", arrow.StructOf(arrow.Field{Name: "X", Type: arrow.PrimitiveTypes.Int64, Nullable: true}))
	return &Source{Version: version, Schema: schema, Fetch: func(_ context.Context, need Need) (*Fetched, error) {
		v.asked = append(v.asked, ref.String()+": "+need.Where.String())
		if v.gone > 0 {
			v.gone--
			return nil, fmt.Errorf("part-1: %w", fs.ErrNotExist)
		}
		if need.Plan {
			v.plans++
		}
		return &Fetched{Files: []SourceFile{{Path: v.paths[version]}}, Stats: ReadStats{
			Total: Amount{Files: 4, Bytes: 4 << 20}, ByPartition: 1, ByStats: 2, Skipped: 3 << 20, Store: Amount{Files: 1, Bytes: 1 << 20},
		}}, nil
	}}, nil
}

func openVersions(t *testing.T) (*Tables, *versionSource) {
	dir := t.TempDir()
	src := &versionSource{paths: map[int64]string{}}
	for n := range int64(4) {
		src.paths[n] = filepath.Join(dir, fmt.Sprintf("v%d.parquet", n))
		writeParquet(t, src.paths[n], fmt.Sprintf("SELECT %d::BIGINT AS n, 'x' AS s", n))
	}
	tables, err := OpenTables(src, TablesOptions{Dir: dir, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tables.Close() })
	return tables, src
}

func TestTimeTravel(t *testing.T) {
	tables, _ := openVersions(t)
	for sql, want := range map[string]string{
		"SELECT n FROM t":                                                                              "n\n3\n",
		"SELECT n FROM t FOR VERSION AS OF 1":                                                          "n\n1\n",
		"SELECT t.n FROM T FOR VERSION AS OF 1+1 WHERE T.n = 2":                                        "n\n2\n",
		"SELECT n FROM t FOR TIMESTAMP AS OF '2026-01-02 12:00:00'":                                    "n\n1\n",
		"SELECT n FROM t FOR TIMESTAMP AS OF '2026-01-02 11:59:59.999999'":                             "n\n0\n",
		"SELECT n FROM t FOR TIMESTAMP AS OF '2026-01-02 12:00:00+01'":                                 "n\n0\n",
		"SELECT n FROM t TIMESTAMP AS OF DATE '2026-01-03' + INTERVAL 12 HOUR":                         "n\n2\n",
		"SELECT a.n AS a, b.n AS b, c.n AS c FROM t a AT (VERSION => 0), t VERSION AS OF 1 AS b, t c":  "a,b,c\n0,1,3\n",
		"WITH w AS (FROM t VERSION AS OF 2) SELECT n, (SELECT n FROM t AT (VERSION => 1)) AS m FROM w": "n,m\n2,1\n",
		"SELECT 't FOR VERSION AS OF 1' AS s, n AS \"t FOR VERSION AS OF 1\" FROM t":                   "s,t FOR VERSION AS OF 1\nt FOR VERSION AS OF 1,3\n",
		"SELECT n FROM delta_scan('s3://lake/t')":                                                      "n\n3\n",
		"SELECT d.n FROM delta_scan('s3://lake/t') FOR VERSION AS OF 1 AS d WHERE d.n = 1":             "n\n1\n",
		"SELECT delta_scan.n FROM delta_scan('s3://lake/t')":                                           "n\n3\n",
		"SELECT n FROM 's3://lake/t'":                                                                  "n\n3\n",
		"SELECT n FROM \"s3://lake/t\" VERSION AS OF 0 WHERE n = 0":                                    "n\n0\n",
		"DESCRIBE t VERSION AS OF 1":                                                                   "n,BIGINT",
	} {
		if got := text(t, tables, sql, WriteCSV); !strings.Contains(got, want) {
			t.Errorf("%s: %s", sql, got)
		}
	}
	for sql, want := range map[string]string{ // the error, and with | where in the text it is
		"SELECT n FROM t FOR VERSION AS OF 9":                                        "no version 9",
		"SELECT n FROM t FOR VERSION AS OF |'first'":                                 "VERSION AS OF takes a whole number",
		"SELECT n FROM t FOR VERSION AS OF |1.5":                                     "of type DECIMAL(2,1)",
		"SELECT n FROM t FOR VERSION AS OF |-1":                                      "begin at 0",
		"SELECT n FROM t AT (VERSION => |NULL)":                                      "null",
		"/* a */ SELECT n FROM t FOR TIMESTAMP AS OF |'noon'":                        "2026-01-01 12:00:00+02",
		"SELECT n FROM t FOR TIMESTAMP AS OF |12":                                    "TIMESTAMP AS OF takes a time",
		"SELECT n FROM t FOR VERSION AS OF 1 WHERE |nosuch = 1":                      `"nosuch" not found`,
		"-- t\n  SELECT |nosuch FROM t FOR VERSION AS OF 1":                          `"nosuch" not found`,
		"SELECT b.n FROM t AT (VERSION => 1) JOIN delta_scan('s3://lake/t') b ON |x": "",
		"SELECT n FROM delta_scan('s3://lake/nosuch')":                               "there is no table at s3://lake/nosuch",
		"SELECT n FROM |delta_scan(n)":                                               "in quotes",
	} {
		user := strings.Replace(sql, "|", "", 1)
		_, err := tables.Query(t.Context(), user)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", user, err)
		} else if at := strings.Index(sql, "|"); at >= 0 && asError(err).Offset != at {
			t.Errorf("%s: %v at %d", sql, err, asError(err).Offset)
		}
	}
}

// What is asked of a table for a statement: exactly this, no more and no less.
func TestNeedsOfStatements(t *testing.T) {
	tables, src := openVersions(t)
	for sql, want := range map[string]string{
		"SELECT * FROM t WHERE n > 5":                                                         "n > 5",
		"SELECT * FROM t WHERE 5.5 >= T.N AND o.x = 1 AND random() < 2":                       "(n <= 5.5 AND o.X = 1)",
		"SELECT * FROM t WHERE NOT (n BETWEEN 1 AND 2 OR s LIKE 'ab%') AND n<>3":              "((n < 1 OR n > 2) AND n <> 3)",
		"SELECT * FROM t WHERE NOT (n > 1 AND s LIKE 'ab%')":                                  "unknown",
		"SELECT * FROM t WHERE s LIKE 'a%_' OR s = concat('x', 'y')":                          "(s STARTS WITH 'a' OR s = 'xy')",
		"SELECT * FROM t WHERE s NOT LIKE 'ab' AND s NOT IN ('x', 'y')":                       "(s <> 'ab' AND s <> 'x' AND s <> 'y')",
		"SELECT * FROM t WHERE f = 0.1":                                                       "(f >= 0.1 AND f <= 0.10000000149011612)",
		"SELECT * FROM t WHERE f <> 0.5 AND NOT f > 0.1":                                      "(f <> 0.5 AND f <= 0.10000000149011612)",
		"FROM t WHERE NOT n < 1 AND NOT n <= 2 AND NOT n > 7 AND NOT n >= 6":                  "(n >= 1 AND n > 2 AND n <= 7 AND n < 6)",
		"FROM t WHERE NOT n <> 5 AND NOT 4 = n AND NOT 9 < n AND 0 < n":                       "(n = 5 AND n <> 4 AND n <= 9 AND n > 0)",
		"FROM t WHERE NOT (n < 1 OR n <= 2 OR n > 7 OR n >= 6 OR n = 4 OR n <> 5)":            "(n >= 1 AND n > 2 AND n <= 7 AND n < 6 AND n <> 4 AND n = 5)",
		"FROM t WHERE f <> 0.1":                                                               "unknown",
		"FROM t WHERE NOT f < 0.1 AND f < 0.3":                                                "(f >= 0.1 AND f <= 0.30000001192092896)",
		"FROM t WHERE NOT (n IS NULL OR s IS NOT NULL)":                                       "(n IS NOT NULL AND s IS NULL)",
		"FROM t WHERE n IS DISTINCT FROM 1 AND s IS NOT DISTINCT FROM 'x'":                    "((n <> 1 OR n IS NULL) AND s = 'x')",
		"FROM t WHERE NOT ts::DATE > '2026-01-01'":                                            "ts < TIMESTAMP '2026-01-02 00:00:00'",
		"FROM t a ASOF JOIN t b ON a.s = b.s AND a.n >= b.n WHERE a.n > 1 AND b.n > 2":        "unknown",
		"FROM t a FULL JOIN t b ON a.n = b.n AND a.n > 1 WHERE b.n > 1":                       "unknown",
		"FROM t a RIGHT JOIN t b ON a.n = b.n AND a.n > 1 WHERE b.n > 2":                      "(n > 1 OR n > 2)",
		"FROM (t a LEFT JOIN t b ON a.n = b.n) JOIN t c ON b.n > 1 AND c.n = 1 WHERE a.n = 2": "unknown",
		"SELECT * FROM t WHERE ts >= '2026-01-01' AND ts < DATE '2026-01-02'":                 "(ts >= TIMESTAMP '2026-01-01 00:00:00' AND ts < TIMESTAMP '2026-01-02 00:00:00')",
		"SELECT * FROM t WHERE ts::DATE = '2026-01-01'":                                       "(ts >= TIMESTAMP '2026-01-01 00:00:00' AND ts < TIMESTAMP '2026-01-02 00:00:00')",
		"SELECT * FROM t WHERE ts >= TIMESTAMPTZ '2026-01-01 00:00:00+01'":                    "ts >= TIMESTAMP '2025-12-31 23:00:00'",
		"SELECT * FROM t WHERE n IN (1, 2) AND n IS NOT NULL":                                 "((n = 1 OR n = 2) AND n IS NOT NULL)",
		"SELECT * FROM t WHERE n IN (1, 2e0)":                                                 "unknown",
		"SELECT * FROM t WHERE n = 1e3":                                                       "n = 1000",
		"SELECT * FROM t WHERE n::VARCHAR = s":                                                "unknown",
		"SELECT * FROM t WHERE n = NULL OR n = 1":                                             "unknown",
		"SELECT * FROM t WHERE n = 1 OR (SELECT true)":                                        "unknown",
		"SELECT * FROM t WHERE n > 1 UNION ALL SELECT * FROM t WHERE n < 0":                   "(n > 1 OR n < 0)",
		"SELECT * FROM t WHERE n > 1 UNION ALL SELECT * FROM t":                               "unknown",
		"SELECT * FROM t a JOIN t b ON a.n = b.n AND b.n > 2 WHERE a.n < 5":                   "(n < 5 OR n > 2)",
		"SELECT * FROM t a LEFT JOIN t b ON a.n = b.n AND b.n > 2 WHERE a.n < 5":              "(n < 5 OR n > 2)",
		"SELECT * FROM t a LEFT JOIN t b ON a.n = b.n WHERE a.n < 5 AND b.n > 1":              "unknown",
		"SELECT * FROM t a LEFT JOIN t b ON a.n > 2 WHERE a.n < 5":                            "unknown",
		"SELECT * FROM t a SEMI JOIN t b ON a.n = b.n AND a.n > 1 AND b.n > 2":                "(n > 1 OR n > 2)",
		"SELECT * FROM t a ANTI JOIN t b ON a.n = b.n AND a.n > 1 AND b.n > 2":                "unknown",
		"SELECT * FROM t WHERE n > (SELECT max(n) FROM t WHERE n < 7) AND n > 8":              "(n > 8 OR n < 7)",
		"SELECT * FROM t TABLESAMPLE 10% WHERE n > 1":                                         "unknown",
		"SELECT * FROM t WHERE n > 1 USING SAMPLE 10%":                                        "unknown",
		"SELECT * FROM t WHERE n > 1 AND n IN (SELECT count(*) FROM query_table('t'))":        "unknown",
		"SELECT * FROM t POSITIONAL JOIN t b WHERE b.n > 1":                                   "unknown",
		"SELECT n AS s FROM t WHERE s > 'a' GROUP BY ALL HAVING n > 1":                        "s > 'a'",
		"SELECT * FROM t AS t(a, b) WHERE a > 1":                                              "unknown",
		"SELECT * FROM t JOIN range(3) r(n) USING (n) WHERE n > 1":                            "unknown",
		"SUMMARIZE SELECT * FROM t WHERE n > 1":                                               "n > 1",
		"SUMMARIZE t":                                                                         "unknown",
		"WITH c AS (SELECT * FROM t WHERE n > 1) SELECT * FROM c WHERE n < 9":                 "n > 1",
		"FROM t WHERE n > 9007199254740993":                                                   "n > 9007199254740993",
		"FROM t WHERE n > 'x'":                                                                "error",
	} {
		src.asked = nil
		rows, err := tables.Query(t.Context(), sql)
		if err == nil {
			err = WriteCSV(&bytes.Buffer{}, rows)
			rows.Close()
		}
		if want == "error" {
			if err == nil {
				t.Errorf("%s: no error", sql)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", sql, err)
		}
		if !slices.Equal(src.asked, []string{"t: " + want}) {
			t.Errorf("%s:\n got %v\nwant %s", sql, src.asked, want)
		}
	}
	src.asked = nil
	text(t, tables, "SELECT 1 FROM t VERSION AS OF 1 WHERE t.n > 4 UNION SELECT 2 FROM t WHERE n > 5 AND ts < now()", WriteCSV)
	if len(src.asked) != 2 || !strings.HasPrefix(src.asked[0], "t: (n > 5 AND ts < TIMESTAMP '") || src.asked[1] != "t VERSION AS OF 1: n > 4" {
		t.Error(src.asked)
	}
}

func TestExplainSaysWhatIsSkipped(t *testing.T) {
	tables, src := openVersions(t)
	want := "t VERSION AS OF 1: version 1, 4 files; skipped 1 by partition, 2 by statistics; to read: 1 file, 1.0 MiB\n"
	plan := text(t, tables, "EXPLAIN SELECT * FROM t VERSION AS OF 1 WHERE n > 0", WritePlan)
	if !strings.HasPrefix(plan, want) || !strings.Contains(plan, "READ_PARQUET") {
		t.Error(plan)
	}
	if src.plans != 1 || src.asked[0] != "t VERSION AS OF 1: n > 0" {
		t.Error(src.plans, src.asked)
	}
	if text(t, tables, "EXPLAIN ANALYZE SELECT * FROM t", WriteCSV); src.plans != 1 {
		t.Error("a statement that runs was only planned")
	}
	rows, err := tables.Query(t.Context(), "SELECT * FROM t")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	if s := rows.Stats(); rows.IsPlan() || len(s) != 1 || s[0].Store.Files != 1 || !strings.Contains(s[0].Reads(), "1 file (1.0 MiB) from the store, 0 files (0 B) from the cache") {
		t.Error(s)
	}
}

func TestFilesThatWereVacuumed(t *testing.T) {
	tables, src := openVersions(t)
	src.gone = 1
	if got := text(t, tables, "SELECT n FROM t WHERE n >= 0", WriteCSV); got != "n\n3\n" || len(src.asked) != 2 {
		t.Error(got, src.asked)
	}
	src.gone = 2
	if _, err := tables.Query(t.Context(), "SELECT n FROM t"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	src.asked, src.gone = nil, 1
	if _, err := tables.Query(t.Context(), "SELECT n FROM t VERSION AS OF 1"); !errors.Is(err, fs.ErrNotExist) || len(src.asked) != 1 {
		t.Error(err, src.asked)
	}
}

// Files are chosen for the time that the statement sees.
func TestNowIsTheSameForFilesAndRows(t *testing.T) {
	tables, src := openVersions(t)
	got := text(t, tables, "SELECT strftime(now(), '%Y-%m-%d %H:%M:%S.%f') AS x FROM t WHERE ts < now() OR ts IS NULL", WriteCSV)
	_, asked, _ := strings.Cut(src.asked[0], "TIMESTAMP '")
	asked, _, _ = strings.Cut(asked, "'")
	when, err := time.Parse("2006-01-02 15:04:05.999999", asked)
	if err != nil {
		t.Fatal(src.asked, err)
	}
	if want := when.Format("2006-01-02 15:04:05.000000"); !strings.Contains(got, want) {
		t.Errorf("the files are those of %s, the rows those of %s", want, got)
	}
}

func TestPredicateOfNothingKeepsAll(t *testing.T) {
	if newNeeds().need("t") != (*predicate.Node)(nil) {
		t.Error("a table that was not found needs something")
	}
}
