package connectors

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"github.com/redpanda-data/benthos/v4/public/bloblang"
	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/tidemill/tidemill/connectors/cases"
)

// CheckOutputs compares the messages of a sample, in order, with a test's
// output_batches. Where one batch ends and the next begins does not matter: an output
// makes batches of its own. Files that conditions name are relative to dir.
func (s *Sample) CheckOutputs(c cases.Case, dir string) (out []cases.Diff, err error) {
	if c.Outputs == nil {
		return nil, nil
	}
	var want []cases.Condition
	for _, b := range c.Outputs {
		want = append(want, b...)
	}
	for i := range max(len(want), len(s.msgs)) {
		at := fmt.Sprintf("output_batches, message %d", i)
		switch {
		case i >= len(want):
			data, err := s.msgs[i].AsBytes()
			if err != nil {
				return nil, fmt.Errorf("message bytes: %w", err)
			}
			out = append(out, cases.Diff{Line: c.Line, Field: at, Got: string(data), Note: "was not expected"})
		case i >= len(s.msgs):
			out = append(out, cases.Diff{Line: want[i].Line, Field: at, Note: "did not come"})
		default:
			for _, v := range want[i].Fields {
				d, err := condition(dir, v, s.msgs[i])
				if err != nil {
					return nil, fmt.Errorf("%s:%d: %s: %w", c.File, v.Line, v.Name, err)
				}
				if d != nil {
					d.Line, d.Field = v.Line, at+": "+v.Name
					out = append(out, *d)
				}
			}
		}
	}
	return out, nil
}

// condition checks one condition on a message; nil: it holds.
func condition(dir string, v cases.Value, m *service.Message) (*cases.Diff, error) {
	data, err := m.AsBytes()
	if err != nil {
		return nil, err
	}
	want := fmt.Sprint(v.Want)
	bad := func(ok bool, want, got string) (*cases.Diff, error) {
		if ok {
			return nil, nil
		}
		return &cases.Diff{Want: want, Got: got}, nil
	}
	switch v.Name {
	case "content_equals":
		return bad(want == string(data), want, string(data))
	case "content_matches":
		re, err := regexp.Compile(want)
		if err != nil {
			return nil, err
		}
		return bad(re.Match(data), want, string(data))
	case "bloblang":
		exe, err := bloblang.Parse(want)
		if err != nil {
			return nil, err
		}
		res, err := m.BloblangQuery(exe)
		if err != nil || res == nil {
			return bad(false, want, fmt.Sprint(err))
		}
		got, err := res.AsBytes()
		return bad(err == nil && string(got) == "true", want, string(got))
	case "metadata_equals":
		return metadata(v, m)
	case "file_equals":
		file, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(want)))
		if err != nil {
			return nil, err
		}
		return bad(bytes.Equal(file, data), string(file), string(data))
	case "json_equals", "json_contains":
		return sameJSON(v.Want, data, v.Name == "json_contains")
	case "file_json_equals", "file_json_contains":
		file, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(want)))
		if err != nil {
			return nil, err
		}
		value, err := jsonValue(file)
		if err != nil {
			return nil, err
		}
		return sameJSON(value, data, v.Name == "file_json_contains")
	}
	return nil, fmt.Errorf("no such condition")
}

func metadata(v cases.Value, m *service.Message) (*cases.Diff, error) {
	fields, _ := v.Want.(map[string]any)
	for name, want := range fields {
		got, ok := m.MetaGet(name)
		if !ok || got != fmt.Sprint(want) {
			return &cases.Diff{Want: fmt.Sprintf("%s: %v", name, want), Got: fmt.Sprintf("%s: %s", name, got)}, nil
		}
	}
	return nil, nil
}

func sameJSON(want any, data []byte, contains bool) (*cases.Diff, error) {
	text, err := json.Marshal(want)
	if err != nil {
		return nil, err
	}
	got, err := jsonValue(data)
	if err != nil {
		return &cases.Diff{Want: string(text), Got: string(data), Note: "is not JSON: " + err.Error()}, nil //nolint:nilerr // it is the finding
	}
	if cases.Equal(want, got, contains) {
		return nil, nil
	}
	return &cases.Diff{Want: string(text), Got: string(data)}, nil
}

func jsonValue(data []byte) (v any, err error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	err = dec.Decode(&v)
	return v, err
}
