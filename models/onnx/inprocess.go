package onnx

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
	"unsafe"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/tidemill/tidemill/internal/ortlib"
	"github.com/tidemill/tidemill/models"
)

// environment is the library, loaded once a process and never unloaded.
var environment struct {
	sync.Mutex
	loaded bool
}

// Load makes the ONNX Runtime ready in this process. A failure, which is
// models.ErrRuntime, says what to do and may be mended while the process runs.
func Load() error {
	environment.Lock()
	defer environment.Unlock()
	if environment.loaded {
		return nil
	}
	path, err := ortlib.Find()
	if err != nil {
		return fmt.Errorf("%w: %w", models.ErrRuntime, err)
	}
	ort.SetSharedLibraryPath(path)
	// What it would print at lower levels comes back as errors.
	if err := ort.InitializeEnvironment(ort.WithLogLevelFatal()); err != nil {
		return fmt.Errorf("%w: %s", models.ErrRuntime, loadAdvice(path, err))
	}
	environment.loaded = true
	return nil
}

func loadAdvice(path string, err error) string {
	text := err.Error()
	switch {
	case strings.Contains(text, "ORT API base: 2"):
		return fmt.Sprintf("%s is older than %s; %s", path, ortlib.Oldest, ortlib.Remedy)
	case strings.Contains(text, "OrtGetApiBase"):
		return fmt.Sprintf("%s is not an ONNX Runtime library; %s", path, ortlib.Remedy)
	}
	return fmt.Sprintf("%s cannot be loaded (%s); %s", filepath.Base(path), text, ortlib.Remedy)
}

// session runs a model in this process.
type session struct {
	sig     models.Signature
	outputs []models.TensorInfo

	mu     sync.RWMutex // held for reading by Run
	closed bool
	ort    *ort.DynamicAdvancedSession

	usageMu sync.Mutex
	usage   models.Usage
}

var _ models.Session = (*session)(nil)

// OpenInProcess loads a model into this process. What the graph does to its
// process it does to this one.
func OpenInProcess(data []byte, outputs []string) (models.Session, error) {
	return openSession(data, outputs)
}

func openSession(data []byte, outputs []string) (*session, error) {
	graph, selected, err := inspect(data, outputs)
	if err != nil {
		return nil, err
	}
	if err := Load(); err != nil {
		return nil, err
	}
	s := &session{sig: graph.Signature, outputs: selected}
	options, err := sessionOptions()
	if err != nil {
		return nil, fmt.Errorf("%w: session options: %w", models.ErrRuntime, err)
	}
	defer options.Destroy()
	s.ort, err = ort.NewDynamicAdvancedSessionWithONNXData(data, infoNames(s.sig.Inputs), infoNames(selected), options)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", models.ErrRejected, runtimeText(err))
	}
	return s, nil
}

// inspect reads the graph and finds the outputs to compute.
func inspect(data []byte, outputs []string) (*models.Graph, []models.TensorInfo, error) {
	graph, err := models.Inspect(data)
	if err != nil {
		return nil, nil, err
	}
	if len(graph.External) > 0 {
		return nil, nil, fmt.Errorf("%w: values of %s are in another file", models.ErrRejected, graph.External[0])
	}
	if outputs == nil {
		for _, o := range graph.Signature.Outputs {
			if o.Kind == "" && slices.Contains(typeCodes, o.Type) {
				outputs = append(outputs, o.Name)
			}
		}
	}
	selected := make([]models.TensorInfo, len(outputs))
	for i, name := range outputs {
		info, ok := graph.Signature.Output(name)
		if !ok || info.Kind != "" || !slices.Contains(typeCodes, info.Type) {
			return nil, nil, fmt.Errorf("%w: it has no tensor output %q of a type that columns have", models.ErrRejected, name)
		}
		selected[i] = info
	}
	if len(selected) == 0 || len(graph.Signature.Inputs) == 0 {
		return nil, nil, fmt.Errorf("%w: it has no inputs or no tensor outputs", models.ErrRejected)
	}
	return graph, selected, nil
}

func infoNames(infos []models.TensorInfo) []string {
	out := make([]string, len(infos))
	for i, info := range infos {
		out[i] = info.Name
	}
	return out
}

// sessionOptions: one thread a run, since batches run in parallel; no spinning,
// which would take the core from them; no memory patterns, which the runtime
// keeps for every number of rows it ever saw.
func sessionOptions() (*ort.SessionOptions, error) {
	o, err := ort.NewSessionOptions()
	if err != nil {
		return nil, err
	}
	err = errors.Join(
		o.SetIntraOpNumThreads(1),
		o.SetInterOpNumThreads(1),
		o.SetMemPattern(false),
		o.AddSessionConfigEntry("session.intra_op.allow_spinning", "0"),
		o.AddSessionConfigEntry("session.inter_op.allow_spinning", "0"),
	)
	if err != nil {
		o.Destroy()
		return nil, err
	}
	return o, nil
}

// runtimeText takes the wrapper's and the runtime's preambles off an error.
func runtimeText(err error) string {
	text := err.Error()
	for _, lead := range []string{"Error creating C session: ", "Error running network: "} {
		text = strings.TrimPrefix(text, lead)
	}
	if len(text) > 1000 {
		text = text[:1000] + "…"
	}
	return text
}

func (s *session) Signature() models.Signature { return s.sig }

func (s *session) Usage() models.Usage {
	s.usageMu.Lock()
	defer s.usageMu.Unlock()
	return s.usage
}

func (s *session) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return s.ort.Destroy()
}

func (s *session) Run(ctx context.Context, inputs []models.Tensor) ([]models.Tensor, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, models.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := checkInputs(s.sig, inputs); err != nil {
		return nil, err
	}
	var pin runtime.Pinner // the runtime keeps pointers into the tensors while it runs
	defer pin.Unpin()
	values := make([]ort.Value, 0, len(inputs))
	outputs := make([]ort.Value, len(s.outputs))
	defer func() {
		for _, v := range append(values, outputs...) {
			if v != nil {
				v.Destroy()
			}
		}
	}()
	for _, t := range inputs {
		v, err := toValue(t, &pin)
		if err != nil {
			return nil, fmt.Errorf("%w: %s", models.ErrRejected, runtimeText(err))
		}
		values = append(values, v)
	}
	began := time.Now()
	if err := s.run(ctx, values, outputs); err != nil {
		return nil, err
	}
	took := time.Since(began)
	out := make([]models.Tensor, len(outputs))
	for i, v := range outputs {
		var err error
		if out[i], err = fromValue(v); err != nil {
			return nil, fmt.Errorf("%w: output %s: %s", models.ErrRejected, s.outputs[i].Name, runtimeText(err))
		}
	}
	s.usageMu.Lock()
	s.usage.Time = took
	s.usageMu.Unlock()
	return out, nil
}

// run lets a cancelled context stop the graph between two of its nodes.
func (s *session) run(ctx context.Context, inputs, outputs []ort.Value) error {
	var options *ort.RunOptions
	if ctx.Done() != nil {
		var err error
		if options, err = ort.NewRunOptions(); err != nil {
			return fmt.Errorf("%w: run options: %w", models.ErrRuntime, err)
		}
		defer options.Destroy()
		terminated := make(chan struct{})
		stop := context.AfterFunc(ctx, func() {
			options.Terminate()
			close(terminated)
		})
		defer func() {
			if !stop() {
				<-terminated // it must not touch the options once they are gone
			}
		}()
	}
	err := s.ort.RunWithOptions(inputs, outputs, options)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return fmt.Errorf("%w: %s", models.ErrRejected, runtimeText(err))
}

// checkInputs keeps what would be undefined behaviour out of the library.
func checkInputs(sig models.Signature, inputs []models.Tensor) error {
	if len(inputs) != len(sig.Inputs) {
		return fmt.Errorf("%w: %d input tensors given, it takes %d", models.ErrRejected, len(inputs), len(sig.Inputs))
	}
	for i, t := range inputs {
		n, ok := models.Elements(t.Shape)
		if t.Type == models.String {
			ok = ok && len(t.Strings) == n
		} else {
			ok = ok && len(t.Data) == n*t.Type.Size()
		}
		if t.Type != sig.Inputs[i].Type || !ok || n == 0 {
			return fmt.Errorf("%w: input %s given as %s%v", models.ErrRejected, sig.Inputs[i], t.Type, t.Shape)
		}
	}
	return nil
}

func toValue(t models.Tensor, pin *runtime.Pinner) (ort.Value, error) {
	shape := ort.Shape(t.Shape)
	if t.Type == models.String {
		v, err := ort.NewStringTensor(shape)
		if err != nil {
			return nil, err
		}
		if err := v.SetContents(t.Strings); err != nil {
			v.Destroy()
			return nil, err
		}
		return v, nil
	}
	pin.Pin(&t.Data[0])
	switch t.Type {
	case models.Float32:
		return ort.NewTensor(shape, models.Values[float32](t))
	case models.Float64:
		return ort.NewTensor(shape, models.Values[float64](t))
	case models.Int32:
		return ort.NewTensor(shape, models.Values[int32](t))
	case models.Int64:
		return ort.NewTensor(shape, models.Values[int64](t))
	default:
		return ort.NewTensor(shape, unsafe.Slice((*bool)(unsafe.Pointer(&t.Data[0])), len(t.Data)))
	}
}

func fromValue(v ort.Value) (models.Tensor, error) {
	switch v := v.(type) {
	case *ort.Tensor[float32]:
		return fromSlice(models.Float32, v.GetShape(), v.GetData()), nil
	case *ort.Tensor[float64]:
		return fromSlice(models.Float64, v.GetShape(), v.GetData()), nil
	case *ort.Tensor[int32]:
		return fromSlice(models.Int32, v.GetShape(), v.GetData()), nil
	case *ort.Tensor[int64]:
		return fromSlice(models.Int64, v.GetShape(), v.GetData()), nil
	case *ort.Tensor[bool]:
		return fromSlice(models.Bool, v.GetShape(), v.GetData()), nil
	case *ort.StringTensor:
		s, err := v.GetContents()
		return models.Tensor{Type: models.String, Shape: v.GetShape(), Strings: s}, err
	}
	return models.Tensor{}, fmt.Errorf("is not a tensor of a type that columns have")
}

// fromSlice sees elements as the bytes of a tensor. The wrapper copied them out
// of the runtime into Go memory, which outlives its Value.
func fromSlice[T any](typ models.Type, shape ort.Shape, data []T) models.Tensor {
	t := models.Tensor{Type: typ, Shape: shape, Data: []byte{}}
	if len(data) > 0 {
		t.Data = unsafe.Slice((*byte)(unsafe.Pointer(&data[0])), len(data)*int(unsafe.Sizeof(data[0])))
	}
	return t
}
