package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tidemill/tidemill/test/product"
)

// projectStatus is what `tidemill status --json` says of a project, as far as tests ask.
type projectStatus struct {
	Generation int64
	Waits      []string
	Refused    *struct {
		Problems []struct {
			File, Field, Message string
			Line                 int
		}
	}
	Connectors []struct {
		Name, State, Error string
		Since              time.Time
		Landed             int64
	}
	Tables []struct {
		Name, Doing, Contract, Error string
		Landed, Scored, Backlog      int64
		Sinks                        []sinkStatus
	}
}

// sinkStatus is what the status says of a sink.
type sinkStatus struct {
	Name, Output, State, Process, Error string
	Version, Behind, Sent, Refused      int64
	BehindRows                          int64 `json:"behind_rows"`
	Generation                          int64
	Here                                bool
	Seen, ErrorAt                       time.Time
}

func (s projectStatus) since(connector string) time.Time {
	for _, c := range s.Connectors {
		if c.Name == connector {
			return c.Since
		}
	}
	return time.Time{}
}

// reloader is a project of its own that is edited while it runs.
type reloader struct {
	t   *testing.T
	b   product.Binary
	dir string
	*product.Server
	product.Addresses
	asked bool // status was asked for by its command
}

func startReloader(t *testing.T, p product.Project, env ...string) *reloader {
	t.Helper()
	r := &reloader{t: t, b: binary(t, env...), dir: p.Write(t, "edited")}
	var err error
	if r.Server, r.Addresses, err = r.b.Dev(r.dir, "--log-level", "debug"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Stop() })
	return r
}

// edit writes a file as editors do: another one, renamed over it. "" removes it.
func (r *reloader) edit(name, text string) {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	if text == "" {
		if err := os.Remove(path); err != nil {
			r.t.Fatal(err)
		}
		return
	}
	if err := os.WriteFile(path+".tmp", []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		r.t.Fatal(err)
	}
}

func (r *reloader) status() projectStatus {
	r.t.Helper()
	var s struct{ Projects []projectStatus }
	decode(r.t, get(r.t, r.HTTP+"/tidemill/status"), &s)
	return s.Projects[0]
}

// until returns the status once it is as wanted.
func (r *reloader) until(what string, ok func(projectStatus) bool) (s projectStatus) {
	r.t.Helper()
	r.Until(r.t, func() error {
		if s = r.status(); !ok(s) {
			return fmt.Errorf("not %s: %+v", what, s)
		}
		return nil
	})
	return s
}

func (r *reloader) generation(n int64) projectStatus {
	r.t.Helper()
	return r.until(fmt.Sprint("generation ", n), func(s projectStatus) bool { return s.Generation == n && s.Refused == nil })
}

// refused waits for an edit to be refused with a text, at a place, while generation n goes on.
func (r *reloader) refused(n int64, at, text string) {
	r.t.Helper()
	s := r.until("refused at "+at, func(s projectStatus) bool {
		if s.Refused == nil {
			return false
		}
		for _, p := range s.Refused.Problems {
			if strings.HasPrefix(fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Field), at) && strings.Contains(p.Message, text) {
				return true
			}
		}
		return false
	})
	if s.Generation != n {
		r.t.Errorf("generation %d after a refused edit, want %d", s.Generation, n)
	}
	if r.asked {
		return
	}
	r.asked = true // once is enough: it costs a process
	human := r.b.Must(r.t, "status", r.dir)
	for _, want := range []string{fmt.Sprintf("generation %d", n), "edit refused", at} {
		if !strings.Contains(human, want) {
			r.t.Errorf("status does not say %q:\n%s", want, human)
		}
	}
	if log := r.Output(); !strings.Contains(log, "edit refused") || !strings.Contains(log, at) {
		r.t.Errorf("the log does not say why the edit at %s was refused", at)
	}
}

// pusher posts rows one after the other, each with a key, until it is told to end. What
// is not answered with 200 is sent again: the path is away while its connector changes.
type pusher struct {
	wg     sync.WaitGroup
	cancel context.CancelFunc
	sent   int64
}

func push(ctx context.Context, url string) *pusher {
	p := &pusher{}
	ctx, p.cancel = context.WithCancel(ctx)
	p.wg.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			row := fmt.Appendf(nil, `{"id": %d, "amount": %d}`, p.sent, p.sent%7)
			for {
				code, err := product.Post(context.WithoutCancel(ctx), url, fmt.Sprint("row-", p.sent), row)
				if err == nil && code == http.StatusOK {
					break
				}
				<-tick.C
			}
			p.sent++
		}
	})
	return p
}

func (p *pusher) end() int64 {
	p.cancel()
	p.wg.Wait()
	return p.sent
}

func contractOf(table, further string) string {
	return fmt.Sprintf("table: %s\ncolumns:\n  - {name: id, type: long, required: true}\n  - {name: amount, type: long}\n%s", table, further)
}

// TestReload edits a project in all ways while rows come in, and counts them at the end.
func TestReload(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	var lines strings.Builder
	const inFile = 20_000
	for i := range inFile {
		fmt.Fprintf(&lines, "{\"id\": %d, \"amount\": %d}\n", i, i%3)
	}
	fileConnector := func(count int) string {
		return fmt.Sprintf("input:\n  file: {paths: [rows.ndjson]}\npipeline:\n  processors: [{sleep: {duration: 1ms}}]\noutput:\n  lakehouse: {table: filed, batching: {count: %d, period: 20ms}}\n", count)
	}
	r := startReloader(t, product.Project{
		"tidemill.yaml":        "maintenance: {every: off}\n",
		"rows.ndjson":          lines.String(),
		"connectors/a.yaml":    httpConnector("a"),
		"connectors/b.yaml":    httpConnector("b"),
		"connectors/file.yaml": fileConnector(50),
		"tables/a.yaml":        contractOf("a", ""),
		"tables/b.yaml":        contractOf("b", ""),
		"tables/filed.yaml":    contractOf("filed", ""),
	})
	first := r.generation(1)
	rows := push(t.Context(), r.HTTP+"/a")
	defer rows.end()

	// Half a file, as an editor in the middle of writing leaves it.
	r.edit("connectors/a.yaml", httpConnector("a")[:40])
	r.refused(1, "connectors/a.yaml:", "")
	r.edit("connectors/a.yaml", httpConnector("a"))
	if s := r.generation(1); s.since("a") != first.since("a") {
		t.Error("taking a bad edit back restarts the connector")
	}
	r.edit("tables/a.yaml", contractOf("a", "checks: [{name: c, expr: \"amuont > 0\"}]\n"))
	r.refused(1, "tables/a.yaml:5: checks[0].expr", "amuont")

	// What changed is restarted, and nothing else.
	r.edit("tables/a.yaml", contractOf("a", "checks: [{name: positive, expr: \"amount > 0\", on_fail: quarantine}]\n"))
	s := r.generation(2)
	if s.since("a").Equal(first.since("a")) || !s.since("b").Equal(first.since("b")) || !s.since("file").Equal(first.since("file")) {
		t.Errorf("after an edit of a's contract: before %+v, after %+v", first.Connectors, s.Connectors)
	}
	r.edit("connectors/file.yaml", fileConnector(60))
	s2 := r.generation(3)
	if s2.since("file").Equal(s.since("file")) || !s2.since("a").Equal(s.since("a")) || !s2.since("b").Equal(s.since("b")) {
		t.Errorf("after an edit of a connector: before %+v, after %+v", s.Connectors, s2.Connectors)
	}
	r.edit("tables/b.yaml", "# a comment\n"+contractOf("b", ""))

	// The tables refuse what cannot become of them.
	r.edit("tables/a.yaml", strings.Replace(contractOf("a", ""), "amount, type: long", "amount, type: string", 1))
	r.refused(3, "tables/a.yaml:4: columns[1].type", "keeps its type")
	r.edit("tables/a.yaml", contractOf("a", "")+"  - {name: more, type: string, required: true}\n")
	r.refused(3, "tables/a.yaml:5: columns[2].required", "")
	r.edit("tables/a.yaml", contractOf("a", "  - {name: more, type: string}\n"))
	r.generation(4)

	// A connector that cannot be made: what ran before runs on.
	r.edit("connectors/b.yaml", fmt.Sprintf("input:\n  http_server: {address: %q, path: /b}\noutput:\n  lakehouse: {table: b}\n", taken.Addr()))
	r.refused(4, "connectors/b.yaml:2", "address already in use")
	r.post("b", 1)
	r.edit("connectors/b.yaml", httpConnector("b"))
	r.generation(4)

	// Tables and connectors come, go, and come back.
	r.edit("tables/c.yaml", contractOf("c", ""))
	r.edit("connectors/c.yaml", httpConnector("c"))
	s = r.until("both new files", func(s projectStatus) bool { return s.since("c") != time.Time{} && s.Refused == nil })
	n := s.Generation
	r.post("c", 1)
	r.count("c_scored", 1)
	r.edit("connectors/c.yaml", "")
	n++
	r.generation(n)
	r.edit("tables/c.yaml", "")
	n++
	if s := r.generation(n); len(s.Tables) != 3 || len(s.Connectors) != 3 {
		t.Errorf("after the removal: %+v", s)
	}
	if code, err := product.Post(t.Context(), r.HTTP+"/c", "", []byte("{}")); err != nil || code != http.StatusNotFound {
		t.Errorf("the removed connector's path: status %d, %v", code, err)
	}
	r.edit("connectors/c.yaml", httpConnector("c"))
	r.refused(n, "connectors/c.yaml:", "no contract tables/c.yaml")
	r.edit("tables/c.yaml", contractOf("c", "checks: [{name: any, expr: \"true\"}]\n"))
	n++
	r.generation(n)
	r.post("c", 2)
	r.count("c_scored", 2)

	// A signal has the files taken in anew; a change that needs a new process is said.
	if err := syscall.Kill(r.Pid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	n++
	r.generation(n)
	r.edit("tidemill.yaml", "maintenance: {every: off}\nhttp: {address: \"127.0.0.1:1\"}\n")
	n++
	if s := r.generation(n); !slices.Equal(s.Waits, []string{"http"}) {
		t.Errorf("waits for a restart: %v", s.Waits)
	}
	if m := get(t, r.HTTP+"/metrics"); !strings.Contains(m, fmt.Sprintf(`tidemill_generation{project="edited"} %d`, n)) || !strings.Contains(m, `tidemill_reloads_total{outcome="refused",project="edited"}`) {
		t.Error("metrics do not tell of the reloads")
	}
	if !strings.Contains(r.Output(), fmt.Sprintf("generation=%d", n)) {
		t.Error("the log does not acknowledge the generation")
	}

	// Nothing was lost, nothing doubled.
	sent := rows.end()
	code, err := product.Post(t.Context(), r.HTTP+"/a", "last", fmt.Appendf(nil, `{"id": %d, "amount": 1, "more": "x"}`, sent))
	if err != nil || code != http.StatusOK {
		t.Fatalf("status %d, %v", code, err)
	}
	sent++
	t.Logf("%d rows posted over %d generations", sent, n)
	r.ids("a", sent)
	for _, sql := range []string{ // the contracts in between were followed, in both hops
		"a_quarantine WHERE rule = 'positive' HAVING count(*) > 0", "a_scored WHERE more = 'x' HAVING count(*) = 1", "a_scored WHERE amount = 0 HAVING count(*) > 0",
	} {
		if len(product.Query[struct{ N int64 }](t, r.b, r.dir, "SELECT count(*) AS n FROM "+sql)) == 0 {
			t.Errorf("no rows: %s", sql)
		}
	}
	r.ids("filed", inFile)
}

// post sends one row, which is answered with 200.
func (r *reloader) post(table string, id int) {
	r.t.Helper()
	r.Until(r.t, func() error {
		code, err := product.Post(r.t.Context(), r.HTTP+"/"+table, fmt.Sprint(table, id), fmt.Appendf(nil, `{"id": %d, "amount": 1}`, id))
		if err == nil && code != http.StatusOK {
			err = fmt.Errorf("status %d", code)
		}
		return err
	})
}

func (r *reloader) count(table string, want int64) {
	r.t.Helper()
	r.Until(r.t, func() error {
		var rows []struct{ N int64 }
		out := r.b.Run(r.t, "-C", r.dir, "sql", "--format", "json", "SELECT count(*) AS n FROM "+table)
		if out.Code != 0 {
			return fmt.Errorf("%s", out.Output())
		}
		if err := json.Unmarshal([]byte("["+strings.TrimSpace(out.Stdout)+"]"), &rows); err != nil || rows[0].N != want {
			return fmt.Errorf("%s has %s, want %d rows: %w", table, out.Stdout, want, err)
		}
		return nil
	})
}

// ids checks that each id below n is once in the scored or the quarantine table.
func (r *reloader) ids(table string, n int64) {
	r.t.Helper()
	r.until(table+" scored", func(s projectStatus) bool {
		for _, x := range s.Tables {
			if x.Name == table {
				return x.Backlog == 0 && x.Doing == "waiting"
			}
		}
		return false
	})
	seen := map[int64]int{}
	r.Until(r.t, func() error {
		clear(seen)
		for _, row := range product.Query[struct{ ID int64 }](r.t, r.b, r.dir, fmt.Sprintf(
			"SELECT id FROM %s_scored UNION ALL SELECT json_extract(decode(raw), '$.id')::BIGINT AS id FROM %s_quarantine", table, table)) {
			seen[row.ID]++
		}
		if int64(len(seen)) < n {
			return fmt.Errorf("%s: %d ids of %d", table, len(seen), n)
		}
		return nil
	})
	maps.DeleteFunc(seen, func(id int64, times int) bool { return times == 1 && id >= 0 && id < n })
	if len(seen) > 0 {
		r.t.Errorf("%s: ids that are doubled or were never sent: %v", table, seen)
	}
}

// TestReloadOfRun: `run` follows its files as dev does, and is found by its HTTP address.
func TestReloadOfRun(t *testing.T) {
	d := dev(t)
	dir := d.own(t, "reloadrun", fmt.Sprintf("temporal: {address: %q}\nmaintenance: {every: off}\n", d.Temporal))
	if err := (product.Project{"connectors/r.yaml": httpConnector("r"), "tables/r.yaml": contractOf("r", "")}).WriteTo(dir); err != nil {
		t.Fatal(err)
	}
	if r := d.binary.Run(t, "status", dir); r.Code != 4 || !strings.Contains(r.Stderr, "nothing that runs") {
		t.Errorf("status of what does not run: exit code %d\n%s", r.Code, r.Output())
	}
	s, err := d.binary.Start("run", dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Stop() })
	generation := func(n int64) {
		t.Helper()
		s.Until(t, func() error {
			r := d.binary.Run(t, "status", dir, "--json")
			var st struct{ Projects []projectStatus }
			if r.Code == 0 {
				decode(t, r.Stdout, &st)
			}
			if r.Code != 0 || len(st.Projects) != 1 || st.Projects[0].Generation != n {
				return fmt.Errorf("generation %d: %s", n, r.Output())
			}
			return nil
		})
	}
	generation(1)
	if err := os.WriteFile(filepath.Join(dir, "tables/r.yaml"), []byte(contractOf("r", "  - {name: more, type: string}\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	generation(2)
	if code := s.Stop(); code != 0 {
		t.Errorf("exit code %d\n%s", code, s.Output())
	}
}
