package cases

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/tidemill/tidemill/internal/problem"
	"github.com/tidemill/tidemill/internal/strictyaml"
)

// Case is one test.
type Case struct {
	File string
	Line int
	Name string

	Environment map[string]string
	Mocks       map[string]any // by label or JSON pointer: a processor
	MockLines   map[string]int
	Now         time.Time          // zero: the time of the test
	MockScores  map[string]float64 // nil: the model is run
	Batches     [][]Message

	Outputs     [][]Condition // nil: not looked at
	Scored      []Row
	Quarantined []Row
	Rows        bool             // Scored and Quarantined are to be compared: one of them was given
	Warnings    map[string]int64 // nil: not looked at
	Tolerance   float64
	line        map[string]int // of scored, quarantined, warnings
}

// Message is a message that is fed in.
type Message struct {
	Data []byte
	Meta map[string]any
}

// Condition is what must be true of a message: field of the format to its value.
type Condition struct {
	Line   int
	Fields []Value
}

// Row is an expected row.
type Row struct {
	Line   int
	Values []Value
}

// Value is an expected value.
type Value struct {
	Name string
	Line int
	Want any // as JSON has it: numbers are json.Number
}

const defaultTolerance = 1e-6

// Parse reads a file of tests. The error is a [problem.List].
func Parse(file string, src []byte) ([]Case, error) {
	var ps problem.List
	root := strictyaml.Read(file, src, &ps)
	if root == nil {
		return nil, ps.Err()
	}
	fileSpec.Check(root, &ps)
	out := parseList(root.Get("tests"), &ps)
	return out, ps.Err()
}

// ParseSection reads the tests that a connector holds itself, under `tests`; nil
// when it has none. What else is in the file is not looked at.
func ParseSection(file string, src []byte) ([]Case, error) {
	var ps problem.List
	root := strictyaml.Read(file, src, &ps)
	if root == nil || !root.Has("tests") {
		return nil, nil // what is wrong with the file as a whole is told by whoever reads the connector
	}
	ps = nil
	n := root.Get("tests")
	if n == nil {
		return nil, nil
	}
	listSpec.Check(n, &ps)
	out := parseList(n, &ps)
	return out, ps.Err()
}

func parseList(n *strictyaml.Node, ps *problem.List) (out []Case) {
	names := map[string]int{}
	for _, item := range n.Each() {
		c := parseCase(item, ps)
		if line, ok := names[c.Name]; ok && c.Name != "" {
			ps.Add(item.Get("name").Problem("is the name of the test on line %d too; give each its own", line))
		}
		names[c.Name] = item.Line
		out = append(out, c)
	}
	return out
}

func parseCase(n *strictyaml.Node, ps *problem.List) Case {
	c := Case{File: n.File, Line: n.Line, Name: n.Get("name").Text(), Tolerance: defaultTolerance, line: map[string]int{}}
	for _, e := range n.Entries {
		c.line[e.Key] = e.Line
	}
	if env := n.Get("environment"); env != nil {
		c.Environment = map[string]string{}
		for _, e := range env.Entries {
			c.Environment[e.Key] = e.Value.Text()
		}
	}
	if m := n.Get("mocks"); m != nil {
		c.Mocks, c.MockLines = map[string]any{}, map[string]int{}
		for _, e := range m.Entries {
			c.Mocks[e.Key], c.MockLines[e.Key] = plain(e.Value), e.Line
		}
	}
	c.parseScalars(n, ps)
	c.parseInputs(n, ps)
	if out := n.Get("output_batches"); out != nil {
		c.Outputs = [][]Condition{}
		for _, b := range out.Each() {
			batch := []Condition{}
			for _, item := range b.Each() {
				batch = append(batch, Condition{Line: item.Line, Fields: values(item)})
			}
			c.Outputs = append(c.Outputs, batch)
		}
	}
	for name, to := range map[string]*[]Row{"scored": &c.Scored, "quarantined": &c.Quarantined} {
		list := n.Get(name)
		c.Rows = c.Rows || n.Has(name)
		for _, item := range list.Each() {
			*to = append(*to, Row{Line: item.Line, Values: values(item)})
		}
	}
	if w := n.Get("warnings"); w != nil {
		c.Warnings = map[string]int64{}
		for _, e := range w.Entries {
			c.Warnings[e.Key] = int64(e.Value.IntOr(0))
		}
	}
	if !c.Rows && !n.Has("output_batches") && !n.Has("warnings") {
		ps.Add(n.Problem("expects nothing; add scored and quarantined rows, or output_batches"))
	}
	return c
}

func (c *Case) parseScalars(n *strictyaml.Node, ps *problem.List) {
	if now := n.Get("now"); now != nil {
		t, ok := instant(now.Text())
		if !ok {
			ps.Add(now.Problem("must be a time such as 2026-01-31T12:00:00Z, not %s", now.Quoted()))
		}
		c.Now = t
	}
	if t := n.Get("tolerance"); t != nil {
		v, err := strconv.ParseFloat(t.Text(), 64)
		if err != nil || v < 0 || math.IsNaN(v) {
			ps.Add(t.Problem("must be a number such as 0.001, not %s", t.Quoted()))
		}
		c.Tolerance = v
	}
	if m := n.Get("mock_scores"); m != nil {
		c.MockScores = map[string]float64{}
		for _, e := range m.Entries {
			v, err := strconv.ParseFloat(e.Value.Text(), 64)
			if err != nil {
				ps.Add(e.Value.Problem("must be a number, not %s", e.Value.Quoted()))
			}
			c.MockScores[e.Key] = v
		}
	}
}

func (c *Case) parseInputs(n *strictyaml.Node, ps *problem.List) {
	if n.Has("input_batch") == n.Has("input_batches") {
		ps.Add(n.Problem("needs input_batch, a list of messages, or input_batches, a list of such lists; give one of them"))
		return
	}
	batches := n.Get("input_batches").Each()
	if b := n.Get("input_batch"); b != nil {
		batches = append(batches, b)
	}
	for _, b := range batches {
		var msgs []Message
		for _, item := range b.Each() {
			msgs = append(msgs, message(item, ps))
		}
		c.Batches = append(c.Batches, msgs)
	}
}

func message(n *strictyaml.Node, ps *problem.List) (m Message) {
	given := 0
	for _, name := range []string{"content", "json_content", "file_content"} {
		if n.Has(name) {
			given++
		}
	}
	if given != 1 {
		ps.Add(n.Problem("needs one of content, json_content and file_content"))
	}
	switch {
	case n.Get("content") != nil:
		m.Data = []byte(n.Get("content").Text())
	case n.Get("json_content") != nil:
		data, err := json.Marshal(plain(n.Get("json_content")))
		if err != nil {
			ps.Add(n.Get("json_content").Problem("cannot be encoded as JSON: %v", err))
		}
		m.Data = data
	case n.Get("file_content") != nil:
		f := n.Get("file_content")
		data, err := os.ReadFile(filepath.Join(filepath.Dir(n.File), filepath.FromSlash(f.Text())))
		if err != nil {
			ps.Add(f.Problem("cannot be read: %v", err))
		}
		m.Data = data
	}
	if meta := n.Get("metadata"); meta != nil {
		m.Meta = map[string]any{}
		for _, e := range meta.Entries {
			m.Meta[e.Key] = metaValue(plain(e.Value))
		}
	}
	return m
}

// metaValue gives numbers of metadata the type that inputs give them.
func metaValue(v any) any {
	n, ok := v.(json.Number)
	if !ok {
		return v
	}
	if i, err := n.Int64(); err == nil {
		return i
	}
	f, err := n.Float64()
	if err != nil {
		return string(n)
	}
	return f
}

func values(n *strictyaml.Node) (out []Value) {
	for _, e := range n.Entries {
		out = append(out, Value{Name: e.Key, Line: e.Line, Want: plain(e.Value)})
	}
	return out
}

// plain is a node's value as JSON would have it.
func plain(n *strictyaml.Node) any {
	switch n.Kind {
	case strictyaml.Mapping:
		m := map[string]any{}
		for _, e := range n.Entries {
			m[e.Key] = plain(e.Value)
		}
		return m
	case strictyaml.Sequence:
		l := []any{}
		for _, item := range n.Items {
			l = append(l, plain(item))
		}
		return l
	case strictyaml.Null:
		return nil
	}
	switch n.Tag {
	case "!!bool":
		return n.Value == "true" || n.Value == "True" || n.Value == "TRUE"
	case "!!int", "!!float":
		if json.Valid([]byte(n.Value)) {
			return json.Number(n.Value)
		}
		if v, err := strconv.ParseInt(n.Value, 0, 64); err == nil {
			return json.Number(strconv.FormatInt(v, 10))
		}
		if v, err := strconv.ParseFloat(n.Value, 64); err == nil && !math.IsInf(v, 0) && !math.IsNaN(v) {
			return json.Number(strconv.FormatFloat(v, 'g', -1, 64))
		}
	}
	return n.Value
}
