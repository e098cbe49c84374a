package chaos

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/tidemill/tidemill/internal/testserver"
)

const (
	project   = "chaos"
	table     = "events"
	group     = "chaos"
	topic     = "events"
	partition = 4 // of the topic
)

// contractYAML has a rule for each class of quarantine.
const contractYAML = `table: events
columns:
  - {name: id, type: long, required: true}
  - {name: amount, type: double, required: true}
  - {name: items, type: long}
  - {name: units, type: string, required: true}
  - {name: ts, type: timestamp, required: true}
key: [id]
event_time: ts
retention: 36500d
checks:
  - {name: positive_amount, expr: "amount > 0", on_fail: quarantine}
features: |
  SELECT *, CAST(units AS DOUBLE) AS unit_count FROM batch
score:
  model: linear@champion
  inputs: [amount, items, unit_count]
  output: {score: y}
`

// kafkaYAML forgets a dead consumer at once and commits offsets often; the
// defaults would have each restart wait for a minute.
const kafkaYAML = `input:
  kafka_franz:
    seed_brokers: [%q]
    topics: [events]
    consumer_group: chaos
    session_timeout: 1500ms
    heartbeat_interval: 300ms
    rebalance_timeout: 3s
    commit_period: 200ms
    fetch_max_wait: 100ms
    metadata_max_age: 5s
output:
  lakehouse:
    table: events
    batching: {period: 50ms, count: 500}
`

const fileYAML = `input:
  file: {paths: [in/*.ndjson]}
output:
  lakehouse:
    table: events
    batching: {period: 50ms, count: 500}
`

// writeProject makes a project directory that reads topic and in/*.ndjson.
// settings are lines for tidemill.yaml.
func writeProject(t *testing.T, k *testserver.Kafka, settings string) string {
	t.Helper()
	model, err := os.ReadFile("../../models/testdata/linear.onnx")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	files := map[string]string{
		"tidemill.yaml":         "project: " + project + "\nmaintenance: {every: 2s, orphans_every: 2s, memory: 32MiB}\nmodels:\n  - {name: linear, file: models/linear.onnx, alias: champion}\n" + settings,
		"tables/events.yaml":    contractYAML,
		"connectors/kafka.yaml": fmt.Sprintf(kafkaYAML, k.Addr),
		"connectors/file.yaml":  fileYAML,
		"models/linear.onnx":    string(model),
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		writeFile(t, filepath.Join(dir, name), []byte(files[name]))
	}
	return dir
}

func writeFile(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// files feeds a project's in/ directory. It writes only while no process reads,
// since a line that is not finished yet would be taken for a malformed one.
type files struct {
	dir  string
	next int64
	rows map[string]int64 // by path below the project
	sent map[int64]position
}

// firstInFile keeps the numbers of events in files apart from those in Kafka.
const firstInFile = 1_000_000_000

func newFiles(dir string) *files {
	return &files{dir: dir, next: firstInFile, rows: map[string]int64{}, sent: map[int64]position{}}
}

// grow appends n events to a file, which it makes if need be.
func (f *files) grow(t *testing.T, name string, n int64) {
	t.Helper()
	path := filepath.Join(f.dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	w, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := w.Write(linesOf(f.next, n)); err != nil {
		t.Fatal(err)
	}
	for range n {
		f.sent[f.next] = position{"file/" + name, f.rows[name]}
		f.rows[name]++
		f.next++
	}
}
