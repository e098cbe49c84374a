package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"github.com/tidemill/tidemill/activities"
	"github.com/tidemill/tidemill/connectors"
	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/internal/problem"
	"github.com/tidemill/tidemill/internal/project"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/models"
	"github.com/tidemill/tidemill/models/onnx"
	"github.com/tidemill/tidemill/query"
	"github.com/tidemill/tidemill/workflows"
)

// endpoints say where a project's store and cluster are.
type endpoints struct {
	Store    StoreConfig
	Temporal Cluster
}

// process is one project at work in this process: its connectors, its worker,
// or both. Several may share a process.
type process struct {
	project *project.Project
	ends    endpoints
	log     *slog.Logger
	metrics *metrics

	store    objstore.Store
	closers  []func() error
	tables   *tables
	registry *models.Registry
	engine   *query.Engine
	acts     *activities.Activities
	temporal client.Client
	worker   worker.Worker
	notify   *notifier
	conns    *connectors.Engine
	fleet    *fleet
	connect  bool // this process runs connectors
	sinks    *sinkRunners

	bucketsMu sync.Mutex
	buckets   []func() // guarded by bucketsMu: that connectors read; to be closed

	gen      atomic.Pointer[generation]
	refused  atomic.Pointer[refusal] // the last edit that was refused, nil when a later one was not
	edits    sync.WaitGroup          // follow
	unwatch  context.CancelFunc
	terminal bool // it was started in one

	// Follow's own: when an edit that is not dealt with is tried again, and how long it waits.
	retryAt time.Time
	retryIn time.Duration

	lives    lives
	landings landings
}

type processOptions struct {
	project         *project.Project
	ends            endpoints
	connect, worker bool
	wait            time.Duration
	log             *slog.Logger
	registry        prometheus.Registerer
	mux             *connectors.Mux
	board           *board // may be nil
	grace           time.Duration
}

// startProcess checks the project, reaches the store and the cluster, and
// starts what the roles ask for. On an error nothing is left running.
func startProcess(ctx context.Context, o processOptions) (started *process, err error) {
	p := &process{
		project: o.project, ends: o.ends, log: o.log.With("project", o.project.Name()),
		metrics: newMetrics(o.registry, o.project.Name()), connect: o.connect,
	}
	p.fleet = newFleet(o.grace, p.log)
	defer func() {
		if err != nil {
			logStop(p.log, p.stop(context.WithoutCancel(ctx)))
		}
	}()
	engine, configs, err := lintProject(o.project, nil, p, o.mux, p.log)
	if err != nil {
		return nil, err
	}
	first := &generation{number: 1, since: time.Now(), project: o.project, configs: configs}
	p.conns = engine
	p.gen.Store(first)
	if err := p.connectStore(ctx, o.wait); err != nil {
		return nil, err
	}
	if p.temporal, err = dialTemporal(o.ends.Temporal, p.log); err != nil {
		return nil, err
	}
	if err := reachTemporal(ctx, p.temporal, o.ends.Temporal, o.wait, p.log); err != nil {
		return nil, err
	}
	queue := o.project.Temporal().TaskQueue
	p.notify = newNotifier(func(ctx context.Context, table string) error {
		return wake(ctx, p.temporal, queue, o.project.Name(), table)
	}, p.log)
	cacheBytes, maintainBytes := int64(0), int64(0)
	if o.worker { // else nobody here would ask for what has landed, or maintain tables
		cacheBytes, maintainBytes = o.project.Cache().Memory, o.project.Maintenance().Memory
	}
	cache := lakehouse.NewRecordCache(cacheBytes)
	sinkCount := 0
	for _, c := range o.project.Contracts() {
		if o.worker {
			sinkCount += len(c.Sinks())
		}
	}
	base := int64(memoryBase)
	if !o.worker {
		base = memoryBaseConnect
	}
	expectMemory(base, memoryNeeds(configs, len(o.project.Contracts()), sinkCount, o.connect, o.worker)+cacheBytes+maintainBytes)
	contracts := map[string]*contract.Table{}
	for _, c := range o.project.Contracts() {
		contracts[c.Name()] = c
	}
	p.tables = &tables{
		store: p.store, contracts: contracts, cache: cache, metrics: p.metrics, live: p.live, notify: p.landed, fault: faultPoint(), log: p.log,
		open: map[string]*lakehouse.Table{}, landings: map[string]*connectors.Landing{}, landed: p.fleet.landed,
	}
	watchTables(o.registry, o.project.Name(), p.tables.opened)
	if o.worker {
		if err := p.startWorker(ctx, queue, cache); err != nil {
			return nil, err
		}
	}
	if o.connect {
		if err := p.checkTables(ctx); err != nil {
			return nil, err
		}
		for _, c := range configs {
			if err := p.fleet.start(p.conns, c); err != nil {
				return nil, err
			}
		}
	}
	p.metrics.generation.Set(1)
	if o.board != nil {
		o.board.add(p)
	}
	return p, nil
}

func (p *process) connectStore(ctx context.Context, wait time.Duration) error {
	s, closeStore, err := openStore(ctx, p.ends.Store, wait, p.log)
	if err != nil {
		return err
	}
	p.closers = append(p.closers, closeStore)
	p.store = s
	p.registry = newRegistry(s)
	return nil
}

// startWorker runs the workflows and activities, registers the models that
// tidemill.yaml names and starts a pipeline per contract.
func (p *process) startWorker(ctx context.Context, queue string, cache *lakehouse.RecordCache) error {
	var err error
	if p.engine, err = query.Open(query.Options{}); err != nil {
		return err
	}
	p.closers = append(p.closers, p.engine.Close)
	p.acts = activities.New(activities.Options{
		Contracts: p.project.Contracts(), Tables: p.tables, Models: p.registry, Runtime: onnx.Runtime{Logger: p.log},
		Engine: p.engine, Cache: cache, Files: &projectFiles{dir: p.project.Dir(), store: p.store}, Replayer: replayer{connectors.NewReplayer(p.tables)},
		Logger: p.log, Observe: p.observeTurn, TurnStarted: p.notify.turnStarted, Fault: faultPoint(),
		Maintained: p.maintained, Busy: p.landings.busy,
		MaintainMemory: p.project.Maintenance().Memory, OrphansEvery: p.project.Maintenance().OrphansEvery,
		HoldScored: p.holdForSinks, AwaitModel: p.awaitModel,
	})
	p.closers = append(p.closers, p.acts.Close)
	if p.sinks, err = p.newSinks(ctx, p.gen.Load()); err != nil {
		return err
	}
	p.sinks.start()
	p.worker = newWorker(p.temporal, queue, p.acts)
	if err := p.worker.Start(); err != nil {
		return fmt.Errorf("start worker: %w", err)
	}
	if err := p.registerModels(ctx, queue, p.project.Models()); err != nil {
		return err
	}
	for _, c := range p.project.Contracts() {
		if err := wake(ctx, p.temporal, queue, p.project.Name(), c.Name()); err != nil {
			return fmt.Errorf("start pipeline of %s: %w", c.Name(), plain(err))
		}
	}
	return p.schedules(p.project).set(ctx, contractNames(p.contracts()))
}

// landed is told of every commit to a landed table.
func (p *process) landed(table string) {
	p.landings.note()
	p.notify.landed(table)
}

func (p *process) live(table string) *live { return p.lives.of(table) }

// contracts are those of the generation that runs.
func (p *process) contracts() []*contract.Table { return p.gen.Load().project.Contracts() }

func (p *process) observeTurn(s activities.Scored) {
	p.metrics.turn(s)
	p.live(s.Table).turn(s)
	p.sinks.wake(s.Table)
}

// maintained is told of every step of maintenance. A commit that moves a landed table's
// rows is nothing to score, but the pipeline's cursor should pass it soon: lag is counted
// in versions.
func (p *process) maintained(s activities.Maintained) {
	p.metrics.upkeep.step(s)
	c := s.Result.Counts
	if _, landed := p.gen.Load().project.Contract(s.Table); landed && c.FilesJoined+c.FilesExpired+c.FilesRewritten > 0 {
		p.notify.landed(s.Table)
	}
}

// registerModels puts the models of tidemill.yaml through the gate where their
// alias does not exist yet.
func (p *process) registerModels(ctx context.Context, queue string, ms []project.Model) error {
	ms, err := p.unregistered(ctx, ms)
	if err != nil {
		return err
	}
	for _, m := range ms {
		p.log.Info("registering model", "model", m.Name, "file", m.File)
		file, err := p.relative(m.File)
		if err != nil {
			return err
		}
		res, err := registerModel(ctx, p.temporal, queue, p.project.Name(), workflows.RegisterModelInput{Name: m.Name, File: file, Alias: m.Alias})
		if err != nil {
			return fmt.Errorf("register model %s: %w", m.Name, err)
		}
		p.log.Info("registered model", "model", m.Name, "version", res.Version, "alias", res.Alias)
	}
	return nil
}

// checkTables refuses contracts that the tables which are there cannot follow,
// before anything is read. What else goes wrong is met again, and retried, by the
// connectors.
func (p *process) checkTables(ctx context.Context) error {
	var ps problem.List
	for _, c := range p.gen.Load().configs {
		if _, err := p.tables.Landing(ctx, c.Table); err != nil {
			ps.Add(problem.Of(err)...)
		}
	}
	return ps.Err()
}

// stop ends the process in the order of the rows' path: no more input, what
// has been taken in is committed and acked, then the worker, then the rest.
func (p *process) stop(ctx context.Context) error {
	if p.unwatch != nil {
		p.unwatch()
	}
	p.edits.Wait()
	p.fleet.haltAll()
	var errs []error
	if p.tables != nil {
		errs = append(errs, p.tables.close(ctx))
	}
	if p.notify != nil {
		p.notify.close()
	}
	if p.worker != nil {
		p.worker.Stop()
	}
	if p.sinks != nil {
		p.sinks.close()
	}
	if p.tables != nil {
		errs = append(errs, p.tables.settle(ctx))
	}
	if p.temporal != nil {
		p.temporal.Close()
	}
	p.closeBuckets()
	for i := len(p.closers) - 1; i >= 0; i-- {
		errs = append(errs, p.closers[i]())
	}
	return errors.Join(errs...)
}

// lag is how many landed versions are not scored yet, over all tables.
func (p *process) lag(ctx context.Context) (int64, error) {
	var lag int64
	for _, c := range p.contracts() {
		landed, err := p.tables.Open(ctx, c.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, err
		}
		l, err := landed.Refresh(ctx)
		if err != nil {
			return 0, err
		}
		cursor := int64(-1)
		scored, err := p.tables.Open(ctx, c.Name()+activities.Suffix)
		switch {
		case err == nil:
			s, err := scored.Refresh(ctx)
			if err != nil {
				return 0, err
			}
			if v, ok := s.Txn(activities.AppID(c.Name())); ok {
				cursor = v
			}
		case !errors.Is(err, fs.ErrNotExist):
			return 0, err
		}
		lag += l.Version() - cursor
	}
	return lag, nil
}
