package testserver

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
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
