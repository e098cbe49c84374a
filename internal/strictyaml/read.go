package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/tidemill/tidemill/internal/problem"
)

const (
	// MaxSize is the largest file that is read, in bytes: far above what
	// anyone writes by hand, far below what hurts.
	MaxSize = 1 << 20

	maxNodes = 200_000 // after anchors are resolved, so that a few lines cannot grow without bound
	maxDepth = 64
)

// Read reads a file's only document. It adds what is wrong to ps and returns
// nil when there is nothing to go on with; a file that holds only comments is
// a node of kind [Null].
func Read(file string, src []byte, ps *problem.List) *Node {
	if text := unreadable(src); text != "" {
		ps.Addf(file, 0, "", "%s", text)
		return nil
	}
	if line, ok := invalidUTF8(src); ok {
		ps.Addf(file, line, "", "is not UTF-8 text; save the file as UTF-8")
		return nil
	}
	dec := yaml.NewDecoder(bytes.NewReader(src))
	var doc yaml.Node
	switch err := decode(dec, &doc); {
	case errors.Is(err, io.EOF):
		return &Node{File: file, Line: 1, Column: 1}
	case err != nil:
		ps.Add(syntaxProblem(file, src, err))
		return nil
	}
	var second yaml.Node
	switch err := decode(dec, &second); {
	case err == nil:
		ps.Addf(file, second.Line, "", "a second document begins here; keep one document in a file and move the rest to a file of its own")
		return nil
	case !errors.Is(err, io.EOF):
		ps.Add(syntaxProblem(file, src, err))
		return nil
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return &Node{File: file, Line: 1, Column: 1}
	}
	r := reader{file: file, problems: ps, open: map[*yaml.Node]bool{}}
	root := r.node(doc.Content[0], "", 0)
	if r.stopped {
		return nil
	}
	return root
}

// unreadable says why bytes are not worth parsing.
func unreadable(src []byte) string {
	switch {
	case len(src) > MaxSize:
		return tooLarge(int64(len(src)))
	case bytes.HasPrefix(src, []byte{0xFF, 0xFE}), bytes.HasPrefix(src, []byte{0xFE, 0xFF}):
		return "is UTF-16 text; save the file as UTF-8"
	default:
		return ""
	}
}

func tooLarge(size int64) string {
	return fmt.Sprintf("has %d bytes, more than the %d that are read; is it the right file?", size, MaxSize)
}

func invalidUTF8(src []byte) (line int, found bool) {
	if utf8.Valid(src) {
		return 0, false
	}
	line = 1
	for len(src) > 0 {
		r, size := utf8.DecodeRune(src)
		if r == utf8.RuneError && size == 1 {
			break
		}
		if r == '\n' {
			line++
		}
		src = src[size:]
	}
	return line, true
}

// decode parses the next document. A panic of the parser is its bug, and must
// not take down a process that only wanted to say that a file is wrong.
func decode(dec *yaml.Decoder, doc *yaml.Node) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("yaml: the parser gave up: %v", r)
		}
	}()
	return dec.Decode(doc)
}

var (
	yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(?s:(.*))$`)
	// What the library's parser says, as opposed to its scanner.
	parserError = regexp.MustCompile(`^(did not find expected (key|node content|<|'-' indicator|',' or)|found (duplicate %|incompatible|undefined tag))`)
	tabIndent   = regexp.MustCompile(`(?m)^ *\t[ \t]*[^#\s]`)
)

// advice maps a part of the parser's texts to what usually mends it.
var advice = []struct{ part, text string }{
	{"mapping values are not allowed", `check the indentation, and put values that hold ": " in quotes`},
	{"did not find expected key", "check the indentation, and put values that hold quotes, commas or braces in quotes"},
	{"did not find expected ',' or", "close the bracket or brace, put commas between the entries, and put values that hold brackets or braces in quotes"},
	{"could not find expected ':'", "write a colon and a space after the field's name"},
	{"did not find expected '-' indicator", "begin each entry of a list with a dash, all at the same indentation"},
	{"found unexpected end of stream", "close the quote"},
	{"cannot start any token", "put values that begin with @, ` or % in quotes"},
	{"unknown anchor", "define it with & above this line"},
	{"control characters are not allowed", "remove the control character"},
}

func syntaxProblem(file string, src []byte, err error) problem.Problem {
	p := problem.Problem{File: file}
	text := err.Error()
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		p.Line, _ = strconv.Atoi(m[1]) // no line: 0
		text = m[2]
	}
	// The library counts these lines from 0 (and drops 0 itself), those of
	// errors that its scanner finds from 1.
	if parserError.MatchString(text) {
		p.Line++
	}
	p.Message = "is not valid YAML: " + strings.TrimSpace(text)
	// The parser's line is where it gave up; a tab that indents is the cause
	// wherever it stands.
	if at := tabIndent.FindIndex(src); at != nil {
		p.Line = 1 + bytes.Count(src[:at[0]], []byte("\n"))
		p.Message += "; indent with spaces, YAML does not take tabs"
		return p
	}
	if strings.Contains(text, "did not find expected ',' or") && bytes.Contains(src, []byte("${")) {
		p.Message += `; between { and }, put variables in quotes: "${NAME}"`
		return p
	}
	for _, a := range advice {
		if strings.Contains(text, a.part) {
			p.Message += "; " + a.text
			break
		}
	}
	return p
}

// reader copies the parser's nodes into a tree without anchors.
type reader struct {
	file     string
	problems *problem.List
	open     map[*yaml.Node]bool // anchors whose values are being copied, to find one that holds itself
	nodes    int
	stopped  bool // a bound was passed: the tree is not whole
}

func (r *reader) stop(y *yaml.Node, path, text string) {
	if !r.stopped {
		r.problems.Add(problem.Problem{File: r.file, Line: y.Line, Column: y.Column, Field: path, Message: text})
	}
	r.stopped = true
}

func (r *reader) node(y *yaml.Node, path string, depth int) *Node {
	n := &Node{File: r.file, Path: path, Line: y.Line, Column: y.Column, bad: true}
	r.nodes++
	switch {
	case r.nodes > maxNodes:
		r.stop(y, path, fmt.Sprintf("holds more than %d values once its anchors are filled in; use fewer aliases", maxNodes))
	case depth > maxDepth:
		r.stop(y, path, fmt.Sprintf("is nested more than %d levels deep; make it flatter", maxDepth))
	}
	if r.stopped {
		return n
	}
	if y.Anchor != "" {
		r.open[y] = true
		defer delete(r.open, y)
	}
	switch y.Kind {
	case yaml.AliasNode:
		if y.Alias == nil || r.open[y.Alias] {
			r.stop(y, path, fmt.Sprintf("the anchor %q holds itself; write the value out", y.Value))
			return n
		}
		return r.node(y.Alias, path, depth+1)
	case yaml.ScalarNode:
		r.scalar(n, y)
	case yaml.SequenceNode:
		n.Kind, n.bad = Sequence, false
		for i, item := range y.Content {
			n.Items = append(n.Items, r.node(item, fmt.Sprintf("%s[%d]", path, i), depth+1))
		}
	case yaml.MappingNode:
		n.Kind, n.bad = Mapping, false
		r.mapping(n, y, depth)
	}
	return n
}

func (r *reader) scalar(n *Node, y *yaml.Node) {
	n.Tag, n.Value = y.ShortTag(), y.Value
	n.Block = y.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0
	if n.Tag == "!!null" {
		n.Kind, n.bad = Null, false
		return
	}
	n.Kind = Scalar
	if c, ok := control(n.Value); ok {
		r.problems.Add(n.Problem("holds the control character %U; remove it", c))
		return
	}
	n.bad = false
}

// control finds a character that no text here needs and that JSON and YAML do
// not agree on.
func control(text string) (rune, bool) {
	for _, c := range text {
		switch {
		case c == '\t', c == '\n', c == '\r':
		case c < ' ', c >= 0x7F && c < 0xA0, c == 0xFEFF, c == 0xFFFE, c == 0xFFFF:
			return c, true
		}
	}
	return 0, false
}

func (r *reader) mapping(n *Node, y *yaml.Node, depth int) {
	first := map[string]int{}
	var merges []*yaml.Node
	for i := 0; i+1 < len(y.Content); i += 2 {
		k, v := y.Content[i], y.Content[i+1]
		if k.Kind == yaml.AliasNode && k.Alias != nil {
			k = k.Alias
		}
		if k.Kind == yaml.ScalarNode && k.ShortTag() == "!!merge" {
			merges = append(merges, v)
			continue
		}
		if k.Kind != yaml.ScalarNode || k.ShortTag() != "!!str" {
			r.badKey(n, k)
			continue
		}
		path := Join(n.Path, k.Value)
		if line, ok := first[k.Value]; ok {
			r.problems.Add(problem.Problem{File: r.file, Line: k.Line, Column: k.Column, Field: path,
				Message: fmt.Sprintf("is given twice, first on line %d; keep one", line)})
			continue
		}
		first[k.Value] = k.Line
		n.Entries = append(n.Entries, Entry{Key: k.Value, Line: k.Line, Column: k.Column, Value: r.node(v, path, depth+1)})
	}
	for _, m := range merges {
		r.merge(n, m, depth)
	}
}

func (r *reader) badKey(n *Node, k *yaml.Node) {
	text := "a field's name must be text, not a list or a mapping"
	if k.Kind == yaml.ScalarNode {
		text = fmt.Sprintf("the field's name %s is %s; put it in quotes", Quote(k.Value), tagName(k.ShortTag()))
	}
	r.problems.Add(problem.Problem{File: r.file, Line: k.Line, Column: k.Column, Field: n.Path, Message: text})
}

// merge adds the entries of "<<: *anchor" that the mapping does not have itself.
func (r *reader) merge(n *Node, y *yaml.Node, depth int) {
	from := r.node(y, Join(n.Path, "<<"), depth+1)
	maps := []*Node{from}
	if from.Kind == Sequence {
		maps = from.Items
	}
	for _, m := range maps {
		if r.stopped {
			return
		}
		if m.Kind != Mapping {
			r.problems.Add(m.Problem("merges what is not a mapping; name an anchor of a mapping, such as <<: *defaults"))
			continue
		}
		for _, e := range m.Entries {
			if !n.Has(e.Key) {
				e.Value.rebase(m.Path, n.Path)
				n.Entries = append(n.Entries, e)
			}
		}
	}
}

// rebase gives merged values the path of the field they became part of.
func (n *Node) rebase(from, to string) {
	n.Path = Join(to, strings.TrimPrefix(strings.TrimPrefix(n.Path, from), "."))
	for _, e := range n.Entries {
		e.Value.rebase(from, to)
	}
	for _, item := range n.Items {
		item.rebase(from, to)
	}
}

// Join returns the path of a field below another.
func Join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
