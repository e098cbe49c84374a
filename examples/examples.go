// Package examples holds the runnable project directories that `tidemill demo`
// unpacks. Each also runs by itself: `tidemill dev examples/fraud`.
package examples

import "embed"

// FS holds the projects, one directory each.
//
//go:embed fraud/tidemill.yaml fraud/connectors fraud/tables fraud/models/*.onnx
//go:embed host/tidemill.yaml host/connectors host/tables host/models/*.onnx
var FS embed.FS

// Demo are the directories of FS that `tidemill demo` runs.
var Demo = []string{"fraud", "host"}
