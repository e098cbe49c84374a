package onnx

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/tidemill/tidemill/models"
)

// Kinds of message.
const (
	kindOpen   uint32 = iota + 1 // meta: openRequest; data: the model
	kindRun                      // meta: tensors
	kindAnswer                   // meta: answer, tensors
)

const (
	magic      uint32 = 0x4c494d54 // "TMIL"
	headerSize        = 4 + 4 + 8 + 8
	// maxMeta bounds names and shapes; maxData bounds a model or the tensors of a
	// run: a chunk of 16 Ki rows of 1,000 doubles is 128 MiB.
	maxMeta = 1 << 20
	maxData = 1 << 30
)

var errProtocol = errors.New("broken message")

// conn frames messages. It is not safe for concurrent use; sending and
// receiving at the same time is.
type conn struct {
	r   *bufio.Reader
	w   io.Writer
	out []byte // reused by send
	in  []byte // reused by receive, for meta
	hdr [headerSize]byte
}

func newConn(r io.Reader, w io.Writer) *conn {
	return &conn{r: bufio.NewReaderSize(r, 64<<10), w: w}
}

func pad(n int) int { return (n + 7) &^ 7 }

var zeros [8]byte

// send writes one message. Small ones leave in one write, large data without a copy.
func (c *conn) send(kind uint32, meta []byte, data ...[]byte) error {
	size := 0
	for _, d := range data {
		size += pad(len(d))
	}
	if len(meta) > maxMeta || size > maxData {
		return fmt.Errorf("%w: %d bytes of tensors; at most %d go at once", models.ErrRejected, size, maxData)
	}
	b := binary.NativeEndian.AppendUint32(c.out[:0], magic)
	b = binary.NativeEndian.AppendUint32(b, kind)
	b = binary.NativeEndian.AppendUint64(b, uint64(len(meta)))
	b = binary.NativeEndian.AppendUint64(b, uint64(size))
	b = append(b, meta...)
	b = append(b, zeros[:pad(len(meta))-len(meta)]...)
	for _, d := range data {
		if len(d) > 16<<10 {
			if _, err := c.w.Write(b); err != nil {
				return err
			}
			b = b[:0]
			if _, err := c.w.Write(d); err != nil {
				return err
			}
		} else {
			b = append(b, d...)
		}
		b = append(b, zeros[:pad(len(d))-len(d)]...)
	}
	c.out = b[:0]
	if len(b) == 0 {
		return nil
	}
	_, err := c.w.Write(b)
	return err
}

type header struct {
	kind       uint32
	meta, data int
}

// receiveHeader waits for a message. io.EOF: the other side closed in between.
func (c *conn) receiveHeader() (header, error) {
	if _, err := io.ReadFull(c.r, c.hdr[:]); err != nil {
		return header{}, err
	}
	h := header{kind: binary.NativeEndian.Uint32(c.hdr[4:])}
	meta, data := binary.NativeEndian.Uint64(c.hdr[8:]), binary.NativeEndian.Uint64(c.hdr[16:])
	if binary.NativeEndian.Uint32(c.hdr[:]) != magic || meta > maxMeta || data > maxData {
		return header{}, errProtocol
	}
	h.meta, h.data = int(meta), int(data)
	return h, nil
}

// receiveBody reads what follows a header. meta is good until the next call;
// data is put into buf if that is large enough, else into new memory.
func (c *conn) receiveBody(h header, buf []byte) (meta, data []byte, err error) {
	if cap(c.in) < pad(h.meta) {
		c.in = make([]byte, pad(h.meta))
	}
	meta = c.in[:pad(h.meta)]
	if _, err := io.ReadFull(c.r, meta); err != nil {
		return nil, nil, err
	}
	if cap(buf) < h.data {
		buf = models.AlignedBytes(h.data)
	}
	data = buf[:h.data]
	if _, err := io.ReadFull(c.r, data); err != nil {
		return nil, nil, err
	}
	return meta[:h.meta], data, nil
}

// decoder takes meta apart. After a short read every value is zero and err is set.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) take(n int) []byte {
	if d.err != nil || n < 0 || n > len(d.b) {
		d.err = errProtocol
		return nil
	}
	out := d.b[:n]
	d.b = d.b[n:]
	return out
}

func (d *decoder) uint64() uint64 {
	if b := d.take(8); b != nil {
		return binary.NativeEndian.Uint64(b)
	}
	return 0
}

func (d *decoder) count(limit uint64) int {
	n := d.uint64()
	if n > limit {
		d.err, n = errProtocol, 0
	}
	return int(n)
}

func (d *decoder) text() string { return string(d.take(d.count(maxMeta))) }

func appendText(b []byte, s string) []byte {
	return append(binary.NativeEndian.AppendUint64(b, uint64(len(s))), s...)
}

type openRequest struct {
	outputs   []string
	maxMemory int64
	size      int // of the model, without padding
	measure   bool
}

func (o openRequest) append(b []byte) []byte {
	b = binary.NativeEndian.AppendUint64(b, uint64(o.maxMemory))
	b = binary.NativeEndian.AppendUint64(b, uint64(o.size))
	measure := uint64(0)
	if o.measure {
		measure = 1
	}
	b = binary.NativeEndian.AppendUint64(b, measure)
	b = binary.NativeEndian.AppendUint64(b, uint64(len(o.outputs)))
	for _, name := range o.outputs {
		b = appendText(b, name)
	}
	return b
}

func (d *decoder) openRequest() (o openRequest) {
	o.maxMemory = int64(d.uint64())
	o.size = d.count(maxData)
	o.measure = d.uint64() != 0
	for range d.count(maxMeta / 8) {
		o.outputs = append(o.outputs, d.text())
	}
	return o
}

// Answers.
const (
	statusOK uint64 = iota
	statusRejected
	statusRuntime
)

type answer struct {
	status  uint64
	message string
	usage   models.Usage
}

func (a answer) append(b []byte) []byte {
	b = binary.NativeEndian.AppendUint64(b, a.status)
	b = binary.NativeEndian.AppendUint64(b, uint64(a.usage.Time))
	b = binary.NativeEndian.AppendUint64(b, uint64(a.usage.PeakBytes))
	b = binary.NativeEndian.AppendUint64(b, uint64(a.usage.BaseBytes))
	return appendText(b, a.message)
}

func (d *decoder) answer() (a answer) {
	a.status = d.uint64()
	a.usage.Time = time.Duration(d.uint64())
	a.usage.PeakBytes = int64(d.uint64())
	a.usage.BaseBytes = int64(d.uint64())
	a.message = d.text()
	return a
}

func (a answer) err() error {
	switch a.status {
	case statusOK:
		return nil
	case statusRejected:
		return fmt.Errorf("%w: %s", models.ErrRejected, a.message)
	case statusRuntime:
		return fmt.Errorf("%w: %s", models.ErrRuntime, a.message)
	}
	return errProtocol
}

// typeCodes are the types of tensors on the wire.
var typeCodes = []models.Type{models.Float32, models.Float64, models.Int32, models.Int64, models.Bool, models.String}

// appendTensors adds types and shapes to meta and returns the parts of data.
func appendTensors(b []byte, tensors []models.Tensor) (meta []byte, data [][]byte) {
	b = binary.NativeEndian.AppendUint64(b, uint64(len(tensors)))
	data = make([][]byte, len(tensors))
	for i, t := range tensors {
		code := uint64(0)
		for c, typ := range typeCodes {
			if typ == t.Type {
				code = uint64(c)
			}
		}
		if data[i] = t.Data; t.Type == models.String {
			data[i] = packStrings(t.Strings)
		}
		b = binary.NativeEndian.AppendUint64(b, code)
		b = binary.NativeEndian.AppendUint64(b, uint64(len(data[i])))
		b = binary.NativeEndian.AppendUint64(b, uint64(len(t.Shape)))
		for _, d := range t.Shape {
			b = binary.NativeEndian.AppendUint64(b, uint64(d))
		}
	}
	return b, data
}

// maxRank is more dimensions than any tensor here has.
const maxRank = 16

// tensors reads what appendTensors wrote; numeric tensors are views of data.
func (d *decoder) tensors(data []byte) []models.Tensor {
	out := make([]models.Tensor, 0, 4)
	for range d.count(maxMeta / 24) {
		code, size := d.count(uint64(len(typeCodes)-1)), d.count(maxData)
		t := models.Tensor{Type: typeCodes[code], Shape: make([]int64, d.count(maxRank))}
		for i := range t.Shape {
			t.Shape[i] = int64(d.uint64())
		}
		n, ok := models.Elements(t.Shape)
		if d.err != nil || !ok || pad(size) > len(data) {
			d.err = errProtocol
			return nil
		}
		body := data[:size:size]
		data = data[pad(size):]
		if t.Type == models.String {
			t.Strings, ok = unpackStrings(body, n)
		} else {
			t.Data, ok = body, size == n*t.Type.Size()
		}
		if !ok {
			d.err = errProtocol
			return nil
		}
		out = append(out, t)
	}
	if d.err != nil || len(data) > 0 {
		d.err = errProtocol
		return nil
	}
	return out
}

// packStrings lays strings out as lengths (uint32 each), then bytes.
func packStrings(s []string) []byte {
	size := 4 * len(s)
	for _, v := range s {
		size += len(v)
	}
	b := make([]byte, 0, size)
	for _, v := range s {
		b = binary.NativeEndian.AppendUint32(b, uint32(len(v)))
	}
	for _, v := range s {
		b = append(b, v...)
	}
	return b
}

func unpackStrings(b []byte, n int) ([]string, bool) {
	if n > len(b)/4 {
		return nil, false
	}
	lengths, rest := b[:4*n], string(b[4*n:])
	out := make([]string, n)
	for i := range out {
		size := uint64(binary.NativeEndian.Uint32(lengths[4*i:]))
		if size > uint64(len(rest)) {
			return nil, false
		}
		out[i], rest = rest[:size], rest[size:]
	}
	return out, rest == ""
}
