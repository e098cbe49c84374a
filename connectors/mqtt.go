package connectors

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/redpanda-data/benthos/v4/public/service"
)

// mqttUnacked is how many messages of QoS 1 and 2 a broker can have handed over without
// an answer: they have numbers of 16 bits. So many find room here, and the client never
// stops reading for them; it would miss the broker's signs of life.
const mqttUnacked = 1<<16 - 1

// mqttBatch is how many messages are handed on at once, at most.
const mqttBatch = 1000

// mqttSpec has the fields of Benthos' own input, which tells the broker of a message as
// soon as it has been read: what is on its way to the table when the process dies would
// be lost.
func mqttSpec() *service.ConfigSpec {
	return service.NewConfigSpec().
		Stable().
		Categories("Services").
		Summary("Subscribes to topics of MQTT brokers, and answers a message (PUBACK) when its rows are committed.").
		Description("Takes the place of the input of the same name in Benthos. Its session is persistent by default: the broker keeps messages while the process is down. Metadata: `mqtt_topic`, `mqtt_qos`, `mqtt_retained`, `mqtt_duplicate`, `mqtt_message_id`.").
		Fields(
			service.NewURLListField("urls").Description("Brokers, as `tcp://host:port`, `ssl://…` or `ws://…`; the first that can be reached is used."),
			service.NewStringListField("topics").Description("Topics to subscribe to; `+` and `#` stand for levels, and `$share/<group>/<topic>` shares a topic among several clients."),
			service.NewStringField("client_id").Description("The name of the session at the broker: the same after each restart, and of one process only.").Default(""),
			service.NewIntField("qos").Description("Guarantee of the subscription: 0, 1 or 2. With 0 the broker delivers once and does not wait for an answer.").Default(1).Advanced(),
			service.NewBoolField("clean_session").Description("Whether the broker forgets the session, with the messages that wait in it, when the connection ends.").Default(false).Advanced(),
			service.NewStringField("user").Description("A user name.").Default("").Advanced(),
			service.NewStringField("password").Description("The password.").Default("").Secret().Advanced(),
			service.NewIntField("keepalive").Description("Seconds without traffic after which the broker is asked for a sign of life.").Default(30).Advanced(),
			service.NewDurationField("connect_timeout").Description("How long connecting may take.").Default("30s").Advanced(),
			service.NewTLSToggledField("tls"),
			service.NewAutoRetryNacksToggleField(),
		)
}

type mqttInput struct {
	options *mqtt.ClientOptions // without handlers
	topics  map[string]byte
	log     *service.Logger

	mu   sync.Mutex
	conn *mqttConn // nil: not connected
}

// mqttConn is one connection. What came over it and was not answered comes again over
// the next.
type mqttConn struct {
	client mqtt.Client
	msgs   chan mqtt.Message
	lost   chan struct{}
	lose   func() // closes lost, once
}

func newMQTT(conf *service.ParsedConfig, res *service.Resources) (service.BatchInput, error) {
	m := &mqttInput{options: mqtt.NewClientOptions(), topics: map[string]byte{}, log: res.Logger()}
	urls, err := conf.FieldURLList("urls")
	if err != nil {
		return nil, err
	}
	for _, u := range urls {
		m.options.AddBroker(u.String())
	}
	topics, err := conf.FieldStringList("topics")
	if err != nil {
		return nil, err
	}
	qos, err := conf.FieldInt("qos")
	if err != nil {
		return nil, err
	}
	if qos < 0 || qos > 2 {
		return nil, fmt.Errorf("qos: is %d; it must be 0, 1 or 2", qos)
	}
	for _, topic := range topics {
		m.topics[topic] = byte(qos)
	}
	return m, m.configure(conf)
}

// configure takes over what concerns the connection.
func (m *mqttInput) configure(conf *service.ParsedConfig) error {
	o := m.options
	clean, err := conf.FieldBool("clean_session")
	if err != nil {
		return err
	}
	id, err := conf.FieldString("client_id")
	if err != nil {
		return err
	}
	if id == "" && !clean {
		return errors.New(mqttNoClient)
	}
	user, err := conf.FieldString("user")
	if err != nil {
		return err
	}
	password, err := conf.FieldString("password")
	if err != nil {
		return err
	}
	keepalive, err := conf.FieldInt("keepalive")
	if err != nil {
		return err
	}
	timeout, err := conf.FieldDuration("connect_timeout")
	if err != nil {
		return err
	}
	tls, on, err := conf.FieldTLSToggled("tls")
	if err != nil {
		return err
	}
	if on {
		o.SetTLSConfig(tls)
	}
	o.SetClientID(id).SetCleanSession(clean).SetUsername(user).SetPassword(password).
		SetKeepAlive(time.Duration(keepalive) * time.Second).SetConnectTimeout(timeout).
		SetAutoReconnect(false).SetAutoAckDisabled(true).SetOrderMatters(true)
	return nil
}

const mqttNoClient = "client_id: missing; the broker keeps messages for a session by this name while the process is down, so give it one that stays the same"

func (m *mqttInput) Connect(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := &mqttConn{msgs: make(chan mqtt.Message, mqttUnacked), lost: make(chan struct{})}
	c.lose = sync.OnceFunc(func() { close(c.lost) })
	o := *m.options
	o.SetConnectionLostHandler(func(_ mqtt.Client, err error) {
		m.log.Warnf("Connection to the MQTT broker lost: %v", err)
		c.lose()
	})
	// What waited in the session comes before the subscription is made anew, so this
	// handler takes everything.
	o.SetDefaultPublishHandler(func(_ mqtt.Client, msg mqtt.Message) {
		select {
		case c.msgs <- msg:
		case <-c.lost:
		}
	})
	c.client = mqtt.NewClient(&o)
	err := done(ctx, c.client.Connect())
	if err == nil {
		err = done(ctx, c.client.SubscribeMultiple(m.topics, nil))
	}
	if err != nil {
		c.close()
		return fmt.Errorf("connect to the MQTT broker: %w", err)
	}
	m.conn = c
	return nil
}

func done(ctx context.Context, t mqtt.Token) error {
	select {
	case <-t.Done():
		return t.Error()
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *mqttConn) close() {
	c.lose()
	const ms = 250 // for answers that are on their way
	c.client.Disconnect(ms)
}

func (m *mqttInput) ReadBatch(ctx context.Context) (service.MessageBatch, service.AckFunc, error) {
	m.mu.Lock()
	c := m.conn
	m.mu.Unlock()
	if c == nil {
		return nil, nil, service.ErrNotConnected
	}
	var came []mqtt.Message
	select {
	case msg := <-c.msgs:
		came = append(came, msg)
	case <-c.lost:
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.conn == c {
			m.conn = nil
		}
		return nil, nil, service.ErrNotConnected
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	for more := true; more && len(came) < mqttBatch; {
		select {
		case msg := <-c.msgs:
			came = append(came, msg)
		default:
			more = false
		}
	}
	out := make(service.MessageBatch, len(came))
	for i, msg := range came {
		out[i] = service.NewMessage(msg.Payload())
		out[i].MetaSetMut("mqtt_topic", msg.Topic())
		out[i].MetaSetMut("mqtt_qos", int(msg.Qos()))
		out[i].MetaSetMut("mqtt_retained", msg.Retained())
		out[i].MetaSetMut("mqtt_duplicate", msg.Duplicate())
		out[i].MetaSetMut("mqtt_message_id", int(msg.MessageID()))
	}
	return out, func(_ context.Context, res error) error {
		for _, msg := range came {
			if res == nil {
				msg.Ack() // goes nowhere when its connection has ended: it comes again
			}
		}
		return nil
	}, nil
}

func (m *mqttInput) Close(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn != nil {
		m.conn.close()
		m.conn = nil
	}
	return nil
}
