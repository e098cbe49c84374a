package connectors

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/redpanda-data/benthos/v4/public/utils/netutil"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
	"go.yaml.in/yaml/v3"

	"github.com/tidemill/tidemill/connectors/kafka"
	"github.com/tidemill/tidemill/connectors/position"
)

// kafkaBlocks is the input that reads Kafka in blocks. It stands in for kafka_franz where
// no processor wants to see records one by one, and all that the connector says is known
// to it; see readsBlocks.
const (
	kafkaFranz  = "kafka_franz"
	kafkaBlocks = "tidemill_kafka"
)

// kafkaFetchBytes is how many bytes a broker sends at once where a connector does not say
// otherwise. Benthos' 50 MB, unpacked, would be the largest part of the process' memory.
const kafkaFetchBytes = "1MiB"

// kafkaBlocksSpec has the fields of kafka_franz that concern what is read; those about
// batches are of no use to blocks.
func kafkaBlocksSpec() *service.ConfigSpec {
	return service.NewConfigSpec().
		Summary("Reads topics of Kafka in blocks of rows.").
		Description("Put by Tidemill itself in the place of `kafka_franz`, where no processor is between it and the table.").
		Fields(
			service.NewStringListField("seed_brokers"),
			service.NewStringField("client_id").Default("tidemill"),
			service.NewTLSToggledField("tls"),
			service.NewObjectListField("sasl",
				service.NewStringField("mechanism"),
				service.NewStringField("username").Default(""),
				service.NewStringField("password").Default("").Secret(),
				service.NewStringField("token").Default("").Secret(),
				service.NewStringMapField("extensions").Optional(),
			).Optional(),
			service.NewDurationField("metadata_max_age").Default("1m"),
			service.NewDurationField("request_timeout_overhead").Default("10s"),
			service.NewDurationField("conn_idle_timeout").Default("20s"),
			netutil.DialerConfigSpec(),
			service.NewStringListField("topics").Optional(),
			service.NewBoolField("regexp_topics").Default(false),
			service.NewStringListField("regexp_topics_include").Optional(),
			service.NewStringListField("regexp_topics_exclude").Optional(),
			service.NewStringField("rack_id").Default(""),
			service.NewStringField("instance_id").Default(""),
			service.NewDurationField("rebalance_timeout").Default("45s"),
			service.NewDurationField("session_timeout").Default("10s"),
			service.NewDurationField("heartbeat_interval").Default("3s"),
			service.NewBoolField("start_from_oldest").Default(true),
			service.NewStringField("start_offset").Default("earliest"),
			service.NewStringField("fetch_max_bytes").Default(kafkaFetchBytes),
			service.NewStringField("fetch_min_bytes").Default("1B"),
			service.NewStringField("fetch_max_partition_bytes").Default("1MiB"),
			service.NewDurationField("fetch_max_wait").Default("5s"),
			service.NewStringField("transaction_isolation_level").Default("read_uncommitted"),
			service.NewStringField("consumer_group"),
			service.NewDurationField("commit_period").Default("5s"),
		)
}

// readsBlocks says whether the blocks' input can stand in for kafka_franz: whether it has
// each field that the connector sets, and what stands in it.
func readsBlocks(conf *yaml.Node) bool {
	if conf == nil || conf.Kind != yaml.MappingNode || child(conf, "consumer_group") == nil {
		return false
	}
	for i := 0; i+1 < len(conf.Content); i += 2 {
		name, value := conf.Content[i].Value, conf.Content[i+1]
		if slices.Contains(kafkaOfBatches, name) {
			continue
		}
		if !slices.Contains(kafkaFields, name) {
			return false
		}
		switch name {
		case "topics": // foo:0 are partitions by number, which no group gives out
			if !everyScalar(value, func(s string) bool { return !strings.ContainsAny(s, ":$") }) {
				return false
			}
		case "sasl":
			for _, m := range value.Content {
				mechanism := child(m, "mechanism")
				if child(m, "aws") != nil || mechanism == nil || !slices.Contains(kafkaMechanisms, mechanism.Value) {
					return false
				}
			}
		}
	}
	return true
}

// everyScalar says whether all values of a node, or in it, are so.
func everyScalar(n *yaml.Node, is func(string) bool) bool {
	if n.Kind == yaml.ScalarNode {
		return is(n.Value)
	}
	for _, c := range n.Content {
		if !everyScalar(c, is) {
			return false
		}
	}
	return true
}

var (
	// kafkaFields are those of kafkaBlocksSpec.
	kafkaFields = []string{
		"seed_brokers", "client_id", "tls", "sasl", "metadata_max_age", "request_timeout_overhead", "conn_idle_timeout", "tcp",
		"topics", "regexp_topics", "regexp_topics_include", "regexp_topics_exclude", "rack_id", "instance_id", "rebalance_timeout",
		"session_timeout", "heartbeat_interval", "start_from_oldest", "start_offset", "fetch_max_bytes", "fetch_min_bytes",
		"fetch_max_partition_bytes", "fetch_max_wait", "transaction_isolation_level", "consumer_group", "commit_period",
	}
	// kafkaOfBatches are fields of kafka_franz that say how single records are gathered, and
	// what becomes of their metadata. There are none of either.
	kafkaOfBatches = []string{"batching", "checkpoint_limit", "multi_header", "topic_lag_refresh_period", "auto_replay_nacks"}

	kafkaMechanisms = []string{"none", "PLAIN", "OAUTHBEARER", "SCRAM-SHA-256", "SCRAM-SHA-512"}
)

// toBlocks makes the config of kafka_franz one of the blocks' input.
func toBlocks(conf *yaml.Node) {
	for _, f := range kafkaOfBatches {
		remove(conf, f)
	}
}

type kafkaInput struct {
	opts   []kgo.Opt
	reader *kafka.Reader // nil: not connected
}

func newKafkaBlocks(conf *service.ParsedConfig, res *service.Resources) (service.BatchInput, error) {
	c := &kafkaConfig{parsed{conf: conf}}
	k := &kafkaInput{opts: slices.Concat(c.connection(), c.consumer(), []kgo.Opt{kgo.WithLogger(kafkaLog{res.Logger()})})}
	if err := c.err(); err != nil {
		return nil, err
	}
	return k, nil
}

func (k *kafkaInput) Connect(ctx context.Context) error {
	if k.reader != nil {
		return nil
	}
	r, err := kafka.Open(ctx, k.opts...)
	if err != nil {
		return err
	}
	k.reader = r
	return nil
}

func (k *kafkaInput) ReadBatch(ctx context.Context) (service.MessageBatch, service.AckFunc, error) {
	b, err := k.reader.Next(ctx)
	if err != nil {
		return nil, nil, err
	}
	msgs := make(service.MessageBatch, len(b.Blocks))
	for i, block := range b.Blocks {
		msgs[i] = position.Stamp(service.NewMessage(block.Data), Position{
			Partition: block.Partition, Offset: block.First, PerRow: block.Rows > 0, Rows: block.Rows,
		})
	}
	return msgs, func(_ context.Context, err error) error {
		if err == nil { // what was rejected is handed out again, by the wrapper or by the brokers
			b.Done()
		}
		return nil
	}, nil
}

func (k *kafkaInput) Close(ctx context.Context) error {
	if k.reader != nil {
		k.reader.Close(ctx)
	}
	return nil
}

// kafkaConfig reads what a client of Kafka is told.
type kafkaConfig struct{ parsed }

func (c *kafkaConfig) bytes(name string) int32 {
	text := c.str(name)
	n, err := humanize.ParseBytes(text)
	if err == nil && n > math.MaxInt32 {
		err = errors.New("is more than 2 GiB")
	}
	if err != nil {
		c.bad(name, "is %q: %v; write a size such as 8MiB", text, err)
	}
	return int32(n)
}

// list reads a list whose items may have several things with commas between them.
func (c *kafkaConfig) list(name string) (out []string) {
	if !c.conf.Contains(name) {
		return nil
	}
	for _, item := range c.strings(name) {
		for s := range strings.SplitSeq(item, ",") {
			if s = strings.TrimSpace(s); s != "" {
				out = append(out, s)
			}
		}
	}
	return out
}

func (c *kafkaConfig) connection() []kgo.Opt {
	opts := []kgo.Opt{
		kgo.SeedBrokers(c.list("seed_brokers")...),
		kgo.ClientID(c.str("client_id")),
		kgo.MetadataMaxAge(c.duration("metadata_max_age")),
		kgo.RequestTimeoutOverhead(c.duration("request_timeout_overhead")),
		kgo.ConnIdleTimeout(c.duration("conn_idle_timeout")),
		kgo.SASL(c.mechanisms()...),
	}
	var dialer net.Dialer
	tcp, err := netutil.DialerConfigFromParsed(c.conf.Namespace("tcp"))
	if err == nil {
		err = netutil.DecorateDialer(&dialer, tcp)
	}
	if err != nil {
		c.bad("tcp", "%v", err)
	}
	conf, on, err := c.conf.FieldTLSToggled("tls")
	if err != nil {
		c.errs = append(c.errs, err)
	}
	if on {
		return append(opts, kgo.Dialer((&tls.Dialer{NetDialer: &dialer, Config: conf}).DialContext))
	}
	return append(opts, kgo.Dialer(dialer.DialContext))
}

func (c *kafkaConfig) mechanisms() (out []sasl.Mechanism) {
	if !c.conf.Contains("sasl") {
		return nil
	}
	for i, conf := range field(&c.parsed, c.conf.FieldObjectList, []string{"sasl"}) {
		m := &parsed{conf: conf}
		user, password, token := m.str("username"), m.str("password"), m.str("token")
		var extensions map[string]string
		if conf.Contains("extensions") {
			extensions = field(m, conf.FieldStringMap, []string{"extensions"})
		}
		switch mechanism := m.str("mechanism"); mechanism {
		case "", "none":
		case "PLAIN":
			out = append(out, plain.Auth{User: user, Pass: password}.AsMechanism())
		case "OAUTHBEARER":
			out = append(out, oauth.Auth{Token: token, Extensions: extensions}.AsMechanism())
		case "SCRAM-SHA-256":
			out = append(out, scram.Auth{User: user, Pass: password}.AsSha256Mechanism())
		case "SCRAM-SHA-512":
			out = append(out, scram.Auth{User: user, Pass: password}.AsSha512Mechanism())
		default:
			m.bad("mechanism", "is %q; it must be one of %s", mechanism, strings.Join(kafkaMechanisms, ", "))
		}
		for _, err := range m.errs {
			c.errs = append(c.errs, fmt.Errorf("sasl[%d]: %w", i, err))
		}
	}
	return out
}

func (c *kafkaConfig) consumer() []kgo.Opt {
	topics, regexps := c.list("topics"), c.bool("regexp_topics")
	if include := c.list("regexp_topics_include"); len(include) > 0 {
		topics, regexps = include, true
	}
	if len(topics) == 0 {
		c.bad("topics", "missing; name at least one topic, or expressions in regexp_topics_include")
	}
	opts := []kgo.Opt{
		kgo.ConsumerGroup(c.str("consumer_group")),
		kgo.ConsumeTopics(topics...),
		kgo.ConsumeResetOffset(c.start()),
		kgo.FetchIsolationLevel(c.isolation()),
		kgo.Rack(c.str("rack_id")),
		kgo.RebalanceTimeout(c.duration("rebalance_timeout")),
		kgo.SessionTimeout(c.duration("session_timeout")),
		kgo.HeartbeatInterval(c.duration("heartbeat_interval")),
		kgo.FetchMaxBytes(c.bytes("fetch_max_bytes")),
		kgo.FetchMinBytes(c.bytes("fetch_min_bytes")),
		kgo.FetchMaxPartitionBytes(c.bytes("fetch_max_partition_bytes")),
		kgo.FetchMaxWait(c.duration("fetch_max_wait")),
		kgo.AutoCommitInterval(c.duration("commit_period")),
	}
	if regexps {
		opts = append(opts, kgo.ConsumeRegex(), kgo.ConsumeExcludeTopics(c.list("regexp_topics_exclude")...))
	}
	if id := c.str("instance_id"); id != "" {
		opts = append(opts, kgo.InstanceID(id))
	}
	return opts
}

func (c *kafkaConfig) start() kgo.Offset {
	oldest := c.bool("start_from_oldest")
	switch start := c.str("start_offset"); start {
	case "earliest":
		if !oldest {
			c.bad("start_from_oldest", "is false, which start_offset: earliest contradicts; write start_offset: latest instead of both")
		}
		return kgo.NewOffset().AtStart()
	case "latest":
		return kgo.NewOffset().AtEnd()
	case "committed":
		return kgo.NewOffset().AtCommitted()
	default:
		c.bad("start_offset", "is %q; it must be earliest, latest or committed", start)
		return kgo.NewOffset()
	}
}

func (c *kafkaConfig) isolation() kgo.IsolationLevel {
	switch level := c.str("transaction_isolation_level"); level {
	case "read_committed":
		return kgo.ReadCommitted()
	case "read_uncommitted":
	default:
		c.bad("transaction_isolation_level", "is %q; it must be read_committed or read_uncommitted", level)
	}
	return kgo.ReadUncommitted()
}

// kafkaLog hands what the client says to the connector's log. It says little at info that
// a user can do something about.
type kafkaLog struct{ to *service.Logger }

func (kafkaLog) Level() kgo.LogLevel { return kgo.LogLevelInfo }

func (l kafkaLog) Log(level kgo.LogLevel, text string, keyvals ...any) {
	to := l.to.With(keyvals...)
	switch level {
	case kgo.LogLevelError:
		to.Error(text)
	case kgo.LogLevelWarn:
		to.Warn(text)
	default:
		to.Debug(text)
	}
}
