// Package project reads a project directory: tidemill.yaml and everything
// that it stands beside.
//
//	tidemill.yaml     where the store, Temporal and the models are (see spec.go)
//	connectors/*.yaml what comes in; read and judged by package connectors
//	tables/*.yaml     table contracts; see package contract
//	models/           model files that tidemill.yaml names
//
// [Load] validates all of it at once and returns an immutable [Project];
// [Init] writes a new one. Nothing here connects to anything, and the values of
// secrets leave the package only as [secret.String].
package project
