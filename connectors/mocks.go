package connectors

import (
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Mock returns the connector with a processor in the place of another, which is
// named by its label or by a JSON pointer such as /pipeline/processors/0.
func (c *Config) Mock(name string, processor any) (*Config, error) {
	var put yaml.Node
	if err := put.Encode(processor); err != nil {
		return nil, fmt.Errorf("encode mock: %w", err)
	}
	if put.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("must be a processor, such as {mapping: 'root = this'}")
	}
	out := *c
	out.root, out.resolved = deepCopy(c.root), nil
	var at *yaml.Node
	if strings.HasPrefix(name, "/") {
		at = pointed(out.root, strings.Split(name, "/")[1:])
	} else {
		at = labelled(out.root, name)
	}
	if at == nil || at.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("the connector has no processor with this label, or at this place; labels are given as `label:` of a processor, places as /pipeline/processors/0")
	}
	if label := child(at, "label"); label != nil && child(&put, "label") == nil {
		put.Content = append(put.Content, scalar("label", "!!str"), label)
	}
	*at = put
	return &out, nil
}

func pointed(n *yaml.Node, path []string) *yaml.Node {
	for _, part := range path {
		switch {
		case n == nil:
			return nil
		case n.Kind == yaml.SequenceNode:
			i, err := strconv.Atoi(part)
			if err != nil || i < 0 || i >= len(n.Content) {
				return nil
			}
			n = n.Content[i]
		default:
			n = child(n, strings.NewReplacer("~1", "/", "~0", "~").Replace(part))
		}
	}
	return n
}

// labelled finds the component with a label.
func labelled(n *yaml.Node, label string) *yaml.Node {
	if l := child(n, "label"); l != nil && l.Value == label {
		return n
	}
	for _, c := range n.Content {
		if found := labelled(c, label); found != nil {
			return found
		}
	}
	return nil
}
