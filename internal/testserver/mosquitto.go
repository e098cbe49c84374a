package testserver

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// Mosquitto is a running MQTT broker that keeps sessions on disk.
type Mosquitto struct {
	*Process
	Addr string // host:port
	port int
	dir  string
}

// StartMosquitto runs a broker until the test ends. It skips the test when there is no
// mosquitto ($TIDEMILL_TEST_MOSQUITTO).
func StartMosquitto(tb testing.TB) *Mosquitto {
	tb.Helper()
	m := &Mosquitto{port: FreePort(tb), dir: tb.TempDir()}
	m.Addr = Addr(m.port)
	m.Start(tb)
	return m
}

// Start runs the broker again, at its address and on its data, after it was stopped. (One
// that was killed has only what it last saved.)
func (m *Mosquitto) Start(tb testing.TB) {
	tb.Helper()
	var bin string
	if _, err := os.Stat("/usr/sbin/mosquitto"); err == nil && os.Getenv("TIDEMILL_TEST_MOSQUITTO") == "" {
		bin = "/usr/sbin/mosquitto" // where only root looks
	} else {
		bin = Binary(tb, "TIDEMILL_TEST_MOSQUITTO", "mosquitto", "install Mosquitto (apt-get install mosquitto)")
	}
	conf := filepath.Join(m.dir, "mosquitto.conf")
	text := fmt.Sprintf(`listener %s 127.0.0.1
allow_anonymous true
persistence true
persistence_location %s/
max_inflight_messages 1000
max_queued_messages 0
user root
`, strconv.Itoa(m.port), m.dir)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	m.Process = Start(tb, exec.Command(bin, "-c", conf))
	m.WaitReady(tb, func() error { return Dial(m.Addr) })
}

// URL is the broker's for clients.
func (m *Mosquitto) URL() string { return "tcp://" + m.Addr }

// Topic publishes to a topic of a broker with QoS 1, and connects again when it has to.
type Topic struct {
	m    *Mosquitto
	name string

	mu sync.Mutex
	c  mqtt.Client // guarded by mu; nil: not connected
}

// Topic is the broker's topic of that name.
func (m *Mosquitto) Topic(name string) *Topic { return &Topic{m: m, name: name} }

func (p *Topic) client() (mqtt.Client, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.c != nil && p.c.IsConnectionOpen() {
		return p.c, nil
	}
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(p.m.URL()).SetClientID("publisher of " + p.name).SetAutoReconnect(false))
	if err := answered(c.Connect()); err != nil {
		return nil, err
	}
	p.c = c
	return c, nil
}

// Send publishes a message and returns when the broker has it. After an error it may have it
// or not.
func (p *Topic) Send(body []byte) error {
	c, err := p.client()
	if err != nil {
		return err
	}
	return answered(c.Publish(p.name, 1, false, body))
}

// Session makes the broker keep the topic's messages, with QoS 1, for a client that is yet to come.
func (p *Topic) Session(tb testing.TB, client string) {
	tb.Helper()
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(p.m.URL()).SetClientID(client).SetCleanSession(false))
	err := answered(c.Connect())
	if err == nil {
		err = answered(c.Subscribe(p.name, 1, nil))
	}
	if err != nil {
		tb.Fatal(err)
	}
	c.Disconnect(1000)
}

func answered(t mqtt.Token) error {
	if !t.WaitTimeout(5 * time.Second) {
		return errors.New("no answer")
	}
	return t.Error()
}
