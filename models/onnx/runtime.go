package onnx

import (
	"context"
	"log/slog"

	"github.com/tidemill/tidemill/models"
)

// Runtime opens models, in child processes unless told otherwise. Its zero
// value is ready for use by a program that calls [WorkerMain] for the argument
// "onnx-worker".
type Runtime struct {
	Command []string // the child's program and arguments; nil: this program with "onnx-worker"
	Logger  *slog.Logger
}

var _ models.Runtime = Runtime{}

// Open implements models.Runtime.
func (r Runtime) Open(ctx context.Context, data []byte, o models.OpenOptions) (models.Session, error) {
	if o.InProcess {
		return OpenInProcess(data, o.Outputs)
	}
	return OpenIsolated(ctx, data, IsolatedOptions{OpenOptions: o, Command: r.Command, Logger: r.Logger})
}
