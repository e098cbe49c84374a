package objstore

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"time"
)

// RetryPolicy says how often and how patiently Retry tries. Zero fields take the default.
type RetryPolicy struct {
	Attempts int           // in all; default 6
	Base     time.Duration // upper bound of the first pause, doubled each time; default 50 ms
	Max      time.Duration // upper bound of any pause; default 5 s
	// Sleep waits for d or until ctx is done, whose error it returns; tests replace it.
	Sleep func(ctx context.Context, d time.Duration) error
	// Jitter returns a number in [0,1); tests replace it.
	Jitter func() float64
}

func (p RetryPolicy) withDefaults() RetryPolicy {
	if p.Attempts <= 0 {
		p.Attempts = 6
	}
	if p.Base <= 0 {
		p.Base = 50 * time.Millisecond
	}
	if p.Max <= 0 {
		p.Max = 5 * time.Second
	}
	if p.Sleep == nil {
		p.Sleep = sleep
	}
	if p.Jitter == nil {
		p.Jitter = rand.Float64
	}
	return p
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// pause is the wait after failed attempt n (the first is 1): half of an exponentially
// growing bound, plus up to the other half at random, so that clients that failed
// together do not come back together.
func (p RetryPolicy) pause(n int) time.Duration {
	d := p.Max
	if shift := n - 1; shift < 20 {
		d = min(p.Max, p.Base<<shift)
	}
	return d/2 + time.Duration(p.Jitter()*float64(d/2))
}

// Retry repeats Get, Stat, Put, List and Delete of s while their error is Retryable.
// A listing goes on after the last object it gave. PutIfAbsent passes through: its
// caller must read back before it may try again.
func Retry(s Store, p RetryPolicy) Store {
	return &retrying{store: s, policy: p.withDefaults()}
}

type retrying struct {
	store  Store
	policy RetryPolicy
}

// do calls f until it succeeds, fails for good, or the attempts are used up. A
// cancelled wait reports the failure that led to it, with the context's error.
func (r *retrying) do(ctx context.Context, f func() error) error {
	for n := 1; ; n++ {
		err := f()
		if err == nil || ctx.Err() != nil || !Retryable(err) {
			return err
		}
		if n >= r.policy.Attempts {
			return fmt.Errorf("after %d attempts: %w", n, err)
		}
		if serr := r.policy.Sleep(ctx, r.policy.pause(n)); serr != nil {
			return fmt.Errorf("%w, waiting to retry: %w", serr, err)
		}
	}
}

func (r *retrying) Get(ctx context.Context, key string) (data []byte, err error) {
	err = r.do(ctx, func() (e error) { data, e = r.store.Get(ctx, key); return e })
	return data, err
}

func (r *retrying) Stat(ctx context.Context, key string) (o Object, err error) {
	err = r.do(ctx, func() (e error) { o, e = r.store.Stat(ctx, key); return e })
	return o, err
}

func (r *retrying) Put(ctx context.Context, key string, data []byte) error {
	return r.do(ctx, func() error { return r.store.Put(ctx, key, data) })
}

func (r *retrying) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	return r.store.PutIfAbsent(ctx, key, data)
}

func (r *retrying) Delete(ctx context.Context, key string) error {
	return r.do(ctx, func() error { return r.store.Delete(ctx, key) })
}

func (r *retrying) List(ctx context.Context, prefix, startAfter string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		after, stopped := startAfter, false
		for {
			progress := false
			err := r.do(ctx, func() error {
				for o, err := range r.store.List(ctx, prefix, after) {
					if err != nil {
						if progress { // begins a new round of attempts, from where we are
							return nil
						}
						return err
					}
					progress, after = true, o.Key
					if !yield(o, nil) {
						stopped = true
						return nil
					}
				}
				progress = false
				return nil
			})
			if err != nil {
				yield(Object{}, err)
				return
			}
			if stopped || !progress {
				return
			}
		}
	}
}
