package connectors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/tidemill/tidemill/connectors/files"
	"github.com/tidemill/tidemill/connectors/jetstream"
	"github.com/tidemill/tidemill/connectors/kinesis"
	"github.com/tidemill/tidemill/connectors/redisstream"
	"github.com/tidemill/tidemill/internal/problem"
)

// Engine lints and runs connectors. It is safe for concurrent use.
type Engine struct {
	env         *service.Environment
	sinkEnv     *service.Environment // of sinks' outputs
	sinkLintEnv *service.Environment // the same, with the input that is made for each anew
	log         *slog.Logger
	words       *words // the last word of the log, when the caller has no logger; see [Engine.Sample]
	mux         *Mux
	tables      Tables
	servers     httpServers
	stdin       *standardInput

	mu    sync.Mutex
	built map[string]func() // guarded by mu: by connector, to be called when all of its components are there
}

// Options of an [Engine]. Tables may be nil for an engine that only lints.
type Options struct {
	Tables Tables
	Mux    *Mux // nil: none; inputs then need addresses of their own
	// OpenBucket reaches the bucket of s3:// paths of the input files. Nil: there are none.
	OpenBucket func(context.Context, S3) (files.Bucket, error)
	Logger     *slog.Logger
}

// New builds an engine with an environment of its own.
func New(o Options) (*Engine, error) {
	tameLibraries()
	env := service.GlobalEnvironment().
		WithInputs(inputs...).WithOutputs(outputs...).
		WithMetrics("none").WithTracers("none").Clone()
	e := &Engine{env: env, sinkEnv: newSinkEnvironment(), sinkLintEnv: newSinkEnvironment(), log: o.Logger, mux: o.Mux, tables: o.Tables, built: map[string]func(){}, stdin: newStandardInput(os.Stdin)}
	if e.log == nil {
		e.words = &words{}
		e.log = slog.New(e.words)
		o.Logger = e.log
	}
	if err := errors.Join(
		env.RegisterBatchOutput("lakehouse", lakehouseSpec(), newOutput(o.Tables)),
		env.RegisterBatchInput(sourceInput, sourceSpec(), e.newSource),
		env.RegisterBatchInput(httpServer, httpServerSpec(), newHTTPServer(e)),
		env.RegisterBatchInput(httpPoll, httpPollSpec(), newHTTPPoll(e)),
		env.RegisterBatchInput(sqlPoll, sqlPollSpec(), newSQLPoll(e)),
		env.RegisterBatchInput(filesInput, filesSpec(), unboundFiles),
		env.RegisterBatchInput(boundFiles, boundFilesSpec(), newFiles(o)),
		env.RegisterBatchInput("host_metrics", hostMetricsSpec(), newHostMetrics),
		env.RegisterBatchInput(postgresChanges, postgresChangesSpec(), newPostgresChanges(o.Tables, e.log)),
		env.RegisterBatchInput("redis_streams", redisstream.Spec(), redisstream.New),
		env.RegisterBatchInput("nats_jetstream", jetstream.Spec(), jetstream.New),
		env.RegisterBatchInput(awsKinesis, kinesis.Spec(), kinesis.New),
		env.RegisterBatchInput("mqtt", mqttSpec(), newMQTT),
		env.RegisterBatchInput(kafkaBlocks, kafkaBlocksSpec(), newKafkaBlocks),
		env.RegisterBatchInput(stdinInput, stdinSpec(), e.stdin.input),
		env.RegisterBatchScannerCreator(rowsScanner, rowsScannerSpec(), newRowsScanner),
		registerRowsInput(e.sinkLintEnv),
	); err != nil {
		return nil, fmt.Errorf("register components: %w", err)
	}
	return e, nil
}

// Run runs a connector until its input ends or ctx is cancelled. It then stops
// taking in, waits up to grace for what is on its way, and returns nil; what
// was not committed by then was not acked either and comes again.
func (e *Engine) Run(ctx context.Context, c *Config, grace time.Duration) error {
	return e.RunWith(ctx, c, RunOptions{Grace: grace})
}

// RunOptions of [Engine.RunWith].
type RunOptions struct {
	Grace time.Duration
	// Built, if not nil, is called, once or more, when all of the connector's components
	// have been made and it begins to read. When the run ends without that, they could not be.
	Built  func()
	Logger *slog.Logger // default: the engine's
}

// RunWith is Run with more to choose.
func (e *Engine) RunWith(ctx context.Context, c *Config, o RunOptions) error {
	if o.Logger == nil {
		o.Logger = e.log
	}
	conf, err := c.prepared()
	if err != nil {
		return fmt.Errorf("connector %s: %w", c.Name, err)
	}
	b := e.env.NewStreamBuilder()
	b.SetLogger(o.Logger.With("connector", c.Name))
	if e.mux != nil {
		b.SetHTTPMux(e.mux.of(c.Name, e.log))
		defer e.mux.forget(c.Name)
	}
	if err := b.SetYAML(conf); err != nil {
		return problem.List{{File: c.File, Message: err.Error()}}
	}
	s, err := b.Build()
	if err != nil {
		return problem.List{{File: c.File, Message: err.Error()}}
	}
	e.mu.Lock()
	e.built[c.Name] = o.Built
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		delete(e.built, c.Name)
		e.mu.Unlock()
	}()
	done := make(chan error, 1)
	// The stream outlives ctx, so that stopping can be graceful. Its Run does
	// not return by itself once it has been stopped.
	running, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	go func() { done <- s.Run(running) }()
	select {
	case err = <-done:
	case <-ctx.Done():
		e.servers.drain(c.Name)
		err = s.StopWithin(o.Grace)
		end()
		<-done
	}
	if err != nil && strings.HasPrefix(err.Error(), "failed to init ") {
		return problem.List{c.Problem(errors.New(initProblem(err.Error())))}.Scrubbed()
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("connector %s: %w", c.Name, err)
	}
	return nil
}

// initPath is how Benthos names a component, with the wrapper that users do not see.
var initPath = regexp.MustCompile(`^failed to init (\S+) .* path root\.(\S*?)(\.tidemill_source\.input)?: `)

// initProblem is what a component could not be made for, after the place where it stands.
func initProblem(text string) string { return initPath.ReplaceAllString(text, "$2: ") }

// begins is called when a connector's input is told to connect, which Benthos does once
// all components are made.
func (e *Engine) begins(connector string) {
	e.mu.Lock()
	built := e.built[connector]
	e.mu.Unlock()
	if built != nil {
		built()
	}
}

// Release gives up the HTTP paths that a connector does not take rows at any more; it is
// for when the connector has gone, or runs with others.
func (e *Engine) Release(connector string) {
	if e.mux != nil {
		e.mux.release(connector)
	}
}
