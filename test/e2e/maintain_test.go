package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/test/product"
)

// maintained is what `tidemill table maintain --json` prints.
type maintained struct {
	Workflow string
	Tables   []struct {
		Table         string
		Before, After struct{ Version, Files int64 }
		Steps         []struct{ Step, Skipped, Error string }
	}
}

// TestMaintainCommands joins a table's files by hand, compares its versions, and takes it
// back to one of them and forth again.
func TestMaintainCommands(t *testing.T) {
	d := dev(t)
	run := func(args ...string) product.Result { return d.binary.Run(t, append([]string{"-C", d.dir}, args...)...) }
	// A turn of the pipeline takes what has landed until then as one file, so each row is
	// waited for: with fewer files than a group has there would be nothing to join.
	for id := range 10 {
		d.post(t, "upkeep", "", fmt.Appendf(nil, `{"id": %d, "amount": 1}`, id))
		d.count(t, int64(id)+1, "SELECT count(*) AS n FROM upkeep_scored")
	}

	var dry maintained
	r := run("table", "maintain", "upkeep_scored", "--dry-run", "--json")
	if err := json.Unmarshal([]byte(r.Stdout), &dry); err != nil || r.Code != 0 || dry.Workflow != "maintain/shared/upkeep" || len(dry.Tables) != 1 || len(dry.Tables[0].Steps) != 5 {
		t.Fatalf("exit code %d, %v: %s", r.Code, err, r.Output())
	}
	before := dry.Tables[0].After
	// The youngest files are left alone. How many of the ten were old enough when enough of
	// them were is the machine's to say, and no later run need join the rest.
	d.Until(t, func() error {
		r := run("table", "maintain", "upkeep", "--only", "upkeep_scored", "--steps", "compact,checkpoint", "--json")
		var done maintained
		if err := json.Unmarshal([]byte(r.Stdout), &done); err != nil || r.Code != 0 || !strings.Contains(r.Stderr, "compact upkeep_scored: done in") {
			t.Fatalf("exit code %d, %v: %s", r.Code, err, r.Output())
		}
		if done.Tables[0].After.Files >= before.Files {
			return errNotYet
		}
		return nil
	})
	d.count(t, 10, "SELECT count(*) AS n FROM upkeep_scored")

	type diff struct {
		Added, Removed struct{ Files, Rows int64 }
		Commits        []struct{ Operation string }
	}
	var joined diff
	after := lastVersion(t, d, "upkeep_scored")
	decode(t, d.binary.Must(t, "-C", d.dir, "table", "diff", "upkeep_scored", fmt.Sprint(before.Version), fmt.Sprint(after), "--json"), &joined)
	if joined.Added.Files != 1 || joined.Removed.Files < 8 || joined.Added.Rows != joined.Removed.Rows || joined.Added.Rows < 8 || len(joined.Commits) == 0 || joined.Commits[0].Operation != "OPTIMIZE" {
		t.Errorf("diff of %d and %d: %+v", before.Version, after, joined)
	}

	if r := run("table", "restore", "upkeep_scored", "0"); r.Code == 0 || !strings.Contains(r.Stdout, " files, 10 rows") {
		t.Errorf("without a yes: exit code %d: %s", r.Code, r.Output())
	}
	for _, c := range []struct{ to, rows int64 }{{0, 0}, {after, 10}} {
		if r := run("table", "restore", "upkeep_scored", fmt.Sprint(c.to), "--yes"); r.Code != 0 || !strings.Contains(r.Stdout, fmt.Sprintf("has the rows of version %d again", c.to)) {
			t.Fatalf("restore: exit code %d: %s", r.Code, r.Output())
		}
		rows := product.Query[struct{ N int64 }](t, d.binary, d.dir, "SELECT count(*) AS n FROM upkeep_scored")
		if len(rows) != 1 || rows[0].N != c.rows {
			t.Errorf("restored to %d: %+v", c.to, rows)
		}
	}

	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"table", "maintain", "nosuch"}, 1, "no table nosuch; there are: "},
		{[]string{"table", "maintain", "upkeep", "--only", "things"}, 1, `"only" is "things", want one of upkeep_scored`},
		{[]string{"table", "maintain", "upkeep", "--steps", "tidy"}, 2, "none of expire, compact"},
		{[]string{"table", "diff", "upkeep", "0", "newest"}, 2, `V2 is "newest", want a version`},
		{[]string{"table", "diff", "upkeep", "0", "9999"}, 1, "has no version 9999: versions 0 to"},
		{[]string{"table", "restore", "upkeep", "9999", "--yes"}, 1, "has no version 9999: versions 0 to"},
	} {
		if r := run(c.args...); r.Code != c.code || !strings.Contains(r.Stderr, c.says) || r.Stdout != "" {
			t.Errorf("%q: exit code %d, want %d, and %q from: %s", c.args, r.Code, c.code, c.says, r.Output())
		}
	}
	if got := d.binary.Must(t, "-C", d.dir, "__complete", "table", "restore", ""); !strings.Contains(got, "upkeep_quarantine\n") {
		t.Errorf("completes with:\n%s", got)
	}
}

func lastVersion(t *testing.T, d *devServer, table string) int64 {
	t.Helper()
	var history []struct{ Version int64 }
	decode(t, d.binary.Must(t, "-C", d.dir, "table", "history", table, "-n", "1", "--json"), &history)
	if len(history) != 1 {
		t.Fatalf("%+v", history)
	}
	return history[0].Version
}
