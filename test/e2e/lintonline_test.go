package e2e

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/test/product"
)

// TestLintOnlineAsksSchemaRegistries: a subject that is there, one that is not, and a
// registry that is away, in a connector and in a sink.
func TestLintOnlineAsksSchemaRegistries(t *testing.T) {
	t.Parallel()
	answers := map[string]any{"/subjects/rows-value/versions/latest": map[string]any{"subject": "rows-value", "id": 1}, "/subjects": []string{"rows-value"}}
	registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		answer, ok := answers[req.URL.Path]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			answer = map[string]any{"error_code": 40401, "message": "Subject not found."}
		}
		_ = json.NewEncoder(w).Encode(answer)
	}))
	defer registry.Close()
	b := binary(t)
	lint := func(subject string, flags ...string) product.Result {
		t.Helper()
		encode := "{schema_registry_encode: {url: \"" + strings.Replace(registry.URL, "://", "://u:${E2E_SECRET}@", 1) + "\", subject: " + subject + "}}"
		dir := product.Project{
			"tidemill.yaml":        "maintenance: {every: off}\n",
			"connectors/rows.yaml": "input:\n  generate: {mapping: 'root.id = 1'}\npipeline:\n  processors:\n    - " + encode + "\noutput:\n  lakehouse: {table: rows}\n",
			"tables/rows.yaml":     contractOf("rows", "sinks:\n  - name: out\n    output: {drop: {}}\n    processors:\n      - "+encode+"\n"),
		}.Write(t, "registered")
		return b.Run(t, append([]string{"lint", dir}, flags...)...)
	}
	says := func(r product.Result, code int, text string) {
		t.Helper()
		if strings.Contains(r.Output(), sentinel) {
			t.Errorf("a secret comes out: %s", r.Output())
		}
		if r.Code != code {
			t.Errorf("exit code %d, want %d\n%s", r.Code, code, r.Output())
		}
		if text == "" {
			return
		}
		for _, at := range []string{"connectors/rows.yaml:5: pipeline.processors[0].schema_registry_encode.subject: ", "tables/rows.yaml:9: sinks[0].processors[0].schema_registry_encode.subject: "} {
			if _, after, ok := strings.Cut(r.Output(), at); !ok || !strings.HasPrefix(after, text) {
				t.Errorf("it does not say %q\n%s", at+text, r.Output())
			}
		}
	}
	says(lint("rows-value", "--online"), 0, "")
	says(lint("row-value", "--online"), 3, "the schema registry at http://***@"+registry.Listener.Addr().String()+" has no subject row-value; did you mean rows-value?")
	says(lint("row-value"), 0, "") // without the flag nothing is asked
	registry.Close()
	says(lint("rows-value", "--online"), 0, "is not checked: the schema registry does not answer: ")
}
