package testserver

import (
	"context"
	"testing"
	"time"
)

// Eventually tries until it succeeds, and fails the test when it does not within a time.
func Eventually(tb testing.TB, what string, within time.Duration, try func(context.Context) error) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), within)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var last error // that is not of the deadline
	for {
		err := try(ctx)
		if err == nil {
			return
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			tb.Fatalf("%s: not within %s: %v", what, within, last)
		case <-tick.C:
		}
	}
}
