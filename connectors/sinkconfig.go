package connectors

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/internal/problem"
	"github.com/tidemill/tidemill/internal/strictyaml"
)

// sinkConfig is the Benthos config that a sink's rows go through.
func (e *Engine) sinkConfig(s contract.Sink) (string, error) {
	out := benthosNode(s.Output)
	if err := e.inOrder(s, out); err != nil {
		return "", err
	}
	if s.Processors != nil {
		// Without the wrapper, a row that a processor fails for would go on as it is.
		out = mapping("reject_errored", out, "processors", benthosNode(s.Processors))
	}
	root := mapping("input", mapping(rowsInput, mapping()), "output", out)
	c := &Config{File: s.Output.File, root: root}
	c.noteSecrets()
	if ps := c.fill(root, io.Discard); ps != nil {
		for i := range ps {
			ps[i].Line, ps[i].Field = s.Output.Line, s.Output.Path
		}
		return "", ps
	}
	text, err := yaml.Marshal(root)
	if err != nil {
		return "", fmt.Errorf("encode output: %w", err)
	}
	return string(text), nil
}

// inOrder bounds what an output sends at a time by what the sink does, unless its config
// says otherwise. Outputs that take one row at a time would send 64 rows of a batch side
// by side, and the latest of a key would not be the last to arrive.
func (e *Engine) inOrder(s contract.Sink, out *yaml.Node) error {
	conf := child(out, componentName(out))
	if conf == nil || conf.Kind != yaml.MappingNode || child(conf, "max_in_flight") != nil {
		return nil
	}
	setScalar(conf, "max_in_flight", strconv.Itoa(s.MaxInFlight), "!!int")
	text, err := yaml.Marshal(mapping("input", mapping(rowsInput, mapping()), "output", out))
	if err != nil {
		return fmt.Errorf("encode output: %w", err)
	}
	lints, err := e.sinkLintEnv.FullConfigSchema("", "").NewStreamConfigLinter().SetSkipEnvVarCheck(true).LintYAML(text)
	if err != nil {
		return masked(err)
	}
	if slices.ContainsFunc(lints, func(l service.Lint) bool { return l.Type == service.LintUnknown }) {
		remove(conf, "max_in_flight") // it has no such field: it sends batches as they come
	}
	return nil
}

// benthosNode is a part of a contract as Benthos reads it, each field on a line of its own.
// Its nodes know where they stand in the contract.
func benthosNode(n *strictyaml.Node) *yaml.Node {
	out := placelessNode(n)
	out.Line, out.Column = n.Line, n.Column
	return out
}

func placelessNode(n *strictyaml.Node) *yaml.Node {
	switch n.Kind {
	case strictyaml.Mapping:
		out := mapping()
		for _, e := range n.Entries {
			out.Content = append(out.Content, scalar(e.Key, "!!str"), benthosNode(e.Value))
		}
		return out
	case strictyaml.Sequence:
		out := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		for _, item := range n.Items {
			out.Content = append(out.Content, benthosNode(item))
		}
		return out
	case strictyaml.Null:
		return scalar("null", "!!null")
	default:
		out := scalar(n.Value, n.Tag)
		if n.Tag == "!!str" {
			out.Style = yaml.DoubleQuotedStyle
			if strings.Contains(n.Value, "\n") {
				out.Style = yaml.LiteralStyle
			}
		}
		return out
	}
}

// lintSink finds what is wrong with a sink's output and processors.
func (e *Engine) lintSink(s contract.Sink) (ps problem.List) {
	for _, part := range []*strictyaml.Node{s.Output, s.Processors} {
		if part != nil {
			(&Config{File: part.File, root: benthosNode(part)}).noteSecrets()
		}
	}
	name := outputName(s.Output)
	if name == nil {
		ps.Add(s.Output.Problem("names no output; write one of Benthos' outputs, such as {redis_streams: {…}}"))
		return ps
	}
	if !slices.Contains(sinkOutputs, name.Key) {
		hint := "the outputs are " + strings.Join(sinkOutputs, ", ")
		if near := strictyaml.Suggest(name.Key, sinkOutputs); near != "" {
			hint = "did you mean " + near + "?"
		}
		ps.Add(problem.Problem{File: s.Output.File, Line: name.Line, Column: name.Column, Field: name.Value.Path, Message: "there is no output " + name.Key + "; " + hint})
		return ps
	}
	walkNode(s.Output, func(e *strictyaml.Entry) {
		at := problem.Problem{File: s.Output.File, Line: e.Line, Column: e.Column, Field: e.Value.Path}
		switch {
		case e.Key == "batching":
			at.Message = "batches are formed by the sink; write batching beside output"
		case e.Key == "processors" && e.Value.Path == s.Output.Path+".processors":
			at.Message = "would send rows on that they fail for; write processors beside output"
		default:
			return
		}
		ps.Add(at)
	})
	ps.Add(missingSinkEnv(s)...)
	ps.Add(e.lintSinkConfig(s)...)
	return ps
}

// SinkKind names the kind of a sink's output, such as redis_streams; "" when it names none.
func SinkKind(s contract.Sink) string {
	if name := outputName(s.Output); name != nil {
		return name.Key
	}
	return ""
}

// outputName is the entry of an output that names its kind.
func outputName(n *strictyaml.Node) *strictyaml.Entry {
	for i := range n.Entries {
		if k := n.Entries[i].Key; k != "label" && k != "processors" {
			return &n.Entries[i]
		}
	}
	return nil
}

// lintSinkConfig has Benthos' linter look at a sink.
func (e *Engine) lintSinkConfig(s contract.Sink) (ps problem.List) {
	conf := mapping("input", mapping(rowsInput, mapping()))
	if s.Processors != nil {
		conf.Content = append(conf.Content, scalar("pipeline", "!!str"), mapping("processors", benthosNode(s.Processors)))
	}
	conf.Content = append(conf.Content, scalar("output", "!!str"), benthosNode(s.Output))
	text, err := yaml.Marshal(conf)
	if err != nil {
		ps.Add(s.Output.Problem("cannot be encoded: %v", err))
		return ps
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		ps.Add(s.Output.Problem("cannot be read back: %v", err))
		return ps
	}
	lints, err := e.sinkLintEnv.FullConfigSchema("", "").NewStreamConfigLinter().SetSkipEnvVarCheck(true).LintYAML(text)
	if err != nil {
		ps.Add(s.Output.Problem("%v", masked(err)))
	}
	for _, l := range lints {
		path, message := explained(e.sinkLintEnv, doc.Content[0], l)
		at := s.Output
		if rest, ok := strings.CutPrefix(path, "pipeline.processors"); ok && s.Processors != nil {
			path, at = s.Processors.Path+rest, s.Processors
		} else {
			path = s.Output.Path + strings.TrimPrefix(path, "output")
		}
		line, column := placeOf(at, path)
		ps.Add(problem.Problem{File: at.File, Line: line, Column: column, Field: path, Message: message})
	}
	return ps
}

// placeOf is where a field stands, or the nearest one around it that is there.
func placeOf(n *strictyaml.Node, path string) (line, column int) {
	line, column = n.Line, n.Column
	inside := func(at string) bool {
		rest, ok := strings.CutPrefix(path, at)
		return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
	}
	for _, e := range n.Entries {
		if inside(e.Value.Path) {
			line, column = e.Line, e.Column
			if l, c := placeOf(e.Value, path); len(e.Value.Entries)+len(e.Value.Items) > 0 && path != e.Value.Path && (l != e.Value.Line || c != e.Value.Column) {
				line, column = l, c
			}
		}
	}
	for _, item := range n.Items {
		if inside(item.Path) {
			line, column = placeOf(item, path)
		}
	}
	return line, column
}

func walkNode(n *strictyaml.Node, fn func(*strictyaml.Entry)) {
	for i := range n.Entries {
		fn(&n.Entries[i])
		walkNode(n.Entries[i].Value, fn)
	}
	for _, item := range n.Items {
		walkNode(item, fn)
	}
}

// missingSinkEnv finds variables without a default that the environment lacks.
func missingSinkEnv(s contract.Sink) (ps problem.List) {
	var walk func(n *strictyaml.Node)
	walk = func(n *strictyaml.Node) {
		for _, m := range envVar.FindAllStringSubmatch(n.Value, -1) {
			if _, ok := os.LookupEnv(m[1]); !ok {
				ps.Add(n.Problem("environment variable %s is not set; set it, or give a default as ${%s:default}", m[1], m[1]))
			}
		}
		for _, e := range n.Entries {
			walk(e.Value)
		}
		for _, item := range n.Items {
			walk(item)
		}
	}
	walk(s.Output)
	if s.Processors != nil {
		walk(s.Processors)
	}
	return ps
}

// registerRowsInput makes an environment that is only linted know the input of sinks.
func registerRowsInput(env *service.Environment) error {
	return env.RegisterBatchInput(rowsInput, service.NewConfigSpec(), func(*service.ParsedConfig, *service.Resources) (service.BatchInput, error) {
		return nil, errors.New("no rows here")
	})
}
