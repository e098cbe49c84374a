package app

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"reflect"
	"syscall"
	"time"

	"github.com/tidemill/tidemill/connectors"
	"github.com/tidemill/tidemill/internal/edits"
	"github.com/tidemill/tidemill/internal/problem"
	"github.com/tidemill/tidemill/internal/project"
	"github.com/tidemill/tidemill/internal/secret"
)

// refusal is an edit that was not taken in.
type refusal struct {
	at  time.Time
	err error
}

// How soon an edit is tried again: one that met something other than problems of its own
// (a store that is away, say), and one that was refused for what may change without it (a
// model that is registered meanwhile), less and less often.
const (
	retryEdit       = 2 * time.Second
	retryRefused    = 2 * time.Second
	maxRetryRefused = time.Minute
)

// errHungUp: the terminal that the process was started in is gone. A hangup is how
// daemons are told to look at their files, and how terminals end what runs in them.
var errHungUp = errors.New("the terminal is gone")

func hasTerminal() bool {
	f, err := os.Open("/dev/tty")
	if err == nil {
		_ = f.Close()
	}
	return err == nil
}

// follow takes in edits of the project's files, seen as they were when the process
// loaded them, until ctx ends or the process stops. SIGHUP has them looked at at once.
func (p *process) follow(ctx context.Context, seen edits.Files) {
	ctx, p.unwatch = context.WithCancel(ctx)
	p.terminal = hasTerminal()
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	p.edits.Go(func() {
		defer signal.Stop(hangup)
		tick := time.NewTicker(edits.Every)
		defer tick.Stop()
		edits.Follow(ctx, p.project.Dir(), seen, tick.C, hangup, p.reload)
	})
}

// reload takes in the project's files as they are now, or refuses them, and says which.
// It reports whether the edit is dealt with, which it is not until it runs, or has been
// undone; with the store away, say, it is not.
func (p *process) reload(ctx context.Context, why edits.Cause) (done bool) {
	switch {
	case why == edits.Again && time.Now().Before(p.retryAt):
		return false
	case why == edits.Edited:
		p.retryIn = 0
	case why == edits.Forced:
		if p.terminal && !hasTerminal() {
			p.fleet.fatal <- errHungUp
			return true
		}
		secret.Forget()
	}
	next, err := p.prepare(ctx)
	undone := err == nil
	if err == nil {
		err = p.apply(ctx, next, why == edits.Forced)
	}
	switch {
	case err == nil:
		p.refused.Store(nil)
		return true
	case ctx.Err() != nil:
		return true
	}
	var broken errBroken
	if errors.As(err, &broken) {
		p.fleet.fatal <- broken
		return true
	}
	err = secret.ScrubError(err)
	ps := problem.Of(err)
	if ps == nil {
		p.retryIn = retryEdit
	} else {
		p.retryIn = min(max(2*p.retryIn, retryRefused), maxRetryRefused)
	}
	p.retryAt = time.Now().Add(p.retryIn)
	done = ps != nil && undone // connectors were stopped for it, and started again
	if last := p.refused.Load(); why == edits.Again && last != nil && last.err.Error() == err.Error() {
		return done // it was said
	}
	p.refused.Store(&refusal{time.Now(), err})
	p.metrics.reloads.WithLabelValues("refused").Inc()
	for _, q := range ps {
		p.log.Error("edit refused", "generation", p.gen.Load().number, "problem", q.Error())
	}
	if ps == nil {
		p.log.Error("edit not taken in yet; it is tried again", "generation", p.gen.Load().number, "error", err)
	}
	return done
}

// prepare checks the project's files as a whole, against each other and against the
// tables and models that there are.
func (p *process) prepare(ctx context.Context) (*generation, error) {
	dir := p.project.Dir()
	if err := Lint(ctx, dir); err != nil {
		return nil, err
	}
	prj, err := project.Load(dir)
	if err != nil {
		return nil, err
	}
	from := p.gen.Load()
	next := &generation{number: from.number + 1, project: prj, waits: needRestart(p.project, prj), registered: make(chan struct{})}
	for _, path := range prj.Connectors() {
		c, err := connectors.ReadConfig(path)
		if err != nil {
			return nil, err
		}
		if ps := c.Resolve(); ps != nil {
			return nil, ps
		}
		next.configs = append(next.configs, c)
	}
	if p.acts != nil {
		if next.models, err = p.unregistered(ctx, prj.Models()); err != nil {
			return nil, err
		}
		if len(next.models) > 0 { // they will be registered by a workflow
			if err := reachTemporal(ctx, p.temporal, p.ends.Temporal, 0, p.log); err != nil {
				return nil, err
			}
		}
	}
	return next, p.checkChanges(ctx, next, from.stepTo(next).tables)
}

// apply makes the process run a generation that was found good.
func (p *process) apply(ctx context.Context, next *generation, forced bool) error {
	from := p.gen.Load()
	if from.stepTo(next).empty() && !forced && reflect.DeepEqual(from.waits, next.waits) && from.project.Maintenance() == next.project.Maintenance() {
		next.number = from.number // comments, or an edit that was taken back
	}
	next.since = time.Now()
	s, err := p.become(ctx, next)
	if err != nil {
		return err
	}
	if from.project.Maintenance().Every != next.project.Maintenance().Every && p.acts != nil {
		if err := p.schedules(next.project).set(ctx, contractNames(next.project.Contracts())); err != nil {
			p.log.Warn("schedules of maintenance", "error", err)
		}
	}
	p.metrics.generation.Set(float64(next.number))
	p.metrics.reloads.WithLabelValues("done").Inc()
	p.log.Info("reloaded", "generation", next.number, "connectors_stopped", s.stop, "connectors_started", s.start, "contracts_changed", s.tables)
	if len(next.waits) > 0 {
		p.log.Warn("some of tidemill.yaml is taken in only by a process that starts anew", "fields", next.waits)
	}
	return nil
}

// needRestart lists the fields of tidemill.yaml that a running process does not follow.
func needRestart(have, want *project.Project) (fields []string) {
	store := func(p *project.Project) any { s, ok := p.Store(); return []any{s, ok, p.StorePrefix()} }
	for _, f := range []struct {
		name       string
		have, want any
	}{
		{"project", have.Name(), want.Name()},
		{"store", store(have), store(want)},
		{"temporal", have.Temporal(), want.Temporal()},
		{"http", have.HTTP(), want.HTTP()},
		{"dev", have.Dev(), want.Dev()},
		{"cache", have.Cache(), want.Cache()},
		{"maintenance.memory", have.Maintenance().Memory, want.Maintenance().Memory},
		{"maintenance.orphans_every", have.Maintenance().OrphansEvery, want.Maintenance().OrphansEvery},
	} {
		if !reflect.DeepEqual(f.have, f.want) {
			fields = append(fields, f.name)
		}
	}
	return fields
}
