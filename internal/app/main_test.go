package app

import (
	"os"
	"testing"

	"github.com/tidemill/tidemill/models/onnx"
)

// The test binary is the models' child process too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == onnx.WorkerArgument {
		os.Exit(onnx.WorkerMain(os.Stdin, os.Stdout))
	}
	os.Exit(m.Run())
}
