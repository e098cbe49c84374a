package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/tidemill/tidemill/test/product"
)

// TestSecretsOfConnectors plants secrets in files, commands, the environment and in the
// YAML itself, in URLs and in fields, has every connector fail, and looks for the secrets
// in all that a person or a program can see afterwards.
func TestSecretsOfConnectors(t *testing.T) {
	connector := func(input string) string {
		return "input:\n" + input + "output:\n  lakehouse: {table: things, batching: {period: 20ms}}\n"
	}
	r := startReloader(t, product.Project{
		"tidemill.yaml":      "maintenance: {every: off}\n",
		"secrets/pw":         sentinel + "-file/\"x\n",
		"secrets/read":       "#!/bin/sh\necho " + sentinel + "-cmd\n",
		"tables/things.yaml": contractOf("things", ""),
		"connectors/amqp.yaml": connector(
			"  amqp_0_9: {urls: [\"amqp://user:${file:secrets/pw}@127.0.0.1:1/\"], queue: q}\n"),
		"connectors/kafka.yaml": connector(
			"  kafka_franz: {seed_brokers: [\"127.0.0.1:1\"], topics: [t], consumer_group: g, tls: {enabled: true}, sasl: [{mechanism: PLAIN, username: u, password: \"${cmd: sh secrets/read}\"}]}\n"),
		"connectors/poll.yaml": connector(
			"  http_client: {url: \"http://user:${E2E_SECRET}@127.0.0.1:1/%zz\", verb: GET, headers: {Authorization: \"Bearer ${file:secrets/pw}\"}}\n"),
		"connectors/nats.yaml": connector(
			"  nats: {urls: [\"nats://" + sentinel + "-literal@127.0.0.1:1\"], subject: s}\n"),
		"connectors/in.yaml": connector("  http_server: {path: /things}\n") +
			"pipeline:\n  processors: [{http: {url: \"http://user:${E2E_SECRET}@127.0.0.1:1/x?token=${file:secrets/pw}\", retries: 0, timeout: 1s}}]\n",
	})
	r.post("things", 1)
	r.count("things_quarantine", 1)
	r.until("failing everywhere", func(s projectStatus) bool {
		for _, c := range s.Connectors {
			if c.Error == "" && c.Name != "in" {
				return false
			}
		}
		return len(s.Connectors) == 5
	})
	// An edit that is refused since the component cannot be made of it.
	r.edit("connectors/nats.yaml", connector("  redis_streams: {url: \"redis://user:${file:secrets/pw}@127.0.0.1:1\", streams: [s], consumer_group: g}\n"))
	r.until("refused", func(s projectStatus) bool { return s.Refused != nil })

	seen := r.everything()
	if !strings.Contains(seen["tables"], "processor_failed") || !strings.Contains(seen["tables"], "***") {
		t.Errorf("the quarantine table does not say what failed:\n%s", seen["tables"])
	}
	if !strings.Contains(seen["output"], "amqp://***@127.0.0.1:1") {
		t.Error("the log does not tell of the URL that cannot be reached")
	}
	r.noSecrets(seen)
}

// TestSecretsOfSinks does the same with sinks. One of them refuses a row, and is told of
// it by a server that repeats what it was sent.
func TestSecretsOfSinks(t *testing.T) {
	t.Parallel()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		var row struct{ ID int }
		if _ = json.NewDecoder(req.Body).Decode(&row); row.ID == 2 {
			w.WriteHeader(http.StatusUnprocessableEntity)
			_, _ = fmt.Fprintf(w, "%s is not welcome at %s", req.Header, req.URL)
		}
	}))
	t.Cleanup(web.Close)
	sinks := map[string]string{
		"web":       `{http_client: {url: "` + strings.Replace(web.URL, "://", "://user:${E2E_SECRET}@", 1) + `/x?token=${E2E_SECRET}", verb: POST, retries: 0, drop_on: [422], headers: {X-Token: "${file:secrets/pw}"}}}`,
		"malformed": `{http_client: {url: "http://user:${E2E_SECRET}@127.0.0.1:1/%zz", verb: POST, retries: 0, headers: {Authorization: "Bearer ${file:secrets/pw}"}}}`,
		"redis":     `{redis_streams: {url: "redis://user:${file:secrets/pw}@127.0.0.1:1", stream: s}}`,
		"db":        `{sql_insert: {driver: postgres, dsn: "postgres://user:` + sentinel + `-literal@127.0.0.1:1/db", table: t, columns: [a], args_mapping: "root = [1]"}}`,
		"kafka":     `{kafka_franz: {seed_brokers: ["127.0.0.1:1"], topic: t, timeout: 1s, tls: {enabled: true}, sasl: [{mechanism: PLAIN, username: u, password: "${cmd: sh secrets/read}"}]}}`,
		"rabbit":    `{amqp_0_9: {urls: ["amqp://user:${file:secrets/pw}@127.0.0.1:1/"], exchange: e}}`,
		"mongo":     `{mongodb: {url: "mongodb://user:${E2E_SECRET}@127.0.0.1:1/?serverSelectionTimeoutMS=300", database: d, collection: c, operation: insert-one, document_map: "root = this", write_concern: {w: majority, w_timeout: 1s}}}`,
	}
	further := "sinks:\n"
	for name, output := range sinks {
		further += "  - {name: " + name + ", timeout: 1s, attempts: 1, output: " + output + "}\n"
	}
	further += "  - {name: asks, attempts: 1, processors: [{http: {url: \"http://user:${E2E_SECRET}@127.0.0.1:1/x?token=${file:secrets/pw}\", retries: 0, timeout: 1s}}], output: {drop: {}}}\n"
	r := startReloader(t, product.Project{
		"tidemill.yaml":          "maintenance: {every: off}\n",
		"secrets/pw":             sentinel + "-file/\"x\n",
		"secrets/read":           "#!/bin/sh\necho " + sentinel + "-cmd\n",
		"connectors/things.yaml": httpConnector("things"),
		"tables/things.yaml":     contractOf("things", further),
	})
	for id := range 4 {
		r.post("things", id)
	}
	r.count("things_quarantine", 1)
	s := r.until("down but for one", func(s projectStatus) bool {
		for _, x := range s.Tables[0].Sinks {
			if x.Error == "" || x.State != "down" && x.Name != "web" {
				return false
			}
		}
		return true
	})
	for _, x := range s.Tables[0].Sinks {
		t.Logf("%s: %s", x.Name, x.Error)
	}
	// An edit that is refused for a sink.
	r.edit("tables/things.yaml", contractOf("things", further+"  - {name: more, output: {http_client: {url: \"http://user:${E2E_SECRET}@127.0.0.1:1\", pasword: \"${file:secrets/pw}\"}}}\n"))
	r.until("refused", func(s projectStatus) bool { return s.Refused != nil })
	seen := r.everything()
	if !strings.Contains(seen["tables"], "is not welcome at") || !strings.Contains(seen["tables"], "***") {
		t.Errorf("the quarantine table does not say what was refused:\n%s", seen["tables"])
	}
	r.noSecrets(seen)
}

// everything is what a person or a program can see of a project, by where.
func (r *reloader) everything() map[string]string {
	t := r.t
	t.Helper()
	return map[string]string{
		"output":    r.Output(),
		"metrics":   get(t, r.HTTP+"/metrics"),
		"status":    get(t, r.HTTP+"/tidemill/status?files=1") + r.b.Must(t, "status", r.dir) + r.b.Must(t, "status", r.dir, "--json"),
		"lint":      r.b.Run(t, "lint", r.dir).Output() + r.b.Run(t, "lint", r.dir, "--json").Output(),
		"plan":      r.b.Run(t, "--log-level", "debug", "plan", r.dir).Output() + r.b.Run(t, "plan", r.dir, "--json").Output(),
		"tables":    r.b.Must(t, "-C", r.dir, "sql", "--format", "json", "FROM things_quarantine"),
		"histories": histories(t, r.Temporal),
	}
}

// noSecrets looks for the sentinel in what can be seen, and in all that lies in files.
func (r *reloader) noSecrets(seen map[string]string) {
	t := r.t
	t.Helper()
	if !strings.Contains(seen["histories"], "things") {
		t.Error("there is no history to look through")
	}
	for what, text := range seen {
		for line := range strings.Lines(text) {
			if strings.Contains(line, sentinel) {
				t.Errorf("%s: a secret comes out: %s", what, line)
				break
			}
		}
	}
	err := filepath.WalkDir(filepath.Join(r.dir, ".tidemill"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil //nolint:nilerr // files come and go
		}
		if data, err := os.ReadFile(path); err == nil && bytes.Contains(data, []byte(sentinel)) {
			t.Errorf("a secret is in %s", path)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// histories are those of all workflows, with what they tell a person who looks.
func histories(t *testing.T, address string) string {
	t.Helper()
	c, err := client.Dial(client.Options{HostPort: address})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	list, err := c.ListWorkflow(t.Context(), &workflowservice.ListWorkflowExecutionsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, e := range list.GetExecutions() {
		id := e.GetExecution().GetWorkflowId()
		fmt.Fprintln(&b, id)
		if v, err := c.QueryWorkflow(t.Context(), id, "", "__temporal_workflow_metadata"); err == nil { // one that has ended answers no query
			var md any
			_ = v.Get(&md)
			fmt.Fprintln(&b, md)
		}
		it := c.GetWorkflowHistory(t.Context(), id, "", false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
		for it.HasNext() {
			ev, err := it.Next()
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(&b, ev)
		}
	}
	return b.String()
}
