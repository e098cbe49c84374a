package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/test/product"
)

// TestRefusedEditRegistersNoModel: a model that only a refused edit has named is not
// registered, whatever the edit is refused for, and does not stand in the way of the one
// that the mended edit names.
func TestRefusedEditRegistersNoModel(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	good, err := os.ReadFile(filepath.Join(product.Root(), "models", "testdata", "zscore.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	other := append(append([]byte{}, good...), 0x12, 1, 'x') // its producer's name is another
	plain := "table: rows\ncolumns:\n  - {name: value, type: double, required: true}\n"
	r := startReloader(t, product.Project{
		"tidemill.yaml":        "maintenance: {every: off}\n",
		"models/good.onnx":     string(good),
		"models/other.onnx":    string(other),
		"connectors/rows.yaml": httpConnector("rows"),
		"connectors/more.yaml": httpConnector("more"),
		"tables/rows.yaml":     plain,
		"tables/more.yaml":     contractOf("more", ""),
	})
	r.post("more", 1)
	r.count("more_scored", 1)
	naming := func(file string) string {
		return "maintenance: {every: off}\nmodels:\n  - {name: machine, file: models/" + file + ".onnx}\n"
	}
	registered := func() (keys []string) {
		t.Helper()
		for key := range objects(t, r.dir, r.S3, r.Bucket, "") {
			if strings.Contains(key, "_tidemill/models/") || strings.Contains(key, "_tidemill/upload/") {
				keys = append(keys, key)
			}
		}
		return keys
	}
	none := func(after string) {
		t.Helper()
		if keys := registered(); len(keys) > 0 {
			t.Errorf("after %s there are %v", after, keys)
		}
	}
	scored := plain + "score: {model: machine@champion, inputs: [value], output: {anomaly: score}}\n"

	// Each edit is refused for something else. What was wrong before is mended after the new
	// fault is there, so that no look in between finds a good project.
	r.edit("tidemill.yaml", naming("other"))
	r.edit("tables/rows.yaml", scored)
	r.edit("tables/more.yaml", strings.Replace(contractOf("more", ""), "amount, type: long", "amount, type: string", 1))
	r.refused(1, "tables/more.yaml:4: columns[1]", "")
	none("a change that the table cannot follow")

	r.edit("tables/rows.yaml", strings.Replace(scored, "inputs: [value]", "inputs: [value, value]", 1))
	r.edit("tables/more.yaml", contractOf("more", ""))
	r.refused(1, "tables/rows.yaml:", "")
	none("a contract that the model does not fit")

	r.edit("connectors/more.yaml", fmt.Sprintf("input:\n  http_server: {address: %q, path: /more}\noutput:\n  lakehouse: {table: more}\n", taken.Addr()))
	r.edit("tables/rows.yaml", scored)
	r.refused(1, "connectors/more.yaml:", "")
	none("a connector that cannot be made")

	r.edit("models/other.golden.json", `{"inputs": {}, "outputs": {}}`)
	r.edit("connectors/more.yaml", httpConnector("more"))
	r.refused(1, "tidemill.yaml:3: models", "golden")
	none("a model that does not pass the gate")

	// What is mended names another file.
	r.edit("tidemill.yaml", naming("good"))
	r.generation(2)
	r.Until(t, func() error {
		code, err := product.Post(t.Context(), r.HTTP+"/rows", "", []byte(`{"value": 1.5}`))
		if err != nil || code != 200 {
			return fmt.Errorf("status %d, %w", code, err)
		}
		return nil
	})
	r.count("rows_scored", 1)
	if len(registered()) == 0 {
		t.Error("nothing is where models lie")
	}
	sum := sha256.Sum256(good)
	rows := product.Query[struct {
		V   int64
		Sum string
	}](t, r.b, r.dir, "SELECT _model_version AS v, _model_sha256 AS sum FROM rows_scored")
	if len(rows) != 1 || rows[0].V != 1 || rows[0].Sum != hex.EncodeToString(sum[:]) {
		t.Errorf("the row was scored by %v", rows)
	}
	if log := r.Output(); strings.Contains(log, "is not registered") {
		t.Error("a pipeline looked for the model before it was registered")
	}

	// An edit that was refused for a model that nobody has registered is taken in once somebody has.
	r.edit("tables/rows.yaml", strings.Replace(scored, "machine@", "later@", 1))
	r.refused(2, "tables/rows.yaml:", "tidemill model register")
	r.b.Must(t, "-C", r.dir, "model", "register", "later", filepath.Join("models", "good.onnx"), "--alias", "champion")
	r.generation(3)
	if n := strings.Count(r.Output(), "later@champion is not registered"); n != 1 {
		t.Errorf("the log has said %d times that there is no such model, want once", n)
	}
}
