package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"
)

// ErrUnavailable: something outside the project is not to be had: a port is in
// use, a store or a Temporal cluster does not answer. The error that wraps it
// says which and what to do.
var ErrUnavailable = errors.New("not available")

// unavailableError makes an error ErrUnavailable without changing its text.
type unavailableError struct{ error }

func (e unavailableError) Unwrap() []error { return []error{e.error, ErrUnavailable} }

// reach tries until it succeeds or the time is up, and says in the log that it
// waits and for what.
func reach(ctx context.Context, wait time.Duration, log *slog.Logger, what string, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, max(wait, time.Second))
	defer cancel()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	var last error
	for n := 0; ; n++ {
		tctx, done := context.WithTimeout(ctx, 5*time.Second)
		err := try(tctx)
		done()
		if err == nil {
			return nil
		}
		// That the time is up says less than what went wrong before.
		if last == nil || ctx.Err() == nil {
			last = err
		}
		if _, ok := errors.AsType[permanentError](err); ok {
			return fmt.Errorf("%s: %w", what, err)
		}
		if n%10 == 1 {
			log.Warn("waiting", "for", what, "error", err)
		}
		select {
		case <-ctx.Done():
			return unavailableError{fmt.Errorf("%s cannot be reached: %w; check the address in tidemill.yaml and that it is running", what, last)}
		case <-tick.C:
		}
	}
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// permanentError ends reach at once: waiting does not mend it.
type permanentError struct{ error }

func (e permanentError) Unwrap() error { return e.error }
