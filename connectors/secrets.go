package connectors

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/tidemill/tidemill/internal/problem"
	"github.com/tidemill/tidemill/internal/secret"
)

// resolved is a config with the values of its ${file:…} and ${cmd:…}.
type resolved struct {
	root *yaml.Node
	sum  [sha256.Size]byte // of the values
}

// Resolve reads the values that stand in files or come from commands. They go into the
// tree that is run and nowhere else: not into what lint checks, and never into YAML that
// is shown. The environment's variables are Benthos' own to fill in.
func (c *Config) Resolve() problem.List {
	if c.resolved != nil {
		return nil
	}
	r := &resolved{root: deepCopy(c.root)}
	h := sha256.New()
	if ps := c.fill(r.root, h); ps != nil {
		return ps
	}
	h.Sum(r.sum[:0])
	c.resolved = r
	return nil
}

// fill puts values in the places of references in a tree of the config's own.
func (c *Config) fill(root *yaml.Node, sum io.Writer) (ps problem.List) {
	eachScalar(root, "", func(path string, n *yaml.Node) {
		if !secret.Reference.MatchString(n.Value) {
			return
		}
		text, last := "", 0
		for _, m := range secret.Reference.FindAllStringIndex(n.Value, -1) {
			value, err := secret.Resolve(c.dir(), n.Value[m[0]:m[1]])
			if err != nil {
				ps.Add(problem.Problem{File: c.File, Line: n.Line, Column: n.Column, Field: path, Message: err.Error()})
			}
			_, _ = fmt.Fprintf(sum, "%s=%q\n", path, value)
			// What looks like a variable in a value is none.
			text += n.Value[last:m[0]] + variables.ReplaceAllString(value, "$${{${1}}}")
			last = m[1]
		}
		n.Value, n.Tag, n.Style = text+n.Value[last:], "!!str", yaml.DoubleQuotedStyle
		noteField(path, expand(n.Value))
	})
	return ps
}

// dir is the project's directory.
func (c *Config) dir() string {
	dir := filepath.Dir(c.File)
	if base := filepath.Base(dir); base == "connectors" || base == "tables" {
		return filepath.Dir(dir)
	}
	return dir
}

var (
	variables = regexp.MustCompile(`\$\{([0-9A-Za-z_.]+(?::[^}]*)?)\}`)
	envCall   = regexp.MustCompile(`\benv\(\s*["']([A-Za-z_][A-Za-z0-9_]*)["']\s*\)`)
	// telling are names of fields, headers and variables that hold a secret.
	telling = regexp.MustCompile(`(?i)(pass(word|wd|phrase)?$|pwd$|secret|tokens?$|api_?key|access_?key|private_?key|account_?key|shared_?key|credential|authorization|connection_string|sas|dsn|bearer|jwt|nkey|cookie)`)
)

// noteSecrets has what the config says of secrets scrubbed from every text: URLs' users
// and passwords, fields and headers whose names tell, and the variables for them. Of
// those that the environment holds the values are.
func (c *Config) noteSecrets() {
	eachScalar(c.root, "", func(path string, n *yaml.Node) {
		for _, m := range append(variables.FindAllStringSubmatch(n.Value, -1), envCall.FindAllStringSubmatch(n.Value, -1)...) {
			name, _, _ := strings.Cut(m[1], ":")
			if v, ok := os.LookupEnv(name); ok {
				secret.NoteUser(v)
				if telling.MatchString(name) {
					secret.Note(v)
				}
			}
		}
		if !secret.Reference.MatchString(n.Value) { // else Resolve does it, with the value
			noteField(path, expand(n.Value))
		}
	})
}

func noteField(path, value string) {
	secret.NoteUser(value)
	name := strings.ReplaceAll(path[strings.LastIndex(path, ".")+1:], "-", "_")
	name, _, _ = strings.Cut(name, "[")
	if !telling.MatchString(name) {
		return
	}
	secret.Note(value)
	if _, credentials, ok := strings.Cut(value, " "); ok && len(credentials) >= 8 { // Bearer …
		secret.Note(credentials)
	}
}

// expand fills in variables as Benthos does.
func expand(text string) string {
	return variables.ReplaceAllStringFunc(text, func(m string) string {
		name, def, _ := strings.Cut(m[2:len(m)-1], ":")
		if v := os.Getenv(name); v != "" {
			return v
		}
		return def
	})
}

// eachScalar calls fn for each text in a tree with the path of its field.
func eachScalar(n *yaml.Node, path string, fn func(path string, n *yaml.Node)) {
	switch n.Kind {
	case yaml.AliasNode: // its anchor is in the tree
	case yaml.ScalarNode:
		if n.Tag == "" || n.Tag == "!!str" || strings.Contains(n.Value, "${") {
			fn(path, n)
		}
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			at := n.Content[i].Value
			if path != "" {
				at = path + "." + at
			}
			eachScalar(n.Content[i+1], at, fn)
		}
	default:
		for i, c := range n.Content {
			eachScalar(c, fmt.Sprintf("%s[%d]", path, i), fn)
		}
	}
}
