package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/tidemill/tidemill/internal/testserver"
	"github.com/tidemill/tidemill/test/product"
)

// sentinel is in every secret that the tests hand over. It must come out nowhere.
const sentinel = "s3nt1nel"

func binary(t *testing.T, env ...string) product.Binary {
	t.Helper()
	return product.Binary{Path: testserver.Tidemill(t), Env: append([]string{"E2E_SECRET=" + sentinel + "-secret", "E2E_API_KEY=" + sentinel + "-api-key"}, env...)}
}

// httpConnector lands what is posted to /<table>.
func httpConnector(table string) string {
	return fmt.Sprintf(`input:
  http_server: {path: /%s, timeout: 30s}
output:
  lakehouse:
    table: %s
    batching: {period: 20ms}
`, table, table)
}

const readingsContract = `table: readings
columns:
  - {name: n, type: long, required: true}
  - {name: timestamp, type: timestamp, required: true}
  - {name: value, type: double, required: true}
score:
  model: machine@champion
  inputs: [value]
  output: {anomaly: score}
`

// project is what the shared server runs: contracts that tests post to, and
// secrets that it has no use for and must keep to itself.
func project(t testing.TB) product.Project {
	t.Helper()
	model, err := os.ReadFile(filepath.Join(product.Root(), "models", "testdata", "zscore.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	things := `columns:
  - {name: id, type: long, required: true}
  - {name: name, type: string}
  - {name: small, type: int}
  - {name: amount, type: double}
  - {name: at, type: timestamp}
checks:
  - {name: positive_amount, expr: "amount > 0", on_fail: quarantine}
`
	return product.Project{
		"tidemill.yaml": `store: {endpoint: "http://127.0.0.1:1", bucket: elsewhere, access_key: "${E2E_SECRET}", secret_key: "${E2E_SECRET}"}
temporal: {address: "127.0.0.1:1", tls: true, api_key: "${E2E_API_KEY}"}
maintenance: {every: off}
models:
  - {name: machine, file: models/zscore.onnx}
`,
		"models/zscore.onnx":       string(model),
		"connectors/things.yaml":   httpConnector("things"),
		"connectors/strict.yaml":   httpConnector("strict"),
		"connectors/readings.yaml": httpConnector("readings"),
		"connectors/upkeep.yaml":   httpConnector("upkeep"),
		"tables/upkeep.yaml":       "table: upkeep\n" + things,
		"tables/things.yaml":       "table: things\n" + things,
		"tables/strict.yaml":       "table: strict\non_new_field: quarantine\n" + things,
		"tables/readings.yaml":     readingsContract,
	}
}

// devServer is the `tidemill dev` that tests share.
type devServer struct {
	product.Addresses
	*product.Server
	binary product.Binary
	dir    string
}

var shared struct {
	once sync.Once
	dev  *devServer
	err  error
	tmp  string
}

// dev returns the shared server, which TestMain ends.
func dev(t *testing.T) *devServer {
	t.Helper()
	b := binary(t)
	p := project(t)
	shared.once.Do(func() {
		if shared.tmp, shared.err = os.MkdirTemp("", "tidemill-e2e-"); shared.err != nil {
			return
		}
		d := &devServer{binary: b, dir: filepath.Join(shared.tmp, "shared")}
		if shared.err = p.WriteTo(d.dir); shared.err != nil {
			return
		}
		if d.Server, d.Addresses, shared.err = b.Dev(d.dir, "--log-level", "debug"); shared.err == nil {
			shared.dev = d
		}
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.dev
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.dev != nil {
		if ended := shared.dev.Stop(); ended != 0 {
			fmt.Fprintf(os.Stderr, "the shared server ended with code %d\n%s\n", ended, shared.dev.Output())
			code = max(code, 1)
		}
	}
	if shared.tmp != "" {
		_ = os.RemoveAll(shared.tmp)
	}
	os.Exit(code)
}

// post sends a body to one of the shared server's connectors; the answer must be 200.
func (d *devServer) post(t *testing.T, table, key string, body []byte) {
	t.Helper()
	code, err := product.Post(t.Context(), d.HTTP+"/"+table, key, body)
	if err != nil || code != http.StatusOK {
		t.Fatalf("POST /%s of %d bytes: status %d, %v", table, len(body), code, err)
	}
}

// count waits until a query for one number gives it.
func (d *devServer) count(t *testing.T, want int64, sql string) {
	t.Helper()
	d.Until(t, func() error {
		rows := product.Query[struct{ N int64 }](t, d.binary, d.dir, sql)
		if len(rows) != 1 || rows[0].N > want {
			t.Fatalf("%s: got %v, want %d", sql, rows, want)
		}
		if rows[0].N < want {
			return fmt.Errorf("%s: %d of %d", sql, rows[0].N, want)
		}
		return nil
	})
}

var errNotYet = errors.New("not yet")
