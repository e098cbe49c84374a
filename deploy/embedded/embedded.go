package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	uiserver "github.com/temporalio/ui-server/v2/server"
	"golang.org/x/sync/errgroup"

	"github.com/tidemill/tidemill/deploy/embedded/store"
	"github.com/tidemill/tidemill/internal/secret"
)

// startTimeout bounds Start, which takes a second or two.
const startTimeout = 60 * time.Second

// S3 says how to reach the object store. Buckets are the caller's to create.
type S3 struct {
	Endpoint  string // host:port, no TLS
	Region    string
	AccessKey string
	SecretKey secret.String
}

// Stack is the running services. Its methods are safe for concurrent use.
type Stack struct {
	opts     Options
	lock     *os.File
	temporal *temporalServer
	ui       *uiserver.Server
	store    *store.Store
	s3       S3

	stopMu  sync.Mutex
	stopped bool // guarded by stopMu
}

// running guards against two Temporal servers in one process: they share global state.
var running struct {
	sync.Mutex
	dir string // of the stack that runs, "" when none does
}

// Start runs the services and returns when they can be used. It fails when another
// process uses the directory (ErrLocked), a port is taken (*PortError), or the
// directory cannot be written. A process can have one stack at a time.
func Start(ctx context.Context, o Options) (*Stack, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("embedded services: %w", err)
	}
	s := &Stack{opts: o}
	if err := s.claimProcess(); err != nil {
		return nil, fmt.Errorf("embedded services: %w", err)
	}
	sctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := s.start(sctx); err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.StopTimeout)
		defer cancel()
		return nil, fmt.Errorf("embedded services: %w", errors.Join(err, s.Stop(ctx)))
	}
	return s, nil
}

func (s *Stack) claimProcess() error {
	running.Lock()
	defer running.Unlock()
	if running.dir != "" {
		return fmt.Errorf("this process runs them already, in %s; stop those first", running.dir)
	}
	running.dir = s.opts.Dir
	return nil
}

func (s *Stack) start(ctx context.Context) (err error) {
	if s.lock, err = lockDir(s.opts.Dir); err != nil {
		return err
	}
	if err := s.claimPorts(ctx); err != nil {
		return err
	}
	// The store and Temporal do not know each other.
	g, gctx := errgroup.WithContext(ctx)
	if s.opts.S3 {
		g.Go(func() error { return s.startStore(gctx) })
	}
	if s.opts.Temporal {
		g.Go(func() (err error) {
			s.temporal, err = startTemporal(gctx, s.opts.path("temporal"), s.opts.Host, s.opts.TemporalPort, s.opts.HistoryEvents, s.opts.Logger)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if s.opts.UI {
		s.ui, err = startUI(ctx, s.TemporalAddress(), s.opts.Host, s.opts.UIPort)
	}
	return err
}

// claimPorts reports every port that is taken, and fills in free ones where asked.
func (s *Stack) claimPorts(ctx context.Context) error {
	o := &s.opts
	var errs []error
	for _, p := range []struct {
		on              bool
		service, option string
		port            *int
	}{
		{o.Temporal, "Temporal", "temporal-port", &o.TemporalPort},
		{o.UI, "the Temporal UI", "ui-port", &o.UIPort},
		{o.S3, "the object store", "s3-port", &o.S3Port},
	} {
		if !p.on {
			continue
		}
		port, err := claimPort(ctx, p.service, p.option, o.Host, *p.port)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		*p.port = port
	}
	return errors.Join(errs...)
}

func (s *Stack) startStore(ctx context.Context) error {
	access, key, err := credentials(s.opts, s.opts.path("credentials.json"))
	if err != nil {
		return err
	}
	dir := s.opts.path("store")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	s.s3 = S3{
		Endpoint: net.JoinHostPort(dialHost(s.opts.Host), strconv.Itoa(s.opts.S3Port)),
		Region:   s.opts.Region, AccessKey: access, SecretKey: key,
	}
	s.store, err = store.Start(ctx, store.Options{
		Dir: dir, Addr: net.JoinHostPort(s.opts.Host, strconv.Itoa(s.opts.S3Port)),
		Region: s.opts.Region, AccessKey: access, SecretKey: key,
		Sidecar: s.opts.SidecarMetadata, NoSync: s.opts.NoSync, Logger: s.opts.Logger,
	})
	return err
}

// TemporalAddress is host:port of Temporal's frontend, for clients on this machine; ""
// when Temporal is off.
func (s *Stack) TemporalAddress() string {
	if !s.opts.Temporal {
		return ""
	}
	return net.JoinHostPort(dialHost(s.opts.Host), strconv.Itoa(s.opts.TemporalPort))
}

// UIURL is where a browser on this machine finds Temporal's web UI; "" when it is off.
func (s *Stack) UIURL() string {
	if !s.opts.UI {
		return ""
	}
	return "http://" + net.JoinHostPort(dialHost(s.opts.Host), strconv.Itoa(s.opts.UIPort))
}

// S3 says how to reach the object store; zero when it is off.
func (s *Stack) S3() S3 { return s.s3 }

// Stop ends the services: first the UI and Temporal, then the store that their last
// work may need. Each may finish what it has begun until ctx ends (or, without a
// deadline, StopTimeout); what has not finished then is reported, and the directory
// stays locked until the process ends. It may be called again.
func (s *Stack) Stop(ctx context.Context) error {
	s.stopMu.Lock()
	defer s.stopMu.Unlock()
	if s.stopped {
		return nil
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.opts.StopTimeout)
		defer cancel()
	}
	var errs []error
	if s.ui != nil {
		s.ui.Stop()
		s.ui = nil
	}
	if s.temporal != nil {
		errs = append(errs, s.temporal.stop(ctx))
	}
	if s.store != nil {
		errs = append(errs, s.store.Stop(ctx))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("embedded services: %w", err)
	}
	s.stopped = true
	if s.lock != nil {
		_ = s.lock.Close()
	}
	running.Lock()
	running.dir = ""
	running.Unlock()
	return nil
}
