package models

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// Graph is what [Inspect] reads from a model file.
type Graph struct {
	IRVersion int64
	Producer  string           // such as "skl2onnx 1.20.0", "" if the file does not say
	Opsets    map[string]int64 // domain, "" being ONNX's own, to version
	Signature Signature
	External  []string // names of tensors whose values are in other files
}

// Inspect reads an ONNX file's head and signature without running anything of
// it, so that bytes of any origin may be given. ErrNotONNX says what they seem
// to be instead. Field numbers are those of onnx.proto3.
func Inspect(data []byte) (*Graph, error) {
	if what := otherFormat(data); what != "" {
		return nil, fmt.Errorf("%w: %s", ErrNotONNX, what)
	}
	g := &Graph{Opsets: map[string]int64{}}
	var hasGraph bool
	var producer, producerVersion string
	var initializers []string
	err := eachField(data, func(n protowire.Number, f field) error {
		switch n {
		case 1:
			g.IRVersion = int64(f.varint)
		case 2:
			producer = string(f.bytes)
		case 3:
			producerVersion = string(f.bytes)
		case 7:
			hasGraph = true
			var err error
			initializers, err = g.graph(f.bytes, true, 0)
			return err
		case 8:
			return g.opset(f.bytes)
		case 25: // functions: only their tensors matter here
			return eachField(f.bytes, func(n protowire.Number, f field) error {
				if n == 7 {
					return g.node(f.bytes, 0)
				}
				return nil
			})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotONNX, err)
	}
	if !hasGraph || g.IRVersion == 0 || len(g.Opsets) == 0 {
		return nil, fmt.Errorf("%w: it has no graph, IR version or opset", ErrNotONNX)
	}
	// Up to IR version 3 initializers had to be listed as inputs too; they may be still.
	g.Signature.Inputs = slices.DeleteFunc(g.Signature.Inputs, func(i TensorInfo) bool {
		return slices.Contains(initializers, i.Name)
	})
	if g.Producer = producer; producerVersion != "" {
		g.Producer += " " + producerVersion
	}
	return g, nil
}

// otherFormat recognises what people hand in by mistake.
func otherFormat(data []byte) string {
	switch {
	case len(data) == 0:
		return "the file is empty"
	case bytes.HasPrefix(data, []byte("\x80\x04\x95")), bytes.HasPrefix(data, []byte("\x80\x05\x95")), bytes.HasPrefix(data, []byte("\x80\x03")):
		return "it looks like a Python pickle; convert the estimator, for scikit-learn with skl2onnx.to_onnx"
	case bytes.HasPrefix(data, []byte("PK\x03\x04")):
		return "it looks like a zip archive (PyTorch and Keras save such files); export the model with torch.onnx.export or tf2onnx"
	case bytes.HasPrefix(data, []byte("\x89HDF")):
		return "it looks like HDF5 (Keras); convert it with tf2onnx"
	case len(data) > 8 && string(data[4:8]) == "ORTM":
		return "it is in ONNX Runtime's own format; register the .onnx file that it was made from"
	case bytes.HasPrefix(data, []byte("version https://git-lfs")):
		return "it is a Git LFS pointer; fetch the file itself with git lfs pull"
	case data[0] == '{' || data[0] == '<':
		return "it looks like text (JSON or XML); export the model to ONNX, for XGBoost and LightGBM with onnxmltools"
	}
	return ""
}

// field is one protobuf field: varint or bytes, by its wire type.
type field struct {
	varint uint64
	bytes  []byte
}

var errTruncated = errors.New("its protobuf structure is broken; the file may be truncated")

func eachField(data []byte, visit func(protowire.Number, field) error) error {
	for len(data) > 0 {
		num, typ, n := protowire.ConsumeTag(data)
		if n < 0 {
			return errTruncated
		}
		data = data[n:]
		var f field
		switch typ {
		case protowire.VarintType:
			f.varint, n = protowire.ConsumeVarint(data)
		case protowire.BytesType:
			f.bytes, n = protowire.ConsumeBytes(data)
		case protowire.Fixed32Type, protowire.Fixed64Type:
			n = protowire.ConsumeFieldValue(num, typ, data)
		default: // groups: proto3 has none
			n = -1
		}
		if n < 0 {
			return errTruncated
		}
		data = data[n:]
		if err := visit(num, f); err != nil {
			return err
		}
	}
	return nil
}

func (g *Graph) opset(data []byte) error {
	var domain string
	var version int64
	err := eachField(data, func(n protowire.Number, f field) error {
		switch n {
		case 1:
			domain = string(f.bytes)
		case 2:
			version = int64(f.varint)
		}
		return nil
	})
	if domain == "ai.onnx" { // the long spelling of ""
		domain = ""
	}
	g.Opsets[domain] = version
	return err
}

// maxNesting bounds graphs within attributes within graphs. protobuf itself
// stops at 100 messages deep, which is 33 graphs.
const maxNesting = 32

// graph reads a GraphProto. Only the top one's inputs and outputs are the
// model's; of those below only the tensors matter. It returns initializer names.
func (g *Graph) graph(data []byte, top bool, depth int) (initializers []string, err error) {
	if depth > maxNesting {
		return nil, fmt.Errorf("its graphs are nested more than %d deep", maxNesting)
	}
	return initializers, eachField(data, func(n protowire.Number, f field) error {
		switch n {
		case 1:
			return g.node(f.bytes, depth)
		case 5:
			name, err := g.tensor(f.bytes)
			initializers = append(initializers, name)
			return err
		case 15:
			return g.sparse(f.bytes)
		case 11, 12:
			if !top {
				return nil
			}
			info, err := valueInfo(f.bytes)
			if n == 11 {
				g.Signature.Inputs = append(g.Signature.Inputs, info)
			} else {
				g.Signature.Outputs = append(g.Signature.Outputs, info)
			}
			return err
		}
		return nil
	})
}

func (g *Graph) node(data []byte, depth int) error {
	return eachField(data, func(n protowire.Number, f field) error {
		if n != 5 {
			return nil
		}
		return eachField(f.bytes, func(n protowire.Number, f field) error { // AttributeProto
			var err error
			switch n {
			case 5, 10:
				_, err = g.tensor(f.bytes)
			case 6, 11:
				_, err = g.graph(f.bytes, false, depth+1)
			case 22, 23:
				err = g.sparse(f.bytes)
			}
			return err
		})
	})
}

func (g *Graph) sparse(data []byte) error {
	return eachField(data, func(n protowire.Number, f field) error {
		if n == 1 || n == 2 { // values, indices
			_, err := g.tensor(f.bytes)
			return err
		}
		return nil
	})
}

// tensor notes a TensorProto that has its values elsewhere and returns its name.
func (g *Graph) tensor(data []byte) (name string, err error) {
	var external bool
	err = eachField(data, func(n protowire.Number, f field) error {
		switch n {
		case 8:
			name = string(f.bytes)
		case 13:
			external = true
		case 14:
			external = external || f.varint != 0
		}
		return nil
	})
	if external {
		g.External = append(g.External, name)
	}
	return name, err
}

// elementTypes are TensorProto.DataType's names, by number.
var elementTypes = []Type{"undefined", Float32, "uint8", "int8", "uint16", "int16", Int32, Int64, String, Bool,
	"float16", Float64, "uint32", "uint64", "complex64", "complex128", "bfloat16"}

func valueInfo(data []byte) (TensorInfo, error) {
	var info TensorInfo
	err := eachField(data, func(n protowire.Number, f field) error {
		switch n {
		case 1:
			info.Name = string(f.bytes)
		case 2:
			return eachField(f.bytes, func(n protowire.Number, f field) error { // TypeProto
				switch n {
				case 1:
					return info.tensorType(f.bytes)
				case 4:
					info.Kind = KindSequence
				case 5:
					info.Kind = KindMap
				case 8:
					info.Kind = KindSparse
				case 9:
					info.Kind = KindOptional
				}
				return nil
			})
		}
		return nil
	})
	return info, err
}

func (i *TensorInfo) tensorType(data []byte) error {
	return eachField(data, func(n protowire.Number, f field) error {
		switch n {
		case 1:
			i.Type = Type(fmt.Sprintf("type %d", f.varint))
			if f.varint < uint64(len(elementTypes)) {
				i.Type = elementTypes[f.varint]
			}
		case 2:
			i.Shape = []int64{}
			return eachField(f.bytes, func(n protowire.Number, f field) error { // TensorShapeProto
				if n != 1 {
					return nil
				}
				dim := int64(-1)
				err := eachField(f.bytes, func(n protowire.Number, f field) error {
					if n == 1 {
						dim = max(-1, int64(f.varint))
					}
					return nil
				})
				i.Shape = append(i.Shape, dim)
				return err
			})
		}
		return nil
	})
}
