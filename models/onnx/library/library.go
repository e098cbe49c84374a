// Package library forwards to internal/ortlib, where it went so that the
// fetcher can use it too. Import that one.
package library

import "github.com/tidemill/tidemill/internal/ortlib"

// Find is [ortlib.Find].
func Find() (string, error) { return ortlib.Find() }
