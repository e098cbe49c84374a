package connectors

import (
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/tidemill/tidemill/internal/strictyaml"
)

// Of Benthos' linter, whose lints have a line and a text.
var (
	unknownField     = regexp.MustCompile(`^field (\S+) not recognised$`)
	unknownComponent = regexp.MustCompile(`^unable to infer component type: (\w+)$`)
	missingField     = regexp.MustCompile(`^field (\S+) is required$`)
)

// explained says what a lint is about: the field, as a path, and what to do.
func explained(env *service.Environment, root *yaml.Node, l service.Lint) (field, message string) {
	// Bloblang shows the place in the mapping on further lines.
	what, _, _ := strings.Cut(strings.TrimSpace(l.What), "\n")
	what = strings.TrimRight(what, ": ")
	if m := unknownComponent.FindStringSubmatch(what); m != nil {
		place, hint := placeOfKey(env, root, l.Line, m[1])
		if kind := placeKind(last(place)); kind != "" {
			what = "there is no " + kind + " " + m[1]
		}
		if hint == "" {
			hint = "check its spelling and indentation"
		}
		return joinPath(append(place, m[1])), what + "; " + hint
	}
	if m := unknownField.FindStringSubmatch(what); m != nil && l.Type == service.LintUnknown {
		place, hint := placeOfKey(env, root, l.Line, m[1])
		if hint == "" {
			hint = "check its spelling and indentation, or remove it"
		}
		return joinPath(append(place, m[1])), what + "; " + hint
	}
	if m := missingField.FindStringSubmatch(what); m != nil && l.Type == service.LintMissing {
		if place := placeWithout(env, root, l.Line, m[1]); place != nil {
			return joinPath(append(place, m[1])), what + "; add it"
		}
	}
	switch l.Type {
	case service.LintUnknown:
		what += "; check its spelling and indentation, or remove it"
	case service.LintMissing:
		what += "; add it"
	case service.LintDeprecated:
		what += "; use its successor"
	case service.LintBadBloblang:
		what += "; correct the mapping"
	}
	return fieldAt(root, l.Line), what
}

// mappings calls fn for each mapping below a node, with its path, until it returns false.
func mappings(n *yaml.Node, path []string, fn func(path []string, m *yaml.Node) bool) bool {
	if n == nil {
		return true
	}
	switch n.Kind {
	case yaml.MappingNode:
		if !fn(path, n) {
			return false
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			if !mappings(n.Content[i+1], append(slices.Clip(path), n.Content[i].Value), fn) {
				return false
			}
		}
	case yaml.SequenceNode:
		for i, item := range n.Content {
			if !mappings(item, append(slices.Clip(path), index(i)), fn) {
				return false
			}
		}
	}
	return true
}

// placeOfKey is the path of the mapping that has a key on a line, and a hint at what else
// the key may have been meant to be, from what the mapping lacks; "" if there is none.
func placeOfKey(env *service.Environment, root *yaml.Node, line int, key string) (place []string, hint string) {
	mappings(root, nil, func(path []string, m *yaml.Node) bool {
		for i := 0; i+1 < len(m.Content); i += 2 {
			if m.Content[i].Line == line && m.Content[i].Value == key {
				place = path
				lacks := slices.DeleteFunc(namesAt(env, path), func(name string) bool { return child(m, name) != nil })
				if near := strictyaml.Suggest(key, lacks); near != "" {
					hint = "did you mean " + near + "?"
				}
				return false
			}
		}
		return true
	})
	return place, hint
}

// placeWithout is the path of a mapping that begins on a line and lacks a field that it
// may have; nil if there is none.
func placeWithout(env *service.Environment, root *yaml.Node, line int, field string) (place []string) {
	mappings(root, nil, func(path []string, m *yaml.Node) bool {
		if m.Line == line && child(m, field) == nil && slices.Contains(namesAt(env, path), field) {
			place = path
			return false
		}
		return true
	})
	return place
}

// placeKind is the kind of component that stands under a name; "" if none does.
func placeKind(name string) string {
	switch name {
	case "input", "inputs":
		return "input"
	case "output", "outputs":
		return "output"
	case "processor", "processors":
		return "processor"
	case "scanner", "into":
		return "scanner"
	}
	return ""
}

// namesAt lists what may stand as a key in the mapping at a path; nil if that is not known.
func namesAt(env *service.Environment, path []string) []string {
	named := slices.DeleteFunc(slices.Clone(path), isIndex)
	switch {
	case len(named) == 0:
		return []string{"input", "pipeline", "output", testsField, "cache_resources", "input_resources", "processor_resources", "rate_limit_resources"}
	case len(named) == 1 && named[0] == "pipeline":
		return []string{"processors", "threads"}
	}
	if kind := placeKind(last(path)); kind != "" {
		names := []string{"label", "processors"}
		eachComponent(env, kind, func(name string, _ *service.ConfigView) {
			if !strings.HasPrefix(name, "tidemill_") {
				names = append(names, name)
			}
		})
		return names
	}
	for i := len(named) - 1; i > 0; i-- {
		if kind := placeKind(named[i-1]); kind != "" {
			return fieldsBelow(env, kind, named[i], strings.Join(named[i+1:], "."))
		}
	}
	return nil
}

// fieldsBelow lists a component's fields, or those inside one of them.
func fieldsBelow(env *service.Environment, kind, component, field string) (names []string) {
	if field != "" {
		field += "."
	}
	eachComponent(env, kind, func(name string, view *service.ConfigView) {
		if name != component {
			return
		}
		data, err := view.TemplateData()
		if err != nil {
			return // no names, no hint
		}
		for _, f := range data.Fields {
			full := strings.NewReplacer("[]", "", ".<name>", "").Replace(f.FullName)
			if rest, ok := strings.CutPrefix(full, field); ok && rest != "" && !strings.Contains(rest, ".") {
				names = append(names, rest)
			}
		}
	})
	return names
}

func eachComponent(env *service.Environment, kind string, fn func(string, *service.ConfigView)) {
	switch kind {
	case "input":
		env.WalkInputs(fn)
	case "output":
		env.WalkOutputs(fn)
	case "processor":
		env.WalkProcessors(fn)
	case "scanner":
		env.WalkScanners(fn)
	}
}

func isIndex(s string) bool { return strings.HasPrefix(s, "[") }

// last is the last name of a path.
func last(path []string) string {
	for _, s := range slices.Backward(path) {
		if !isIndex(s) {
			return s
		}
	}
	return ""
}

func joinPath(path []string) string {
	return strings.ReplaceAll(strings.Join(path, "."), ".[", "[")
}
