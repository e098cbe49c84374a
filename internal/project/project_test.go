package project

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xeipuuv/gojsonschema"
	"go.yaml.in/yaml/v3"

	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/internal/problem"
)

const everything = `
project: fraud
store:
  endpoint: http://localhost:${S3_PORT:9000}/
  bucket: tidemill
  prefix: prod/fraud
  region: eu-central-1
  access_key: ${TIDEMILL_S3_ACCESS_KEY}
  secret_key: ${TIDEMILL_S3_SECRET_KEY}
temporal: {address: "temporal:7233", namespace: prod, task_queue: q, tls: true, api_key: "${TEMPORAL_API_KEY}"}
models:
  - {name: fraud, file: models/fraud.onnx, alias: challenger}
http: {address: 0.0.0.0:4196}
dev: {temporal_port: 1, ui_port: 2, s3_port: "${S3_PORT:3}"}
cache: {memory: 1MiB, disk: 1GB}
maintenance: {every: off, orphans_every: 2d, memory: 512MiB}
`

var environment = map[string]string{"TIDEMILL_S3_ACCESS_KEY": "key-8sK2", "TIDEMILL_S3_SECRET_KEY": "hunter-9xQ", "TEMPORAL_API_KEY": "token-7bZ"}

func lookup(name string) (string, bool) { v, ok := environment[name]; return v, ok }

// write makes a project directory of files; a nil map of one means tidemill.yaml alone.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "Fraud Demo")
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestLoadEverything(t *testing.T) {
	dir := write(t, map[string]string{
		File: everything, "models/fraud.onnx": "x",
		"connectors/b.yaml": "", "connectors/a.yaml": "", "connectors/notes.md": "",
		"tables/t.yaml": "table: t\ncolumns: [{name: a, type: long}]\n",
	})
	p, err := LoadEnv(dir, lookup)
	if err != nil {
		t.Fatal(err)
	}
	store, ok := p.Store()
	if !ok || store.Endpoint != "http://localhost:9000" || store.Host() != "localhost:9000" || store.TLS() || store.Bucket != "tidemill" ||
		store.Prefix != "prod/fraud" || p.StorePrefix() != "prod/fraud" || store.Region != "eu-central-1" ||
		store.AccessKey.Reveal() != "key-8sK2" || store.SecretKey.Reveal() != "hunter-9xQ" {
		t.Errorf("store %+v", store)
	}
	if c := p.Temporal(); c.Address != "temporal:7233" || c.Namespace != "prod" || c.TaskQueue != "q" || !c.TLS || c.APIKey.Reveal() != "token-7bZ" {
		t.Errorf("temporal %+v", c)
	}
	if want := []Model{{"fraud", filepath.Join(dir, "models/fraud.onnx"), "challenger", 12}}; !reflect.DeepEqual(p.Models(), want) {
		t.Errorf("models %+v", p.Models())
	}
	if want := []string{filepath.Join(dir, "connectors/a.yaml"), filepath.Join(dir, "connectors/b.yaml")}; !reflect.DeepEqual(p.Connectors(), want) {
		t.Errorf("connectors %v", p.Connectors())
	}
	if c, ok := p.Contract("t"); !ok || c.Name() != "t" || len(p.Contracts()) != 1 {
		t.Errorf("contracts %v", p.Contracts())
	}
	if p.Name() != "fraud" || p.Dir() != dir || p.HTTP() != (HTTP{"0.0.0.0:4196"}) || p.Dev() != (Dev{1, 2, 3}) || p.Cache() != (Cache{1 << 20, 1e9}) ||
		p.Maintenance() != (Maintenance{0, 48 * time.Hour, 512 << 20}) {
		t.Errorf("got %+v", p)
	}
	for _, text := range []string{fmt.Sprintf("%v", p), fmt.Sprintf("%+v", store), fmt.Sprintf("%#v", p.Temporal())} {
		for _, s := range environment {
			if strings.Contains(text, s) {
				t.Errorf("a secret is printed: %s", text)
			}
		}
	}
}

func TestDefaults(t *testing.T) {
	p, err := LoadEnv(write(t, map[string]string{File: "# nothing\n"}), lookup)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := p.Store(); ok || p.Name() != "fraud-demo" || p.StorePrefix() != "fraud-demo" || p.Connectors() != nil || len(p.Contracts()) != 0 || p.Models() != nil {
		t.Errorf("got %+v", p)
	}
	if c := p.Temporal(); c.Address != "localhost:7233" || c.Namespace != "default" || c.TaskQueue != "tidemill-fraud-demo" || c.TLS || !c.APIKey.Empty() {
		t.Errorf("temporal %+v", c)
	}
	if p.HTTP() != (HTTP{"127.0.0.1:4195"}) || p.Dev() != (Dev{7233, 8233, 9000}) || p.Cache() != (Cache{64 << 20, 2 << 30}) ||
		p.Maintenance() != (Maintenance{2 * time.Minute, 24 * time.Hour, 256 << 20}) {
		t.Errorf("got %+v", p)
	}
	p, err = LoadEnv(write(t, map[string]string{File: "project: x\nstore: {endpoint: 'https://s3.example.com', bucket: abc, secret_key: '${S:}'}\n"}), lookup)
	if err != nil {
		t.Fatal(err)
	}
	if s, _ := p.Store(); s.Prefix != "x" || s.Region != "us-east-1" || !s.TLS() || s.Host() != "s3.example.com" || !s.SecretKey.Empty() {
		t.Errorf("store %+v", s)
	}
}

func TestProblems(t *testing.T) {
	const store = "store: {endpoint: 'http://a', bucket: abc"
	for _, c := range []struct{ name, src, want string }{
		{"unknown", "stroe: {}", "1: stroe: unknown field; did you mean store?"},
		{"name", "project: My_Project", `1: project: "My_Project" must be ` + nameLooks},
		{"variable", store + ", access_key: '${A}', secret_key: '${B}'}", `1: store.access_key: the environment variable A is not set; set it, or give a default: ${A:value}
1: store.secret_key: the environment variable B is not set; set it, or give a default: ${B:value}`},
		{"half a key", store + ", access_key: '${A:x}'}", "1: store.secret_key: is missing; add it, or remove access_key to use the machine's own credentials"},
		{"no bucket", "store: {endpoint: 'http://a'}", "1: store.bucket: is missing; add it: The bucket's name"},
		{"scheme", "store: {endpoint: 'localhost:9000', bucket: abc}", "1: store.endpoint: must be a URL that begins with http:// or https://, such as http://localhost:9000"},
		{"credentials in the URL", "store: {endpoint: 'http://u:hunter-9xQ@h', bucket: abc}", "1: store.endpoint: must not hold credentials; move them to access_key and secret_key"},
		{"bucket in the URL", "store: {endpoint: 'http://h/b', bucket: abc}", "1: store.endpoint: must end after the host and port; the bucket goes into bucket, a path into prefix"},
		{"prefix", store + ", prefix: /a/../b/}", `1: store.prefix: "/a/../b/" must be names of letters, digits and . _ = -, with a slash between them and none at the ends, such as prod/fraud`},
		{"address", "temporal: {address: localhost}", `1: temporal.address: "localhost" must be host:port, such as localhost:7233`},
		{"port", "http: {address: 'localhost:http'}", `1: http.address: "localhost:http" must end in a port between 1 and 65535, such as localhost:7233`},
		{"key without TLS", "temporal: {api_key: '${TEMPORAL_API_KEY}'}", "1: temporal.api_key: would cross the network in the clear; add tls: true"},
		{"ports", "dev: {ui_port: 7233}", "1: dev: two servers cannot share a port: temporal_port 7233, ui_port 7233, s3_port 9000; choose others"},
		{"port range", "dev: {ui_port: 70000}", `1: dev.ui_port: is "70000"; it must be between 1 and 65535`},
		{"never maintained", "maintenance: {every: never}", `1: maintenance.every: must be a duration with a unit, such as 2m or 1h, or off, not "never"`},
		{"maintained too often", "maintenance: {orphans_every: 10ms}", `1: maintenance.orphans_every: is "10ms"; it must be at least 1s (m stands for minutes, h for hours, d for days, w for weeks)`},
		{"maintenance without memory", "maintenance: {memory: 1MiB}", `1: maintenance.memory: is "1MiB"; joining files takes at least 32MiB`},
		{"size", "cache: {memory: lots}", `1: cache.memory: "lots" is not a size; write a number and a unit, such as 256MiB or 2GiB`},
		{"model elsewhere", "models: [{name: a, file: ../a.onnx}]", `1: models[0].file: "../a.onnx" must be a path below the project's directory, such as models/fraud.onnx; copy the file there`},
		{"model absent", "models: [{name: a, file: b.onnx}]", `1: models[0].file: the file "b.onnx" does not exist below DIR; put the model there or remove the entry`},
		{"model is a directory", "models: [{name: a, file: tables}]", `1: models[0].file: "tables" is not a file; name an .onnx file`},
		{"model twice", "models:\n  - {name: a, file: m.onnx}\n  - {name: a, file: m.onnx}", "3: models[1].name: is the model on line 2 too; one file is registered for a name, later versions come with the RegisterModel workflow"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := write(t, map[string]string{File: c.src, "m.onnx": "x", "tables/t.yaml": "table: t\ncolumns: [{name: a, type: long}]\n"})
			_, err := LoadEnv(dir, lookup)
			if problem.Of(err) == nil {
				t.Fatalf("got %v", err)
			}
			got := strings.ReplaceAll(err.Error(), filepath.Join(dir, File)+":", "")
			if got = strings.ReplaceAll(got, dir, "DIR"); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
			for _, s := range environment {
				if strings.Contains(err.Error(), s) {
					t.Errorf("a secret is printed: %v", err)
				}
			}
		})
	}
}

// TestEverythingAtOnce has something wrong in every place that is read.
func TestEverythingAtOnce(t *testing.T) {
	dir := write(t, map[string]string{
		File: "project: 1\n", "tables/a.yaml": "table: a\n", "tables/b.yml": "", "connectors/a b.yaml": "", "connectors/c.yml": "",
	})
	_, err := LoadEnv(dir, lookup)
	want := strings.ReplaceAll(`DIR/connectors/a b.yaml: the connector's name "a b" must be letters, digits, _ and -, beginning with a letter or digit; rename the file
DIR/connectors/c.yml: is not read; rename it to c.yaml
DIR/tables/a.yaml:1: columns: is missing; add it: The columns of the landed table, in order
DIR/tables/b.yml: is not read; rename it to b.yaml
DIR/tidemill.yaml:1: project: YAML takes "1" for a number; put it in quotes if you mean text`, "DIR", dir)
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	_, err = LoadEnv(filepath.Join(dir, "tables"), lookup)
	want = filepath.Join(dir, "tables", File) + ": does not exist; run tidemill in a project's directory, or make one with: tidemill init DIR"
	if err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

func TestNameOf(t *testing.T) {
	for dir, want := range map[string]string{"fraud": "fraud", "My Project_2": "my-project-2", "/": "", "2nd": "", "...": "", "über": "ber"} {
		if got := nameOf(dir); got != want {
			t.Errorf("%s: got %q, want %q", dir, got, want)
		}
	}
}

func validator(t *testing.T, schema func() ([]byte, error)) func(src []byte) []gojsonschema.ResultError {
	t.Helper()
	data, err := schema()
	if err != nil {
		t.Fatal(err)
	}
	loader := gojsonschema.NewSchemaLoader()
	loader.AutoDetect, loader.Draft = false, gojsonschema.Draft7 // the newest it knows; the keywords used are the same
	s, err := loader.Compile(gojsonschema.NewBytesLoader(data))
	if err != nil {
		t.Fatal(err)
	}
	return func(src []byte) []gojsonschema.ResultError {
		var doc any
		if err := yaml.Unmarshal(src, &doc); err != nil {
			t.Fatal(err)
		}
		if doc == nil {
			doc = map[string]any{}
		}
		result, err := s.Validate(gojsonschema.NewGoLoader(doc))
		if err != nil {
			t.Fatal(err)
		}
		return result.Errors()
	}
}

func TestSchema(t *testing.T) {
	validate := validator(t, JSONSchema)
	for _, e := range validate([]byte(everything)) {
		t.Error(e)
	}
	examples, err := filepath.Glob("../../examples/*/" + File)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range examples {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range validate(src) {
			t.Errorf("%s: %v", file, e)
		}
	}
	for _, src := range []string{"stroe: {}", "store: {bucket: abc}", "dev: {ui_port: x}", "dev: {ui_port: 70000}", "project: A", "models: []", "temporal: {tls: 'yes'}"} {
		if len(validate([]byte(src))) == 0 {
			t.Errorf("accepts %s", src)
		}
	}
}

func TestInit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "shop")
	files, err := Init(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{".gitignore", "README.md", "connectors/orders.yaml", "connectors/orders_test.yaml", "models/.gitkeep", "schemas/table.json", "schemas/tidemill.json", "tables/orders.yaml", "tidemill.yaml"}; !slices.Equal(files, want) {
		t.Errorf("wrote %v", files)
	}
	p, err := LoadEnv(dir, func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatalf("a new project is not in order: %v", err)
	}
	if c, ok := p.Contract("orders"); p.Name() != "shop" || len(p.Connectors()) != 1 || !ok || c.Features() == "" {
		t.Errorf("got %+v", p)
	}
	// The modelines lead to the schemas, and the schemas accept the files.
	for file, schema := range map[string]func() ([]byte, error){File: JSONSchema, "tables/orders.yaml": contract.JSONSchema} {
		src, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		line, _, _ := strings.Cut(string(src), "\n")
		ref, ok := strings.CutPrefix(line, "# yaml-language-server: $schema=")
		if _, err := os.Stat(filepath.Join(dir, filepath.Dir(file), ref)); !ok || err != nil {
			t.Errorf("%s: first line %q: %v", file, line, err)
		}
		for _, e := range validator(t, schema)(src) {
			t.Errorf("%s: %v", file, e)
		}
	}
	// What stands commented out must work once the comment signs are gone.
	for _, file := range []string{File, "tables/orders.yaml"} {
		uncomment(t, filepath.Join(dir, file))
	}
	if err := os.WriteFile(filepath.Join(dir, "models/returns.onnx"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p, err = LoadEnv(dir, lookup)
	if err != nil {
		t.Fatalf("the comments do not hold: %v", err)
	}
	if c, _ := p.Contract("orders"); len(p.Models()) != 1 || c.Score() == nil || c.Score().Outputs[0].Index != 1 {
		t.Errorf("got %+v", p)
	}
}

// uncomment takes the comment signs off the lines of a template that show YAML.
func uncomment(t *testing.T, file string) {
	t.Helper()
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(src), "\n")
	for i, line := range lines {
		text, ok := strings.CutPrefix(line, "# ")
		if ok && (strings.HasPrefix(text, "  ") || yamlField(text)) {
			lines[i] = text
		}
	}
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
}

func yamlField(text string) bool {
	name, _, ok := strings.Cut(text, ":")
	return ok && slices.Contains([]string{"project", "store", "temporal", "models", "dev", "score"}, name)
}

func TestInitDoesNotOverwrite(t *testing.T) {
	dir := write(t, map[string]string{File: "project: mine\n", "README.md": "mine"})
	_, err := Init(dir, nil)
	if len(problem.Of(err)) != 2 || !strings.Contains(err.Error(), "exists already and is not overwritten") {
		t.Fatalf("got %v", err)
	}
	var found []string
	if err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			found = append(found, filepath.Base(name))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(found, []string{"README.md", File}) {
		t.Errorf("found %v", found)
	}
	if src, err := os.ReadFile(filepath.Join(dir, File)); err != nil || string(src) != "project: mine\n" {
		t.Errorf("the file is %q now, %v", src, err)
	}
}

// FuzzParse holds parse to its promises: it never panics, what it lets pass is
// complete, and its problems never show what a variable holds.
func FuzzParse(f *testing.F) {
	f.Add([]byte(everything))
	f.Add([]byte("store: {endpoint: '${A:http://x}', bucket: '${{B}}'}"))
	f.Add([]byte("project: ${TEMPORAL_API_KEY}\ndev: {ui_port: '${TIDEMILL_S3_SECRET_KEY}'}"))
	f.Fuzz(func(t *testing.T, src []byte) {
		var ps problem.List
		p := parse("none", "dir", src, lookup, &ps)
		if len(ps) == 0 && (p.name == "" || p.temporal.Address == "" || p.store != nil && p.store.Host() == "") {
			t.Fatalf("got %+v", p)
		}
		for _, s := range environment {
			if strings.Contains(ps.Error(), s) {
				t.Fatalf("a secret is printed: %v", ps)
			}
		}
	})
}
