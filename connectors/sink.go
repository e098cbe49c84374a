package connectors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/internal/problem"
	"github.com/tidemill/tidemill/sinks"
)

// rowsInput is the name of the input that hands a sink's rows to its output.
const rowsInput = "tidemill_rows"

// Metadata of the messages that a sink's output gets.
const (
	MetaKey     = "tidemill_key"     // table/version/row, the same whenever the row is sent
	MetaTable   = "tidemill_table"   // the contract's
	MetaSink    = "tidemill_sink"    // the sink's name
	MetaVersion = "tidemill_version" // of the scored table, whose commit brought the row
	MetaRow     = "tidemill_row"     // its place among the commit's rows
)

// newSinkEnvironment returns what the outputs of sinks may be made of.
func newSinkEnvironment() *service.Environment {
	return service.GlobalEnvironment().WithInputs().WithOutputs(sinkOutputs...).WithMetrics("none").WithTracers("none").Clone()
}

// SinkOutput is a sink's output; see [sinks.Output]. It is opened when rows are sent,
// and anew when it has not answered in time.
type SinkOutput struct {
	e     *Engine
	table string
	sink  string
	conf  string
	log   *slog.Logger

	mu  sync.Mutex
	cur *sinkStream // guarded by mu
}

// OpenSink prepares a sink's output. It does not reach for the system behind it. What the
// output says goes to log, by default the engine's.
func (e *Engine) OpenSink(c *contract.Table, s contract.Sink, log *slog.Logger) (*SinkOutput, error) {
	conf, err := e.sinkConfig(s)
	if err != nil {
		return nil, fmt.Errorf("sink %s: %w", s.Name, err)
	}
	if log == nil {
		log = e.log
	}
	return &SinkOutput{e: e, table: c.Name(), sink: s.Name, conf: conf, log: log.With("table", c.Name(), "sink", s.Name)}, nil
}

// sinkStream is a running output.
type sinkStream struct {
	feed   chan fed
	stream *service.Stream
	end    context.CancelFunc
	done   chan struct{}
}

// fed is a batch on its way to the output.
type fed struct {
	batch  service.MessageBatch
	result chan error // has room for one
}

// rowsFeed is the input's side of a sinkStream.
type rowsFeed chan fed

func (rowsFeed) Connect(context.Context) error { return nil }
func (rowsFeed) Close(context.Context) error   { return nil }

func (f rowsFeed) ReadBatch(ctx context.Context) (service.MessageBatch, service.AckFunc, error) {
	select {
	case b := <-f:
		return b.batch, func(_ context.Context, err error) error {
			b.result <- err
			return nil
		}, nil
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
}

// Send implements [sinks.Output].
func (o *SinkOutput) Send(ctx context.Context, messages []sinks.Message) error {
	s, err := o.stream()
	if err != nil {
		return err
	}
	b := make(service.MessageBatch, len(messages))
	for i, m := range messages {
		msg := service.NewMessage(m.JSON)
		msg.MetaSetMut(MetaKey, m.Key)
		msg.MetaSetMut(MetaTable, o.table)
		msg.MetaSetMut(MetaSink, o.sink)
		msg.MetaSetMut(MetaVersion, m.Version)
		msg.MetaSetMut(MetaRow, m.Row)
		b[i] = msg
	}
	index := b.Index()
	f := fed{batch: b, result: make(chan error, 1)}
	select {
	case s.feed <- f:
	case <-ctx.Done():
		o.discard(s)
		return ctx.Err()
	case <-s.done:
		o.discard(s)
		return errors.New("the output has ended")
	}
	select {
	case err := <-f.result:
		return masked(partial(err, index, len(messages)))
	case <-ctx.Done():
		o.discard(s)
		return ctx.Err()
	}
}

// partial finds out which messages of a batch an error is about.
func partial(err error, index *service.Indexer, n int) error {
	batchErr, ok := errors.AsType[*service.BatchError](err)
	if !ok {
		return err
	}
	failed := make([]bool, n)
	count, known := 0, true
	cause := err
	batchErr.WalkMessagesIndexedBy(index, func(i int, _ *service.Message, err error) bool {
		switch {
		case err == nil:
		case i < 0 || i >= n:
			known = false // processors have put messages together
		case !failed[i]:
			failed[i], cause = true, err
			count++
		}
		return known
	})
	if !known || count == 0 || count == n {
		return cause
	}
	out := &sinks.PartialError{Err: cause}
	for i, f := range failed {
		if f {
			out.Failed = append(out.Failed, i)
		}
	}
	return out
}

// masked takes what may be a password in a URL out of an error's text.
func masked(err error) error {
	if err == nil {
		return nil
	}
	mask := func(err error) error {
		return errors.New(userInfo.ReplaceAllString(err.Error(), "://***@"))
	}
	if p, ok := errors.AsType[*sinks.PartialError](err); ok {
		return &sinks.PartialError{Failed: p.Failed, Err: mask(p.Err)}
	}
	return mask(err)
}

// stream returns the running output, and starts it if there is none.
func (o *SinkOutput) stream() (*sinkStream, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.cur != nil {
		return o.cur, nil
	}
	s := &sinkStream{feed: make(chan fed), done: make(chan struct{})}
	env := o.e.sinkEnv.Clone()
	err := env.RegisterBatchInput(rowsInput, service.NewConfigSpec(), func(*service.ParsedConfig, *service.Resources) (service.BatchInput, error) {
		return rowsFeed(s.feed), nil
	})
	if err != nil {
		return nil, fmt.Errorf("register components: %w", err)
	}
	b := env.NewStreamBuilder()
	b.SetLogger(o.log)
	if o.e.mux != nil {
		b.SetHTTPMux(o.e.mux.of(o.owner(), o.e.log))
	}
	if err := b.SetYAML(o.conf); err != nil {
		return nil, masked(err)
	}
	if s.stream, err = b.Build(); err != nil {
		return nil, masked(err)
	}
	var running context.Context
	running, s.end = context.WithCancel(context.Background())
	go func() {
		defer close(s.done)
		if err := s.stream.Run(running); err != nil && running.Err() == nil {
			o.log.Error("the output has ended", "error", masked(err))
		}
	}()
	o.cur = s
	return s, nil
}

// owner is the sink's name where paths of the process's HTTP server are given out.
func (o *SinkOutput) owner() string { return "sink " + o.table + "/" + o.sink }

// discard gives an output up that does not answer; the next send opens it anew.
func (o *SinkOutput) discard(s *sinkStream) {
	o.mu.Lock()
	if o.cur == s {
		o.cur = nil
	}
	o.mu.Unlock()
	go s.stop(0)
}

func (s *sinkStream) stop(grace time.Duration) {
	_ = s.stream.StopWithin(max(grace, 10*time.Millisecond)) // what was not acked is sent again
	s.end()
	<-s.done
}

// Close implements [sinks.Output].
func (o *SinkOutput) Close(ctx context.Context) error {
	o.mu.Lock()
	s := o.cur
	o.cur = nil
	o.mu.Unlock()
	if s == nil {
		return nil
	}
	grace := 5 * time.Second
	if at, ok := ctx.Deadline(); ok {
		grace = time.Until(at)
	}
	s.stop(grace)
	if o.e.mux != nil {
		o.e.mux.forget(o.owner())
	}
	return nil
}

// LintSinks checks the outputs and processors of a contract's sinks, each problem with
// its place in the contract's file.
func (e *Engine) LintSinks(c *contract.Table) (ps problem.List) {
	for _, s := range c.Sinks() {
		ps.Add(e.lintSink(s)...)
	}
	return ps
}
