package testserver

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Kafka is a running Apache Kafka broker (KRaft, one node).
type Kafka struct {
	*Process
	Addr string // host:port of the broker's listener
	run  func() *exec.Cmd
}

// StartKafka runs a broker until the test ends. It skips the test when Java or
// the jars ($TIDEMILL_TEST_KAFKA, a directory; see .ci/kafka/pom.xml) are missing.
func StartKafka(tb testing.TB) *Kafka {
	tb.Helper()
	return StartKafkaBehind(tb, "")
}

// StartKafkaBehind is StartKafka for a broker that sends its clients to another
// address, as one behind a proxy does; "" is its own.
func StartKafkaBehind(tb testing.TB, advertised string) *Kafka {
	tb.Helper()
	java := Binary(tb, "TIDEMILL_TEST_JAVA", "java", "install a Java 17 runtime")
	jars := os.Getenv("TIDEMILL_TEST_KAFKA")
	if jars == "" {
		jars = filepath.Join(moduleRoot(tb), "tools", "kafka")
	}
	if found, _ := filepath.Glob(filepath.Join(jars, "kafka_2.13-*.jar")); len(found) == 0 {
		Missing(tb, "no Kafka jars in %s; fetch them with: mvn -f .ci/kafka/pom.xml dependency:copy-dependencies -DoutputDirectory=../../tools/kafka", jars)
	}
	dir := tb.TempDir()
	k := &Kafka{Addr: Addr(FreePort(tb))}
	controller := Addr(FreePort(tb))
	if advertised == "" {
		advertised = k.Addr
	}
	conf := filepath.Join(dir, "server.properties")
	props := map[string]string{
		"process.roles":                            "broker,controller",
		"node.id":                                  "1",
		"controller.quorum.voters":                 "1@" + controller,
		"listeners":                                "PLAINTEXT://" + k.Addr + ",CONTROLLER://" + controller,
		"advertised.listeners":                     "PLAINTEXT://" + advertised,
		"controller.listener.names":                "CONTROLLER",
		"listener.security.protocol.map":           "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"log.dirs":                                 filepath.Join(dir, "data"),
		"offsets.topic.replication.factor":         "1",
		"offsets.topic.num.partitions":             "1",
		"transaction.state.log.min.isr":            "1",
		"group.initial.rebalance.delay.ms":         "0",
		"group.min.session.timeout.ms":             "500",
		"broker.session.timeout.ms":                "1500", // so long a killed broker is kept from coming back
		"broker.heartbeat.interval.ms":             "300",
		"transaction.state.log.replication.factor": "1",
	}
	var b strings.Builder
	for k, v := range props {
		fmt.Fprintf(&b, "%s=%s\n", k, v)
	}
	if err := os.WriteFile(conf, []byte(b.String()), 0o600); err != nil {
		tb.Fatal(err)
	}
	run := func(class string, args ...string) *exec.Cmd {
		return exec.Command(java, append([]string{"-Xmx384m", "-cp", filepath.Join(jars, "*"), class}, args...)...)
	}
	if out, err := run("kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", conf).CombinedOutput(); err != nil {
		tb.Fatalf("format Kafka storage: %v\n%s", err, out)
	}
	k.run = func() *exec.Cmd { return run("kafka.Kafka", conf) }
	k.Start(tb)
	return k
}

// Start runs the broker again, at its address and on its data, after it was stopped or killed.
func (k *Kafka) Start(tb testing.TB) {
	tb.Helper()
	k.Process = Start(tb, k.run())
	k.WaitReady(tb, func() error {
		c, err := kgo.NewClient(kgo.SeedBrokers(k.Addr))
		if err != nil {
			return err
		}
		defer c.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		return c.Ping(ctx)
	})
}

// CreateTopic creates a topic with that many partitions.
func (k *Kafka) CreateTopic(tb testing.TB, topic string, partitions int32) {
	tb.Helper()
	c := k.Client(tb)
	if _, err := kadm.NewClient(c).CreateTopic(context.Background(), partitions, 1, nil, topic); err != nil {
		tb.Fatalf("create topic %s: %v", topic, err)
	}
}

// Client returns a client of the broker that is closed when the test ends.
func (k *Kafka) Client(tb testing.TB, opts ...kgo.Opt) *kgo.Client {
	tb.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(k.Addr), kgo.RecordPartitioner(kgo.ManualPartitioner())}, opts...)...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.Close)
	return c
}

// moduleRoot is the directory of go.mod, above the test's own.
func moduleRoot(tb testing.TB) string {
	tb.Helper()
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			tb.Fatal("no go.mod above the test's directory")
		}
		dir = parent
	}
}
