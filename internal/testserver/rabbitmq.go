package testserver

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// RabbitMQ is a running RabbitMQ broker.
type RabbitMQ struct {
	*Process
	Addr string // host:port of AMQP 0.9.1
	port int
	dir  string
	epmd int // port of its own Erlang name server
	dist int
}

// rabbitScripts are where the server's own script stands beside the wrapper in PATH,
// which runs it as another user and without our environment.
var rabbitScripts = []string{"/usr/lib/rabbitmq/bin/rabbitmq-server"}

// StartRabbitMQ runs a broker until the test ends. It skips the test when there is no
// rabbitmq-server ($TIDEMILL_TEST_RABBITMQ).
func StartRabbitMQ(tb testing.TB) *RabbitMQ {
	tb.Helper()
	r := &RabbitMQ{port: FreePort(tb), epmd: FreePort(tb), dist: FreePort(tb), dir: tb.TempDir()}
	tb.Cleanup(func() { // after the broker has ended
		kill := exec.CommandContext(context.Background(), "epmd", "-kill")
		kill.Env = append(os.Environ(), fmt.Sprintf("ERL_EPMD_PORT=%d", r.epmd))
		_ = kill.Run() // it may not have come up
	})
	r.Addr = Addr(r.port)
	r.Start(tb)
	return r
}

// Start runs the broker again, at its address and on its data, after it was stopped or killed.
func (r *RabbitMQ) Start(tb testing.TB) {
	tb.Helper()
	script := ""
	for _, s := range rabbitScripts {
		if _, err := os.Stat(s); err == nil && os.Getenv("TIDEMILL_TEST_RABBITMQ") == "" {
			script = s
		}
	}
	if script == "" {
		script = Binary(tb, "TIDEMILL_TEST_RABBITMQ", "rabbitmq-server", "install RabbitMQ (apt-get install rabbitmq-server)")
	}
	cmd := exec.Command(script)
	cmd.Env = append(os.Environ(),
		"HOME="+r.dir, // of the Erlang cookie
		fmt.Sprintf("RABBITMQ_NODENAME=tidemill%s@localhost", strconv.Itoa(r.port)),
		"RABBITMQ_NODE_IP_ADDRESS=127.0.0.1", "RABBITMQ_NODE_PORT="+strconv.Itoa(r.port),
		fmt.Sprintf("RABBITMQ_DIST_PORT=%d", r.dist), fmt.Sprintf("ERL_EPMD_PORT=%d", r.epmd), "ERL_EPMD_ADDRESS=127.0.0.1",
		"RABBITMQ_MNESIA_BASE="+filepath.Join(r.dir, "data"), "RABBITMQ_LOG_BASE="+filepath.Join(r.dir, "log"),
		"RABBITMQ_CONFIG_FILE="+filepath.Join(r.dir, "none"), "RABBITMQ_ENABLED_PLUGINS_FILE="+filepath.Join(r.dir, "plugins"),
		"RUNNING_UNDER_SYSTEMD=true", // the script becomes the broker, so that signals reach it
	)
	r.Process = Start(tb, cmd)
	r.WaitReady(tb, func() error {
		c, err := amqp.DialConfig(r.URL(), amqp.Config{Dial: amqp.DefaultDial(2 * time.Second)})
		if err != nil {
			return err
		}
		return c.Close()
	})
}

// URL is the broker's for clients.
func (r *RabbitMQ) URL() string { return "amqp://guest:guest@" + r.Addr + "/" }

// Queue publishes to a durable queue of a broker, with confirms, and connects again when it has to.
type Queue struct {
	r    *RabbitMQ
	name string

	mu sync.Mutex
	ch *amqp.Channel // guarded by mu; nil: not connected
}

// Queue is the broker's queue of that name, which is made when it is first published to.
func (r *RabbitMQ) Queue(name string) *Queue { return &Queue{r: r, name: name} }

func (q *Queue) channel() (*amqp.Channel, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ch != nil && !q.ch.IsClosed() {
		return q.ch, nil
	}
	conn, err := amqp.Dial(q.r.URL())
	if err != nil {
		return nil, err
	}
	ch, err := conn.Channel()
	if err == nil {
		err = ch.Confirm(false)
	}
	if err == nil {
		_, err = ch.QueueDeclare(q.name, true, false, false, false, nil)
	}
	q.ch = ch
	return ch, err
}

// Send publishes a persistent message under an id and returns when the broker has it. After
// an error it may have it or not.
func (q *Queue) Send(ctx context.Context, id string, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	ch, err := q.channel()
	if err != nil {
		return err
	}
	m := amqp.Publishing{DeliveryMode: amqp.Persistent, MessageId: id, Body: body}
	c, err := ch.PublishWithDeferredConfirmWithContext(ctx, "", q.name, false, false, m)
	if err != nil {
		return err
	}
	if ok, err := c.WaitContext(ctx); err != nil || !ok {
		return fmt.Errorf("confirmed: %v, %w", ok, err)
	}
	return nil
}
