package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tidemill/tidemill/test/product"
)

// mended is a project whose rows are turned away by both hops: amounts that are text, and
// amounts that are not positive.
var mended = product.Project{
	"tidemill.yaml":           "project: mended\nmaintenance: {every: off}\n",
	"connectors/orders.yaml":  httpConnector("orders"),
	"tables/orders.yaml":      "table: orders\ncolumns:\n  - {name: id, type: long, required: true}\n  - {name: amount, type: double, required: true}\nchecks:\n  - {name: positive_amount, expr: \"amount > 0\", on_fail: quarantine}\n",
	"repair.blobl":            "root = this\nroot.amount = this.amount.number().abs()\n",
	"deletes.blobl":           "root = deleted()\n",
	"connectors/orders2.yaml": strings.ReplaceAll(httpConnector("orders"), "path: /orders", "path: /orders2"),
}

const mendedRows = `{"id": 1, "amount": 1.5}
{"id": 2, "amount": "2.5"}
{"id": 3, "amount": -3.5}
{"id": 4, "amount": "-4.5"}
{"id": 5, "amount": 0}
{"id": 6, "amount": "none"}
{"id": 7`

type replayed struct {
	ID                         string
	Chosen, Marked, Kept, Back int64
	Landed                     int64
	Rules                      map[string]int64
	Example                    string
}

// mendedIDs are the ids in the scored table, and how many rows are in quarantine.
func mendedIDs(t *testing.T, b product.Binary, dir string) (ids string, bad int64) {
	t.Helper()
	rows := product.Query[struct{ IDs string }](t, b, dir, "SELECT string_agg(id::VARCHAR, ' ' ORDER BY id) AS ids FROM orders_scored")
	left := product.Query[struct{ N int64 }](t, b, dir, "SELECT count(*) AS n FROM orders_quarantine WHERE replay IS NULL")
	if len(rows) != 1 || len(left) != 1 {
		t.Fatalf("%v, %v", rows, left)
	}
	return rows[0].IDs, left[0].N
}

// until waits until the tables hold just that.
func untilMended(t *testing.T, s *product.Server, b product.Binary, dir, ids string, bad int64) {
	t.Helper()
	s.Until(t, func() error {
		r := b.Run(t, "-C", dir, "sql", "SELECT 1 FROM orders_scored LIMIT 1")
		if r.Code != 0 {
			return errors.New(r.Output())
		}
		if got, n := mendedIDs(t, b, dir); got != ids || n != bad {
			return fmt.Errorf("scored %s, %d in quarantine; want %s and %d", got, n, ids, bad)
		}
		return nil
	})
}

// TestQuarantineCommands looks at rows that were turned away and replays them. The process is
// killed between the steps of the replay; the workflow goes on in the next one. (Each step by
// itself is cut off in the tests of package activities.)
func TestQuarantineCommands(t *testing.T) {
	for _, point := range []string{"", "replay-after-mark", "replay-after-land"} {
		t.Run("killed "+point, func(t *testing.T) {
			t.Parallel()
			replayMended(t, point)
		})
	}
}

func replayMended(t *testing.T, point string) {
	dir := filepath.Join(t.TempDir(), "mended")
	if err := mended.WriteTo(dir); err != nil {
		t.Fatal(err)
	}
	b := binary(t)
	first := b
	if point != "" {
		first.Env = append([]string{"TIDEMILL_FAULT=" + point}, b.Env...)
	}
	s, at, err := first.Dev(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { s.Stop() }()
	if code, err := product.Post(t.Context(), at.HTTP+"/orders", "", []byte(mendedRows)); err != nil || code != 200 {
		t.Fatal(code, err)
	}
	untilMended(t, s, b, dir, "1", 6)
	if point == "" {
		lookAtMended(t, b, dir)
	}

	replay := []string{"-C", dir, "quarantine", "replay", "orders", "--json", "--repair-file", filepath.Join(dir, "repair.blobl")}
	var done replayed
	if point != "" {
		asks, err := b.Start(replay...)
		if err != nil {
			t.Fatal(err)
		}
		<-s.Done()
		asks.Signal(syscall.SIGKILL) // it would wait for the server for a minute
		if s, at, err = b.Dev(dir); err != nil {
			t.Fatal(err)
		}
	} else {
		r := b.Run(t, replay...)
		decode(t, r.Stdout, &done)
		if done.Marked != 3 || done.Landed != 3 || done.Kept != 3 || done.Rules["repair"] != 2 || done.Rules["positive_amount"] != 1 {
			t.Errorf("exit code %d: %s", r.Code, r.Output())
		}
	}
	untilMended(t, s, b, dir, "1 2 3 4", 3)
	// Following the one that runs, or running another: nothing comes in twice.
	r := b.Run(t, replay...)
	if decode(t, r.Stdout, &done); r.Code != 0 || done.Kept != 3 {
		t.Errorf("again: exit code %d: %s", r.Code, r.Output())
	}
	untilMended(t, s, b, dir, "1 2 3 4", 3)
	landed := product.Query[struct{ N, Ids int64 }](t, b, dir, "SELECT count(*) AS n, count(DISTINCT _offset) AS ids FROM orders WHERE _source = '_tidemill/replay'")
	if len(landed) != 1 || landed[0].N != 3 || landed[0].Ids != 3 {
		t.Errorf("landed again: %+v", landed)
	}
	// What the source delivers again is in already.
	if code, err := product.Post(t.Context(), at.HTTP+"/orders2", "", []byte(`{"id": 8, "amount": 8}`)); err != nil || code != 200 {
		t.Fatal(code, err)
	}
	untilMended(t, s, b, dir, "1 2 3 4 8", 3)
}

// lookAtMended lists and shows what was turned away, and meets errors.
func lookAtMended(t *testing.T, b product.Binary, dir string) {
	t.Helper()
	run := func(args ...string) product.Result {
		return b.Run(t, append([]string{"-C", dir, "quarantine"}, args...)...)
	}
	r := run("list", "orders", "--counts")
	if r.Code != 0 || !strings.Contains(r.Stdout, "wrong_type") || !strings.Contains(r.Stdout, "positive_amount") || !strings.Contains(r.Stdout, "not_json") {
		t.Errorf("exit code %d: %s", r.Code, r.Output())
	}
	r = run("list", "orders", "--where", "rule = 'not_json'", "--json")
	var row struct{ Position, Raw, Message string }
	if err := json.Unmarshal([]byte(r.Stdout), &row); err != nil || row.Raw != `{"id": 7` {
		t.Fatalf("exit code %d: %s", r.Code, r.Output())
	}
	r = run("show", "orders", row.Position)
	if r.Code != 0 || !strings.Contains(r.Stdout, `raw              {"id": 7`) || !strings.Contains(r.Stdout, "class            decode") {
		t.Errorf("exit code %d: %s", r.Code, r.Output())
	}
	if r = run("replay", "orders", "--dry-run", "--where", "rule = 'wrong_type'", "--repair", "root = this\nroot.amount = this.amount.number().abs()"); r.Code != 0 || !strings.Contains(r.Stdout, "orders: 2 of 3 rows would pass") {
		t.Errorf("exit code %d: %s", r.Code, r.Output())
	}
	if r = run("replay", "orders", "--repair-file", filepath.Join(dir, "deletes.blobl")); r.Code != 0 || !strings.Contains(r.Stdout, "orders: 0 of 6 rows taken") || !strings.Contains(r.Stdout, "it deletes the row") {
		t.Errorf("exit code %d: %s", r.Code, r.Output())
	}
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"replay", "orders", "--repair", "root = this.amount.nosuch()"}, "unrecognised method 'nosuch'"},
		{[]string{"replay", "orders", "--repair", `root.x = env("HOME")`}, "unrecognised function 'env'"},
		{[]string{"replay", "orders", "--where", "nosuch = 1"}, `input: "where" is no condition over the columns of orders_quarantine`},
		{[]string{"replay", "nosuch"}, "no contract tables/nosuch.yaml"},
		{[]string{"show", "orders", "nowhere"}, "want SOURCE:OFFSET"},
		{[]string{"show", "orders", "nowhere:1"}, "has no row at nowhere:1"},
		{[]string{"list", "orders;"}, "want the contract's name"},
		{[]string{"replay", "orders", "--repair-file", "nosuch.blobl"}, "no file nosuch.blobl"},
	} {
		if r := run(c.args...); r.Code == 0 || !strings.Contains(r.Stderr, c.says) {
			t.Errorf("%q: exit code %d, want %q from: %s", c.args, r.Code, c.says, r.Output())
		}
	}
}
