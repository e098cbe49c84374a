// Package paging is what inputs share that read a source page by page, each page
// behind the one before, by a cursor that only the source understands.
//
// A [Pager] remembers nothing beyond its run. Whoever reads it keeps the text of
// [Page.State] with the page's rows, in one commit, and hands the last one back to
// [Pager.Resume] after a restart. The package knows neither Benthos nor tables.
package paging

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Page is rows that came next.
type Page struct {
	Rows [][]byte // JSON objects, each on one line; at least one
	// State returns from where to go on behind a row of the page. It must stay short:
	// table logs keep 4 KiB.
	State func(row int) string
}

// Pager reads a source. It is for one goroutine at a time.
type Pager interface {
	// Resume goes to where an earlier run, or an earlier call of Next, has been; "" is the
	// beginning.
	Resume(state string) error
	// Next waits for rows and returns them. An error other than the context's is
	// [Unavailable] or one that no waiting mends.
	Next(ctx context.Context) (Page, error)
	Close() error
}

// Unavailable is an error that may be gone later: the pager is where it was, and
// Next can be called again.
type Unavailable struct {
	Err   error
	After time.Duration // not before; 0: as the caller likes
}

func (u *Unavailable) Error() string { return u.Err.Error() }

// Unwrap gives the reason.
func (u *Unavailable) Unwrap() error { return u.Err }

// Backoff is how long to wait between attempts, doubled from one to the next.
type Backoff struct{ Min, Max time.Duration }

// After returns the wait before attempt n+1, n counted from 0.
func (b Backoff) After(n int) time.Duration {
	d := b.Min
	for range n {
		if d *= 2; d >= b.Max {
			return b.Max
		}
	}
	return d
}

// Check returns what is wrong with the limits.
func (b Backoff) Check() error {
	if b.Min <= 0 || b.Max < b.Min {
		return fmt.Errorf("from %s to %s: both must be more than 0, and the second not less than the first", b.Min, b.Max)
	}
	return nil
}

// NextOf calls Next until there is a page, waiting longer after each failure. tell is called
// with each of them.
func NextOf(ctx context.Context, p Pager, b Backoff, tell func(err error, wait time.Duration)) (Page, error) {
	for n := 0; ; n++ {
		page, err := p.Next(ctx)
		u, again := errors.AsType[*Unavailable](err)
		if err == nil || !again || ctx.Err() != nil {
			return page, err
		}
		wait := max(b.After(n), u.After)
		tell(u.Err, wait)
		if err := Sleep(ctx, wait); err != nil {
			return Page{}, err
		}
	}
}

// Sleep waits, or until ctx ends.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
