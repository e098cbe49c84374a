package models

import (
	"fmt"
	"slices"
	"strings"
	"unsafe"
)

// Type is the element type of a tensor, in ONNX's words. Types other than the
// constants below appear in signatures only; no tensor of them can be made.
type Type string

const (
	Float32 Type = "float32"
	Float64 Type = "float64"
	Int32   Type = "int32"
	Int64   Type = "int64"
	Bool    Type = "bool" // one byte an element, 0 or 1
	String  Type = "string"
)

// Size is the bytes of one element; 0 for strings and for types that tensors
// here cannot have.
func (t Type) Size() int {
	switch t {
	case Float32, Int32:
		return 4
	case Float64, Int64:
		return 8
	case Bool:
		return 1
	}
	return 0
}

func (t Type) supported() bool { return t == String || t.Size() > 0 }

// Tensor is a contiguous, row-major block of elements.
type Tensor struct {
	Type    Type
	Shape   []int64  // no negative dimension
	Data    []byte   // elements in native byte order, aligned to 8 bytes; nil for strings
	Strings []string // elements of a string tensor
}

// NewTensor makes a tensor of zeros. It panics on a type without size or a
// negative dimension: shapes from outside are checked by [Elements] first.
func NewTensor(t Type, shape ...int64) Tensor {
	n, ok := Elements(shape)
	if !ok || !t.supported() {
		panic(fmt.Sprintf("models: tensor %s%v", t, shape))
	}
	out := Tensor{Type: t, Shape: slices.Clone(shape)}
	if t == String {
		out.Strings = make([]string, n)
	} else {
		out.Data = AlignedBytes(n * t.Size())
	}
	return out
}

// maxElements bounds every tensor: 2^31 elements of 8 bytes are 16 GiB.
const maxElements = 1 << 31

// Elements multiplies a shape out; false if a dimension is negative or the
// product is beyond any tensor that Tidemill moves.
func Elements(shape []int64) (int, bool) {
	n := int64(1)
	for _, d := range shape {
		if d < 0 || d > maxElements {
			return 0, false
		}
		if n *= d; n > maxElements {
			return 0, false
		}
	}
	return int(n), true
}

// AlignedBytes makes n zero bytes that begin at a multiple of 8.
func AlignedBytes(n int) []byte {
	if n == 0 {
		return []byte{}
	}
	words := make([]uint64, (n+7)/8)
	return unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), len(words)*8)[:n:n]
}

// Element is a Go type that a tensor's bytes can be seen as; uint8 stands for Bool.
type Element interface {
	float32 | float64 | int32 | int64 | uint8
}

// Values sees a tensor's bytes as elements, without a copy. T must have the size
// of the tensor's type.
func Values[T Element](t Tensor) []T {
	var z T
	size := int(unsafe.Sizeof(z))
	if t.Type.Size() != size {
		panic(fmt.Sprintf("models: %s seen as %T", t.Type, z))
	}
	if len(t.Data) == 0 {
		return nil
	}
	return unsafe.Slice((*T)(unsafe.Pointer(&t.Data[0])), len(t.Data)/size)
}

// TensorInfo describes one input or output of a model.
type TensorInfo struct {
	Name  string  `json:"name"`
	Type  Type    `json:"type"`
	Shape []int64 `json:"shape"` // -1: any size; nil: any shape
	Kind  string  `json:"kind,omitempty"`
}

// Kinds of TensorInfo that are not tensors; Kind is empty for those that are.
const (
	KindSequence = "sequence"
	KindMap      = "map"
	KindOptional = "optional"
	KindSparse   = "sparse tensor"
)

// String is such as "features float32[?,5]".
func (i TensorInfo) String() string {
	if i.Kind != "" {
		return i.Name + " " + i.Kind
	}
	return i.Name + " " + string(i.Type) + shapeText(i.Shape)
}

func shapeText(shape []int64) string {
	if shape == nil {
		return "[…]"
	}
	dims := make([]string, len(shape))
	for i, d := range shape {
		if dims[i] = "?"; d >= 0 {
			dims[i] = fmt.Sprint(d)
		}
	}
	return "[" + strings.Join(dims, ",") + "]"
}

// Signature is what a model takes and gives, in the graph's order.
type Signature struct {
	Inputs  []TensorInfo `json:"inputs"`
	Outputs []TensorInfo `json:"outputs"`
}

// Output finds an output by name.
func (s Signature) Output(name string) (TensorInfo, bool) {
	i := slices.IndexFunc(s.Outputs, func(o TensorInfo) bool { return o.Name == name })
	if i < 0 {
		return TensorInfo{}, false
	}
	return s.Outputs[i], true
}

func names(infos []TensorInfo) string {
	out := make([]string, len(infos))
	for i, info := range infos {
		out[i] = info.String()
	}
	return strings.Join(out, ", ")
}
