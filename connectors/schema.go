package connectors

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/tidemill/tidemill/connectors/cases"
)

// JSONSchema returns the format of connectors as a JSON Schema for editors: the
// components of Benthos that a connector may use, our output, and the fields of each
// with the first sentence of what they are for. Everything in it is known to
// validators since draft 7. What it cannot know, [Engine.Lint] does.
func JSONSchema() ([]byte, error) {
	e, err := New(Options{})
	if err != nil {
		return nil, err
	}
	full, err := e.env.FullConfigSchema("", "").MarshalJSONV0()
	if err != nil {
		return nil, fmt.Errorf("describe components: %w", err)
	}
	var d benthosDocs
	if err := json.Unmarshal(full, &d); err != nil {
		return nil, fmt.Errorf("describe components: %w", err)
	}
	tests, err := testsSchema()
	if err != nil {
		return nil, err
	}
	properties := map[string]any{"tests": tests}
	for _, f := range d.Config {
		if slices.Contains(rootFields, f.Name) {
			properties[f.Name] = f.schema()
		}
	}
	root := map[string]any{
		"$schema": "http://json-schema.org/draft-07/schema#", "$id": "urn:tidemill:connector", "title": "Tidemill connector",
		"description": "A Benthos config whose output is lakehouse.",
		"type":        "object", "properties": properties, "required": []string{"input", "output"}, "additionalProperties": false,
		"definitions": map[string]any{
			"input":      components(d.Inputs, func(name string) bool { return !strings.HasPrefix(name, "tidemill_") }, "processors"),
			"output":     components(d.Outputs, func(string) bool { return true }),
			"processor":  components(d.Processors, func(string) bool { return true }),
			"cache":      components(d.Caches, func(string) bool { return true }),
			"rate_limit": components(d.RateLimits, func(string) bool { return true }),
			"scanner":    components(d.Scanners, func(name string) bool { return name != rowsScanner }),
			"buffer":     map[string]any{"type": "object"}, "metrics": map[string]any{"type": "object"}, "tracer": map[string]any{"type": "object"},
		},
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(root); err != nil {
		return nil, fmt.Errorf("encode schema: %w", err)
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}

// rootFields are what a connector may have beside our tests.
var rootFields = []string{"input", "pipeline", "output", "input_resources", "processor_resources", "cache_resources", "rate_limit_resources"}

// benthosDocs is what Benthos tells of its components.
type benthosDocs struct {
	Config     []docField     `json:"config"`
	Inputs     []docComponent `json:"inputs"`
	Outputs    []docComponent `json:"outputs"`
	Processors []docComponent `json:"processors"`
	Caches     []docComponent `json:"caches"`
	RateLimits []docComponent `json:"rate-limits"`
	Scanners   []docComponent `json:"scanners"`
}

type docComponent struct {
	Name    string   `json:"name"`
	Summary string   `json:"summary"`
	Config  docField `json:"config"`
}

type docField struct {
	Name        string      `json:"name"`
	Type        string      `json:"type"`
	Kind        string      `json:"kind"`
	Description string      `json:"description"`
	Deprecated  bool        `json:"is_deprecated"`
	Options     []string    `json:"options"`
	Annotated   [][2]string `json:"annotated_options"`
	Children    []docField  `json:"children"`
}

// components is the schema of one kind: an object with the component's name as its
// only field, beside those that all of them have.
func components(list []docComponent, use func(name string) bool, common ...string) map[string]any {
	properties := map[string]any{
		"label": map[string]any{"type": "string", "description": "A name for logs, metrics and mocks of tests."},
	}
	for _, name := range common {
		properties[name] = map[string]any{"type": "array", "items": reference("processor")}
	}
	for _, c := range list {
		if !use(c.Name) { // deprecated ones stay: Benthos calls kafka_franz so
			continue
		}
		s := c.Config.schema()
		addText(s, c.Summary)
		properties[c.Name] = s
	}
	return map[string]any{"type": "object", "properties": properties, "additionalProperties": false, "minProperties": 1}
}

func reference(kind string) map[string]any { return map[string]any{"$ref": "#/definitions/" + kind} }

func (f docField) schema() map[string]any {
	s := f.scalar()
	switch f.Kind {
	case "array":
		s = map[string]any{"type": "array", "items": s}
	case "2darray":
		s = map[string]any{"type": "array", "items": map[string]any{"type": "array", "items": s}}
	case "map":
		s = map[string]any{"type": "object", "additionalProperties": s}
	}
	addText(s, f.Description)
	return s
}

func (f docField) scalar() map[string]any {
	switch f.Type {
	case "string":
		options := slices.Clone(f.Options)
		for _, o := range f.Annotated {
			options = append(options, o[0])
		}
		if len(options) == 0 {
			return map[string]any{"type": []string{"string", "number", "boolean"}}
		}
		return map[string]any{"anyOf": []any{map[string]any{"enum": options}, variable}}
	case "int":
		return map[string]any{"anyOf": []any{map[string]any{"type": "integer"}, variable}}
	case "float":
		return map[string]any{"anyOf": []any{map[string]any{"type": "number"}, variable}}
	case "bool":
		return map[string]any{"anyOf": []any{map[string]any{"type": "boolean"}, variable}}
	case "object":
		if len(f.Children) == 0 {
			return map[string]any{"type": "object"}
		}
		properties := map[string]any{}
		for _, c := range f.Children {
			if !c.Deprecated && !strings.HasPrefix(c.Name, "tidemill_") { // those are filled in before a connector runs
				properties[c.Name] = c.schema()
			}
		}
		return map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
	case "input", "output", "processor", "cache", "rate_limit", "scanner", "buffer", "metrics", "tracer":
		return reference(f.Type)
	}
	return map[string]any{}
}

// variable stands for a value that is filled in from the environment, or computed.
var variable = map[string]any{"type": "string", "pattern": `\$\{`}

// addText adds the first sentence of a text, which is what fits beside a completion.
func addText(s map[string]any, text string) {
	text = strings.Join(strings.Fields(text), " ")
	if at := strings.Index(text, ". "); at >= 0 {
		text = text[:at+1]
	}
	const most = 160
	if r := []rune(text); len(r) > most {
		text = string(r[:most-1]) + "…"
	}
	if _, ref := s["$ref"]; text != "" && !ref { // beside a $ref nothing counts
		s["description"] = text
	}
}

// testsSchema is the schema of the unit tests that a connector holds itself.
func testsSchema() (any, error) {
	data, err := cases.JSONSchema()
	if err != nil {
		return nil, err
	}
	var s struct {
		Properties map[string]any `json:"properties"`
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("schema of tests: %w", err)
	}
	return s.Properties["tests"], nil
}
