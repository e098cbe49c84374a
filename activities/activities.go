package activities

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/internal/hist"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/models"
	"github.com/tidemill/tidemill/query"
)

// Suffix is what a scored table's name adds to its landed table's.
const Suffix = "_scored"

// Tables opens a project's tables by name. The tables it returns are shared
// and not closed here.
type Tables interface {
	// Open returns fs.ErrNotExist while the table has no log.
	Open(ctx context.Context, name string) (*lakehouse.Table, error)
	// Create creates the table or opens it when it is there with that schema.
	Create(ctx context.Context, name string, o lakehouse.CreateOptions) (*lakehouse.Table, error)
}

// Files reads candidates: files of the project directory and uploads.
type Files interface {
	// Read returns fs.ErrNotExist for a file that is not there, and
	// fs.ErrInvalid for what is no file or leads out of the project.
	Read(ctx context.Context, name string) ([]byte, error)
	// Upload keeps data under its SHA-256 and returns the name to read it by.
	Upload(ctx context.Context, data []byte, sha256 string) (name string, err error)
}

// Options of [New]. The fields down to Files are needed.
type Options struct {
	Contracts []*contract.Table
	Tables    Tables
	Models    *models.Registry
	Runtime   models.Runtime
	Engine    *query.Engine
	Cache     *lakehouse.RecordCache
	Files     Files

	Replayer Replayer // nil: Replay is refused

	Logger *slog.Logger
	// Observe is told of every range that was scored. It must not block.
	Observe func(Scored)
	// TurnStarted is called when a turn is about to read the landed log: a
	// signal sent before it need not be sent again, one that comes later must.
	TurnStarted func(table string)
	// Maintained is told of every step of maintenance. It must not block.
	Maintained func(Maintained)
	// Busy says whether rows are coming in that no turn has seen yet; turns are known
	// by themselves. Maintenance gives way to both.
	Busy func() bool
	// Fault is a hook for fault injection: between-hops, after-scored-put,
	// after-quarantine-commit, before-commit-scored, after-commit-scored, maintain-plan, and
	// those of maintenance's steps, see package lakehouse. May be nil.
	Fault     func(point string)
	Now       func() time.Time
	MaxRows   int64            // landed rows of one turn at most; default 200,000
	Allocator memory.Allocator // of what a turn makes; default memory.DefaultAllocator

	MaintainMemory int64         // bytes for joining files; default 256 MiB
	OrphansEvery   time.Duration // how often maintenance looks for orphans by itself; 0: never

	// AwaitModel is called before a model is looked up that a turn needs; it returns when
	// the model is not being registered any more. May be nil.
	AwaitModel func(ctx context.Context, ref string) error

	// HoldScored returns the last version of a contract's scored table that its sinks are
	// done with, lakehouse.NoHold when there is none to wait for: later commits are not
	// cleaned up, nor their files vacuumed. May be nil.
	HoldScored func(ctx context.Context, table string, scored *lakehouse.Table) (int64, error)
}

// Scored is what a range of landed versions became.
type Scored struct {
	Table       string
	Model       string // such as fraud@3; "" without a score
	Rows        int64
	Quarantined map[string]int64 // by rule
	Warned      map[string]int64 // rows by failed warn check
	Versions    int64            // landed versions taken
	Backlog     int64            // landed versions left
	Latency     *hist.Histogram  // from event_time to queryable, per row; nil when the contract has no event_time
	Lag         time.Duration    // age of the oldest landed commit of the range when its rows became queryable
	Read, Check time.Duration
	Score       time.Duration
	Write       time.Duration
	Commit      time.Duration
	Total       time.Duration
}

// Activities is registered with a worker as a whole. It is safe for concurrent use.
type Activities struct {
	o   Options
	mem memory.Allocator

	load  load
	pacer *pacer

	mu        sync.Mutex
	states    map[string]*state // guarded by mu
	contracts []*contract.Table // guarded by mu
}

// New prepares the activities of one project.
func New(o Options) *Activities {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Observe == nil {
		o.Observe = func(Scored) {}
	}
	if o.TurnStarted == nil {
		o.TurnStarted = func(string) {}
	}
	if o.Maintained == nil {
		o.Maintained = func(Maintained) {}
	}
	if o.Busy == nil {
		o.Busy = func() bool { return false }
	}
	if o.Fault == nil {
		o.Fault = func(string) {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.MaintainMemory == 0 {
		o.MaintainMemory = 256 << 20
	}
	if o.MaxRows == 0 {
		o.MaxRows = 200_000
	}
	if o.Allocator == nil {
		o.Allocator = memory.DefaultAllocator
	}
	a := &Activities{o: o, mem: o.Allocator, states: map[string]*state{}}
	a.load.now = o.Now
	a.pacer = newPacer(func() bool { return a.load.busy() || o.Busy() })
	a.contracts = o.Contracts
	for _, c := range o.Contracts {
		a.states[c.Name()] = &state{name: c.Name(), contract: c}
	}
	return a
}

// Close ends the model processes that scoring started.
func (a *Activities) Close() error {
	a.mu.Lock()
	states := slices.Collect(maps.Values(a.states))
	a.mu.Unlock()
	var errs []error
	for _, s := range states {
		s.mu.Lock()
		errs = append(errs, s.closeScorer())
		s.gone = true
		s.mu.Unlock()
	}
	return errors.Join(errs...)
}

func (a *Activities) state(table string) (*state, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s, ok := a.states[table]
	if !ok {
		return nil, Permanent(ErrTypeContract, fmt.Errorf("no contract tables/%s.yaml on this worker; add it and restart the worker", table))
	}
	return s, nil
}

// parallelism is how many pieces of a turn are worked on at once.
func parallelism() int { return max(1, runtime.GOMAXPROCS(0)) }
