package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/objstore"
)

// upkeep is what maintenance did.
type upkeep struct {
	rounds, compactions, compacted, cleaned, vacuumed, conflicts int64
}

// keeper maintains the table, as another process would: with a Table of its own, a step
// after the other, and at most a quarter of a processor for itself.
type keeper struct {
	store objstore.Store
	rest  sync.Mutex // held by who wants it to rest

	mu  sync.Mutex
	did upkeep // guarded by mu
	err error  // guarded by mu
}

func newKeeper(s objstore.Store) *keeper { return &keeper{store: s} }

const (
	keeperPeriod = time.Second
	orphansEvery = 10 // rounds
)

func (k *keeper) run(ctx context.Context) {
	tick := time.NewTicker(keeperPeriod)
	defer tick.Stop()
	for round := int64(1); ; round++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		k.rest.Lock()
		err := k.round(ctx, round)
		k.rest.Unlock()
		if err != nil && ctx.Err() == nil {
			k.mu.Lock()
			k.err = err
			k.mu.Unlock()
			return
		}
	}
}

// round does all there is to do, once.
func (k *keeper) round(ctx context.Context, n int64) error {
	tbl, err := lakehouse.Open(ctx, k.store, growing)
	if err != nil {
		return err
	}
	o := lakehouse.MaintainOptions{Hold: lakehouse.NoHold, Pace: pace}
	compacted, err := tbl.Compact(ctx, lakehouse.CompactOptions{MaintainOptions: o, ClusterBy: []string{"ts"}, MinAge: time.Second})
	var conflict *lakehouse.ConflictError
	if err != nil && !errors.As(err, &conflict) {
		return err
	}
	cleaned, err := tbl.CleanLog(ctx, o)
	if err != nil {
		return err
	}
	vacuumed, err := tbl.Vacuum(ctx, lakehouse.VacuumOptions{MaintainOptions: o, Orphans: n%orphansEvery == 0})
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.did.rounds++
	k.did.compactions += int64(compacted.Groups)
	k.did.compacted += int64(compacted.FilesIn)
	k.did.conflicts += int64(compacted.Conflicts)
	k.did.cleaned += int64(cleaned.Commits)
	k.did.vacuumed += int64(vacuumed.Expired + vacuumed.Orphans)
	return tbl.Close(ctx)
}

// pace lets the writer go first.
func pace(ctx context.Context, worked time.Duration) error {
	return until(ctx, time.Now().Add(3*worked))
}

func (k *keeper) sum() upkeep {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.did
}

func (k *keeper) failed() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.err
}
