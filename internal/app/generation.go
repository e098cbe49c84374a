package app

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/tidemill/tidemill/connectors"
	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/internal/problem"
	"github.com/tidemill/tidemill/internal/project"
	"github.com/tidemill/tidemill/lakehouse/quarantine"
	"github.com/tidemill/tidemill/workflows"
)

// generation is the project's files as they run, or ran. It does not change, but that its
// models get registered.
type generation struct {
	number  int64
	since   time.Time
	project *project.Project
	configs []*connectors.Config
	waits   []string // fields of tidemill.yaml that the process takes in only when it starts again

	models     []project.Model // that an edit has brought; they are registered once it runs
	registered chan struct{}   // closed when they are, or are not to be any more
}

// step is what differs between two generations.
type step struct {
	stop, start []string // connectors; one that is restarted is in both
	tables      []string // whose contract is new, changed or gone
	sinks       []string // tables whose sinks are new, changed or gone, or have another contract
}

func (s step) empty() bool { return len(s.stop)+len(s.start)+len(s.tables)+len(s.sinks) == 0 }

// stepTo compares generations. A connector is restarted when its file or its table's
// contract has changed; of contracts the canonical form counts, not comments and layout.
func (g *generation) stepTo(next *generation) (s step) {
	changed, sinks := map[string]bool{}, map[string]bool{}
	for _, pair := range [][2]*generation{{g, next}, {next, g}} {
		for _, c := range pair[0].project.Contracts() {
			other, ok := pair[1].project.Contract(c.Name())
			if !ok || other.Version() != c.Version() {
				changed[c.Name()], sinks[c.Name()] = true, true
			}
			// They are not in the version, since they change no row.
			if ok && !reflect.DeepEqual(other.Sinks(), c.Sinks()) {
				sinks[c.Name()] = true
			}
		}
	}
	s.tables, s.sinks = sortedKeys(changed), sortedKeys(sinks)
	have := map[string]*connectors.Config{}
	for _, c := range g.configs {
		have[c.Name] = c
	}
	for _, c := range next.configs {
		old, ok := have[c.Name]
		delete(have, c.Name)
		if ok && old.Same(c) && !changed[c.Table] {
			continue
		}
		s.start = append(s.start, c.Name)
		if ok {
			s.stop = append(s.stop, c.Name)
		}
	}
	s.stop = append(s.stop, sortedKeys(have)...)
	slices.Sort(s.stop)
	return s
}

// become makes the process run another generation instead of the one it runs: only what
// differs is stopped and started.
//
// The order is that of the rows' path. Connectors stop first, as they do when a process
// ends; what they have taken in is landed and acked. Then hop two changes its contracts
// between two turns, and hop one its landings. Then the new connectors start, and the
// positions in the tables' logs say where they go on. A connector that cannot be made
// undoes all of it. Models are registered last, since that cannot be undone; pipelines
// that need them wait.
func (p *process) become(ctx context.Context, next *generation) (step, error) {
	defer p.fleet.hold()()
	from := p.gen.Load()
	s := from.stepTo(next)
	err := p.move(ctx, from, next, s)
	if err == nil {
		err = p.registerNew(ctx, next)
	} else {
		close(next.registered)
	}
	if err == nil || ctx.Err() != nil {
		return s, err
	}
	p.log.Warn("the edit cannot be run; going back to what ran before")
	if back := p.move(ctx, next, from, next.stepTo(from)); back != nil {
		// What ran before does not any more: somebody has to look.
		return s, fmt.Errorf("%w; and what ran before could not be started again: %w", err, errBroken{back})
	}
	return s, err
}

// errBroken ends the process: it runs neither the new nor the last good generation.
type errBroken struct{ error }

func (e errBroken) Unwrap() error { return e.error }

func (p *process) move(ctx context.Context, from, to *generation, s step) error {
	if p.connect {
		p.fleet.halt(s.stop)
	}
	if p.acts != nil && len(s.tables) > 0 {
		if err := p.acts.SetContracts(to.project.Contracts()); err != nil {
			p.log.Warn("end the models of contracts that have changed", "error", err)
		}
	}
	p.tables.setContracts(ctx, to.project.Contracts(), s.tables)
	p.gen.Store(to)
	if p.acts != nil && len(s.tables) > 0 {
		p.movePipelines(ctx, from, to, s.tables)
	}
	if p.sinks != nil && len(s.sinks) > 0 {
		if err := p.moveSinks(ctx, to, s.sinks); err != nil {
			return err
		}
	}
	if !p.connect {
		return nil
	}
	for _, c := range to.configs {
		if !slices.Contains(s.start, c.Name) {
			continue
		}
		if err := p.fleet.start(p.conns, c); err != nil {
			return err
		}
	}
	for _, name := range s.stop {
		p.conns.Release(name)
	}
	return nil
}

// movePipelines starts the pipelines of new tables, wakes those of changed ones and ends
// those of tables that are gone. What cannot be done now is done by the next commit, or
// does no harm.
func (p *process) movePipelines(ctx context.Context, from, to *generation, tables []string) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for _, t := range tables {
		var err error
		if _, ok := to.project.Contract(t); ok {
			err = p.wakeChanged(ctx, t)
		} else if _, ok := from.project.Contract(t); ok {
			err = p.endPipeline(ctx, t)
		}
		if err != nil {
			p.log.Warn("pipeline", "table", t, "error", plain(err))
		}
	}
	if err := p.schedules(to.project).set(ctx, contractNames(to.project.Contracts())); err != nil {
		p.log.Warn("schedules of maintenance", "error", err)
	}
}

// wakeChanged starts or wakes a pipeline. One that waits after an error, which its new
// contract may have mended, tries again at once.
func (p *process) wakeChanged(ctx context.Context, table string) error {
	if err := wake(ctx, p.temporal, p.project.Temporal().TaskQueue, p.project.Name(), table); err != nil {
		return err
	}
	s, err := pipelineStatus(ctx, p.temporal, p.project.Name(), table)
	if err != nil || s.Doing != "blocked" {
		return err
	}
	_, err = p.temporal.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID: workflows.PipelineID(p.project.Name(), table), UpdateName: workflows.UpdateResume, WaitForStage: client.WorkflowUpdateStageAccepted,
	})
	return err
}

// endPipeline cancels a pipeline and waits for its end, so that a signal which comes
// when its contract is there again starts another. Its cursor is in the log.
func (p *process) endPipeline(ctx context.Context, table string) error {
	id := workflows.PipelineID(p.project.Name(), table)
	if err := p.temporal.CancelWorkflow(ctx, id, ""); err != nil {
		var none *serviceerror.NotFound
		if errors.As(err, &none) {
			return nil
		}
		return err
	}
	if err := p.temporal.GetWorkflow(ctx, id, "").Get(ctx, nil); err != nil && !temporal.IsCanceledError(err) {
		return err
	}
	return nil
}

// schedules are those of the project as it is in a generation.
func (p *process) schedules(now *project.Project) *schedules {
	return &schedules{
		client: p.temporal.ScheduleClient(), queue: p.project.Temporal().TaskQueue, project: p.project.Name(), every: now.Maintenance().Every, log: p.log,
	}
}

func contractNames(cs []*contract.Table) (names []string) {
	for _, c := range cs {
		names = append(names, c.Name())
	}
	slices.Sort(names)
	return names
}

// setContracts changes the contracts that connectors land by. Landings of the changed
// tables are made anew when they are asked for; those that are in use keep the contract
// they have until their connector has stopped.
func (t *tables) setContracts(ctx context.Context, contracts []*contract.Table, changed []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.contracts = map[string]*contract.Table{}
	for _, c := range contracts {
		t.contracts[c.Name()] = c
	}
	for _, name := range changed {
		delete(t.landings, name)
		if b := t.fields[name]; b != nil {
			b.close(ctx)
			delete(t.fields, name)
		}
		if t.contracts[name] != nil {
			continue
		}
		for _, at := range []string{name, name + quarantine.Suffix} {
			if a, ok := t.appenders[at]; ok {
				if err := a.Close(ctx); err != nil {
					t.log.Warn("close the appender of a table that is gone", "table", at, "error", err)
				}
				delete(t.appenders, at)
			}
		}
	}
}

// checkChanges says why the tables and models that there are cannot follow the changed
// contracts of a generation. Nothing is written.
func (p *process) checkChanges(ctx context.Context, next *generation, changed []string) (err error) {
	checks := []func(context.Context, *contract.Table) error{p.checkLanded}
	if p.acts != nil {
		trial, failed := p.rehearsed(ctx, next)
		if failed != nil {
			return failed
		}
		defer func() { err = errors.Join(err, trial.Close()) }()
		checks = append(checks, trial.CheckChange)
	}
	var ps problem.List
	for _, name := range changed {
		c, ok := next.project.Contract(name)
		if !ok {
			continue
		}
		for _, check := range checks {
			if err := check(ctx, c); err != nil {
				if problem.Of(err) == nil {
					return err
				}
				ps.Add(problem.Of(err)...)
			}
		}
	}
	return ps.Err()
}

func (p *process) checkLanded(ctx context.Context, c *contract.Table) error {
	_, err := checkLanded(ctx, p.tables, c)
	return err
}
