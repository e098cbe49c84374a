package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/internal/testserver"
	"github.com/tidemill/tidemill/test/product"
)

// TestSinkStatus asks a process about a sink that cannot be reached, and again when it can.
func TestSinkStatus(t *testing.T) {
	t.Parallel()
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		var row struct{ ID int }
		if _ = json.NewDecoder(req.Body).Decode(&row); row.ID == 3 {
			w.WriteHeader(http.StatusUnprocessableEntity)
		}
	}))
	t.Cleanup(hook.Close)
	way := testserver.StartForward(t, hook.Listener.Addr().String())
	way.Cut()
	contract := contractOf("rows", `sinks:
  - name: hook
    attempts: 2
    output: {http_client: {url: "http://u:${E2E_SECRET}@`+way.Addr+`", verb: POST, retries: 0, drop_on: [422]}}
  - {name: none, output: {drop: {}}}
`)
	r := startReloader(t, product.Project{
		"tidemill.yaml":        "maintenance: {every: off}\n",
		"connectors/rows.yaml": httpConnector("rows"),
		"tables/rows.yaml":     contract,
	})
	sink := func(s projectStatus, name string) sinkStatus {
		for _, x := range s.Tables[0].Sinks {
			if x.Name == name {
				return x
			}
		}
		return sinkStatus{}
	}
	for i := range 5 {
		r.post("rows", i)
	}
	s := r.until("down", func(s projectStatus) bool {
		x := sink(s, "hook")
		return x.State == "down" && x.BehindRows == 5 && x.Error != "" && sink(s, "none").Sent == 5
	})
	host, _ := os.Hostname()
	for _, name := range []string{"hook", "none"} {
		if x := sink(s, name); !x.Here || x.Process != fmt.Sprintf("%s/%d", host, r.Pid()) || x.Generation != 1 || x.Seen.IsZero() {
			t.Errorf("%+v", x)
		}
	}
	down := sink(s, "hook")
	if down.Output != "http_client" || down.Sent != 0 || down.Behind < 1 || down.Version >= s.Tables[0].Scored || strings.Contains(down.Error, sentinel) {
		t.Errorf("%+v", down)
	}
	human := r.b.Must(t, "status", r.dir)
	for _, want := range []string{"SENT UP TO", "hook  rows   http_client  down", "none  rows   drop         waiting", "this one", "***@" + way.Addr} {
		if !strings.Contains(human, want) {
			t.Errorf("status does not say %q:\n%s", want, human)
		}
	}

	way.Mend()
	s = r.until("up", func(s projectStatus) bool { return sink(s, "hook").State == "waiting" && sink(s, "hook").Behind == 0 })
	if up := sink(s, "hook"); up.Sent != 4 || up.Refused != 1 || up.BehindRows != 0 || up.Version != s.Tables[0].Scored {
		t.Errorf("%+v", up)
	}
	// An edit of the sinks is another generation, and what was sent stays counted.
	r.edit("tables/rows.yaml", strings.Replace(contract, "attempts: 2", "attempts: 3", 1))
	s = r.until("edited", func(s projectStatus) bool { return sink(s, "hook").Generation == 2 && sink(s, "hook").Here })
	if x := sink(s, "hook"); x.Sent != 4 || x.Refused != 1 {
		t.Errorf("%+v", x)
	}
}
