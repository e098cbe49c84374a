package onnx

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/tidemill/tidemill/models"
)

func TestMessages(t *testing.T) {
	var pipe bytes.Buffer
	c := newConn(&pipe, &pipe)
	text := models.NewTensor(models.String, 2, 2)
	copy(text.Strings, []string{"", "a", "größer", "\x01"})
	large := models.NewTensor(models.Float32, 30_001, 1)
	models.Values[float32](large)[30_000] = 7
	sent := []models.Tensor{tensorOf(models.Bool, []uint8{1, 0, 1}, 3), text, large, tensorOf(models.Int64, []int64{-1}, 1, 1), models.NewTensor(models.Float64, 0, 4)}
	for range 2 { // buffers are reused
		meta, data := appendTensors(answer{message: "ok", usage: models.Usage{Time: 5}}.append(nil), sent)
		if err := c.send(kindAnswer, meta, data...); err != nil {
			t.Fatal(err)
		}
		h, err := c.receiveHeader()
		if err != nil || h.kind != kindAnswer {
			t.Fatal(h, err)
		}
		meta, body, err := c.receiveBody(h, nil)
		if err != nil {
			t.Fatal(err)
		}
		d := decoder{b: meta}
		a := d.answer()
		got := d.tensors(body)
		if d.err != nil || a.message != "ok" || a.usage.Time != 5 || len(got) != len(sent) {
			t.Fatal(a, got, d.err)
		}
		for i, want := range sent {
			if got[i].Type != want.Type || !slices.Equal(got[i].Shape, want.Shape) || !bytes.Equal(got[i].Data, want.Data) || !slices.Equal(got[i].Strings, want.Strings) {
				t.Errorf("tensor %d: %v, want %v", i, got[i], want)
			}
		}
	}
	if _, err := c.receiveHeader(); !errors.Is(err, io.EOF) {
		t.Errorf("something is left over: %v", err)
	}
}

// FuzzAnswer: whatever a child says, the parent neither panics nor believes
// tensors whose data is not there.
func FuzzAnswer(f *testing.F) {
	text := models.NewTensor(models.String, 1)
	meta, data := appendTensors(answer{message: "no"}.append(nil), []models.Tensor{tensorOf(models.Bool, []uint8{1}, 1), text})
	f.Add(meta, append(append(bytes.Clone(data[0]), make([]byte, 7)...), data[1]...))
	f.Fuzz(func(t *testing.T, meta, data []byte) {
		d := decoder{b: meta}
		d.answer()
		for _, tensor := range d.tensors(data) {
			n, ok := models.Elements(tensor.Shape)
			if d.err == nil && (!ok || len(tensor.Data)+len(tensor.Strings) > 0 && n == 0 || tensor.Type != models.String && len(tensor.Data) != n*tensor.Type.Size()) {
				t.Fatalf("%+v", tensor)
			}
		}
	})
}
