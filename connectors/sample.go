package connectors

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/tidemill/tidemill/internal/problem"
)

// Given is a message that takes the place of what an input would read.
type Given struct {
	Data []byte
	Meta map[string]any
}

// SampleOptions of [Engine.Sample].
type SampleOptions struct {
	Rows   int           // to read at most; 0: all, for inputs that end
	Within time.Duration // how long to wait for them; 0: for ever
	// Given are the batches to read instead of the connector's input. Processors of
	// the input run on them, those of inputs inside of a broker do not.
	Given [][]Given
}

// Sample is what a connector read without having kept it: messages as they reach
// the output, behind all processors. Nothing of it was acked.
type Sample struct {
	Rows     int      // of the messages, as far as they can be counted without a contract
	Ended    bool     // the input has no more
	Complete bool     // there are as many rows as were asked for
	LastWord string   // the last warning or error of a component, without secrets
	Notes    []string // what reading it leaves behind at the source, for people

	config *Config
	msgs   service.MessageBatch
}

// Message is one message of a [Sample].
type Message struct {
	Data   []byte
	Meta   map[string]string
	Error  string // of the processor that failed on it
	Source string
	Offset int64
}

// errNotKept is what sources are told of the messages of a sample.
var errNotKept = errors.New("the message was only looked at")

// Names of the components that a sample is taken with.
const (
	heldInput    = "tidemill_held"
	givenInput   = "tidemill_given"
	sampleOutput = "tidemill_sample"
)

// Sample runs a connector's input and processors for a look: nothing is landed, no
// message is acked, and what can be given back to its source is given back. Where
// that would not do, because reading alone takes messages away, the error is a
// problem.List that says so.
func (e *Engine) Sample(ctx context.Context, c *Config, o SampleOptions) (*Sample, error) {
	if e.words == nil {
		return nil, errors.New("samples are taken by an engine without a logger of its own")
	}
	h := &hold{limit: o.Rows, full: make(chan struct{}), trials: map[string]trial{}, words: e.words}
	h.words.begin(secretsOf(c))
	conf, notes, err := c.sampled(o, h)
	if err != nil {
		return nil, err
	}
	env, err := h.environment(e.env, o.Given)
	if err != nil {
		return nil, err
	}
	b := env.NewStreamBuilder()
	b.SetLogger(slog.New(h.words))
	if e.mux != nil {
		b.SetHTTPMux(e.mux.of(c.Name, e.log))
		defer e.mux.forget(c.Name)
	}
	if err := b.SetYAML(conf); err != nil {
		return nil, problem.List{{File: c.File, Message: h.words.clean(err.Error())}}
	}
	s, err := b.Build()
	if err != nil {
		return nil, problem.List{{File: c.File, Message: h.words.clean(err.Error())}}
	}
	out := &Sample{config: c, Notes: notes}
	if out.Ended, err = h.run(ctx, s, o.Within); err != nil {
		return nil, fmt.Errorf("connector %s: %s", c.Name, h.words.clean(err.Error()))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	out.msgs, out.Rows, out.LastWord = h.msgs, h.rows, h.words.last()
	out.Complete = o.Rows > 0 && h.rows >= o.Rows
	return out, nil
}

// sampled returns the config that a sample is taken with.
func (c *Config) sampled(o SampleOptions, h *hold) (conf string, notes []string, err error) {
	root := deepCopy(c.root)
	remove(root, testsField)
	remove(root, "buffer")
	in := child(root, "input")
	if o.Given != nil {
		h.trials = nil
		// The kind of the input stays: it says what metadata the position is in.
		kind, own := componentName(in), child(in, "processors")
		given := mapping(givenInput, mapping())
		*in = *mapping(heldInput, heldConfig(c, kind, given))
		if own != nil {
			in.Content = append(in.Content, scalar("processors", "!!str"), own)
		}
		// Rows come out in the order in which they were given.
		p := child(root, "pipeline")
		if p != nil && p.Kind == yaml.MappingNode {
			setScalar(p, "threads", "1", "!!int")
		}
		if ps := c.fill(root, io.Discard); ps != nil { // what stood in the input is not needed
			return "", nil, ps
		}
	} else {
		if ps := c.fill(root, io.Discard); ps != nil {
			return "", nil, ps
		}
		suffix, err := randomSuffix()
		if err != nil {
			return "", nil, err
		}
		t := trialRun{config: c, suffix: suffix, rows: o.Rows, hold: h}
		t.prepare(in)
		if err := t.problems.Err(); err != nil {
			return "", nil, err
		}
		notes = t.notes
		wrapInput(c, in, true) // one message a row, so that the sample is not longer than it need be
		holdInputs(in)
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		if root.Content[i].Value == "output" {
			root.Content[i+1] = mapping(sampleOutput, mapping())
		}
	}
	data, err := yaml.Marshal(root)
	if err != nil {
		return "", nil, fmt.Errorf("encode connector: %w", err)
	}
	return string(data), notes, nil
}

func randomSuffix() (string, error) {
	var b [4]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("random name: %w", err)
	}
	return hex.EncodeToString(b[:]), nil
}

func heldConfig(c *Config, kind string, in *yaml.Node) *yaml.Node {
	return mapping(
		"connector", scalar(c.Name, "!!str"), "kind", scalar(kind, "!!str"),
		"replay", scalar("false", "!!bool"), "processors", scalar("true", "!!bool"), "input", in)
}

// holdInputs puts the input that never acks in the place of the one that does.
func holdInputs(n *yaml.Node) {
	for i, c := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 {
			if c.Value == sourceInput {
				c.Value = heldInput
			}
			continue
		}
		holdInputs(c)
	}
}

// hold keeps what a sample has read, and the acks that it owes.
type hold struct {
	limit  int
	words  *words
	trials map[string]trial // by kind of input; nil: messages are given

	mu   sync.Mutex
	msgs service.MessageBatch
	rows int
	full chan struct{} // closed when there are enough rows
}

func (h *hold) environment(base *service.Environment, given [][]Given) (*service.Environment, error) {
	env := base.Clone()
	err := errors.Join(
		env.RegisterBatchInput(heldInput, sourceSpec(), func(conf *service.ParsedConfig, _ *service.Resources) (service.BatchInput, error) {
			s, _, err := openSource(conf)
			if err != nil {
				return nil, err
			}
			kind, err := conf.FieldString("kind")
			return &heldSource{source: s, trial: h.trialOf(kind)}, err
		}),
		env.RegisterBatchInput(givenInput, service.NewConfigSpec(), func(*service.ParsedConfig, *service.Resources) (service.BatchInput, error) {
			return &givenMessages{batches: given}, nil
		}),
		env.RegisterBatchOutput(sampleOutput, service.NewConfigSpec(), func(*service.ParsedConfig, *service.Resources) (service.BatchOutput, service.BatchPolicy, int, error) {
			return h, service.BatchPolicy{}, 1, nil
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("register components: %w", err)
	}
	return env, nil
}

func (h *hold) trialOf(kind string) trial {
	if h.trials == nil {
		return trial{harmless: true}
	}
	return h.trials[kind]
}

// run runs the stream until there are enough rows, the input ends or the time is up.
func (h *hold) run(ctx context.Context, s *service.Stream, within time.Duration) (ended bool, err error) {
	if within > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, within)
		defer cancel()
	}
	running, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	done := make(chan error, 1)
	go func() { done <- s.Run(running) }()
	select {
	case err = <-done:
		return true, err
	case <-h.full:
	case <-ctx.Done():
	}
	// Everything is in memory, so there is nothing to wait for but the source.
	_ = s.StopWithin(5 * time.Second)
	end()
	<-done
	return false, nil
}

// Connect implements service.BatchOutput.
func (h *hold) Connect(context.Context) error { return nil }

// Close implements service.BatchOutput.
func (h *hold) Close(context.Context) error { return nil }

// WriteBatch implements service.BatchOutput.
func (h *hold) WriteBatch(_ context.Context, msgs service.MessageBatch) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range msgs {
		if h.limit > 0 && h.rows >= h.limit {
			return nil
		}
		data, err := m.AsBytes()
		if err != nil {
			return fmt.Errorf("message bytes: %w", err)
		}
		h.msgs = append(h.msgs, m)
		h.rows += rowsIn(data)
		if h.limit > 0 && h.rows >= h.limit {
			close(h.full)
		}
	}
	return nil
}

// heldSource reads messages and acks none. Those that its source can take back are
// given back at the end, or at once where somebody waits for an answer.
type heldSource struct {
	*source
	trial trial

	mu   sync.Mutex
	owed []service.AckFunc
}

// ReadBatch implements service.BatchInput.
func (s *heldSource) ReadBatch(ctx context.Context) (service.MessageBatch, service.AckFunc, error) {
	msgs, ack, err := s.source.ReadBatch(ctx)
	if err != nil {
		return nil, nil, err
	}
	if s.trial.harmless {
		return msgs, ack, nil
	}
	if s.trial.atOnce {
		return msgs, func(ctx context.Context, _ error) error { return ack(ctx, errNotKept) }, nil
	}
	s.mu.Lock()
	s.owed = append(s.owed, ack)
	s.mu.Unlock()
	return msgs, func(context.Context, error) error { return nil }, nil
}

// Close implements service.BatchInput.
func (s *heldSource) Close(ctx context.Context) error {
	if s.trial.giveBack {
		s.mu.Lock()
		for _, ack := range s.owed {
			_ = ack(ctx, errNotKept) // what cannot be given back stays unacked
		}
		s.owed = nil
		s.mu.Unlock()
	}
	return s.source.Close(ctx)
}

// givenMessages is the input of unit tests.
type givenMessages struct {
	batches [][]Given
	next    int
}

func (g *givenMessages) Connect(context.Context) error { return nil }

func (g *givenMessages) ReadBatch(context.Context) (service.MessageBatch, service.AckFunc, error) {
	if g.next == len(g.batches) {
		return nil, nil, service.ErrEndOfInput
	}
	var out service.MessageBatch
	for _, m := range g.batches[g.next] {
		msg := service.NewMessage(m.Data)
		for k, v := range m.Meta {
			msg.MetaSetMut(k, v)
		}
		out = append(out, msg)
	}
	g.next++
	return out, func(context.Context, error) error { return nil }, nil
}

func (g *givenMessages) Close(context.Context) error { return nil }
