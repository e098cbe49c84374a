package models

import (
	"context"
	"time"
)

// Runtime opens models. Implementations are safe for concurrent use.
type Runtime interface {
	// Open loads a model. ErrRejected: the runtime refuses it; ErrCrashed: loading
	// it killed the process; ErrRuntime: there is nothing to run it with.
	Open(ctx context.Context, data []byte, o OpenOptions) (Session, error)
}

// OpenOptions say how a model runs. The zero value is a child process with the
// runtime's default limits.
type OpenOptions struct {
	InProcess bool          // run in this process: for models that the operator trusts
	Outputs   []string      // outputs to compute, in this order; nil: all tensors in the graph's order
	Processes int           // child processes at most, one Run each at a time; 0: 1
	Timeout   time.Duration // of one Run, and of loading, in a child; 0: the runtime's default
	MaxMemory int64         // bytes that the model may take in a child on top of the runtime; 0: the runtime's default
	Measure   bool          // fill in the bytes of Usage; costs some 50 µs a Run
}

// Session is a loaded model. Its methods are safe for concurrent use.
type Session interface {
	// Signature is the whole model's, whichever outputs were asked for.
	Signature() Signature
	// Run takes one tensor for each input in the signature's order and gives one
	// for each output asked for. Inputs belong to the caller again when it
	// returns; outputs are the caller's for good.
	//
	//	ErrRejected  the model refuses these inputs
	//	ErrCrashed   its process died; the next Run gets a new one
	//	ErrClosed    Close was called
	Run(ctx context.Context, inputs []Tensor) ([]Tensor, error)
	// Usage is what the last Run took.
	Usage() Usage
	// Close ends it, and its processes, after the Runs under way. It is idempotent.
	Close() error
}

// Usage is what a Run took where the model ran.
type Usage struct {
	Time      time.Duration // computing, without getting the tensors there and back
	PeakBytes int64         // most memory its process ever held; 0 if not measured (in-process, or not Linux)
	BaseBytes int64         // what that process held before it loaded the model
}
