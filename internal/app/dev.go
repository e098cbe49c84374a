package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/tidemill/tidemill/activities"
	"github.com/tidemill/tidemill/connectors"
	"github.com/tidemill/tidemill/deploy/embedded"
	"github.com/tidemill/tidemill/internal/edits"
	"github.com/tidemill/tidemill/internal/problem"
	"github.com/tidemill/tidemill/internal/project"
	"github.com/tidemill/tidemill/internal/secret"
	"github.com/tidemill/tidemill/lakehouse/objstore/s3"
)

// embeddedBucket is the bucket that dev and demo keep their projects in.
const embeddedBucket = "tidemill"

// grace is how long a stopping process waits for what its connectors have taken in.
const grace = 15 * time.Second

// DevOptions of [Dev].
type DevOptions struct {
	Dir          string
	FreePorts    bool
	ExitWhenDone bool
	Profiling    bool // serve /debug/pprof
	JSON         bool
	Out          io.Writer
	Logger       *slog.Logger
}

// Dev runs a project with everything embedded until ctx ends. State stays
// under the project's .tidemill directory.
func Dev(ctx context.Context, o DevOptions) error {
	if err := Lint(ctx, o.Dir); err != nil {
		return err
	}
	p, err := project.Load(o.Dir)
	if err != nil {
		return err
	}
	// Relative paths in connectors are the project's.
	if err := os.Chdir(p.Dir()); err != nil {
		return fmt.Errorf("project directory: %w", err)
	}
	seen, err := edits.Look(".", edits.Files{})
	if err != nil {
		return err
	}
	if p, err = project.Load("."); err != nil {
		return err
	}
	st, err := startStack(ctx, stackOptions{dir: stateDir("."), dev: p.Dev(), http: p.HTTP().Address, free: o.FreePorts, profiling: o.Profiling, log: o.Logger})
	if err != nil {
		return err
	}
	defer st.stop()
	proc, err := startProcess(ctx, processOptions{
		project: p, ends: st.endpoints(p), connect: true, worker: true, wait: 30 * time.Second,
		log: o.Logger, registry: st.registry, mux: st.mux, board: st.board, grace: grace,
	})
	if err != nil {
		return err
	}
	defer func() { logStop(o.Logger, proc.stop(context.WithoutCancel(ctx))) }()
	proc.follow(ctx, seen)
	st.print(o.Out, o.JSON, o.Dir, p, p.Name())
	return proc.wait(ctx, o.ExitWhenDone)
}

// RunOptions of [Run].
type RunOptions struct {
	Dir             string
	Connect, Worker bool
	Wait            time.Duration
	ExitWhenDone    bool
	Profiling       bool // serve /debug/pprof
	JSON            bool
	Out             io.Writer
	Logger          *slog.Logger
}

// Run runs a project against the store and cluster of its tidemill.yaml until ctx ends.
func Run(ctx context.Context, o RunOptions) error {
	if err := Lint(ctx, o.Dir); err != nil {
		return err
	}
	if err := os.Chdir(o.Dir); err != nil {
		return fmt.Errorf("project directory: %w", err)
	}
	seen, err := edits.Look(".", edits.Files{})
	if err != nil {
		return err
	}
	p, err := project.Load(".")
	if err != nil {
		return err
	}
	ends, err := configured(p)
	if err != nil {
		return err
	}
	registry, mux, status := NewRegistry(), connectors.NewMux(), &board{}
	srv, err := serveHTTP(p.HTTP().Address, mux, status, registry, o.Profiling, o.Logger)
	if err != nil {
		return err
	}
	defer srv.Close()
	proc, err := startProcess(ctx, processOptions{
		project: p, ends: ends, connect: o.Connect, worker: o.Worker, wait: o.Wait,
		log: o.Logger, registry: registry, mux: mux, board: status, grace: grace,
	})
	if err != nil {
		return err
	}
	defer func() { logStop(o.Logger, proc.stop(context.WithoutCancel(ctx))) }()
	proc.follow(ctx, seen)
	o.Logger.Info("running", "project", p.Name(), "store", ends.Store.S3.Endpoint, "temporal", ends.Temporal.Address, "http", srv.addr)
	return proc.wait(ctx, o.ExitWhenDone)
}

// configured returns the endpoints that tidemill.yaml names.
func configured(p *project.Project) (endpoints, error) {
	s, ok := p.Store()
	if !ok {
		return endpoints{}, problem.Problem{File: filepath.Join(p.Dir(), "tidemill.yaml"), Field: "store", Message: "missing; `tidemill run` needs a store: {endpoint, bucket, access_key, secret_key}, or use `tidemill dev`, which brings one"}
	}
	t := p.Temporal()
	return endpoints{
		Store: StoreConfig{Prefix: s.Prefix, S3: s3.Config{
			Endpoint: s.Endpoint, Bucket: s.Bucket, Region: s.Region, AccessKey: s.AccessKey.Reveal(), SecretKey: s.SecretKey, TLS: s.TLS(), CreateBucket: true,
		}},
		Temporal: Cluster{Address: t.Address, Namespace: t.Namespace, TLS: t.TLS, APIKey: t.APIKey},
	}, nil
}

func stateDir(dir string) string { return filepath.Join(dir, ".tidemill") }

func logStop(log *slog.Logger, err error) {
	if err != nil {
		log.Warn("stopped with errors; nothing is lost, what was not committed comes again", "error", err)
	}
}

// wait returns when ctx ends, when a connector fails, or, with whenDone, when
// all input has ended and is scored.
func (p *process) wait(ctx context.Context, whenDone bool) error {
	for {
		idle, changed := p.fleet.idle()
		select {
		case err := <-p.fleet.fatal:
			return ended(err)
		default:
		}
		if whenDone && idle {
			return p.drained(ctx)
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-p.fleet.fatal:
			return ended(err)
		case <-changed:
		}
	}
}

// ended is what a process that stops says of the reason.
func ended(err error) error {
	if errors.Is(err, errHungUp) {
		return nil
	}
	return err
}

// drained waits until the scored tables have all that landed, and the sinks that take rows
// have what was scored.
func (p *process) drained(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		lag, err := p.lag(ctx)
		if err == nil && lag == 0 && (p.sinks == nil || p.sinks.idle()) {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// stack is the embedded servers with this process's HTTP server.
type stack struct {
	*embedded.Stack
	registry *prometheus.Registry
	mux      *connectors.Mux
	board    *board
	http     *httpServer
	dir      string
	log      *slog.Logger
}

type stackOptions struct {
	dir  string
	dev  project.Dev
	http string
	free bool
	log  *slog.Logger

	profiling bool
}

func startStack(ctx context.Context, o stackOptions) (*stack, error) {
	if o.free {
		o.dev, o.http = project.Dev{}, "127.0.0.1:0"
	}
	s := &stack{registry: NewRegistry(), mux: connectors.NewMux(), board: &board{}, dir: o.dir, log: o.log}
	var err error
	s.Stack, err = embedded.Start(ctx, embedded.Options{
		Dir: o.dir, TemporalPort: o.dev.TemporalPort, UIPort: o.dev.UIPort, S3Port: o.dev.S3Port, FreePorts: o.free,
		Temporal: true, UI: true, S3: true, Logger: o.log,
	})
	if _, ok := errors.AsType[*embedded.PortError](err); ok {
		err = fmt.Errorf("%w; in tidemill.yaml the ports are dev: {temporal_port, ui_port, s3_port}, and --free-ports takes any that are free", err)
	}
	if err != nil {
		return nil, unavailableError{err}
	}
	if s.http, err = serveHTTP(o.http, s.mux, s.board, s.registry, o.profiling, o.log); err != nil {
		s.stop()
		return nil, err
	}
	if err := s.writeAddresses(); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

func (s *stack) stop() {
	if s.http != nil {
		s.http.Close()
	}
	os.Remove(filepath.Join(s.dir, addressesFile))
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	logStop(s.log, s.Stack.Stop(ctx))
}

func (s *stack) endpoints(p *project.Project) endpoints {
	a := s.addresses()
	return a.endpoints(p)
}

// addressesFile lies in the state directory while its stack runs, so that
// other commands find it.
const addressesFile = "addresses.json"

// addresses of a running stack.
type addresses struct {
	Temporal string `json:"temporal"`
	UI       string `json:"ui"`
	S3       string `json:"s3"`
	HTTP     string `json:"http"`
	Access   string `json:"access_key"`
	Secret   string `json:"secret_key"`
}

func (s *stack) addresses() addresses {
	c := s.S3()
	a := addresses{Temporal: s.TemporalAddress(), UI: s.UIURL(), S3: c.Endpoint, Access: c.AccessKey, Secret: c.SecretKey.Reveal()}
	if s.http != nil {
		a.HTTP = "http://" + s.http.addr
	}
	return a
}

func (a addresses) endpoints(p *project.Project) endpoints {
	return endpoints{
		Store: StoreConfig{Prefix: p.StorePrefix(), S3: s3.Config{
			Endpoint: a.S3, Bucket: embeddedBucket, AccessKey: a.Access, SecretKey: secret.New(a.Secret), CreateBucket: true,
		}},
		Temporal: Cluster{Address: a.Temporal, Namespace: "default"},
	}
}

func (s *stack) writeAddresses() error {
	data, err := json.Marshal(s.addresses())
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(s.dir, addressesFile), data, 0o600); err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	return nil
}

// print shows a person or a program where everything is, and how to query one
// of the projects, which lies in dir.
func (s *stack) print(w io.Writer, asJSON bool, dir string, p *project.Project, projects ...string) {
	a := s.addresses()
	if asJSON {
		_ = json.NewEncoder(w).Encode(map[string]any{"temporal": a.Temporal, "ui": a.UI, "s3": a.S3, "bucket": embeddedBucket, "http": a.HTTP, "metrics": a.HTTP + "/metrics", "projects": projects}) //nolint:errchkjson // strings
		return
	}
	fmt.Fprintf(w, "\n  Temporal UI  %s\n  Temporal     %s\n  S3           %s  bucket %s\n  metrics      %s/metrics\n", a.UI, a.Temporal, a.S3, embeddedBucket, a.HTTP)
	if cs := p.Contracts(); len(cs) > 0 {
		fmt.Fprintf(w, "  query        %s -C %s sql \"FROM %s%s LIMIT 5\"\n", os.Args[0], dir, cs[0].Name(), activities.Suffix)
	}
	var names []string
	for _, c := range p.Contracts() {
		for _, s := range c.Sinks() {
			names = append(names, c.Name()+"/"+s.Name)
		}
	}
	if len(names) > 0 {
		fmt.Fprintf(w, "  sinks        %s\n", strings.Join(names, ", "))
	}
	fmt.Fprintln(w)
}

// httpServer serves metrics, health and the paths of http_server connectors.
type httpServer struct {
	*http.Server
	addr string
}

// httpGrace is how long answers that are being written have when the server ends.
const httpGrace = 2 * time.Second

// Close ends the server when the answers that are on their way are written.
func (s *httpServer) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), httpGrace)
	defer cancel()
	if s.Shutdown(ctx) != nil {
		_ = s.Server.Close()
	}
}

func serveHTTP(addr string, paths *connectors.Mux, status *board, registry *prometheus.Registry, profiling bool, log *slog.Logger) (*httpServer, error) {
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, unavailableError{fmt.Errorf("http address %s: %w; change http.address in tidemill.yaml, or end what uses the port", addr, err)}
	}
	mux := http.NewServeMux()
	mux.Handle("/", paths)
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.Handle(statusPath, status)
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	if profiling {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	s := &httpServer{addr: l.Addr().String(), Server: &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}}
	go func() {
		if err := s.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			log.Error("http server", "error", err)
		}
	}()
	return s, nil
}
