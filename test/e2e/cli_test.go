package e2e

import (
	"encoding/csv"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tidemill/tidemill/test/product"
)

// TestInit: what init writes is a project that lint has nothing against.
func TestInit(t *testing.T) {
	b := binary(t)
	dir := t.TempDir() + "/shop"
	out := b.Must(t, "init", dir)
	for _, want := range []string{"tidemill.yaml", "connectors/orders.yaml", "tables/orders.yaml", "tidemill dev " + dir} {
		if !strings.Contains(out, want) {
			t.Errorf("init does not say %q:\n%s", want, out)
		}
	}
	if out := b.Must(t, "lint", dir); !strings.Contains(out, "no problems") {
		t.Errorf("lint says: %s", out)
	}
	if r := b.Run(t, "init", dir); r.Code != 3 || !strings.Contains(r.Stderr, "exists already and is not overwritten") {
		t.Errorf("init over a project: exit code %d\n%s", r.Code, r.Output())
	}
	if r := b.Run(t, "-C", dir, "sql", "SELECT * FROM orders"); r.Code != 1 || !strings.Contains(r.Stderr, "tidemill dev") {
		t.Errorf("sql without any data: exit code %d\n%s", r.Code, r.Output())
	}
}

// TestTables looks at tables in every way that the command line has.
func TestTables(t *testing.T) {
	d := dev(t)
	run := func(args ...string) string { return d.binary.Must(t, append([]string{"-C", d.dir}, args...)...) }
	d.post(t, "strict", "", []byte(`{"id": 7000, "name": "a,\"b\"\n☃", "amount": 1.5, "at": "2026-01-31T12:00:00Z"}`))
	d.count(t, 1, "SELECT count(*) AS n FROM strict_scored WHERE id = 7000")

	list := run("table", "list")
	for _, want := range []string{"TABLE", "strict", "strict_scored", "strict_quarantine", "readings"} {
		if !strings.Contains(list, want) {
			t.Errorf("table list lacks %s:\n%s", want, list)
		}
	}
	var tables []struct {
		Name    string
		Version int64
		Rows    int64
	}
	decode(t, run("table", "list", "--json"), &tables)
	if i := slices.IndexFunc(tables, func(x struct {
		Name    string
		Version int64
		Rows    int64
	}) bool {
		return x.Name == "strict"
	}); i < 0 || tables[i].Rows < 1 || tables[i].Version < 1 {
		t.Errorf("table list --json: %+v", tables)
	}
	var shown struct {
		Location string
		Columns  []struct {
			Name, Type string
			Nullable   bool
		}
	}
	decode(t, run("table", "show", "strict_scored", "--json"), &shown)
	if shown.Location != "s3://tidemill/shared/strict_scored" || len(shown.Columns) < 5 || shown.Columns[0].Name != "id" || shown.Columns[0].Type != "long" || shown.Columns[0].Nullable {
		t.Errorf("table show --json: %+v", shown)
	}
	if out := run("table", "show", "strict"); !strings.Contains(out, "_raw     binary") {
		t.Errorf("table show:\n%s", out)
	}
	var history []struct {
		Version   int64
		Operation string
		Rows      int64
	}
	decode(t, run("table", "history", "strict", "-n", "0", "--json"), &history)
	if n := len(history); n < 2 || history[n-1].Operation != "CREATE TABLE" || history[0].Version != int64(n-1) || history[0].Rows < 1 {
		t.Errorf("table history --json: %+v", history)
	}
	if out := run("table", "history", "strict", "-n", "1"); strings.Count(out, "\n") != 2 || !strings.Contains(out, "STREAMING UPDATE") {
		t.Errorf("table history -n 1:\n%s", out)
	}

	const sql = `SELECT id, name, amount, small, "at" FROM strict WHERE id = 7000`
	if got := run("sql", "--format", "json", sql); strings.TrimSpace(got) != `{"id":7000,"name":"a,\"b\"\n☃","amount":1.5,"small":null,"at":"2026-01-31T12:00:00Z"}` {
		t.Errorf("sql --format json: %s", got)
	}
	rows, err := csv.NewReader(strings.NewReader(run("sql", "--format", "csv", sql))).ReadAll()
	if err != nil || len(rows) != 2 || rows[0][1] != "name" || rows[1][1] != "a,\"b\"\n☃" || rows[1][2] != "1.5" || rows[1][3] != "" {
		t.Errorf("sql --format csv: %q, %v", rows, err)
	}
	if got := run("sql", sql); !strings.Contains(got, "7000") || !strings.Contains(got, "(1 row") {
		t.Errorf("sql: %s", got)
	}

	if got := run("model", "list"); !strings.Contains(got, "machine") || !strings.Contains(got, "champion") {
		t.Errorf("model list:\n%s", got)
	}
	for _, of := range []string{"contract", "project"} {
		var schema map[string]any
		decode(t, run("schema", of), &schema)
		if schema["$schema"] == nil || schema["properties"] == nil {
			t.Errorf("schema %s has no properties", of)
		}
	}
}

func decode(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
}

// TestExitCodes: mistakes in the command line give 2, others 1, with a text on
// standard error and nothing on standard output.
func TestExitCodes(t *testing.T) {
	d := dev(t)
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"bogus"}, 2, `unknown command "bogus"`},
		{[]string{"lint", "--bogus"}, 2, "--bogus"},
		{[]string{"sql"}, 2, "tidemill sql --help"},
		{[]string{"sql", "--format", "xml", "SELECT 1"}, 2, "none of table, json, csv"},
		{[]string{"--log-level", "loud", "dev"}, 2, "loud"},
		{[]string{"schema", "bogus"}, 2, "bogus"},
		{[]string{"run", "--roles", "boss"}, 2, "neither connect nor worker"},
		{[]string{"-C", d.dir, "sql", "SELECT * FROM nosuch"}, 1, "there are: readings"},
		{[]string{"-C", d.dir, "sql", "SELECT nosuch FROM things"}, 1, "nosuch"},
		{[]string{"-C", d.dir, "sql", "DROP TABLE things"}, 1, "SQL only reads here"},
		{[]string{"-C", d.dir, "sql", "SELECT * FROM read_csv('/etc/passwd')"}, 1, ""},
		{[]string{"-C", d.dir, "table", "show", "nosuch"}, 1, "there are: "},
		{[]string{"lint", "/nonexistent"}, 3, "tidemill init"},
		{[]string{"dev", "/nonexistent"}, 3, "tidemill init"},
		{[]string{"run", "/nonexistent"}, 3, "tidemill init"},
		{[]string{"run", product.Project{"tidemill.yaml": ""}.Write(t, "plain")}, 3, "store: missing"},
	} {
		r := d.binary.Run(t, c.args...)
		if r.Code != c.code || !strings.Contains(r.Stderr, c.says) || !strings.HasPrefix(r.Stderr, "tidemill: ") || r.Stdout != "" {
			t.Errorf("%q: exit code %d, want %d, and %q from: %s", c.args, r.Code, c.code, c.says, r.Output())
		}
	}
}

// TestHelp: every command says what it does and shows an example that names
// commands and flags there are.
func TestHelp(t *testing.T) {
	t.Parallel()
	b := binary(t)
	listed := regexp.MustCompile(`(?m)^  ([a-z]+)  `)
	var visit func(path ...string)
	commands := 0
	visit = func(path ...string) {
		help := b.Must(t, append(path, "--help")...)
		_, rest, parent := strings.Cut(help, "Available Commands:")
		if parent && !(len(path) > 0 && path[0] == "completion") {
			rest, _, _ = strings.Cut(rest, "\n\n")
			for _, m := range listed.FindAllStringSubmatch(rest, -1) {
				if m[1] != "help" {
					visit(append(slices.Clone(path), m[1])...)
				}
			}
			return
		}
		commands++
		if len(path) > 0 && path[0] == "completion" {
			return
		}
		_, example, ok := strings.Cut(help, "Examples:\n")
		if !ok {
			t.Errorf("tidemill %s --help has no example", strings.Join(path, " "))
		}
		example, _, _ = strings.Cut(example, "\n\n")
		if !strings.Contains(example, "tidemill "+strings.Join(path, " ")) && !strings.Contains(example, "tidemill -C") {
			t.Errorf("the example of tidemill %s is of something else:\n%s", strings.Join(path, " "), example)
		}
	}
	visit()
	if commands < 12 {
		t.Errorf("only %d commands", commands)
	}
	if out := b.Must(t, "--help"); !strings.Contains(out, "Exit codes:") {
		t.Error("--help does not list the exit codes")
	}
	if out := b.Must(t, "completion", "bash"); !strings.Contains(out, "__start_tidemill") {
		t.Error("no completion for bash")
	}
	if out := b.Must(t, "__complete", "schema", ""); !strings.Contains(out, "contract") {
		t.Errorf("schema completes to: %s", out)
	}
	if out := b.Must(t, "--version"); !strings.HasPrefix(out, "tidemill version ") {
		t.Errorf("--version: %s", out)
	}
}

// counts is what demo tells of a project at its end.
type counts struct {
	In, Landed, Scored, Quarantined, Missing int64
	Duplicates                               *int64
	Latency                                  struct{ P50, P99 float64 } `json:"latency_ms"`
}

// demoEnd reads the last line of a demo and checks that it adds up.
func demoEnd(t *testing.T, stdout string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	var end struct{ Projects map[string]counts }
	decode(t, lines[len(lines)-1], &end)
	for _, name := range []string{"fraud", "host"} {
		c, ok := end.Projects[name]
		if !ok || c.Landed == 0 || c.Scored == 0 {
			t.Errorf("%s: nothing happened: %s", name, lines[len(lines)-1])
			continue
		}
		if c.Duplicates == nil || *c.Duplicates != 0 || c.Missing != 0 || c.In != c.Scored+c.Quarantined {
			t.Errorf("%s does not add up: %s", name, lines[len(lines)-1])
		}
		// Rows that were quarantined before they landed are in In, and not in Landed.
		if early := c.In - c.Landed; early < 0 || c.Landed != c.Scored+c.Quarantined-early {
			t.Errorf("%s: landed rows do not add up: %+v", name, c)
		}
		if c.Latency.P50 <= 0 || c.Latency.P99 < c.Latency.P50 {
			t.Errorf("%s: latency %+v", name, c.Latency)
		}
		t.Logf("%s: in %d, landed %d, scored %d, quarantined %d, event to queryable p50 %.0f ms p99 %.0f ms", name, c.In, c.Landed, c.Scored, c.Quarantined, c.Latency.P50, c.Latency.P99)
	}
}

// TestDemo runs the demo for a while, and then until it is interrupted.
func TestDemo(t *testing.T) {
	b := binary(t)
	state := t.TempDir() + "/demo"
	r := b.Run(t, "demo", "--for", "10s", "--json", "--free-ports", "--state", state)
	if r.Code != 0 {
		t.Fatalf("exit code %d\n%s", r.Code, r.Output())
	}
	demoEnd(t, r.Stdout)

	s, err := b.Start("demo", "--json", "--free-ports", "--state", state, "--every", "200ms")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Stop() })
	s.Until(t, func() error {
		if strings.Count(s.Stdout(), `"model":"`) < 4 || !strings.Contains(s.Stdout(), `"model":"host@1`) {
			return errNotYet
		}
		return nil
	})
	began := time.Now()
	// An interrupted demo has done what it was asked for.
	if code := s.Signal(syscall.SIGINT); code != 0 {
		t.Errorf("exit code %d after SIGINT, want 0\n%s", code, s.Output())
	}
	t.Logf("ended %.1f s after SIGINT", time.Since(began).Seconds())
	demoEnd(t, s.Stdout())
}
