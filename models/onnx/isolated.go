package onnx

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/tidemill/tidemill/internal/ortlib"
	"github.com/tidemill/tidemill/models"
)

// Limits of a model in a child process, unless its options say otherwise.
const (
	DefaultTimeout   = 30 * time.Second
	DefaultMaxMemory = 1 << 30 // bytes
)

// IsolatedOptions say how a model runs in child processes.
type IsolatedOptions struct {
	models.OpenOptions
	Command []string     // program and arguments; nil: this program with [WorkerArgument]
	Logger  *slog.Logger // nil: slog.Default
}

func (o *IsolatedOptions) defaults() error {
	if len(o.Command) == 0 {
		exe, err := os.Executable()
		if err != nil {
			return fmt.Errorf("%w: find this program: %w", models.ErrRuntime, err)
		}
		o.Command = []string{exe, WorkerArgument}
	}
	if o.Processes < 1 {
		o.Processes = 1
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.MaxMemory <= 0 {
		o.MaxMemory = DefaultMaxMemory
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return nil
}

// isolated runs a model in child processes, each one Run at a time. A child is
// started when a Run finds none free and fewer than o.Processes are there.
type isolated struct {
	o       IsolatedOptions
	library string // path of the library, for the children
	data    []byte
	sig     models.Signature
	outputs []models.TensorInfo

	warm    chan *slot    // free, with a child
	cold    chan *slot    // free, without one
	closing chan struct{} // closed by Close
	close   sync.Once

	usageMu sync.Mutex
	usage   models.Usage
}

// slot is a place for a child. Who took it from the channel owns it.
type slot struct {
	child   *child // nil: none running
	crashes int    // since the last answer
}

var _ models.Session = (*isolated)(nil)

// OpenIsolated loads a model into a child process, and keeps its bytes to load
// it again. See models.Runtime for the errors.
func OpenIsolated(ctx context.Context, data []byte, o IsolatedOptions) (models.Session, error) {
	if err := o.defaults(); err != nil {
		return nil, err
	}
	graph, selected, err := inspect(data, o.Outputs)
	if err != nil {
		return nil, err
	}
	path, err := ortlib.Find()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", models.ErrRuntime, err)
	}
	s := &isolated{o: o, library: path, data: data, sig: graph.Signature, outputs: selected,
		warm: make(chan *slot, o.Processes), cold: make(chan *slot, o.Processes), closing: make(chan struct{})}
	first := &slot{}
	if err := s.start(ctx, first); err != nil {
		return nil, err
	}
	s.release(first)
	for range o.Processes - 1 {
		s.release(&slot{})
	}
	return s, nil
}

func (s *isolated) Signature() models.Signature { return s.sig }

func (s *isolated) Usage() models.Usage {
	s.usageMu.Lock()
	defer s.usageMu.Unlock()
	return s.usage
}

func (s *isolated) Run(ctx context.Context, inputs []models.Tensor) ([]models.Tensor, error) {
	if err := checkInputs(s.sig, inputs); err != nil {
		return nil, err
	}
	slot, err := s.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer s.release(slot)
	if slot.child == nil {
		if err := s.start(ctx, slot); err != nil {
			return nil, err
		}
	}
	meta, data := appendTensors(nil, inputs)
	a, outputs, err := s.exchange(ctx, slot, kindRun, meta, data...)
	if err == nil {
		err = a.err()
	}
	if err != nil {
		return nil, err
	}
	if err := s.checkOutputs(outputs); err != nil {
		return nil, err
	}
	s.usageMu.Lock()
	s.usage = a.usage
	s.usageMu.Unlock()
	return outputs, nil
}

func (s *isolated) checkOutputs(outputs []models.Tensor) error {
	ok := len(outputs) == len(s.outputs)
	for i := range outputs {
		ok = ok && outputs[i].Type == s.outputs[i].Type
	}
	if !ok {
		return fmt.Errorf("%w: its outputs are not those of its signature", models.ErrRejected)
	}
	return nil
}

func (s *isolated) acquire(ctx context.Context) (*slot, error) {
	select {
	case <-s.closing:
		return nil, models.ErrClosed
	default:
	}
	select {
	case slot := <-s.warm:
		return slot, nil
	default:
	}
	select {
	case slot := <-s.warm:
		return slot, nil
	case slot := <-s.cold:
		return slot, nil
	case <-s.closing:
		return nil, models.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *isolated) release(slot *slot) {
	if slot.child != nil {
		s.warm <- slot
	} else {
		s.cold <- slot
	}
}

// Close waits for Runs under way, which their deadlines bound, and ends the children.
func (s *isolated) Close() error {
	s.close.Do(func() {
		close(s.closing)
		for range s.o.Processes {
			select {
			case slot := <-s.warm:
				slot.child.end()
			case <-s.cold:
			}
		}
	})
	return nil
}

// freeCrashes is how many crashes in a row go without a wait before the next
// child. Bisecting a batch for one poisonous row crashes often, but every other
// half is answered.
const (
	freeCrashes = 3
	maxWait     = 2 * time.Second
)

func restartWait(crashes int) time.Duration {
	if crashes <= freeCrashes {
		return 0
	}
	return min(maxWait, 50*time.Millisecond<<min(crashes-freeCrashes-1, 10))
}

// start gives a slot a child that has loaded the model.
func (s *isolated) start(ctx context.Context, slot *slot) error {
	if wait := restartWait(slot.crashes); wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.closing:
			return models.ErrClosed
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	child, err := startChild(s.o.Command, s.library)
	if err != nil {
		return fmt.Errorf("%w: start %s: %w", models.ErrRuntime, s.o.Command[0], err)
	}
	slot.child = child
	open := openRequest{outputs: infoNames(s.outputs), maxMemory: s.o.MaxMemory, size: len(s.data), measure: s.o.Measure}
	a, _, err := s.exchange(ctx, slot, kindOpen, open.append(nil), s.data)
	if err == nil {
		err = a.err()
	}
	if err != nil && slot.child != nil { // it answered: it is well, but of no use
		slot.child.end()
		slot.child = nil
	}
	return err
}

var errHung = errors.New("no answer in time")

// exchange sends a request and waits for the answer. When it fails the child is
// gone and the slot empty, except if the request could not be sent at all.
func (s *isolated) exchange(ctx context.Context, slot *slot, kind uint32, meta []byte, data ...[]byte) (answer, []models.Tensor, error) {
	c := slot.child
	bounded, cancel := context.WithTimeoutCause(ctx, s.o.Timeout, errHung)
	defer cancel()
	stop := context.AfterFunc(bounded, c.kill)
	a, outputs, err := c.call(kind, meta, data)
	if stop() && (err == nil || errors.Is(err, models.ErrRejected)) {
		slot.crashes = 0
		c.stderr.reset() // what it printed was no last word
		return a, outputs, err
	}
	// Broken pipe, broken message, killed, or about to be.
	cause := context.Cause(bounded)
	c.kill()
	<-c.done
	slot.child = nil
	if ctx.Err() != nil {
		return answer{}, nil, ctx.Err()
	}
	slot.crashes++
	err = c.obituary(cause, err, s.o.Timeout)
	s.o.Logger.Warn("model process died", slog.Int("pid", c.pid), slog.Int("crashes", slot.crashes), slog.Any("error", err))
	return answer{}, nil, err
}
