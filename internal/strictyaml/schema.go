package strictyaml

import (
	"bytes"
	"encoding/json"
	"strconv"
)

// SchemaOptions say what the description itself does not.
type SchemaOptions struct {
	ID, Title string
	Variables bool // values may hold ${NAME}, filled in before they are checked
}

// JSONSchema returns the description as a JSON Schema, draft 2020-12, for
// editors: it knows names, kinds and patterns, not whether fields fit each
// other. The output is
// the same for the same description, and ends without a line feed.
func (s *Spec) JSONSchema(o SchemaOptions) ([]byte, error) {
	root := s.schema(o)
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["$id"] = o.ID
	root["title"] = o.Title
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(root); err != nil {
		return nil, err
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}

const durationPattern = `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h|d|w))+$`

// schema of one value. Only plain keywords are used, so that validators for
// older drafts understand it too.
func (s *Spec) schema(o SchemaOptions) map[string]any {
	m := map[string]any{}
	switch s.Kind {
	case Object:
		s.objectSchema(m, o)
	case List:
		m["type"], m["items"] = "array", s.Of.schema(o)
		if s.MinItems > 0 {
			m["minItems"] = s.MinItems
		}
	case Map:
		m["type"], m["additionalProperties"] = "object", s.Of.schema(o)
		if s.Keys != nil {
			m["propertyNames"] = map[string]any{"pattern": s.Keys.Pattern.String()}
		}
		if s.MinItems > 0 {
			m["minProperties"] = s.MinItems
		}
	case Any:
	default:
		s.scalarSchema(m)
		if o.Variables && !s.plainText() {
			m = map[string]any{"anyOf": []any{m, map[string]any{"type": "string", "pattern": `\$\{`}}}
		}
	}
	if s.Doc != "" {
		m["description"] = s.Doc + "."
	}
	if s.Default != "" {
		m["default"] = s.literal(s.Default)
	}
	if len(s.Examples) > 0 {
		examples := make([]any, len(s.Examples))
		for i, e := range s.Examples {
			examples[i] = s.literal(e)
		}
		m["examples"] = examples
	}
	return m
}

func (s *Spec) objectSchema(m map[string]any, o SchemaOptions) {
	properties, required := map[string]any{}, []string{}
	for i := range s.Fields {
		f := &s.Fields[i]
		properties[f.Name] = f.schema(o)
		if f.Required {
			required = append(required, f.Name)
		}
	}
	m["type"], m["properties"], m["additionalProperties"] = "object", properties, false
	if len(required) > 0 {
		m["required"] = required
	}
	if len(s.ExactlyOne) > 0 {
		var one []any
		for _, name := range s.ExactlyOne {
			one = append(one, map[string]any{"required": []string{name}})
		}
		m["oneOf"] = one
	}
}

func (s *Spec) plainText() bool {
	return s.Kind == Text && s.Pattern == nil && s.SchemaOnly == "" && len(s.Enum) == 0
}

func (s *Spec) scalarSchema(m map[string]any) {
	switch s.Kind {
	case Integer:
		m["type"], m["minimum"], m["maximum"] = "integer", s.Min, s.Max
	case Boolean:
		m["type"] = "boolean"
	case Duration:
		m["type"], m["pattern"] = "string", durationPattern
		if s.OrOff {
			m["pattern"] = "^" + Off + "$|" + durationPattern
		}
	case Bytes:
		m["type"] = []string{"string", "integer"}
	default:
		m["type"], m["minLength"] = "string", 1
		switch {
		case len(s.Enum) > 0:
			m["enum"] = s.Enum
		case s.Pattern != nil:
			m["pattern"] = s.Pattern.String()
		case s.SchemaOnly != "":
			m["pattern"] = s.SchemaOnly
		}
	}
}

// literal returns a default or example with the JSON type that the kind has.
func (s *Spec) literal(text string) any {
	switch s.Kind {
	case Integer:
		if v, err := strconv.Atoi(text); err == nil {
			return v
		}
	case Boolean:
		return text == "true"
	}
	return text
}
