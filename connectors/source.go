package connectors

import (
	"context"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/tidemill/tidemill/connectors/position"
	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/lakehouse"
)

// sourceInput is the name of the input that wraps the user's own.
const sourceInput = "tidemill_source"

func sourceSpec() *service.ConfigSpec {
	return service.NewConfigSpec().
		Summary("Stamps every message of another input with its source position.").
		Description("Put around every input of a connector by Tidemill itself.").
		Field(service.NewStringField("connector")).
		Field(service.NewStringField("kind")).
		Field(service.NewBoolField("replay")).
		Field(service.NewBoolField("processors")).
		Field(service.NewInputField("input"))
}

// source is hop one's entrance: it positions messages, remembers what was
// acked, and hands a rejected batch out again until it is accepted.
type source struct {
	in        *service.OwnedInput
	position  Positioner // nil: every message is numbered for this run only
	trackers  map[string]*tracker
	cursors   map[string]lakehouse.Cursor // the last, by partition
	names     map[string]string           // of the partitions that the input stamps, see named
	run       string                      // partition of messages without a position
	next      int64
	connector string
	kind      string
	begins    func(connector string) // may be nil

	processors bool // there are some between the input and the output
	joins      bool // rows go on in blocks
}

func (e *Engine) newSource(conf *service.ParsedConfig, _ *service.Resources) (service.BatchInput, error) {
	s, replay, err := openSource(conf)
	if err != nil {
		return nil, err
	}
	s.joins = joined[s.kind] && !s.processors
	s.begins = e.begins
	if replay {
		return service.AutoRetryNacksBatched(s), nil
	}
	return s, nil
}

// openSource returns a source as its config says, and whether rejected batches
// are to be handed out again.
func openSource(conf *service.ParsedConfig) (s *source, replay bool, err error) {
	connector, err := conf.FieldString("connector")
	if err != nil {
		return nil, false, err
	}
	kind, err := conf.FieldString("kind")
	if err != nil {
		return nil, false, err
	}
	if replay, err = conf.FieldBool("replay"); err != nil {
		return nil, false, err
	}
	processors, err := conf.FieldBool("processors")
	if err != nil {
		return nil, false, err
	}
	in, err := conf.FieldInput("input")
	if err != nil {
		return nil, false, err
	}
	s = &source{
		in:        in,
		trackers:  map[string]*tracker{},
		cursors:   map[string]lakehouse.Cursor{},
		names:     map[string]string{},
		connector: connector, kind: kind, processors: processors,
		run: fmt.Sprintf("~%s/%s/%s", connector, kind, strconv.FormatInt(time.Now().UnixNano(), 36)),
	}
	if p, ok := positioners[kind]; ok {
		s.position = p(connector)
	}
	return s, replay, nil
}

func (s *source) Connect(context.Context) error {
	if s.begins != nil {
		s.begins(s.connector)
	}
	return nil
}

// ReadBatch is called from one goroutine, so the order of positions is the
// order in which the source handed them over.
func (s *source) ReadBatch(ctx context.Context) (service.MessageBatch, service.AckFunc, error) {
	msgs, ack, err := s.in.ReadBatch(ctx)
	if err != nil {
		return nil, nil, err
	}
	if s.joins {
		msgs = s.join(msgs)
	}
	acks := make([]func(), 0, len(msgs))
	durable := false
	for i, m := range msgs {
		p, ok := position.Of(m)
		if ok {
			p.Partition = s.named(p.Partition)
		} else if s.position != nil {
			p, ok = s.position.Position(m)
		}
		if !ok {
			p = Position{Partition: s.run, Offset: s.next}
			s.next++
		}
		st := &stamped{Position: p, id: messageID(s.connector, s.kind, m), settled: p.Settler, cursor: s.cursor(p)}
		st.counter, _ = m.Context().Value(countKey{}).(counter)
		if p.Settler == nil && !batch.Keyed(p.Partition) {
			t := s.tracker(p)
			st.settled = t
			acks = append(acks, t.deliver(p.Offset-p.Void, p.Last()))
			if p.End {
				// Messages have it still; there may be more partitions than memory for them.
				t.close(p.Last() + 1)
				delete(s.trackers, p.Partition)
				delete(s.names, strings.TrimPrefix(p.Partition, s.connector+"/"))
			}
		}
		if s.processors && m.HasBytes() {
			// What a processor fails on, it may have changed already.
			if st.raw, err = m.AsBytes(); err != nil {
				return nil, nil, fmt.Errorf("message bytes: %w", err)
			}
		}
		st.bad, _ = m.Context().Value(unreadKey{}).(*unread)
		durable = durable || batch.Durable(p.Partition)
		msgs[i] = withPosition(m, st, s.processors)
	}
	return msgs, func(ctx context.Context, res error) error {
		// A rejected message of a source that cannot repeat offsets comes back
		// under a new number, so the old one is done with.
		if res == nil || !durable {
			for _, a := range acks {
				a()
			}
		}
		return ack(ctx, res)
	}, nil
}

// cursor returns the cursor that goes with a message: its own, or the last one before it,
// so that one whose message a processor drops comes in with the next.
func (s *source) cursor(p Position) lakehouse.Cursor {
	if p.Cursor == "" {
		return s.cursors[p.Partition]
	}
	c := lakehouse.Cursor{Offset: p.Last(), Text: p.Cursor}
	s.cursors[p.Partition] = c
	return c
}

// named puts the connector's name before the partition that an input stamped on a
// message, behind the mark that batch.Durable and batch.Keyed look for.
func (s *source) named(partition string) string {
	n, ok := s.names[partition]
	if !ok {
		mark := ""
		if strings.HasPrefix(partition, "~") || strings.HasPrefix(partition, "#") {
			mark = partition[:1]
		}
		n = mark + s.connector + "/" + partition[len(mark):]
		if mark == "#" { // a key comes once or twice
			return n
		}
		s.names[partition] = n
	}
	return n
}

func (s *source) tracker(p Position) *tracker {
	t, ok := s.trackers[p.Partition]
	if !ok {
		t = &tracker{sparse: p.Sparse}
		s.trackers[p.Partition] = t
	}
	return t
}

// closeSoftly is how long an input may take to close of its own accord.
const closeSoftly = 250 * time.Millisecond

// Close is called when everything that went on to the output is acked. What
// the input has handed out beyond that was read ahead and went nowhere. It can
// be neither acked, not having landed, nor rejected, since Kafka inputs then
// commit its offset all the same; and the input would wait for one of them.
func (s *source) Close(ctx context.Context) error {
	soft, cancel := context.WithTimeout(ctx, closeSoftly)
	defer cancel()
	if err := s.in.Close(soft); err == nil || ctx.Err() != nil {
		return err
	}
	closeNow(s.in)
	return s.in.Close(ctx)
}

// closeNow makes an input give up what it waits for. The public API has no
// call for that, so it is looked up on the component inside; where it is not
// found, the input ends with the process.
func closeNow(in *service.OwnedInput) {
	unwrap := reflect.ValueOf(in.XUnwrapper()).MethodByName("Unwrap")
	if !unwrap.IsValid() || unwrap.Type().NumIn() != 0 || unwrap.Type().NumOut() != 1 {
		return
	}
	if inner, ok := unwrap.Call(nil)[0].Interface().(interface{ TriggerCloseNow() }); ok {
		inner.TriggerCloseNow()
	}
}
