package models

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
)

// Golden are samples of what a model should answer. The file is JSON with lists
// nested as the tensors are; an output may be left out:
//
//	{"inputs": {"features": [[4.2, 13, 0], [9.9, 2, 1]]},
//	 "outputs": {"probabilities": [[0.99, 0.01], [0.2, 0.8]]},
//	 "tolerance": 0.0001}
//
// Floats may differ by tolerance, absolute and relative to the sample; all else
// must be equal.
type Golden struct {
	Inputs    []Tensor // in the signature's order
	Outputs   map[string]Tensor
	Tolerance float64 // default 1e-4
}

// ParseGolden reads samples for a model.
func ParseGolden(data []byte, sig Signature) (*Golden, error) {
	var file struct {
		Inputs    map[string]any `json:"inputs"`
		Outputs   map[string]any `json:"outputs"`
		Tolerance *float64       `json:"tolerance"`
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	dec.UseNumber()
	if err := dec.Decode(&file); err != nil {
		return nil, fmt.Errorf("golden samples: %w", err)
	}
	g := &Golden{Outputs: map[string]Tensor{}, Tolerance: 1e-4}
	if file.Tolerance != nil {
		g.Tolerance = *file.Tolerance
	}
	rows := int64(-1)
	for _, info := range sig.Inputs {
		value, ok := file.Inputs[info.Name]
		if !ok {
			return nil, fmt.Errorf("golden samples: inputs lacks %s", info)
		}
		t, err := nested(info, value)
		if err != nil {
			return nil, fmt.Errorf("golden samples: input %w", err)
		}
		if rows < 0 {
			rows = t.Shape[0]
		}
		if t.Shape[0] != rows || rows == 0 {
			return nil, fmt.Errorf("golden samples: input %s has %d rows; every input must have as many, and one at least", info.Name, t.Shape[0])
		}
		g.Inputs = append(g.Inputs, t)
	}
	if len(file.Inputs) != len(sig.Inputs) {
		return nil, fmt.Errorf("golden samples: inputs has %d names; the model takes %s", len(file.Inputs), names(sig.Inputs))
	}
	for name, value := range file.Outputs {
		info, ok := sig.Output(name)
		if !ok {
			return nil, fmt.Errorf("golden samples: the model has no output %s; it has %s", name, names(sig.Outputs))
		}
		var err error
		if g.Outputs[name], err = nested(info, value); err != nil {
			return nil, fmt.Errorf("golden samples: output %w", err)
		}
	}
	return g, nil
}

// nested turns nested lists into a tensor as the signature has it.
func nested(info TensorInfo, value any) (Tensor, error) {
	if info.Kind != "" || !info.Type.supported() {
		return Tensor{}, fmt.Errorf("%s cannot have samples", info)
	}
	var shape []int64
	for v := value; ; {
		list, ok := v.([]any)
		if !ok {
			break
		}
		shape = append(shape, int64(len(list)))
		if len(list) == 0 {
			break
		}
		v = list[0]
	}
	if len(shape) == 0 || info.Shape != nil && len(shape) != len(info.Shape) {
		return Tensor{}, fmt.Errorf("%s has lists nested %d deep", info, len(shape))
	}
	for d, n := range info.Shape {
		if n >= 0 && shape[d] != n {
			return Tensor{}, fmt.Errorf("%s is given as %s", info, shapeText(shape))
		}
	}
	t := NewTensor(info.Type, shape...)
	at := 0
	if err := t.set(&at, shape, value); err != nil {
		return Tensor{}, fmt.Errorf("%s: %w", info.Name, err)
	}
	return t, nil
}

func (t Tensor) set(at *int, shape []int64, value any) error {
	if len(shape) > 0 {
		list, ok := value.([]any)
		if !ok || int64(len(list)) != shape[0] {
			return fmt.Errorf("its lists are not all of the same length")
		}
		for _, v := range list {
			if err := t.set(at, shape[1:], v); err != nil {
				return err
			}
		}
		return nil
	}
	ok := false
	switch v := value.(type) {
	case bool:
		if ok = t.Type == Bool; ok && v {
			t.Data[*at] = 1
		}
	case string:
		if ok = t.Type == String; ok {
			t.Strings[*at] = v
		}
	case json.Number:
		ok = t.setNumber(*at, v)
	}
	if !ok {
		return fmt.Errorf("%v is no %s", value, t.Type)
	}
	*at++
	return nil
}

func (t Tensor) setNumber(at int, v json.Number) bool {
	f, err := v.Float64()
	n, intErr := v.Int64()
	switch t.Type {
	case Float32:
		Values[float32](t)[at] = float32(f)
	case Float64:
		Values[float64](t)[at] = f
	case Int32:
		Values[int32](t)[at] = int32(n)
		err = intErr
		if int64(int32(n)) != n {
			return false
		}
	case Int64:
		Values[int64](t)[at] = n
		err = intErr
	default:
		return false
	}
	return err == nil
}

// repeat makes the samples' inputs into a number of rows.
func (g *Golden) repeat(rows int) []Tensor {
	out := make([]Tensor, len(g.Inputs))
	for i, t := range g.Inputs {
		have := int(t.Shape[0])
		shape := slices.Clone(t.Shape)
		shape[0] = int64(rows)
		out[i] = NewTensor(t.Type, shape...)
		for row := range rows {
			if t.Type == String {
				w := len(t.Strings) / have
				copy(out[i].Strings[row*w:], t.Strings[row%have*w:][:w])
			} else {
				w := len(t.Data) / have
				copy(out[i].Data[row*w:], t.Data[row%have*w:][:w])
			}
		}
	}
	return out
}

// compare counts the values that were compared and describes the first few that differ.
func (g *Golden) compare(names []string, answers []Tensor) (compared int, diffs []string) {
	for i, name := range names {
		want, ok := g.Outputs[name]
		if !ok || i >= len(answers) {
			continue
		}
		got := answers[i]
		if got.Type != want.Type || !slices.Equal(got.Shape, want.Shape) {
			diffs = append(diffs, fmt.Sprintf("output %s is %s%s, the samples have %s", name, got.Type, shapeText(got.Shape), shapeText(want.Shape)))
			continue
		}
		n, _ := Elements(want.Shape)
		for at := range n {
			a, b := got.at(at), want.at(at)
			if compared++; len(diffs) < 3 && !g.equal(a, b) {
				diffs = append(diffs, fmt.Sprintf("output %s, value %d (in row-major order): got %v, want %v", name, at, a, b))
			}
		}
	}
	return compared, diffs
}

// at is element i, floats as float64 and integers as int64.
func (t Tensor) at(i int) any {
	switch t.Type {
	case Float32:
		return float64(Values[float32](t)[i])
	case Float64:
		return Values[float64](t)[i]
	case Int32:
		return int64(Values[int32](t)[i])
	case Int64:
		return Values[int64](t)[i]
	case Bool:
		return t.Data[i] != 0
	}
	return t.Strings[i]
}

func (g *Golden) equal(got, want any) bool {
	a, ok := got.(float64)
	b, _ := want.(float64)
	if !ok {
		return got == want
	}
	return math.Abs(a-b) <= g.Tolerance*(1+math.Abs(b)) // false for NaN
}
