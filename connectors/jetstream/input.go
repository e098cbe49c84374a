package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/tidemill/tidemill/connectors/position"
)

// floorEvery is how often a consumer is asked how far it is acked.
const floorEvery = time.Second

// input is the Benthos input.
type input struct {
	conf config
	log  *service.Logger

	mu  sync.Mutex
	now *session // guarded by mu; nil: not connected

	// floors are those of the partitions that were read, which outlive a session.
	floors map[string]*position.Floor // guarded by mu
}

// session is one connection with one consumer.
type session struct {
	conn      *nats.Conn
	consumer  jetstream.Consumer
	consume   jetstream.ConsumeContext
	partition string
	floor     *position.Floor
	msgs      chan jetstream.Msg
	broken    chan error // has room for one
	stop      chan struct{}
	ended     sync.WaitGroup

	before     jetstream.SequencePair // of the last message, if that was a first delivery; the reader's alone
	reconnects uint64                 // at that time
}

// New makes the input.
func New(conf *service.ParsedConfig, res *service.Resources) (service.BatchInput, error) {
	i, err := open(conf, res.Logger())
	if err != nil {
		return nil, err
	}
	return service.AutoRetryNacksBatchedToggled(conf, i)
}

func open(conf *service.ParsedConfig, log *service.Logger) (*input, error) {
	c, err := parse(conf)
	if err != nil {
		return nil, err
	}
	return &input{conf: c, log: log, floors: map[string]*position.Floor{}}, nil
}

// Connect implements service.BatchInput.
func (i *input) Connect(ctx context.Context) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.now != nil {
		return nil
	}
	conn, err := nats.Connect(i.conf.urls, i.conf.options...)
	if err != nil {
		return fmt.Errorf("connect to NATS: %w", err)
	}
	s := &session{conn: conn, msgs: make(chan jetstream.Msg, i.conf.limit), broken: make(chan error, 1), stop: make(chan struct{})}
	if err := i.start(ctx, s); err != nil {
		conn.Close()
		return err
	}
	i.now = s
	return nil
}

// start finds stream and consumer, and begins to read. The caller has the lock.
func (i *input) start(ctx context.Context, s *session) error {
	js, err := jetstream.New(s.conn)
	if err != nil {
		return err
	}
	stream, err := i.stream(ctx, js)
	if err != nil {
		return err
	}
	if s.consumer, err = i.consumer(ctx, stream); err != nil {
		return err
	}
	info, err := s.consumer.Info(ctx)
	if err != nil {
		return fmt.Errorf("state of consumer %s: %w", s.consumer.CachedInfo().Name, err)
	}
	if info.Config.AckPolicy != jetstream.AckExplicitPolicy {
		return fmt.Errorf("consumer %s has the ack policy %s, under which messages count as done before they have landed; it must be explicit: delete it, or name another in durable", info.Name, info.Config.AckPolicy)
	}
	s.partition = partition(stream.CachedInfo(), info)
	if s.floor = i.floors[s.partition]; s.floor == nil {
		s.floor = &position.Floor{}
		i.floors[s.partition] = s.floor
	}
	if info.Delivered.Consumer > 0 {
		s.floor.Begin(int64(info.AckFloor.Stream))
	}
	s.consume, err = s.consumer.Consume(func(m jetstream.Msg) {
		select {
		case s.msgs <- m:
		case <-s.stop:
		}
	}, jetstream.PullMaxMessages(i.conf.limit), jetstream.PullExpiry(10*time.Second), jetstream.PullHeartbeat(time.Second),
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) { s.fails(err, i.log) }))
	if err != nil {
		return fmt.Errorf("read consumer %s: %w", info.Name, err)
	}
	s.ended.Go(s.watchFloor)
	return nil
}

func (i *input) stream(ctx context.Context, js jetstream.JetStream) (jetstream.Stream, error) {
	name := i.conf.stream
	if name == "" {
		var err error
		if name, err = js.StreamNameBySubject(ctx, i.conf.subject); err != nil {
			return nil, fmt.Errorf("stream of subject %s: %w", i.conf.subject, err)
		}
	}
	s, err := js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) && i.conf.create {
		subject := i.conf.subject
		if subject == "" {
			subject = name
		}
		s, err = js.CreateStream(ctx, jetstream.StreamConfig{Name: name, Subjects: []string{subject}})
	}
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", name, err)
	}
	return s, nil
}

// consumer finds or makes the consumer. One that was lost begins again behind what
// was acked.
func (i *input) consumer(ctx context.Context, s jetstream.Stream) (jetstream.Consumer, error) {
	if i.conf.durable != "" {
		c, err := s.Consumer(ctx, i.conf.durable)
		switch {
		case errors.Is(err, jetstream.ErrNotPullConsumer):
			return nil, fmt.Errorf("consumer %s is a push consumer, which cannot be shared and acked as rows land; delete it, or name another in durable", i.conf.durable)
		case err == nil, i.conf.bind, !errors.Is(err, jetstream.ErrConsumerNotFound):
			if err != nil {
				err = fmt.Errorf("consumer %s: %w", i.conf.durable, err)
			}
			return c, err
		}
	}
	want := jetstream.ConsumerConfig{
		Durable: i.conf.durable, AckPolicy: jetstream.AckExplicitPolicy, AckWait: i.conf.ackWait,
		MaxAckPending: i.conf.maxPending, DeliverPolicy: i.conf.deliver, FilterSubject: i.conf.subject,
	}
	if want.Durable == "" {
		want.InactiveThreshold = 5 * time.Minute
	}
	probe := &jetstream.ConsumerInfo{Config: want}
	if f := i.floors[partition(s.CachedInfo(), probe)]; f != nil {
		if at, ok := f.At(); ok {
			want.DeliverPolicy, want.OptStartSeq = jetstream.DeliverByStartSequencePolicy, uint64(at)+1
		}
	}
	c, err := s.CreateConsumer(ctx, want)
	if err != nil {
		return nil, fmt.Errorf("make a consumer: %w", err)
	}
	return c, nil
}

// partition names what a consumer reads of a stream.
func partition(s *jetstream.StreamInfo, c *jetstream.ConsumerInfo) string {
	name := s.Config.Name + "@" + strconv.FormatInt(s.Created.UnixMilli(), 36)
	subjects := c.Config.FilterSubjects
	if one := c.Config.FilterSubject; one != "" {
		subjects = append(subjects, one)
	}
	if len(subjects) > 0 {
		name += "/" + strings.Join(subjects, ",")
	}
	if c.Config.DeliverPolicy == jetstream.DeliverLastPerSubjectPolicy {
		name += "?last_per_subject" // what lies between its messages is not void for others
	}
	return name
}

// fails ends the session when its consumer cannot be read any more. What the client
// mends by itself is only logged.
func (s *session) fails(err error, log *service.Logger) {
	for _, end := range []error{
		jetstream.ErrConsumerDeleted, jetstream.ErrConsumerNotFound, jetstream.ErrStreamNotFound, jetstream.ErrBadRequest,
		jetstream.ErrNoHeartbeat, jetstream.ErrConnectionClosed, nats.ErrConnectionClosed,
	} {
		if errors.Is(err, end) {
			select {
			case s.broken <- err:
			default:
			}
			return
		}
	}
	log.Warnf("nats: %v", err)
}

// watchFloor asks the consumer again and again how far it is acked.
func (s *session) watchFloor() {
	tick := time.NewTicker(floorEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
		}
		if _, begun := s.floor.At(); !begun {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), floorEvery)
		if info, err := s.consumer.Info(ctx); err == nil { // else next time
			s.floor.Raise(int64(info.AckFloor.Stream))
		}
		cancel()
	}
}

// ReadBatch implements service.BatchInput: what has come in, at least one message.
func (i *input) ReadBatch(ctx context.Context) (service.MessageBatch, service.AckFunc, error) {
	i.mu.Lock()
	s := i.now
	i.mu.Unlock()
	if s == nil {
		return nil, nil, service.ErrNotConnected
	}
	var got []jetstream.Msg
	select {
	case m := <-s.msgs:
		got = append(got, m)
	case err := <-s.broken:
		i.log.Errorf("nats: %v", err)
		i.disconnect()
		return nil, nil, service.ErrNotConnected
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	for more := true; more && len(got) < i.conf.limit; {
		select {
		case m := <-s.msgs:
			got = append(got, m)
		default:
			more = false
		}
	}
	return s.batch(got)
}

// batch makes messages of what was read.
func (s *session) batch(got []jetstream.Msg) (service.MessageBatch, service.AckFunc, error) {
	out := make(service.MessageBatch, len(got))
	if n := s.conn.Stats().Reconnects; n != s.reconnects { // the consumer may be another by now
		s.before, s.reconnects = jetstream.SequencePair{}, n
	}
	for k, m := range got {
		msg := service.NewMessage(m.Data())
		meta, err := m.Metadata()
		if err != nil {
			return nil, nil, fmt.Errorf("message without a sequence: %w", err)
		}
		msg.MetaSetMut("nats_subject", m.Subject())
		msg.MetaSetMut("nats_sequence_stream", strconv.FormatUint(meta.Sequence.Stream, 10))
		msg.MetaSetMut("nats_num_delivered", strconv.FormatUint(meta.NumDelivered, 10))
		msg.MetaSetMut("nats_timestamp_unix_nano", strconv.FormatInt(meta.Timestamp.UnixNano(), 10))
		for name, values := range m.Headers() {
			if len(values) > 0 {
				msg.MetaSetMut(name, values[0])
			}
		}
		out[k] = position.Stamp(msg, s.position(meta))
	}
	return out, func(_ context.Context, res error) error {
		if res != nil {
			return nil //nolint:nilerr // it comes again, from memory
		}
		for _, m := range got {
			// One that gets lost is made up for: the message comes again and is in.
			if err := m.Ack(); err != nil {
				return fmt.Errorf("ack: %w", err)
			}
		}
		return nil
	}, nil
}

func (s *session) position(meta *jetstream.MsgMetadata) position.Position {
	at := int64(meta.Sequence.Stream)
	s.floor.Begin(at - 1)
	p := position.Position{Partition: s.partition, Offset: at, Sparse: true, Settler: s.floor}
	if meta.NumDelivered > 1 {
		s.before = jetstream.SequencePair{}
		return p
	}
	if s.before.Consumer > 0 && meta.Sequence.Consumer == s.before.Consumer+1 && meta.Sequence.Stream > s.before.Stream {
		p.Void = at - int64(s.before.Stream) - 1
	}
	s.before = meta.Sequence
	return p
}

func (i *input) disconnect() {
	i.mu.Lock()
	s := i.now
	i.now = nil
	i.mu.Unlock()
	if s == nil {
		return
	}
	close(s.stop)
	s.consume.Stop()
	s.ended.Wait()
	s.conn.Close()
}

// Close implements service.BatchInput. What was read ahead is given back, so that it
// need not wait for its ack_wait.
func (i *input) Close(context.Context) error {
	i.mu.Lock()
	s := i.now
	i.mu.Unlock()
	for s != nil {
		select {
		case m := <-s.msgs:
			_ = m.Nak() // without a connection it comes again anyway
			continue
		default:
		}
		break
	}
	i.disconnect()
	return nil
}
