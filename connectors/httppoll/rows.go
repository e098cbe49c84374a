package httppoll

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// rowsAt returns the rows of a response, each on one line and otherwise as it came: no
// number loses a digit. An object in the place of the array is one row, null is none.
func rowsAt(body []byte, path string) ([][]byte, error) {
	body = bytes.TrimPrefix(body, []byte("\xef\xbb\xbf"))
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, nil
	}
	value := json.RawMessage(body)
	if path != "" {
		for name := range strings.SplitSeq(path, ".") {
			var fields map[string]json.RawMessage
			if err := json.Unmarshal(value, &fields); err != nil {
				return nil, fmt.Errorf("no %q in it (rows: %s): %w", name, path, err)
			}
			v, ok := fields[name]
			if !ok {
				return nil, fmt.Errorf("no %q in it; say in rows where the array of rows stands", name)
			}
			value = v
		}
	}
	var list []json.RawMessage
	switch trimmed := bytes.TrimSpace(value); {
	case len(trimmed) > 0 && trimmed[0] == '{':
		list = []json.RawMessage{value}
	default:
		if err := json.Unmarshal(value, &list); err != nil {
			return nil, fmt.Errorf("no array of rows at rows: %q: %w", path, err)
		}
	}
	out := make([][]byte, len(list))
	for i, v := range list {
		var b bytes.Buffer
		if err := json.Compact(&b, v); err != nil {
			return nil, fmt.Errorf("row %d: %w", i, err)
		}
		out[i] = b.Bytes()
	}
	return out, nil
}
