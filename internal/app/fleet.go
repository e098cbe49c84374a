package app

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/tidemill/tidemill/connectors"
	"github.com/tidemill/tidemill/internal/problem"
	"github.com/tidemill/tidemill/internal/secret"
)

// fleet is the connectors that run in this process. They come and go with the
// generations of the project's files.
type fleet struct {
	grace time.Duration
	log   *slog.Logger
	fatal chan error // of connectors that failed while they ran

	mu      sync.Mutex
	ships   map[string]*ship // guarded by mu: by connector
	holds   int              // guarded by mu: changes under way, in which nothing counts as ended
	changed chan struct{}    // guarded by mu: closed, and another one made, when any of this changes
}

// ship is one connector that runs, or has.
type ship struct {
	conf    *connectors.Config
	stop    context.CancelFunc
	done    chan struct{} // closed when it has ended
	started time.Time
	note    *lastWords

	mu       sync.Mutex
	ended    bool
	err      error
	landed   int64
	rejected int64 // to quarantine, by hop one
	last     time.Time
}

func newFleet(grace time.Duration, log *slog.Logger) *fleet {
	return &fleet{grace: grace, log: log, fatal: make(chan error, 16), ships: map[string]*ship{}, changed: make(chan struct{})}
}

// tell wakes those who wait for a change. The caller holds f.mu.
func (f *fleet) tell() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// hold keeps connectors that are stopped to be started anew from counting as ended,
// until release is called.
func (f *fleet) hold() (release func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.holds++
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.holds--
		f.tell()
	}
}

// idle says whether the input of every connector has ended, and returns what is closed
// when that may have changed.
func (f *fleet) idle() (bool, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.ships {
		if !s.hasEnded() {
			return false, f.changed
		}
	}
	return f.holds == 0, f.changed
}

func (s *ship) hasEnded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// slow is how long a connector may take to make its components before it counts as
// started all the same.
const slow = 30 * time.Second

// start runs a connector and returns when all of its components are made. The error is
// why they cannot be; then nothing of it runs.
func (f *fleet) start(engine *connectors.Engine, c *connectors.Config) error {
	ctx, cancel := context.WithCancel(context.Background())
	note := newLastWords(quiet(f.log).Handler())
	s := &ship{conf: c, stop: cancel, done: make(chan struct{}), started: time.Now(), note: note}
	built := make(chan struct{})
	var once sync.Once
	f.mu.Lock()
	f.ships[c.Name] = s
	f.tell()
	f.mu.Unlock()
	go func() {
		err := engine.RunWith(ctx, c, connectors.RunOptions{Grace: f.grace, Built: func() { once.Do(func() { close(built) }) }, Logger: slog.New(note)})
		s.mu.Lock()
		s.ended, s.err = true, err
		s.mu.Unlock()
		select {
		case <-built:
			switch {
			case err != nil && ctx.Err() != nil:
				f.log.Warn("connector stopped with errors; what was not committed comes again", "connector", c.Name, "error", err)
			case err != nil:
				f.fatal <- err
			case ctx.Err() == nil:
				f.log.Info("connector finished: its input has ended", "connector", c.Name)
			}
		default:
		}
		close(s.done)
		f.mu.Lock()
		f.tell()
		f.mu.Unlock()
	}()
	timer := time.NewTimer(slow)
	defer timer.Stop()
	select {
	case <-built:
	case <-timer.C:
		once.Do(func() { close(built) })
		f.log.Warn("the connector's components take long to be made", "connector", c.Name)
	case <-s.done:
		select {
		case <-built: // an input that had nothing
		default:
			if s.err != nil {
				f.forget(c.Name, s)
				return connectorProblem(c, s.err)
			}
		}
	}
	f.log.Info("connector started", "connector", c.Name, "table", c.Table, "input", c.Input)
	return nil
}

// connectorProblem is an error of a connector that could not be made as a problem of its file.
func connectorProblem(c *connectors.Config, err error) error {
	if ps := problem.Of(err); ps != nil {
		return ps.Scrubbed()
	}
	return problem.List{c.Problem(err)}.Scrubbed()
}

func (f *fleet) forget(name string, s *ship) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ships[name] == s {
		delete(f.ships, name)
	}
	f.tell()
}

// halt stops connectors, side by side, each as a process that ends would: nothing more
// is taken in, and what is on its way is committed and acked.
func (f *fleet) halt(names []string) {
	var wg sync.WaitGroup
	for _, name := range names {
		f.mu.Lock()
		s := f.ships[name]
		f.mu.Unlock()
		if s == nil {
			continue
		}
		wg.Go(func() {
			s.stop()
			<-s.done
			f.forget(name, s)
			f.log.Info("connector stopped", "connector", name)
		})
	}
	wg.Wait()
}

// haltAll stops every connector.
func (f *fleet) haltAll() {
	f.mu.Lock()
	names := sortedKeys(f.ships)
	f.mu.Unlock()
	f.halt(names)
}

// landed counts what became of a connector's rows.
func (f *fleet) landed(o connectors.Outcome) {
	f.mu.Lock()
	s := f.ships[o.Connector]
	f.mu.Unlock()
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.landed += o.Landed
	for _, n := range o.Quarantined {
		s.rejected += n
	}
	s.last = time.Now()
}

// lastWords is a handler that remembers the last warning that passed by, for the status.
type lastWords struct {
	slog.Handler
	shared *spoken
}

type spoken struct {
	mu   sync.Mutex
	text string
	at   time.Time
}

func newLastWords(h slog.Handler) *lastWords { return &lastWords{h, &spoken{}} }

// Handle implements slog.Handler.
func (h *lastWords) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		text := r.Message
		r.Attrs(func(a slog.Attr) bool {
			if a.Key == "error" {
				text += ": " + a.Value.String()
			}
			return true
		})
		h.shared.mu.Lock()
		h.shared.text, h.shared.at = secret.Scrub(text), r.Time
		h.shared.mu.Unlock()
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h *lastWords) WithAttrs(a []slog.Attr) slog.Handler {
	return &lastWords{h.Handler.WithAttrs(a), h.shared}
}

// WithGroup implements slog.Handler.
func (h *lastWords) WithGroup(g string) slog.Handler {
	return &lastWords{h.Handler.WithGroup(g), h.shared}
}

func (h *lastWords) last() (string, time.Time) {
	if h == nil {
		return "", time.Time{}
	}
	h.shared.mu.Lock()
	defer h.shared.mu.Unlock()
	return h.shared.text, h.shared.at
}
