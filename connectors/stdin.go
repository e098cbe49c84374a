package connectors

import (
	"context"
	"errors"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/redpanda-data/benthos/v4/public/service/codec"

	"github.com/tidemill/tidemill/connectors/decode"
	"github.com/tidemill/tidemill/connectors/position"
)

// stdinInput is the name of the input that reads what is piped into the process.
const stdinInput = "stdin"

// stdinCut is a field that Tidemill sets itself, see cutBy.
const stdinCut = "tidemill_cut"

// stdinSpec has the fields of Benthos' own input, which loses what it has read ahead when the
// connector is restarted, stands still for good when that was after the end, and
// cannot pass a line of 64 kB.
func stdinSpec() *service.ConfigSpec {
	return service.NewConfigSpec().
		Stable().
		Categories("Local").
		Summary("Reads what is piped into the process.").
		Description("Takes the place of the input of the same name in Benthos. It ends when what is piped in does.").
		Fields(codec.DeprecatedCodecFields("lines")...).
		Field(service.NewAutoRetryNacksToggleField()).
		Field(service.NewStringField(stdinCut).Description("Set by Tidemill itself.").Default("").Advanced()).
		Field(service.NewBoolField(rowsSingle).Description("Set by Tidemill itself.").Default(false).Advanced())
}

// standardInput is what is piped into the process. It is read once, while the connectors
// that take it come and go: what one has not got acked when it ends goes to the next.
type standardInput struct {
	from      io.Reader
	partition string

	mu    sync.Mutex
	begun bool                 // guarded by mu
	how   string               // guarded by mu: how it is cut into messages, when that has begun
	read  chan pipedBatch      // closed behind the last
	err   error                // why there are no more; set before read is closed
	taken map[int64]pipedBatch // guarded by mu: handed over and not acked, by number
}

type pipedBatch struct {
	n    int64
	msgs service.MessageBatch
	by   *stdinReader // who has it; nil: nobody any more
}

func newStandardInput(from io.Reader) *standardInput {
	return &standardInput{
		from: from, read: make(chan pipedBatch), taken: map[int64]pipedBatch{},
		partition: "~" + stdinInput + "/" + strconv.FormatInt(time.Now().UnixNano(), 36),
	}
}

// stdinReader is one run of an input.
type stdinReader struct {
	in  *standardInput
	how string
	cut func() (next func() (service.MessageBatch, error), err error)
}

func (in *standardInput) input(conf *service.ParsedConfig, _ *service.Resources) (service.BatchInput, error) {
	cut, err := conf.FieldString(stdinCut)
	if err != nil {
		return nil, err
	}
	single, err := conf.FieldBool(rowsSingle)
	if err != nil {
		return nil, err
	}
	r := &stdinReader{in: in, how: cut}
	r.cut = func() (func() (service.MessageBatch, error), error) { return in.lines(), nil }
	if cut != "" {
		c, err := codec.DeprecatedCodecFromParsed(conf)
		if err != nil {
			return nil, err
		}
		r.cut = func() (func() (service.MessageBatch, error), error) { return in.scanned(c) }
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.begun && in.how != r.how {
		return nil, errors.New("scanner: the process has begun to cut what is piped in in another way, and cannot change over; start it anew")
	}
	if single && cut == "" {
		return &singleRows{r}, nil
	}
	return r, nil
}

// lines cuts blocks of lines.
func (in *standardInput) lines() func() (service.MessageBatch, error) {
	blocks := decode.NewBlockReader(in.from, 0)
	return func() (service.MessageBatch, error) {
		block, first, err := blocks.Next()
		if err != nil {
			return nil, err
		}
		at := Position{Partition: in.partition, Offset: first, PerRow: true, Rows: countLines(block)}
		return service.MessageBatch{position.Stamp(service.NewMessage(block), at)}, nil
	}
}

// scanned cuts messages as a scanner does.
func (in *standardInput) scanned(c codec.DeprecatedFallbackCodec) (func() (service.MessageBatch, error), error) {
	s, err := c.Create(io.NopCloser(in.from), func(context.Context, error) error { return nil }, service.NewScannerSourceDetails())
	if err != nil {
		return nil, err
	}
	next := int64(0)
	return func() (service.MessageBatch, error) {
		msgs, ack, err := s.NextBatch(context.Background())
		if err != nil {
			return nil, err
		}
		_ = ack(context.Background(), nil) // the scanner's own business
		for i, m := range msgs {
			msgs[i] = position.Stamp(m, Position{Partition: in.partition, Offset: next})
			next++
		}
		return msgs, nil
	}, nil
}

// pump reads until there is no more.
func (in *standardInput) pump(r *stdinReader) {
	defer close(in.read)
	next, err := r.cut()
	for n := int64(0); err == nil; n++ {
		var msgs service.MessageBatch
		if msgs, err = next(); err == nil && len(msgs) > 0 {
			in.read <- pipedBatch{n: n, msgs: msgs}
		}
	}
	if errors.Is(err, io.EOF) {
		err = service.ErrEndOfInput
	}
	in.err = err
}

// Connect has the reading begun, if it is not.
func (r *stdinReader) Connect(context.Context) error {
	r.in.mu.Lock()
	defer r.in.mu.Unlock()
	if !r.in.begun {
		r.in.begun, r.in.how = true, r.how
		go r.in.pump(r)
	}
	return nil
}

func (r *stdinReader) ReadBatch(ctx context.Context) (service.MessageBatch, service.AckFunc, error) {
	b, ok := r.in.left()
	if !ok {
		select {
		case b, ok = <-r.in.read:
			if !ok {
				return nil, nil, r.in.err
			}
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
	b.by = r
	r.in.mu.Lock()
	defer r.in.mu.Unlock()
	r.in.taken[b.n] = b
	return b.msgs.Copy(), func(_ context.Context, err error) error {
		if err == nil {
			r.in.mu.Lock()
			defer r.in.mu.Unlock()
			delete(r.in.taken, b.n)
		}
		return nil
	}, nil
}

// left returns the first of the batches that somebody had who is gone.
func (in *standardInput) left() (b pipedBatch, ok bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for n, t := range in.taken {
		if t.by == nil && (!ok || n < b.n) {
			b, ok = t, true
		}
	}
	return b, ok
}

// Close leaves what was not acked to whoever comes next.
func (r *stdinReader) Close(context.Context) error {
	r.in.mu.Lock()
	defer r.in.mu.Unlock()
	for n, t := range r.in.taken {
		if t.by == r {
			t.by = nil
			r.in.taken[n] = t
		}
	}
	return nil
}

// singleRows is a reader of lines whose messages are one line each, for processors.
type singleRows struct{ *stdinReader }

// ReadBatch implements service.BatchInput.
func (s *singleRows) ReadBatch(ctx context.Context) (service.MessageBatch, service.AckFunc, error) {
	for {
		msgs, ack, err := s.stdinReader.ReadBatch(ctx)
		if err != nil {
			return nil, nil, err
		}
		var out service.MessageBatch
		for _, m := range msgs {
			block, err := m.AsBytes()
			if err != nil {
				return nil, nil, err
			}
			at, _ := position.Of(m)
			for line := range lines(block) {
				if len(line) > 0 {
					out = append(out, position.Stamp(service.NewMessage(line), Position{Partition: at.Partition, Offset: at.Offset}))
				}
				at.Offset++
			}
		}
		if len(out) > 0 {
			return out, ack, nil
		}
		_ = ack(ctx, nil) // blank lines
	}
}
