package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/internal/secret"
	"github.com/tidemill/tidemill/internal/testserver"
	"github.com/tidemill/tidemill/lakehouse/objstore/s3"
	"github.com/tidemill/tidemill/test/product"
)

// wrong is a project with every mistake that can be seen in its files.
var wrong = product.Project{
	"tidemill.yaml": "project: wrong\n",
	"tables/typo.yaml": `table: typo
columns:
  - {name: id, type: lnog, required: true}
keys: [id]
`,
	"tables/sql.yaml": `table: sql
columns:
  - {name: id, type: long, required: true}
  - {name: n, type: long}
checks:
  - {name: good, expr: "n > 0", on_fail: quarantine}
  - {name: broken, expr: "n > > 0", on_fail: quarantine}
  - {name: unknown, expr: "m > 0", on_fail: quarantine}
`,
	"tables/model.yaml": `table: model
columns:
  - {name: value, type: double, required: true}
score:
  model: m@champion
  inputs: [value, nobody_has_this]
  output: {s: score}
`,
	"connectors/typo.yaml": `input:
  http_server: {pathh: /x}
output:
  lakehouse: {table: sql}
`,
	"connectors/unknown.yaml": `input:
  generate: {mapping: 'root = {}'}
output:
  lakehouse:
    table: nosuch
`,
	"connectors/env.yaml": `input:
  http_server:
    path: ${E2E_NOT_SET}
output:
  lakehouse: {table: typo}
`,
	"connectors/unarchive.yaml": `input:
  generate: {mapping: 'root = {}'}
pipeline:
  processors:
    - unarchive: {format: lines}
output:
  lakehouse: {table: sql}
`,
}

// wrongs are the problems of that project, as file:line: field and what the message must say.
var wrongs = []struct{ at, says string }{
	{"connectors/env.yaml:3: input.http_server.path", "environment variable E2E_NOT_SET is not set; set it, or give a default"},
	{"connectors/typo.yaml:2: input.http_server.pathh", "not recognised"},
	{"connectors/unarchive.yaml:5: pipeline.processors.unarchive", "remove it"},
	{"connectors/unknown.yaml:5: output.lakehouse.table", "no contract tables/nosuch.yaml (there are: model, sql, typo)"},
	{"tables/model.yaml:6: score.inputs[1]", "no column nobody_has_this"},
	{"tables/sql.yaml:7: checks[1].expr", ">"},
	{"tables/sql.yaml:8: checks[2].expr", `"m" does not exist`},
	{"tables/typo.yaml:3: columns[0].type", "did you mean long?"},
	{"tables/typo.yaml:4: keys", "did you mean key?"},
}

// TestProblems: whatever is wrong in a project's files is told at once, with
// its place, before anything is started.
func TestProblems(t *testing.T) {
	t.Parallel()
	b := binary(t)
	dir := wrong.Write(t, "wrong")
	for _, args := range [][]string{{"lint", dir}, {"dev", dir, "--free-ports"}} {
		r := b.Run(t, args...)
		if r.Code != 3 {
			t.Errorf("%s: exit code %d, want 3", args[0], r.Code)
		}
		lines := strings.Split(strings.TrimSpace(strings.TrimPrefix(r.Stderr, "tidemill: ")), "\n")
		if len(lines) != len(wrongs) {
			t.Errorf("%s: %d problems, want %d:\n%s", args[0], len(lines), len(wrongs), r.Stderr)
			continue
		}
		for i, want := range wrongs {
			if !strings.HasPrefix(lines[i], filepath.Join(dir, want.at)) || !strings.Contains(lines[i], want.says) {
				t.Errorf("%s: got %s\nwant %s: … %s", args[0], lines[i], want.at, want.says)
			}
		}
	}
	if _, err := os.Stat(filepath.Join(dir, ".tidemill")); err == nil {
		t.Error("dev made a state directory for a project that it could not run")
	}
	r := b.Run(t, "lint", dir, "--json")
	var out struct {
		Problems []struct {
			File, Field, Message string
			Line                 int
		}
	}
	if err := json.Unmarshal([]byte(r.Stdout), &out); err != nil || r.Code != 3 || len(out.Problems) != len(wrongs) {
		t.Errorf("lint --json: exit code %d, %v\n%s", r.Code, err, r.Output())
	}
	for i, p := range out.Problems {
		if got := fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Field); got != filepath.Join(dir, wrongs[min(i, len(wrongs)-1)].at) {
			t.Errorf("lint --json: problem %d is at %s", i, got)
		}
	}
}

// TestModels: what is not a model, or does not fit the contract that names it,
// is refused with the reason, and nothing of it is registered.
func TestModels(t *testing.T) {
	d := dev(t)
	testdata := filepath.Join(product.Root(), "models", "testdata")
	text := filepath.Join(t.TempDir(), "text.onnx")
	if err := os.WriteFile(text, []byte("this is not a model"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := d.binary.Must(t, "-C", d.dir, "model", "list", "--json")
	for _, c := range []struct {
		file string
		says []string
	}{
		{text, []string{"not an ONNX model"}},
		{filepath.Join(testdata, "count.onnx"), []string{"tables/readings.yaml:9: score.output.anomaly", "no output score", "int64"}},
		{filepath.Join(testdata, "linear.onnx"), []string{"tables/readings.yaml:8: score.inputs", "lists 1 columns; the model takes 3"}},
		{filepath.Join(testdata, "named.onnx"), []string{"tables/readings.yaml:8: score.inputs", "the model takes 6", "text string"}},
		{filepath.Join(testdata, "external.onnx"), []string{"self_contained"}},
		{filepath.Join(t.TempDir(), "none.onnx"), []string{"no such file"}},
	} {
		r := d.binary.Run(t, "-C", d.dir, "model", "register", "machine", c.file, "--alias", "champion")
		if r.Code != 1 {
			t.Errorf("%s: exit code %d, want 1", c.file, r.Code)
		}
		for _, want := range append(c.says, c.file) {
			if !strings.Contains(r.Stderr, want) {
				t.Errorf("%s: the text does not say %q:\n%s", filepath.Base(c.file), want, r.Stderr)
			}
		}
	}
	if after := d.binary.Must(t, "-C", d.dir, "model", "list", "--json"); after != before {
		t.Errorf("refused models are registered:\n%s\nbefore:\n%s", after, before)
	}
	again := d.binary.Must(t, "-C", d.dir, "model", "register", "machine", filepath.Join(testdata, "zscore.onnx"))
	if !strings.Contains(again, "machine@1 ") {
		t.Errorf("the same model again is another version:\n%s", again)
	}
}

// TestNotToBeHad: ports, directories and servers that are not there end the
// start with code 4 and a text that names them.
func TestNotToBeHad(t *testing.T) {
	d := dev(t)
	refused := func(t *testing.T, r product.Result, says ...string) {
		t.Helper()
		if r.Code != 4 {
			t.Errorf("exit code %d, want 4", r.Code)
		}
		for _, want := range says {
			if !strings.Contains(r.Stderr, want) {
				t.Errorf("the text does not say %q:\n%s", want, r.Stderr)
			}
		}
		if strings.Contains(r.Stderr, "goroutine ") {
			t.Errorf("a crash:\n%s", r.Stderr)
		}
	}
	write := func(t *testing.T, yaml string, args ...any) string {
		return product.Project{"tidemill.yaml": fmt.Sprintf(yaml, args...)}.Write(t, "plain")
	}
	taken := func(t *testing.T) int {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l.Addr().(*net.TCPAddr).Port
	}
	t.Run("second dev on the same state", func(t *testing.T) {
		refused(t, d.binary.Run(t, "dev", d.dir, "--free-ports"), ".tidemill", fmt.Sprint(d.Pid()), "in use")
	})
	t.Run("port of an embedded server", func(t *testing.T) {
		port := taken(t)
		dir := write(t, "dev: {temporal_port: %d, ui_port: %d, s3_port: %d}\n", port, testserver.FreePort(t), testserver.FreePort(t))
		refused(t, d.binary.Run(t, "dev", dir), fmt.Sprintf("127.0.0.1:%d", port), "Temporal", "in use", "tidemill.yaml", "temporal_port", "--free-ports")
	})
	t.Run("port of HTTP", func(t *testing.T) {
		port := taken(t)
		dir := write(t, "http: {address: \"127.0.0.1:%d\"}\ndev: {temporal_port: %d, ui_port: %d, s3_port: %d}\n", port, testserver.FreePort(t), testserver.FreePort(t), testserver.FreePort(t))
		refused(t, d.binary.Run(t, "dev", dir), fmt.Sprintf("127.0.0.1:%d", port), "http.address in tidemill.yaml")
	})
	t.Run("state directory", func(t *testing.T) {
		dir := write(t, "")
		if err := os.WriteFile(filepath.Join(dir, ".tidemill"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		refused(t, d.binary.Run(t, "dev", dir, "--free-ports"), ".tidemill", "not a directory")
	})
	t.Run("state directory that may not be written", func(t *testing.T) {
		if os.Geteuid() == 0 {
			t.Skip("root may write everywhere")
		}
		dir := write(t, "")
		if err := os.Mkdir(filepath.Join(dir, ".tidemill"), 0o500); err != nil {
			t.Fatal(err)
		}
		refused(t, d.binary.Run(t, "dev", dir, "--free-ports"), ".tidemill", "permission denied")
	})
	store := func(addr string) string {
		return fmt.Sprintf("http: {address: \"127.0.0.1:%d\"}\nstore: {endpoint: \"http://%s\", bucket: tidemill, access_key: key, secret_key: \"${E2E_SECRET}\"}\n", testserver.FreePort(t), addr)
	}
	t.Run("S3", func(t *testing.T) {
		addr := testserver.Addr(testserver.FreePort(t))
		dir := write(t, "%s", store(addr))
		refused(t, d.binary.Run(t, "run", dir, "--wait", "1s"), addr, "connection refused", "tidemill.yaml")
		refused(t, d.binary.Run(t, "-C", dir, "sql", "SELECT * FROM plain"), addr, "connection refused")
	})
	t.Run("S3 that does not answer", func(t *testing.T) {
		addr := testserver.Addr(taken(t)) // accepts, and never says a word
		refused(t, d.binary.Run(t, "run", write(t, "%s", store(addr)), "--wait", "1s"), addr, "cannot be reached")
	})
	t.Run("Temporal", func(t *testing.T) {
		addr := testserver.Addr(testserver.FreePort(t))
		dir := d.own(t, "tem", fmt.Sprintf("temporal: {address: %q}\n", addr))
		refused(t, d.binary.Run(t, "run", dir, "--wait", "1s"), "Temporal at "+addr, "connection refused", "tidemill.yaml")
	})
}

// own writes a project that keeps its tables in the shared server's store.
func (d *devServer) own(t *testing.T, bucket, further string) string {
	t.Helper()
	return d.ownAt(t, testserver.Addr(testserver.FreePort(t)), bucket, further)
}

// ownAt is own with an HTTP address.
func (d *devServer) ownAt(t *testing.T, http, bucket, further string) string {
	t.Helper()
	key, secretKey := access(t, d.dir)
	return product.Project{"tidemill.yaml": fmt.Sprintf("http: {address: %q}\nstore: {endpoint: \"http://%s\", bucket: %s, access_key: %q, secret_key: %q}\n%s",
		http, d.S3, bucket, key, secretKey, further)}.Write(t, bucket)
}

// access is what the store of a running dev is opened with.
func access(t *testing.T, dir string) (key, secretKey string) {
	t.Helper()
	var a struct {
		AccessKey string `json:"access_key"`
		SecretKey string `json:"secret_key"`
	}
	data, err := os.ReadFile(filepath.Join(dir, ".tidemill", "addresses.json"))
	if err == nil {
		err = json.Unmarshal(data, &a)
	}
	if err != nil {
		t.Fatal(err)
	}
	return a.AccessKey, a.SecretKey
}

// objects are those of a bucket in the store of a dev that runs in a directory.
func objects(t *testing.T, dir, addr, bucket, prefix string) map[string][]byte {
	t.Helper()
	key, secretKey := access(t, dir)
	store, err := s3.New(t.Context(), s3.Config{Endpoint: addr, Bucket: bucket, AccessKey: key, SecretKey: secret.New(secretKey)})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	out := map[string][]byte{}
	for o, err := range store.List(t.Context(), prefix, "") {
		if err != nil {
			t.Fatal(err)
		}
		if out[o.Key], err = store.Get(t.Context(), o.Key); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// TestSecrets plants secrets wherever one can be put, and in places where none
// belongs, and looks for them in everything that comes out.
func TestSecrets(t *testing.T) {
	d := dev(t)
	var all strings.Builder
	all.WriteString(d.Output())
	for name, yaml := range map[string]string{
		"in an endpoint":     "store: {endpoint: \"http://user:${E2E_SECRET}@127.0.0.1:1\", bucket: tidemill}\n",
		"as an endpoint":     "store: {endpoint: \"${E2E_SECRET}\", bucket: tidemill}\n",
		"as a port":          "dev: {s3_port: \"${E2E_SECRET}\"}\n",
		"as an address":      "http: {address: \"${E2E_SECRET}\"}\n",
		"in the clear":       "temporal: {api_key: \"${E2E_API_KEY}\"}\n",
		"as a key":           "${E2E_SECRET}: x\n",
		"as a model":         "models: [{name: m, file: \"${E2E_SECRET}\"}]\n",
		"without its access": "store: {endpoint: \"http://127.0.0.1:1\", bucket: tidemill, secret_key: \"${E2E_SECRET}\"}\n",
	} {
		r := d.binary.Run(t, "lint", product.Project{"tidemill.yaml": yaml}.Write(t, "plain"))
		if r.Code != 3 {
			t.Errorf("a secret %s: exit code %d, want 3\n%s", name, r.Code, r.Output())
		}
		if strings.Contains(r.Output(), sentinel) {
			t.Errorf("a secret %s comes out:\n%s", name, r.Output())
		}
	}
	for _, level := range []string{"info", "debug"} {
		r := d.binary.Run(t, "--log-level", level, "run", "--wait", "1s", product.Project{"tidemill.yaml": fmt.Sprintf(
			"store: {endpoint: \"http://%s\", bucket: tidemill, access_key: key, secret_key: \"${E2E_SECRET}\"}\ntemporal: {address: %q, tls: true, api_key: \"${E2E_API_KEY}\"}\n", d.S3, d.Temporal)}.Write(t, "plain"))
		if r.Code == 0 {
			t.Error("the store takes a wrong key")
		}
		all.WriteString(r.Output())
		dir := d.own(t, "sec", fmt.Sprintf("temporal: {address: %q, tls: true, api_key: \"${E2E_API_KEY}\"}\n", d.Temporal))
		r = d.binary.Run(t, "--log-level", level, "run", "--wait", "1s", dir)
		if r.Code != 4 {
			t.Errorf("TLS to a server without it: exit code %d\n%s", r.Code, r.Output())
		}
		all.WriteString(r.Output())
	}
	if found := regexp.MustCompile(`.*`+sentinel+`.*`).FindAllString(all.String(), 3); found != nil {
		t.Errorf("secrets come out:\n%s", strings.Join(found, "\n"))
	}
}
