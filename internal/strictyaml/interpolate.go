package strictyaml

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/tidemill/tidemill/internal/problem"
	"github.com/tidemill/tidemill/internal/secret"
)

var (
	variable     = regexp.MustCompile(`\$\{\{[^{}]*\}\}|\$\{[^{}]*\}?`)
	variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// Interpolate fills in the variables of a document before it is checked, by
// the rules that connectors know from Benthos: ${NAME} is the variable's
// value, ${NAME:default} falls back when it is not set, and ${{NAME}} stands
// for the characters ${NAME}. ${file:PATH} is what a file holds, ${cmd:COMMAND} what a
// command prints, see [secret.Resolve]; both begin in the file's directory. Names of fields and comments stay as they are. A
// field whose value comes out empty counts as left out, so that
// "${NAME:}" makes it optional. Problems never quote what a variable holds.
func Interpolate(root *Node, lookup func(string) (string, bool), ps *problem.List) {
	for i := range root.Items {
		Interpolate(root.Items[i], lookup, ps)
	}
	root.Entries = slices.DeleteFunc(root.Entries, func(e Entry) bool {
		Interpolate(e.Value, lookup, ps)
		return e.Value.interpolated && !e.Value.bad && e.Value.Value == ""
	})
	if root.Kind != Scalar || root.bad || !strings.Contains(root.Value, "${") {
		return
	}
	root.source, root.interpolated = root.Value, true
	root.Value = variable.ReplaceAllStringFunc(root.Value, func(m string) string {
		text, err := resolve(filepath.Dir(root.File), m, lookup)
		if err != nil {
			root.bad = true
			ps.Add(root.Problem("%v", err))
		}
		return text
	})
}

func resolve(dir, m string, lookup func(string) (string, bool)) (string, error) {
	if strings.HasPrefix(m, "${{") {
		return "${" + m[len("${{"):len(m)-len("}}")] + "}", nil
	}
	if secret.Reference.MatchString(m) {
		value, err := secret.Resolve(dir, m)
		if c, bad := control(value); err == nil && bad {
			err = fmt.Errorf("what %s gives holds the control character %U; remove it", Quote(m), c)
		}
		return value, err
	}
	body, closed := strings.CutSuffix(m[len("${"):], "}")
	name, def, hasDefault := strings.Cut(body, ":")
	if !closed || !variableName.MatchString(name) {
		return "", fmt.Errorf("%s is not a variable; write ${NAME} or ${NAME:default}, or ${{NAME}} for the text ${NAME}", Quote(m))
	}
	value, ok := lookup(name)
	switch {
	case ok:
	case hasDefault:
		value = def
	default:
		return "", fmt.Errorf("the environment variable %s is not set; set it, or give a default: ${%s:value}", name, name)
	}
	if c, bad := control(value); bad {
		return "", fmt.Errorf("the environment variable %s holds the control character %U; remove it", name, c)
	}
	return value, nil
}
