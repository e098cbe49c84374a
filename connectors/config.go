package connectors

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/tidemill/tidemill/internal/problem"
)

// Config is one connector: a Benthos config whose output is `lakehouse`.
type Config struct {
	Name  string // the file's name without its ending
	File  string
	Table string // the contract its rows are checked against
	Input string // the Benthos name of its input

	root     *yaml.Node
	src      []byte
	resolved *resolved // see Resolve; nil before
}

// ReadConfig reads a connector file far enough to know its table and input.
// What is wrong with the file itself is a problem.List; see [Engine.Lint] for
// the rest, which it finds in what comes with such a list, too, unless that is nil.
func ReadConfig(path string) (*Config, error) {
	src, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read connector: %w", err)
	}
	return ParseConfig(path, src)
}

// ParseConfig is [ReadConfig] for bytes at hand; file is what problems call them.
func ParseConfig(file string, src []byte) (*Config, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(src, &doc); err != nil {
		return nil, problem.List{{File: file, Line: yamlErrorLine(err), Message: "not valid YAML: " + strings.TrimPrefix(err.Error(), "yaml: ")}}
	}
	c := &Config{Name: strings.TrimSuffix(filepath.Base(file), filepath.Ext(file)), File: file, src: src}
	if len(doc.Content) == 0 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, problem.List{{File: file, Line: 1, Message: "a connector is a Benthos config: write `input:` and `output: {lakehouse: {table: …}}`"}}
	}
	c.root = doc.Content[0]
	c.noteSecrets()

	var ps problem.List
	in, out := child(c.root, "input"), child(c.root, "output")
	if in == nil || in.Kind != yaml.MappingNode {
		ps.Addf(file, lineOf(in, c.root), "input", "missing; name the source to read, for example `input: {kafka_franz: {…}}`")
	} else {
		c.Input = componentName(in)
	}
	var table *yaml.Node
	lake := child(out, "lakehouse")
	if lake != nil {
		table = child(lake, "table")
	}
	switch {
	case lake == nil:
		ps.Addf(file, lineOf(out, c.root), "output", "must be `lakehouse: {table: …}`; to send rows elsewhere as well, use a second connector")
	case table == nil || table.Kind != yaml.ScalarNode || table.Value == "":
		ps.Addf(file, lineOf(lake, out), "output.lakehouse.table", "missing; name the contract in tables/ that the rows must fit")
	default:
		c.Table = table.Value
	}
	return c, ps.Err()
}

// testsField holds unit tests in a connector's own file; they are no part of what runs.
const testsField = "tests"

// prepared returns the config that is run: every input wrapped so that its
// messages carry positions.
func (c *Config) prepared() (string, error) {
	if ps := c.Resolve(); ps != nil {
		return "", ps
	}
	root := deepCopy(c.resolved.root)
	remove(root, testsField)
	wrapInput(c, child(root, "input"), c.hasProcessors())
	out, err := yaml.Marshal(root)
	if err != nil {
		return "", fmt.Errorf("encode connector: %w", err)
	}
	return string(out), nil
}

// hasProcessors says whether the user's config changes messages on their way;
// without processors, rows can travel in blocks.
func (c *Config) hasProcessors() bool {
	for _, at := range []*yaml.Node{child(c.root, "pipeline"), child(c.root, "input")} {
		if p := child(at, "processors"); p != nil && len(p.Content) > 0 {
			return true
		}
	}
	return false
}

// InBlocks says whether a connector reads Kafka in blocks, which takes far less memory than
// messages do.
func (c *Config) InBlocks() bool {
	in := child(c.root, "input")
	kind := componentName(in)
	return !c.hasProcessors() && kind == kafkaFranz && readsBlocks(child(in, kind))
}

// nested lists the inputs that hold other inputs, each of which is wrapped by itself.
var nested = map[string]bool{"broker": true, "sequence": true}

// replayed lists the inputs whose own replaying of rejected messages is
// switched off, because the wrapper replays them under the positions they had.
var replayed = map[string]bool{"file": true, "generate": true, "kafka_franz": true, "kafka": true, "mqtt": true, "nats_jetstream": true, "redis_streams": true, awsKinesis: true, postgresChanges: true, stdinInput: true}

// unreplayed lists the inputs of ours that do not replay rejected messages themselves.
var unreplayed = map[string]bool{kafkaBlocks: true, filesInput: true, httpPoll: true, sqlPoll: true}

// replays says whether the wrapper is to hand rejected messages out again.
func replays(kind string, conf *yaml.Node) bool {
	// RabbitMQ would hand them out again at once, and again, while the store is down.
	return replayed[kind] || unreplayed[kind] || kind == "amqp_0_9" && child(conf, "nack_reject_patterns") == nil
}

// singles lists the inputs of ours that hand over rows in blocks, unless processors
// take them, which want one at a time; rowsSingle is the field that says so.
var singles = map[string]bool{httpServer: true, httpPoll: true, sqlPoll: true, stdinInput: true}

const rowsSingle = "tidemill_single"

func wrapInput(c *Config, in *yaml.Node, processors bool) {
	own := child(in, "processors")
	processors = processors || own != nil
	kind := componentName(in)
	conf := child(in, kind)
	if nested[kind] {
		if list := child(conf, "inputs"); list != nil {
			for _, sub := range list.Content {
				wrapInput(c, sub, processors)
			}
			return
		}
	}
	if singles[kind] && conf != nil {
		if conf.Kind != yaml.MappingNode {
			*conf = *mapping() // all its fields are left at their defaults
		}
		setScalar(conf, rowsSingle, fmt.Sprint(processors), "!!bool")
	}
	if replayed[kind] && conf != nil && conf.Kind == yaml.MappingNode {
		setScalar(conf, "auto_replay_nacks", "false", "!!bool")
	}
	if kind == httpServer && conf != nil && child(conf, "ws_path") == nil {
		setScalar(conf, "ws_path", httpPath(conf)+"/ws", "!!str")
	}
	if kind == "redis_streams" && conf != nil && conf.Kind == yaml.MappingNode && child(conf, "consumer_group") == nil {
		setScalar(conf, "consumer_group", "tidemill-"+c.Name, "!!str") // two connectors would share one group's entries
	}
	if resumed[kind] && conf != nil && conf.Kind == yaml.MappingNode {
		setScalar(conf, ownerConnector, c.Name, "!!str")
		setScalar(conf, ownerTable, c.Table, "!!str")
	}
	if kind == postgresChanges && conf != nil && conf.Kind == yaml.MappingNode {
		setScalar(conf, ownerBlocks, fmt.Sprint(!processors), "!!bool")
	}
	switch {
	case kind == "file" && child(conf, "codec") == nil:
		numberLines(conf, processors)
	case kind == stdinInput && conf != nil:
		setScalar(conf, stdinCut, cutBy(conf), "!!str")
	case kind == filesInput:
		c.bindFiles(keyNode(in, kind), conf, processors)
	case kind == "amqp_0_9" && conf != nil && conf.Kind == yaml.MappingNode && child(conf, "prefetch_count") == nil:
		// With Benthos' 10, a batch would have ten messages.
		setScalar(conf, "prefetch_count", amqpPrefetch, "!!int")
	case (kind == "kafka_franz" || kind == "kafka") && conf != nil && conf.Kind == yaml.MappingNode:
		handOverBatches(conf)
		if kind == "kafka_franz" && child(conf, "session_timeout") == nil {
			// Benthos' minute is how long the partitions of a killed process stand still.
			setScalar(conf, "session_timeout", "10s", "!!str")
		}
	}
	if kind == kafkaFranz && !processors && readsBlocks(conf) {
		kind = kafkaBlocks
		keyNode(in, kafkaFranz).Value = kafkaBlocks
		toBlocks(conf)
	}
	inner := *in
	*in = *mapping(sourceInput, mapping(
		"connector", scalar(c.Name, "!!str"),
		"kind", scalar(kind, "!!str"),
		"replay", scalar(fmt.Sprint(replays(kind, conf)), "!!bool"),
		"processors", scalar(fmt.Sprint(processors), "!!bool"),
		"input", &inner,
	))
	if own != nil {
		// They run on what has its position already: those that drop messages
		// would confuse what scanners say of the others.
		inner.Content = slices.Clone(inner.Content)
		remove(&inner, "processors")
		in.Content = append(in.Content, scalar("processors", "!!str"), own)
	}
}

// amqpPrefetch is how many messages a broker hands over before the first is acked.
const amqpPrefetch = "5000"

// httpPath is where an http_server input takes requests.
func httpPath(conf *yaml.Node) string {
	if p := child(conf, "path"); p != nil {
		return p.Value
	}
	return "/post" // Benthos' default
}

// handOverBatches changes what the Kafka inputs do when their config says nothing
// about it. By themselves they hand over each record as a batch of its own, which
// costs Benthos more per row than all that follows, and at most 1,024 of a
// partition before the first is acked: with an ack after 0.3 s, 3,400 rows a
// second. How much is on its way is bounded by the output's batches.
func handOverBatches(conf *yaml.Node) {
	if child(conf, "checkpoint_limit") == nil {
		setScalar(conf, "checkpoint_limit", "100000", "!!int")
	}
	if child(conf, "batching") == nil {
		conf.Content = append(conf.Content, scalar("batching", "!!str"), mapping(
			"count", scalar("2000", "!!int"), "byte_size", scalar("500000", "!!int"), "period", scalar("10ms", "!!str")))
	}
}

// numberLines puts our scanner in the place of `lines`, which is also the
// default, so that rows know their line numbers.
func numberLines(conf *yaml.Node, processors bool) {
	rows := mapping("blocks", scalar(fmt.Sprint(!processors), "!!bool"))
	sc := child(conf, "scanner")
	if sc == nil {
		conf.Content = append(conf.Content, scalar("scanner", "!!str"), mapping(rowsScanner, rows))
		return
	}
	for d := child(sc, "decompress"); d != nil; d = child(sc, "decompress") {
		into := child(d, "into")
		if into == nil {
			d.Content = append(d.Content, scalar("into", "!!str"), mapping(rowsScanner, rows))
			return
		}
		sc = into
	}
	if l := child(sc, "lines"); l != nil && child(l, "custom_delimiter") == nil {
		*sc = *mapping(rowsScanner, rows)
	}
}

// cutBy is a text of how an input cuts its stream into messages, "" for lines as they are, which
// is the default.
func cutBy(conf *yaml.Node) string {
	sc := child(conf, "scanner")
	l := child(sc, "lines")
	if child(conf, "codec") == nil && (sc == nil || l != nil && child(l, "custom_delimiter") == nil) {
		return ""
	}
	text, err := yaml.Marshal([]*yaml.Node{child(conf, "codec"), child(conf, "max_buffer"), sc})
	if err != nil { // of what was read as YAML
		return err.Error()
	}
	return string(text)
}

// componentName returns the Benthos name of a component: the one key that is
// not a common field of all components.
func componentName(n *yaml.Node) string {
	if n == nil || n.Kind != yaml.MappingNode {
		return ""
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		switch k := n.Content[i].Value; k {
		case "label", "processors":
		case "type":
			return n.Content[i+1].Value
		default:
			return k
		}
	}
	return ""
}

func child(n *yaml.Node, key string) *yaml.Node {
	if n == nil {
		return nil
	}
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// keyNode returns the node of a key that a mapping has.
func keyNode(n *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i]
		}
	}
	return nil
}

func scalar(v, tag string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: v}
}

// mapping builds a mapping node from keys and nodes in turn.
func mapping(kv ...any) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	for i := 0; i < len(kv); i += 2 {
		n.Content = append(n.Content, scalar(kv[i].(string), "!!str"), kv[i+1].(*yaml.Node))
	}
	return n
}

func setScalar(n *yaml.Node, key, value, tag string) {
	if c := child(n, key); c != nil {
		*c = *scalar(value, tag)
		return
	}
	n.Content = append(n.Content, scalar(key, "!!str"), scalar(value, tag))
}

// remove takes a field out of a mapping.
func remove(n *yaml.Node, key string) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			n.Content = append(n.Content[:i], n.Content[i+2:]...)
			return
		}
	}
}

// deepCopy copies a tree of nodes; aliases are resolved in the copy.
func deepCopy(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return deepCopy(n.Alias)
	}
	out := *n
	out.Anchor = ""
	out.Content = make([]*yaml.Node, len(n.Content))
	for i, c := range n.Content {
		out.Content[i] = deepCopy(c)
	}
	return &out
}

func lineOf(n, fallback *yaml.Node) int {
	if n != nil && n.Line > 0 {
		return n.Line
	}
	if fallback != nil {
		return fallback.Line
	}
	return 1
}

// yamlErrorLine digs the line out of a YAML error's text, which has it nowhere else.
func yamlErrorLine(err error) int {
	var line int
	for e := err; e != nil; e = errors.Unwrap(e) {
		if _, rest, ok := strings.Cut(e.Error(), "line "); ok {
			if _, err := fmt.Sscanf(rest, "%d", &line); err == nil {
				return line
			}
		}
	}
	return 0
}

// Problem makes an error that is not of a certain field a problem of the file.
func (c *Config) Problem(err error) problem.Problem {
	return problem.Problem{File: c.File, Line: lineOf(child(c.root, "input"), c.root), Message: err.Error()}
}

// Same reports whether another config is the same file with the same content and the
// same values from files and commands, so that running it instead would change nothing.
func (c *Config) Same(other *Config) bool {
	if c.Resolve() != nil || other.Resolve() != nil {
		return false
	}
	return c.Name == other.Name && bytes.Equal(c.src, other.src) && c.resolved.sum == other.resolved.sum
}

// Sum tells the file's content apart from another's.
func (c *Config) Sum() string {
	sum := sha256.Sum256(c.src)
	return hex.EncodeToString(sum[:8])
}
