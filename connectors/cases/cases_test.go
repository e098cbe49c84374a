package cases

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/internal/problem"
)

const two = `tests:
  - name: both ways
    environment: {REGION: eu}
    now: 2026-01-31T12:00:00Z
    input_batch:
      - json_content: {id: 1, at: 2026-01-31T11:59:00Z}
        metadata: {kafka_offset: 7, kafka_topic: t}
      - content: '{"id": 2'
    scored:
      - id: 1
        at: 2026-01-31 11:59:00
    quarantined:
      - {rule: not_json}
  - name: behind the processors
    input_batches: [[{content: a}], [{content: b}]]
    output_batches: [[{content_equals: A}], [{content_matches: '^B$'}]]
`

func TestParse(t *testing.T) {
	cs, err := Parse("x_test.yaml", []byte(two))
	if err != nil {
		t.Fatal(err)
	}
	c := cs[0]
	if c.Line != 2 || len(c.Batches) != 1 || len(c.Batches[0]) != 2 || !c.Rows || c.Outputs != nil || c.Now.IsZero() || c.Environment["REGION"] != "eu" {
		t.Fatalf("%+v", c)
	}
	if got := string(c.Batches[0][0].Data); got != `{"at":"2026-01-31T11:59:00Z","id":1}` {
		t.Errorf("message %s", got)
	}
	if c.Batches[0][0].Meta["kafka_offset"] != int64(7) {
		t.Errorf("metadata %#v", c.Batches[0][0].Meta)
	}
	if cs[1].Rows || len(cs[1].Batches) != 2 || len(cs[1].Outputs) != 2 {
		t.Fatalf("%+v", cs[1])
	}
	section, err := ParseSection("x.yaml", []byte("input: {stdin: {}}\n"+two))
	if err != nil || len(section) != 2 || section[0].Line != 3 {
		t.Fatalf("%v %+v", err, section)
	}
	if none, err := ParseSection("x.yaml", []byte("input: {stdin: {}}\n")); none != nil || err != nil {
		t.Fatalf("%v %v", none, err)
	}
}

func TestParseProblems(t *testing.T) {
	_, err := Parse("x_test.yaml", []byte(`tests:
  - name: a
    input_batch: [{content: a, json_content: b}]
  - name: a
    scored: []
    quarantine: []
`))
	var got []string
	for _, p := range problem.Of(err) {
		got = append(got, p.Error())
	}
	want := []string{
		"x_test.yaml:2: tests[0]: expects nothing",
		"x_test.yaml:3: tests[0].input_batch[0]: needs one of",
		"x_test.yaml:4: tests[1]: needs input_batch",
		"x_test.yaml:4: tests[1].name: is the name of the test on line 2 too",
		"x_test.yaml:6: tests[1].quarantine: unknown field; did you mean quarantined?",
	}
	if len(got) != len(want) {
		t.Fatalf("got\n%s", strings.Join(got, "\n"))
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("got %q, want %q", got[i], want[i])
		}
	}
}

func TestCompare(t *testing.T) {
	cs, err := Parse("x_test.yaml", []byte(two))
	if err != nil {
		t.Fatal(err)
	}
	c := cs[0]
	row := func(text string) (a Actual) {
		t.Helper()
		dec := json.NewDecoder(strings.NewReader(text))
		dec.UseNumber()
		if err := dec.Decode(&a.Values); err != nil {
			t.Fatal(err)
		}
		return a
	}
	same := row(`{"id": 1.0000000001, "at": "2026-01-31T11:59:00Z", "more": 3}`)
	if d := c.CompareRows("scored", c.Scored, []Actual{same}); d != nil {
		t.Errorf("the same row: %+v", d)
	}
	other := row(`{"id": 2, "at": "2026-01-31T11:59:00Z"}`)
	d := c.CompareRows("scored", c.Scored, []Actual{other, same})
	if len(d) != 2 || d[0] != (Diff{Line: 10, Field: "scored[0].id", Want: "1", Got: "2"}) || d[1].Field != "scored[1]" || d[1].Want != "" || d[1].Line != 9 {
		t.Errorf("%+v", d)
	}
	if d := c.CompareRows("quarantined", c.Quarantined, nil); len(d) != 1 || d[0].Line != 13 || d[0].Note != "did not come" {
		t.Errorf("%+v", d)
	}
	c.Warnings = map[string]int64{"fresh": 1}
	if d := c.CompareWarnings(map[string]int64{"known": 2}); len(d) != 2 {
		t.Errorf("%+v", d)
	}
}

func TestFileContent(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "m.json"), []byte("raw"), 0o600); err != nil {
		t.Fatal(err)
	}
	cs, err := Parse(filepath.Join(dir, "x_test.yaml"), []byte("tests: [{name: a, input_batch: [{file_content: m.json}], scored: []}]"))
	if err != nil || string(cs[0].Batches[0][0].Data) != "raw" {
		t.Fatalf("%v %+v", err, cs)
	}
}
