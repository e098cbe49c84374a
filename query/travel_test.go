package query

import (
	"strings"
	"testing"
)

// Rewritten statements, as they go to DuckDB. "=" means as it was.
func TestRewriteFindsVersionsAndPaths(t *testing.T) {
	for _, c := range []struct{ sql, want string }{
		{`SELECT * FROM t FOR VERSION AS OF 12`, `SELECT * FROM "t VERSION #1" AS "t" `},
		{`SELECT * FROM t FOR VERSION AS OF 12 WHERE t.x = 1`, `SELECT * FROM "t VERSION #1" AS "t"  WHERE t.x = 1`},
		{`SELECT * FROM t VERSION AS OF -1+(2) a`, `SELECT * FROM "t VERSION #1"  a`},
		{`SELECT * FROM t a FOR SYSTEM_VERSION AS OF 1 JOIN "T""x" AS b TIMESTAMP AS OF '2026-01-01' ON a.x = b.x`,
			`SELECT * FROM "t VERSION #1" a  JOIN "T""x TIMESTAMP #2" AS b  ON a.x = b.x`},
		{`FROM main.t AT (VERSION => 1) SELECT 1`, `FROM "t VERSION #1" AS "t"  SELECT 1`},
		{`FROM t AT (TIMESTAMP => now() - INTERVAL (1) HOUR), t b AT (VERSION=>f((1),2)) LIMIT 1`, `FROM "t TIMESTAMP #1" AS "t" , "t VERSION #2" b  LIMIT 1`},
		{`FROM t TIMESTAMP AS OF TIMESTAMP '2026-01-01 00:00:00' - INTERVAL 1 DAY + INTERVAL '2 days' x`, `FROM "t TIMESTAMP #1"  x`},
		{`FROM t TIMESTAMP AS OF now()::TIMESTAMP left join u on true`, `FROM "t TIMESTAMP #1" AS "t"  left join u on true`},
		{`FROM t TIMESTAMP AS OF current_date - 1`, `FROM "t TIMESTAMP #1" AS "t" `},
		{`WITH w AS (SELECT * FROM t VERSION AS OF 3) SELECT (SELECT max(x) FROM t VERSION AS OF 4) FROM w`,
			`WITH w AS (SELECT * FROM "t VERSION #1" AS "t" ) SELECT (SELECT max(x) FROM "t VERSION #2" AS "t" ) FROM w`},
		{`SELECT 'FROM t FOR VERSION AS OF 1', "FROM t VERSION AS OF 2", E'\' FROM t VERSION AS OF 2', $$ FROM t VERSION AS OF 3 $$ -- FROM t VERSION AS OF 3` + "\n" + `/* FROM t /* */ AT (VERSION => 1) */`, `=`},
		{`SELECT t version FROM u`, `=`},
		{`SELECT version AS of, timestamp AS of FROM t`, `=`},
		{`SELECT x timestamp FROM t`, `=`},
		{`SELECT ts AT TIME ZONE 'UTC' FROM t`, `=`},
		{`SELECT * FROM t VERSION AS OF nonsense`, `=`},
		{`SELECT * FROM t FOR VERSION AS OF`, `=`},
		{`SELECT * FROM t FOR VERSION AS OF (1`, `=`},
		{`SELECT 'unfinished FROM t VERSION AS OF 1`, `=`},
		{`FROM delta_scan('s3://b/p') WHERE x`, `FROM "s3://b/p" AS "delta_scan" WHERE x`},
		{`FROM delta_scan('it''s') AS d, Delta_Scan ( 'y' ) FOR VERSION AS OF 1 e`, `FROM "it's" AS d, "y VERSION #1"  e`},
		{`FROM 's3://b/p' VERSION AS OF 2, "file:///x y" z AT (VERSION => 1)`, `FROM "s3://b/p VERSION #1" AS "s3://b/p" , "file:///x y VERSION #2" z `},
		{`SELECT '😀', x FROM t FOR VERSION AS OF 12;`, `SELECT '😀', x FROM "t VERSION #1" AS "t" ;`},
	} {
		r, err := rewrite(c.sql)
		if err != nil {
			t.Errorf("%s: %v", c.sql, err)
			continue
		}
		want := c.want
		if want == "=" {
			want = c.sql
		}
		if r.sql != want {
			t.Errorf("%s:\n got %s\nwant %s", c.sql, r.sql, want)
		}
		for _, word := range []string{"WHERE", "LIMIT", "SELECT 1", "left", "FROM w", "x = b.x", ";"} {
			if at := strings.LastIndex(r.sql, word); at >= 0 && r.position(at) != strings.LastIndex(c.sql, word) {
				t.Errorf("%s: %q is at %d, not at %d", c.sql, word, r.position(at), strings.LastIndex(c.sql, word))
			}
		}
		for _, ref := range r.refs {
			if ref.unit != "" && !strings.HasPrefix(c.sql[ref.exprStart:], ref.expr) {
				t.Errorf("%s: %q does not stand at %d", c.sql, ref.expr, ref.exprStart)
			}
		}
	}
	for _, sql := range []string{"FROM delta_scan(x)", "FROM delta_scan()", "SELECT 1 FROM delta_scan('a', 'b')", `FROM delta_scan(E'\x00')`} {
		if _, err := rewrite(sql); err == nil || !strings.Contains(err.Error(), "in quotes") {
			t.Errorf("%s: %v", sql, err)
		}
	}
}
