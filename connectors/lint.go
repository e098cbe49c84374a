package connectors

import (
	"bytes"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/tidemill/tidemill/connectors/sqlpoll"
	"github.com/tidemill/tidemill/internal/problem"
	"github.com/tidemill/tidemill/internal/secret"
)

// Lint checks a connector against everything that can be known without
// running it: Benthos' own linter with our output's schema, Bloblang included,
// and what exactly-once forbids. tables are the names of the contracts there
// are. The result lists every problem at once; nil means there is none.
func (e *Engine) Lint(c *Config, tables []string) problem.List {
	var ps problem.List
	// Benthos would take a reference for a variable of that name.
	src := secret.Reference.ReplaceAllLiteral(c.lintable(), []byte("x"))
	lints, err := e.env.FullConfigSchema("", "").NewStreamConfigLinter().SetSkipEnvVarCheck(true).LintYAML(src)
	if err != nil {
		ps.Addf(c.File, yamlErrorLine(err), "", "%v", err)
	}
	for _, l := range lints {
		field, message := explained(e.env, c.root, l)
		if field == "output.lakehouse.table" && c.Table == "" {
			continue // whoever parsed it has said so
		}
		ps.Add(problem.Problem{File: c.File, Line: l.Line, Column: l.Column, Field: field, Message: message})
	}
	ps.Add(missingEnv(c)...)
	ps.Add(c.Resolve()...)
	ps.Add(deliveryProblems(c)...)
	ps.Add(filesProblems(c)...)
	ps.Add(postgresProblems(c)...)
	ps.Add(kinesisProblems(c)...)
	ps.Add(polledTwice(c)...)
	ps.Add(intervalProblems(c)...)
	if lake := child(child(c.root, "output"), "lakehouse"); lake != nil && c.Table != "" {
		known := false
		for _, t := range tables {
			known = known || t == c.Table
		}
		if !known {
			have := "there is none yet"
			if len(tables) > 0 {
				have = "there are: " + strings.Join(tables, ", ")
			}
			ps.Addf(c.File, lineOf(child(lake, "table"), lake), "output.lakehouse.table", "no contract tables/%s.yaml (%s); write one or correct the name", c.Table, have)
		}
	}
	return ps
}

// lintable is the file without its unit tests, whose format is ours; lines keep their numbers.
func (c *Config) lintable() []byte {
	from, to := 0, 0
	for i := 0; i+1 < len(c.root.Content); i += 2 {
		switch key := c.root.Content[i]; {
		case key.Value == testsField:
			from = key.Line
		case from > 0 && to == 0:
			to = key.Line
		}
	}
	if from == 0 || c.root.Style&yaml.FlowStyle != 0 {
		return c.src
	}
	lines := bytes.SplitAfter(c.src, []byte{'\n'})
	if to == 0 {
		to = len(lines) + 1
	}
	for i := from - 1; i < to-1; i++ {
		lines[i] = []byte{'\n'}
	}
	return bytes.Join(lines, nil)
}

var envVar = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)\}`)

// missingEnv finds variables without a default that the environment lacks;
// Benthos would silently put nothing in their place.
func missingEnv(c *Config) (ps problem.List) {
	for i, line := range strings.Split(string(c.lintable()), "\n") {
		if t := strings.TrimSpace(line); strings.HasPrefix(t, "#") {
			continue
		}
		for _, m := range envVar.FindAllStringSubmatch(line, -1) {
			if _, ok := os.LookupEnv(m[1]); !ok {
				ps.Addf(c.File, i+1, fieldAt(c.root, i+1), "environment variable %s is not set; set it, or give a default as ${%s:default}", m[1], m[1])
			}
		}
	}
	return ps
}

// deliveryProblems finds what would ack a message before its rows are safe, or
// make its position useless.
func deliveryProblems(c *Config) (ps problem.List) {
	if b := child(c.root, "buffer"); b != nil && componentName(b) != "none" {
		ps.Addf(c.File, b.Line, "buffer", "a buffer acks messages before their rows are committed, so a crash would lose them; remove it (batches are formed by output.lakehouse.batching)")
	}
	if p := child(child(child(child(c.root, "output"), "lakehouse"), "batching"), "processors"); p != nil && len(p.Content) > 0 {
		ps.Addf(c.File, p.Line, "output.lakehouse.batching.processors", "would hide where rows came from; move them to pipeline.processors")
	}
	if p := child(child(c.root, "output"), "processors"); p != nil && len(p.Content) > 0 {
		ps.Addf(c.File, p.Line, "output.processors", "run after batches are formed and would hide where rows came from; move them to pipeline.processors")
	}
	walk(child(c.root, "input"), func(key, value *yaml.Node) { ps.Add(ackProblems(c, key, value)...) })
	for _, at := range []string{"pipeline", "input"} {
		walk(child(c.root, at), func(key, value *yaml.Node) {
			switch key.Value {
			case "unarchive":
				ps.Addf(c.File, key.Line, at+".processors.unarchive", "splits a message into several that share one source position, so a crash between them would lose rows; remove it: the lakehouse output takes NDJSON and JSON arrays as they are")
			case "archive":
				ps.Addf(c.File, key.Line, at+".processors.archive", "joins messages and loses all but one source position; remove it: the lakehouse output forms batches by itself")
			}
		})
	}
	return ps
}

// intervalProblems finds intervals of `generate` that are neither a duration nor in cron's format, which
// the component takes as text until it begins.
func intervalProblems(c *Config) (ps problem.List) {
	walk(child(c.root, "input"), func(key, value *yaml.Node) {
		n := child(value, "interval")
		if key.Value != "generate" || n == nil || n.Kind != yaml.ScalarNode || n.Value == "" || envRef.MatchString(n.Value) {
			return
		}
		if _, err := time.ParseDuration(n.Value); err == nil || strings.HasPrefix(n.Value, "@") || len(strings.Fields(n.Value)) > 4 {
			return
		}
		ps.Addf(c.File, n.Line, "input.generate.interval", "%q is no duration, such as 10ms or 1m, and no cron expression, such as @every 5s or 0 * * * *; correct it", n.Value)
	})
	return ps
}

// polledTwice finds inputs of one connector whose rows would be counted as those of one
// source: the second's would be taken for the first's, and dropped.
func polledTwice(c *Config) (ps problem.List) {
	seen := map[string]bool{}
	walk(child(c.root, "input"), func(key, value *yaml.Node) {
		var source string
		switch key.Value {
		case httpPoll:
			if u := child(value, "url"); u != nil {
				source, _, _ = strings.Cut(u.Value, "?")
			}
		case sqlPoll:
			source = sqlpoll.QueryPartition
			if t := child(value, "table"); t != nil && t.Value != "" {
				source = t.Value
			}
		default:
			return
		}
		if source = key.Value + " " + source; seen[source] {
			ps.Addf(c.File, key.Line, "input."+key.Value, "reads from where another input of this connector reads from, and their rows could not be told apart; put it into a connector of its own")
		}
		seen[source] = true
	})
	return ps
}

// ackProblems finds inputs that are told to ack what has not landed, that have no session in
// which a broker could keep messages for them, or that can end the process.
func ackProblems(c *Config, key, value *yaml.Node) (ps problem.List) {
	isTrue := func(field string) (*yaml.Node, bool) {
		n := child(value, field)
		return n, n != nil && n.Value == "true"
	}
	switch key.Value {
	case "kafka":
		if n := child(value, "sasl"); n != nil && value.Kind == yaml.MappingNode && child(value, "addresses") != nil {
			ps.Addf(c.File, n.Line, "input.kafka.sasl", "its library ends the process when a login is refused and the next connection breaks; use the input kafka_franz, which reads the same topics as the same group")
		}
	case "amqp_0_9":
		if n, ok := isTrue("auto_ack"); ok {
			ps.Addf(c.File, n.Line, "input.amqp_0_9.auto_ack", "acks messages before their rows are committed, so a crash would lose them; remove it")
		}
	case "mqtt":
		if _, clean := isTrue("clean_session"); child(value, "client_id") == nil && !clean && value.Kind == yaml.MappingNode {
			ps.Addf(c.File, key.Line, "input.mqtt.client_id", "missing; the broker keeps messages for a session by this name while the process is down, so give it one that stays the same (or write clean_session: true, and lose them)")
		}
	}
	return ps
}

// SharedPaths finds http_server inputs of several connectors that register the
// same path with the process's own HTTP server.
func SharedPaths(configs []*Config) (ps problem.List) {
	first := map[string]*Config{}
	for _, c := range configs {
		walk(c.root, func(key, value *yaml.Node) {
			if key.Value != "http_server" || child(value, "address") != nil {
				return
			}
			at, path := key, httpPath(value)
			if p := child(value, "path"); p != nil {
				at = p
			}
			if other, ok := first[path]; ok {
				ps.Addf(c.File, at.Line, "input.http_server.path", "%s is taken by connector %s; give each its own path or address", path, other.Name)
				return
			}
			first[path] = c
		})
	}
	return ps
}

// HTTPPaths are the paths that a connector's inputs register with the process's own
// HTTP server.
func HTTPPaths(c *Config) (paths []string) {
	walk(child(c.root, "input"), func(key, value *yaml.Node) {
		if key.Value == "http_server" && child(value, "address") == nil {
			paths = append(paths, httpPath(value))
		}
	})
	return paths
}

func walk(n *yaml.Node, fn func(key, value *yaml.Node)) {
	if n == nil {
		return
	}
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			fn(n.Content[i], n.Content[i+1])
			walk(n.Content[i+1], fn)
		}
		return
	}
	for _, c := range n.Content {
		walk(c, fn)
	}
}

// fieldAt names the innermost field that begins at or before a line, as a path.
func fieldAt(n *yaml.Node, line int) string {
	var path []string
	for n != nil {
		var next *yaml.Node
		var name string
		switch n.Kind {
		case yaml.MappingNode:
			for i := 0; i+1 < len(n.Content); i += 2 {
				if n.Content[i].Line <= line {
					next, name = n.Content[i+1], n.Content[i].Value
				}
			}
		case yaml.SequenceNode:
			for i, c := range n.Content {
				if c.Line <= line {
					next, name = c, index(i)
				}
			}
		}
		if next == nil {
			break
		}
		path = append(path, name)
		n = next
	}
	return joinPath(path)
}

// index is an item of a list in a path.
func index(i int) string { return "[" + strconv.Itoa(i) + "]" }
