package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/test/product"
)

const visits = `table: visits
columns:
  - {name: id, type: long, required: true}
  - {name: ts, type: timestamp}
%sevent_time: ts
partition_by: [date(ts)]
cluster_by: [id]
retention: 36500d
on_new_field: add
features: SELECT *, id * 2 AS twice FROM batch
`

// TestContractsGrow lands rows with fields that the contract does not know, finds them
// in both tables, pastes what `contract fields` prints into the contract, goes on, and
// then asks for what tables cannot follow.
func TestContractsGrow(t *testing.T) {
	t.Parallel()
	b := binary(t)
	p := product.Project{
		"tidemill.yaml":      "project: grow\n",
		"tables/visits.yaml": fmt.Sprintf(visits, ""),
		"connectors/a.yaml":  "input:\n  file: {paths: [rows-*.ndjson]}\noutput:\n  lakehouse: {table: visits}\n",
		"rows-1.ndjson": `{"id":1,"ts":"2026-01-31T23:59:59Z","coupon":"SAVE10"}
{"id":2,"ts":"2026-02-01T00:00:00Z","meta":{"ip":"::1"},"user-id":7}
{"id":3,"visits":1}
`,
	}
	dir := p.Write(t, "grow")
	run := func() product.Result { return b.Run(t, "-C", dir, "dev", "--free-ports", "--exit-when-done") }
	// The connector's file is named relative to where the product runs.
	conf := strings.ReplaceAll(p["connectors/a.yaml"], "rows-", filepath.Join(dir, "rows-"))
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("connectors/a.yaml", conf)
	if r := run(); r.Code != 0 {
		t.Fatalf("exit code %d\n%s", r.Code, r.Output())
	}
	rows := func(table string) []string {
		t.Helper()
		var out []string
		for _, r := range product.Query[map[string]any](t, b, dir, "SELECT id, ts_date::VARCHAR AS day, coupon, meta, visits FROM "+table+" ORDER BY id") {
			line, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, string(line))
		}
		return out
	}
	want := []string{
		`{"coupon":"SAVE10","day":"2026-01-31","id":1,"meta":null,"visits":null}`,
		`{"coupon":null,"day":"2026-02-01","id":2,"meta":"{\"ip\":\"::1\"}","visits":null}`,
		`{"coupon":null,"day":null,"id":3,"meta":null,"visits":1}`,
	}
	for _, table := range []string{"visits", "visits_scored"} {
		if got := rows(table); !slices.Equal(got, want) {
			t.Errorf("%s:\n%s", table, strings.Join(got, "\n"))
		}
		var info struct {
			PartitionBy []string `json:"partition_by"`
		}
		if err := json.Unmarshal([]byte(b.Must(t, "-C", dir, "table", "show", table, "--json")), &info); err != nil || !slices.Equal(info.PartitionBy, []string{"ts_date"}) {
			t.Errorf("%s is partitioned by %v, %v", table, info.PartitionBy, err)
		}
	}

	yaml := b.Must(t, "-C", dir, "contract", "fields", "visits")
	for _, line := range []string{`{name: coupon, type: string}  # 1 rows since`, `such as "SAVE10"`, `{name: meta, type: string}`, `{name: visits, type: long}`, "#   user-id: its name cannot"} {
		if !strings.Contains(yaml, line) {
			t.Errorf("%q is not in\n%s", line, yaml)
		}
	}
	write("tables/visits.yaml", fmt.Sprintf(visits, yaml))
	write("rows-2.ndjson", `{"id":4,"ts":"2026-02-01T08:00:00Z","coupon":"SAVE20","visits":2}`+"\n"+`{"id":5,"visits":"many"}`+"\n")
	if r := run(); r.Code != 0 {
		t.Fatalf("with the pasted lines: exit code %d\n%s", r.Code, r.Output())
	}
	want = append(want, `{"coupon":"SAVE20","day":"2026-02-01","id":4,"meta":null,"visits":2}`)
	if got := rows("visits_scored"); !slices.Equal(got, want) {
		t.Errorf("with the pasted lines:\n%s", strings.Join(got, "\n"))
	}
	if n := product.Query[struct{ N int }](t, b, dir, `SELECT count(*) AS n FROM visits_quarantine WHERE rule = 'wrong_type' AND "column" = 'visits'`); n[0].N != 1 {
		t.Errorf("%d rows in quarantine", n[0].N)
	}
	if left := b.Must(t, "-C", dir, "contract", "fields", "visits"); strings.Contains(left, "name: coupon") {
		t.Errorf("what the contract has by now is listed:\n%s", left)
	}

	edits := map[string][2]string{
		"tables/visits.yaml:6: columns[3].type: the table visits has the column visits as long, not double": {"", "  - {name: coupon, type: string}\n  - {name: visits, type: double}\n"},
		"partition_by: the table visits is partitioned by ts_date, the contract wants it not partitioned":   {"partition_by: [date(ts)]\n", ""},
		"columns[0].type: the table visits has the column id as long, not string":                           {"name: id, type: long", "name: id, type: string"},
	}
	for _, says := range slices.Sorted(maps.Keys(edits)) {
		e := edits[says]
		text := fmt.Sprintf(visits, "")
		if e[0] == "" {
			text = fmt.Sprintf(visits, e[1])
		} else {
			text = strings.Replace(text, e[0], e[1], 1)
		}
		write("tables/visits.yaml", strings.Replace(text, "id * 2", "1", 1))
		if r := run(); r.Code != 3 || !strings.Contains(r.Stderr, says) || !strings.Contains(r.Stderr, "visits_2") {
			t.Errorf("exit code %d, want 3 and %s\n%s", r.Code, says, r.Output())
		}
	}
}
