package app

import (
	"os"

	"golang.org/x/term"

	"github.com/tidemill/tidemill/models/onnx"
)

// terminalWidth is the width of standard output, 0 when it is no terminal.
func terminalWidth() int {
	w, _, err := term.GetSize(int(os.Stdout.Fd()))
	if err != nil {
		return 0
	}
	return w
}

// ModelWorker runs a model's process if that is what the arguments ask for;
// it then does not return before the process is to end. See package models/onnx.
func ModelWorker(args []string) bool {
	if len(args) < 2 || args[1] != "onnx-worker" {
		return false
	}
	os.Exit(onnx.WorkerMain(os.Stdin, os.Stdout))
	return true
}
