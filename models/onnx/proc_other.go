//go:build !linux

package onnx

import (
	"os"
	"syscall"
)

// Elsewhere than on Linux a child ends with its stdin only, and nothing but the
// deadline bounds what a model takes.

func childAttributes() *syscall.SysProcAttr      { return nil }
func claimOutput(out *os.File) (*os.File, error) { return out, nil }
func limitProcess()                              {}
func limitMemory(int64) error                    { return nil }
func peakMemory() int64                          { return 0 }
