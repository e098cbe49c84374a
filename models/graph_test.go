package models_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/models"
)

func TestInspect(t *testing.T) {
	g, err := models.Inspect(readModel(t, "named"))
	if err != nil {
		t.Fatal(err)
	}
	want := "[f32 float32[?,1] f64 float64[?,1] i32 int32[?,1] i64 int64[?,1] flag bool[?,1] text string[?]]" +
		" [sum float64[?,1] long int64[?,1] int int32[?,1] not bool[?,1] echo string[?]]"
	if got := fmt.Sprint(g.Signature.Inputs, g.Signature.Outputs); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if g.IRVersion != 8 || g.Opsets[""] != 17 || g.Opsets["ai.onnx.ml"] != 3 || g.External != nil {
		t.Errorf("%+v", g)
	}
	if g, err = models.Inspect(readModel(t, "zipmap")); err != nil || g.Signature.Outputs[0].String() != "probabilities sequence" {
		t.Errorf("%+v, %v", g, err)
	}
	if g, err = models.Inspect(readModel(t, "external")); err != nil || len(g.External) != 1 || g.External[0] != "w" {
		t.Errorf("%+v, %v", g, err)
	}
}

func TestInspectOtherFiles(t *testing.T) {
	linear := readModel(t, "linear")
	for _, test := range []struct{ data, text string }{
		{"", "empty"},
		{"\x80\x04\x95...", "pickle"},
		{"PK\x03\x04...", "zip"},
		{"\x89HDF\r\n", "HDF5"},
		{"\x00\x00\x00\x00ORTM....", "ONNX Runtime's own format"},
		{"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"},
		{`{"learner": {}}`, "XGBoost"},
		{string(linear[:len(linear)/2]), "truncated"},
		{"\x08\x08", "no graph"},
	} {
		if _, err := models.Inspect([]byte(test.data)); !errors.Is(err, models.ErrNotONNX) || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%.20q: %v", test.data, err)
		}
	}
}

// A GraphProto in an AttributeProto in a NodeProto, and so on: nothing to run out of stack for.
func TestInspectDeepNesting(t *testing.T) {
	wrap := func(field byte, body []byte) []byte {
		out := []byte{field<<3 | 2}
		n := len(body)
		for ; n >= 0x80; n >>= 7 {
			out = append(out, byte(n)|0x80)
		}
		return append(append(out, byte(n)), body...)
	}
	graph := []byte{}
	for range 2000 {
		graph = wrap(1, wrap(5, wrap(6, graph)))
	}
	if _, err := models.Inspect(wrap(7, graph)); !errors.Is(err, models.ErrNotONNX) || !strings.Contains(err.Error(), "nested") {
		t.Errorf("%v", err)
	}
}

func FuzzInspect(f *testing.F) {
	for _, name := range []string{"linear", "named", "zipmap", "external", "nest", "count"} {
		f.Add(readModel(f, name))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		g, err := models.Inspect(data)
		if (g == nil) == (err == nil) {
			t.Fatalf("%v, %v", g, err)
		}
	})
}
