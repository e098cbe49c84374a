package connectors

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/internal/problem"
	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
)

// TestCheckRegistries: what lint says of the registries and subjects that a connector and
// the sinks of a contract name, each at its line and field.
func TestCheckRegistries(t *testing.T) {
	t.Parallel()
	open, locked, down, gone := startRegistry(t), startRegistry(t), startRegistry(t), startRegistry(t)
	locked.password = "let-me-in"
	down.away.Store(http.StatusServiceUnavailable)
	gone.Close()
	e, err := New(Options{Tables: newLake(t, mem.New(), eventsContract)})
	if err != nil {
		t.Fatal(err)
	}
	connector := "input:\n  generate: {mapping: 'root = \"\"'}\npipeline:\n  processors:\n"
	outputs := "table: events\ncolumns: [{name: id, type: string, required: true}]\nsinks:\n"
	for i, p := range []string{
		`schema_registry_decode: {url: "` + open.URL + `/"}`,
		`schema_registry_encode: {url: "` + open.URL + `", subject: orders-value}`,
		`schema_registry_encode: {url: "` + open.URL + `", subject: order-value}`,
		`schema_registry_encode: {url: "` + open.URL + `", subject: something/else}`,
		`schema_registry_encode: {url: "` + open.URL + `", subject: '${! meta("kafka_topic") }'}`,
		`schema_registry_encode: {url: "` + locked.URL + `", subject: orders-value, basic_auth: {enabled: true, username: u, password: let-me-in}}`,
		`schema_registry_decode: {url: "` + locked.URL + `"}`,
		`schema_registry_encode: {url: "` + down.URL + `", subject: orders-value}`,
		`schema_registry_decode: {url: "` + gone.URL + `"}`,
	} {
		connector += "    - " + p + "\n"
		outputs += fmt.Sprintf("  - name: s%d\n    output: {drop: {}}\n    processors:\n      - %s\n", i, p)
	}
	connector += "output:\n  lakehouse: {table: events}\n"
	outputs += "  - name: out\n    output:\n      schema_registry:\n        url: \"" + open.URL + "\"\n        subject: nowhere\n"

	c, err := ParseConfig("connectors/in.yaml", []byte(connector))
	if err != nil {
		t.Fatal(err)
	}
	if ps := e.Lint(c, []string{"events"}); len(ps) > 0 {
		t.Fatal(ps)
	}
	table, err := contract.Parse("tables/events.yaml", []byte(outputs))
	if err != nil {
		t.Fatal(err)
	}
	if ps := e.LintSinks(table); len(ps) > 0 {
		t.Fatal(ps)
	}
	is := func(what string, got problem.List, want ...string) {
		t.Helper()
		var text []string
		for _, p := range got {
			text = append(text, p.Error())
		}
		if !slices.EqualFunc(text, want, strings.HasPrefix) {
			t.Errorf("%s:\n%s\nwant\n%s", what, strings.Join(text, "\n"), strings.Join(want, "\n"))
		}
	}
	ps, unchecked := e.CheckRegistries(t.Context(), c)
	is("the connector", ps,
		"connectors/in.yaml:7: pipeline.processors[2].schema_registry_encode.subject: the schema registry at "+open.URL+" has no subject order-value; did you mean orders-value?",
		"connectors/in.yaml:8: pipeline.processors[3].schema_registry_encode.subject: the schema registry at "+open.URL+" has no subject something/else; register a schema for it, or correct the name",
		"connectors/in.yaml:11: pipeline.processors[6].schema_registry_decode.url: the schema registry at "+locked.URL+" refuses the credentials (401 Unauthorized); correct basic_auth, oauth, jwt or tls",
	)
	is("of the connector unchecked", unchecked,
		"connectors/in.yaml:12: pipeline.processors[7].schema_registry_encode.subject: is not checked: the schema registry at "+down.URL+" answers 503 Service Unavailable",
		"connectors/in.yaml:13: pipeline.processors[8].schema_registry_decode.url: is not checked: the schema registry does not answer: ",
	)
	ps, unchecked = e.CheckSinkRegistries(t.Context(), table)
	is("the sinks", ps,
		"tables/events.yaml:15: sinks[2].processors[0].schema_registry_encode.subject: the schema registry at "+open.URL+" has no subject order-value",
		"tables/events.yaml:19: sinks[3].processors[0].schema_registry_encode.subject: the schema registry at "+open.URL+" has no subject something/else",
		"tables/events.yaml:31: sinks[6].processors[0].schema_registry_decode.url: the schema registry at "+locked.URL+" refuses the credentials",
		"tables/events.yaml:44: sinks[9].output.schema_registry.subject: the schema registry at "+open.URL+" has no subject nowhere",
	)
	is("of the sinks unchecked", unchecked,
		"tables/events.yaml:35: sinks[7].processors[0].schema_registry_encode.subject: is not checked: ",
		"tables/events.yaml:39: sinks[8].processors[0].schema_registry_decode.url: is not checked: ",
	)
	for _, p := range append(ps, unchecked...) {
		if p.Column == 0 {
			t.Errorf("%s: no column", p.Error())
		}
	}
}
