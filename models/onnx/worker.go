package onnx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/tidemill/tidemill/models"
)

// WorkerArgument is the first argument that makes a program a child.
const WorkerArgument = "onnx-worker"

// WorkerMain is the child: it serves its parent over in and out, which are the
// process's own stdin and stdout, until in ends, and returns the exit code.
// Stray prints of native code go to stderr from then on.
func WorkerMain(in, out *os.File) int {
	own, err := claimOutput(out)
	if err != nil {
		fmt.Fprintln(os.Stderr, "onnx-worker: claim stdout:", err)
		return 1
	}
	limitProcess()
	if err := serve(newConn(in, own)); err != nil {
		fmt.Fprintln(os.Stderr, "onnx-worker:", err)
		return 1
	}
	return 0
}

// request is one message, with its buffers lent out until the answer is sent.
type request struct {
	kind       uint32
	meta, data []byte
}

// serve answers requests. It reads ahead of them by a header, so that the end
// of input is seen, and ends the process, while a graph runs.
func serve(c *conn) error {
	requests := make(chan request)
	answered := make(chan struct{})
	failed := make(chan error, 1)
	go func() {
		w := worker{conn: c}
		for r := range requests {
			if err := w.answer(r); err != nil {
				failed <- err
				return
			}
			answered <- struct{}{}
		}
	}()
	var buf []byte
	for first := true; ; first = false {
		h, err := c.receiveHeader()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read request: %w", err)
		}
		if !first {
			select {
			case <-answered:
			case err := <-failed:
				return err
			}
		}
		meta, data, err := c.receiveBody(h, buf)
		if err != nil {
			return fmt.Errorf("read request: %w", err)
		}
		if h.kind == kindRun {
			buf = data // a model's bytes are not worth keeping
		}
		select {
		case requests <- request{h.kind, meta, data}:
		case err := <-failed:
			return err
		}
	}
}

type worker struct {
	conn    *conn
	session *session
	measure bool
	base    int64
	limit   int64
	meta    []byte
}

func (w *worker) answer(r request) error {
	d := decoder{b: r.meta}
	var a answer
	var outputs []models.Tensor
	var err error
	switch r.kind {
	case kindOpen:
		o := d.openRequest()
		if d.err == nil && o.size <= len(r.data) {
			err = w.open(o, r.data[:o.size])
		}
	case kindRun:
		inputs := d.tensors(r.data)
		if d.err == nil && w.session != nil {
			outputs, err = w.session.Run(context.Background(), inputs)
			a.usage = w.session.Usage()
		}
	default:
		d.err = errProtocol
	}
	if d.err != nil {
		return fmt.Errorf("read request: %w", d.err)
	}
	if w.measure {
		a.usage.PeakBytes, a.usage.BaseBytes = peakMemory(), w.base
	}
	if err != nil {
		a.status, a.message = statusRejected, w.explain(err)
		if errors.Is(err, models.ErrRuntime) {
			a.status = statusRuntime
		}
	}
	meta, data := appendTensors(a.append(w.meta[:0]), outputs)
	w.meta = meta[:0]
	err = w.conn.send(kindAnswer, meta, data...)
	if errors.Is(err, models.ErrRejected) { // too large an answer; nothing was sent
		a.status, a.message = statusRejected, w.explain(err)
		meta, _ := appendTensors(a.append(nil), nil)
		err = w.conn.send(kindAnswer, meta)
	}
	if err != nil {
		return fmt.Errorf("write answer: %w", err)
	}
	return nil
}

func (w *worker) open(o openRequest, data []byte) error {
	if err := Load(); err != nil {
		return err
	}
	w.measure, w.limit = o.measure, o.maxMemory
	w.base = peakMemory()
	if err := limitMemory(o.maxMemory); err != nil {
		return fmt.Errorf("%w: limit memory: %w", models.ErrRuntime, err)
	}
	var err error
	w.session, err = openSession(data, o.outputs)
	return err
}

// explain takes the sentinel off, which the parent puts on again, and says what
// a refused allocation means.
func (w *worker) explain(err error) string {
	text := err.Error()
	for _, lead := range []error{models.ErrRejected, models.ErrRuntime} {
		text = strings.TrimPrefix(text, lead.Error()+": ")
	}
	if w.limit > 0 && (strings.Contains(text, "bad_alloc") || strings.Contains(text, "Failed to allocate")) {
		text = fmt.Sprintf("it wants more memory than its limit of %d MiB: %s", w.limit>>20, text)
	}
	return text
}
