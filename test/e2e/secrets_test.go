package e2e

import (
	"bytes"
	"fmt"
	"io/fs"
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

	seen := map[string]string{
		"output":    r.Output(),
		"metrics":   get(t, r.HTTP+"/metrics"),
		"status":    get(t, r.HTTP+"/tidemill/status?files=1") + r.b.Must(t, "status", r.dir) + r.b.Must(t, "status", r.dir, "--json"),
		"lint":      r.b.Run(t, "lint", r.dir).Output() + r.b.Run(t, "lint", r.dir, "--json").Output(),
		"plan":      r.b.Run(t, "--log-level", "debug", "plan", r.dir).Output() + r.b.Run(t, "plan", r.dir, "--json").Output(),
		"tables":    r.b.Must(t, "-C", r.dir, "sql", "--format", "json", "FROM things_quarantine"),
		"histories": histories(t, r.Temporal),
	}
	if !strings.Contains(seen["tables"], "processor_failed") || !strings.Contains(seen["tables"], "***") {
		t.Errorf("the quarantine table does not say what failed:\n%s", seen["tables"])
	}
	if !strings.Contains(seen["output"], "amqp://***@127.0.0.1:1") {
		t.Error("the log does not tell of the URL that cannot be reached")
	}
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
