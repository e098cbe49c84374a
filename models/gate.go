package models

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/internal/problem"
)

// The gate's checks, in the order they are made.
const (
	CheckFormat        = "format"         // it is an ONNX model
	CheckSelfContained = "self_contained" // no values in other files
	CheckSignature     = "signature"      // it fits the contracts that name it
	CheckLoad          = "load"           // the runtime knows its operators and opset
	CheckGolden        = "golden"         // it answers its samples as it should
	CheckLatency       = "latency"        // it is fast enough
	CheckMemory        = "memory"         // it is small enough
)

// GateResult is what one check found.
type GateResult struct {
	Check  string `json:"check"`
	Passed bool   `json:"passed"`
	Detail string `json:"detail,omitempty"` // why it failed, or what was measured
}

// GateError: a model did not pass. Results are the checks that failed.
type GateError struct{ Results []GateResult }

func (e *GateError) Error() string {
	var b strings.Builder
	b.WriteString("the model did not pass the gate")
	for _, r := range e.Results {
		fmt.Fprintf(&b, "\n%s: %s", r.Check, r.Detail)
	}
	return b.String()
}

// Failed is a [GateError] with the checks that failed, or nil.
func Failed(results []GateResult) error {
	var e GateError
	for _, r := range results {
		if !r.Passed {
			e.Results = append(e.Results, r)
		}
	}
	if e.Results == nil {
		return nil
	}
	return &e
}

// Budgets of a model, unless its spec says otherwise.
const (
	DefaultMaxLatency = 250 * time.Millisecond // for 1,000 rows
	DefaultMaxMemory  = 512 << 20              // bytes
)

// GateSpec says what a model must meet.
type GateSpec struct {
	Tables     []GateTable   // that the model will score; may be empty
	Golden     []byte        // a [Golden] file; nil: no samples
	MaxLatency time.Duration // of computing 1,000 rows on one core
	MaxMemory  int64         // bytes, on top of the runtime
	Timeout    time.Duration // of each call; 0: the runtime's default
}

// GateTable is one contract that names the model.
type GateTable struct {
	Score  *contract.Score
	Schema *arrow.Schema // the table's columns and features; nil: types are not checked
	Scored *arrow.Schema // of the scored table, if it exists
	// Problem puts file and line to a field: [contract.Table.Problem].
	Problem func(field, format string, args ...any) problem.Problem
}

// Gate examines models before they are registered.
type Gate struct{ Runtime Runtime }

// Check examines a model, in a child process of its own. The error is for what
// is not the model's fault: no runtime, a cancelled context.
func (g Gate) Check(ctx context.Context, data []byte, spec GateSpec) ([]GateResult, error) {
	if spec.MaxLatency <= 0 {
		spec.MaxLatency = DefaultMaxLatency
	}
	if spec.MaxMemory <= 0 {
		spec.MaxMemory = DefaultMaxMemory
	}
	var r report
	graph, err := Inspect(data)
	if err != nil {
		r.fail(CheckFormat, "%s", err)
		return r, nil
	}
	r.pass(CheckFormat, "%s", describeGraph(graph))
	if n := len(graph.External); n > 0 {
		r.fail(CheckSelfContained, "the values of %d tensors (%s, …) are in files beside the model, which a registered model cannot have; save it in one file: onnx.save(onnx.load(path), path)", n, graph.External[0])
	} else {
		r.pass(CheckSelfContained, "")
	}
	outputs := r.signature(graph.Signature, spec.Tables)
	if len(graph.External) > 0 {
		return r, nil
	}
	session, err := g.Runtime.Open(ctx, data, OpenOptions{Outputs: outputs, Timeout: spec.Timeout, MaxMemory: spec.MaxMemory, Measure: true})
	switch {
	case modelFault(err):
		r.fail(CheckLoad, "%s", err)
		return r, nil
	case err != nil:
		return r, fmt.Errorf("check model: %w", err)
	}
	defer session.Close()
	r.pass(CheckLoad, "")
	return r, r.run(ctx, session, outputs, spec)
}

func modelFault(err error) bool {
	return errors.Is(err, ErrRejected) || errors.Is(err, ErrCrashed) || errors.Is(err, ErrNotONNX)
}

func describeGraph(g *Graph) string {
	domains := slices.Sorted(maps.Keys(g.Opsets))
	for i, d := range domains {
		v := g.Opsets[d]
		if d == "" {
			d = "ai.onnx"
		}
		domains[i] = fmt.Sprintf("%s %d", d, v)
	}
	text := fmt.Sprintf("IR version %d, opsets %s", g.IRVersion, strings.Join(domains, ", "))
	if g.Producer != "" {
		text += ", made by " + g.Producer
	}
	return text
}

// report collects results.
type report []GateResult

func (r *report) pass(check, format string, args ...any) {
	*r = append(*r, GateResult{check, true, fmt.Sprintf(format, args...)})
}

func (r *report) fail(check, format string, args ...any) {
	*r = append(*r, GateResult{check, false, fmt.Sprintf(format, args...)})
}

// signature checks a model against contracts. It returns the outputs to compute:
// what the contracts take, or nil for all.
func (r *report) signature(sig Signature, tables []GateTable) (outputs []string) {
	var found problem.List
	for _, t := range tables {
		is, tensors := t.check(sig)
		found.Add(t.problems(is)...)
		for _, o := range tensors {
			if !slices.Contains(outputs, o) {
				outputs = append(outputs, o)
			}
		}
	}
	if err := found.Err(); err != nil {
		r.fail(CheckSignature, "%s", err)
		return nil
	}
	r.pass(CheckSignature, "takes %s; gives %s", names(sig.Inputs), names(sig.Outputs))
	return outputs
}

func (t GateTable) check(sig Signature) (is issues, tensors []string) {
	feeds, is := bindInputs(sig, t.Score.Inputs)
	if t.Schema != nil && is == nil {
		_, is = checkColumns(feeds, t.Schema)
	}
	_, tensors, more := bindOutputs(sig, t.Score.Outputs, t.Scored)
	return append(is, more...), tensors
}

// Problems are what keeps a model of some signature from scoring the table; nil
// when nothing does. It is what [Gate.Check] finds without the model's bytes.
func (t GateTable) Problems(sig Signature) problem.List {
	is, _ := t.check(sig)
	return t.problems(is)
}

func (t GateTable) problems(is issues) (ps problem.List) {
	for _, i := range is {
		if t.Problem == nil {
			ps.Add(problem.Problem{Field: i.field, Message: i.text})
		} else {
			ps.Add(t.Problem(i.field, "%s", i.text))
		}
	}
	return ps
}

// probeRows is how many rows the budgets are measured with.
const probeRows = 1000

// run makes the checks that need answers.
func (r *report) run(ctx context.Context, session Session, outputs []string, spec GateSpec) error {
	sig := session.Signature()
	var probe []Tensor
	if spec.Golden != nil {
		golden, err := ParseGolden(spec.Golden, sig)
		if err != nil {
			r.fail(CheckGolden, "%s", err)
			return nil
		}
		if ok, err := r.golden(ctx, session, outputs, golden); !ok {
			return err
		}
		probe = golden.repeat(probeRows)
	}
	if probe == nil {
		probe = madeUp(sig, spec.Tables, probeRows)
	}
	var times []time.Duration
	for range 5 {
		_, err := session.Run(ctx, probe)
		switch {
		case errors.Is(err, ErrRejected) && spec.Golden == nil:
			// Zeros may be no valid category or index. Without samples nothing can be said.
			r.pass(CheckLatency, "not measured: the model refuses made-up rows (%s); add golden samples", err)
			return nil
		case modelFault(err):
			r.fail(CheckLatency, "%d rows: %s", probeRows, err)
			return nil
		case err != nil:
			return fmt.Errorf("check model: %w", err)
		}
		times = append(times, session.Usage().Time)
	}
	slices.Sort(times)
	r.budget(CheckLatency, times[len(times)/2] <= spec.MaxLatency, "%s for %d rows; the budget is %s",
		times[len(times)/2].Round(time.Microsecond), probeRows, spec.MaxLatency)
	if u := session.Usage(); u.PeakBytes > 0 {
		used := max(0, u.PeakBytes-u.BaseBytes)
		r.budget(CheckMemory, used <= spec.MaxMemory, "%.1f MiB at its peak; the budget is %d MiB", float64(used)/(1<<20), spec.MaxMemory>>20)
	}
	return nil
}

func (r *report) budget(check string, ok bool, format string, args ...any) {
	if ok {
		r.pass(check, format, args...)
	} else {
		r.fail(check, format, args...)
	}
}

func (r *report) golden(ctx context.Context, session Session, outputs []string, g *Golden) (bool, error) {
	if outputs == nil {
		outputs = tensorOutputs(session.Signature())
	}
	answers, err := session.Run(ctx, g.Inputs)
	switch {
	case modelFault(err):
		r.fail(CheckGolden, "%s", err)
		return false, nil
	case err != nil:
		return false, fmt.Errorf("check model: %w", err)
	}
	compared, diffs := g.compare(outputs, answers)
	switch {
	case diffs != nil:
		r.fail(CheckGolden, "%s", strings.Join(diffs, "; "))
	case compared == 0:
		r.fail(CheckGolden, "the samples have none of the outputs that the contracts take (%s)", strings.Join(outputs, ", "))
	default:
		r.pass(CheckGolden, "%d values within %g", compared, g.Tolerance)
		return true, nil
	}
	return false, nil
}

// tensorOutputs are the outputs that a session gives when none are asked for.
func tensorOutputs(sig Signature) (out []string) {
	for _, o := range sig.Outputs {
		if o.Kind == "" && o.Type.supported() {
			out = append(out, o.Name)
		}
	}
	return out
}

// madeUp is rows of zeros and empty strings for a model's inputs.
func madeUp(sig Signature, tables []GateTable, rows int) []Tensor {
	out := make([]Tensor, len(sig.Inputs))
	for i, info := range sig.Inputs {
		shape := slices.Clone(info.Shape)
		if shape == nil {
			shape = []int64{-1, -1}
		}
		for d := range shape {
			switch {
			case d == 0:
				shape[d] = int64(rows)
			case shape[d] < 0 && len(tables) > 0:
				shape[d] = int64(max(1, len(tables[0].Score.Inputs)))
			case shape[d] < 0:
				shape[d] = 1
			}
		}
		out[i] = NewTensor(info.Type, shape...)
	}
	return out
}
