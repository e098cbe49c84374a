package connectors

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/tidemill/tidemill/internal/problem"
)

// trial says how an input is read for a look, so that whoever reads it for good
// misses nothing.
type trial struct {
	refuse   string                    // why it cannot be: reading alone takes messages away
	change   func(t *trialRun, n conf) // of its config
	giveBack bool                      // held messages are rejected at the end, and the source has them again
	harmless bool                      // acking changes nothing at the source, so that its end can be told
	atOnce   bool                      // they are rejected as they come: somebody waits for the answer
	leaves   string                    // what it leaves behind, for people; "" for nothing
}

// conf is an input's own config.
type conf struct{ *yaml.Node }

func (c conf) set(field, value, tag string) { setScalar(c.Node, field, value, tag) }
func (c conf) text(field string) string {
	if n := child(c.Node, field); n != nil {
		return n.Value
	}
	return ""
}

const givenBack = "messages that were read are given back, marked as delivered before; a queue that counts deliveries counts one more"

// trials lists what is known of inputs, by their Benthos names. Inputs that are not
// here are read without an ack, and messages are given back where that can be done.
var trials = map[string]trial{
	"kafka_franz": {change: ownGroup("consumer_group")},
	"kafka":       {change: ownGroup("consumer_group")},
	"amqp_0_9": {giveBack: true, leaves: givenBack, change: func(t *trialRun, c conf) {
		c.set("auto_ack", "false", "!!bool")
		t.window(c, "prefetch_count")
	}},
	"amqp_1":                 {giveBack: true, leaves: givenBack},
	"aws_sqs":                {giveBack: true, leaves: givenBack, change: func(_ *trialRun, c conf) { c.set("delete_message", "false", "!!bool") }},
	"aws_s3":                 {change: keepObjects("delete_objects"), giveBack: true},
	"aws_kinesis":            {refuse: "would take shards and checkpoints from the consumers that run; try the connector with an input of `generate` or `file` that holds a few of its records"},
	"azure_blob_storage":     {harmless: true, change: keepObjects("delete_objects")},
	"azure_queue_storage":    {leaves: "messages that were read come back when their visibility timeout is over"},
	"gcp_cloud_storage":      {harmless: true, change: keepObjects("delete_objects")},
	"gcp_pubsub":             {giveBack: true, leaves: givenBack},
	"beanstalkd":             {giveBack: true, leaves: givenBack},
	filesInput:               {harmless: true, leaves: "read from the first object on, and not from where the table stands"},
	"http_poll":              {harmless: true, leaves: "the requests were really made, from the beginning and not from where the table stands"},
	"sql_poll":               {harmless: true, leaves: "read from the beginning, and not from where the table stands"},
	"postgres_changes":       {refuse: "reads a replication slot, which serves one reader and moves on as it is read; try the connector with an input of `sql_select` on the same tables, or unit tests with messages as docs/connectors/postgres_changes.md shows them"},
	"csv":                    {harmless: true, change: keepObjects("delete_on_finish")},
	"file":                   {harmless: true, change: keepObjects("delete_on_finish")},
	"sftp":                   {harmless: true, change: keepObjects("delete_on_finish")},
	"http_client":            {harmless: true, leaves: "the requests were really made"},
	"http_server":            {atOnce: true, leaves: "whoever sent requests got an error, so that they send them again"},
	"mqtt":                   {harmless: true, change: ownSession, leaves: "nothing at the broker: another client id is used, without a session that is kept; it sees only what is published meanwhile"},
	"nats":                   {harmless: true, change: func(_ *trialRun, c conf) { remove(c.Node, "queue") }},
	"nats_jetstream":         {change: ephemeral, giveBack: true},
	"nats_stream":            {change: ephemeral, giveBack: true},
	"nsq":                    {change: ownChannel, giveBack: true},
	"pulsar":                 {giveBack: true, leaves: givenBack},
	"redis_list":             {refuse: "takes messages out of the list as it reads them; try the connector with an input of `generate` or `file` that holds a few of them"},
	"redis_streams":          {change: ownStreamGroup},
	"socket_server":          {harmless: true, leaves: "what was sent to it meanwhile is gone"},
	"subprocess":             {harmless: true, leaves: "the program was really run"},
	"stdin":                  {harmless: true, leaves: "what was read of standard input is gone"},
	"gcp_bigquery_select":    {harmless: true, leaves: "the query was really run"},
	"cockroachdb_changefeed": {change: func(_ *trialRun, c conf) { remove(c.Node, "cursor_cache") }},
	"generate":               {harmless: true},
	"sql_raw":                {harmless: true, leaves: "the query was really run"},
	"host_metrics":           {harmless: true}, "parquet": {harmless: true}, "mongodb": {harmless: true}, "cassandra": {harmless: true},
	"redis_scan": {harmless: true}, "redis_pubsub": {harmless: true}, "azure_cosmosdb": {harmless: true}, "hdfs": {harmless: true},
	"nats_kv": {harmless: true}, "schema_registry": {harmless: true}, "socket": {harmless: true}, "websocket": {harmless: true},
	"sql_select": {harmless: true},
}

// trialRun prepares a connector's inputs for one look.
type trialRun struct {
	config   *Config
	suffix   string
	rows     int
	hold     *hold
	notes    []string
	problems problem.List
}

func (t *trialRun) note(format string, args ...any) {
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

// prepare changes an input and those that it holds.
func (t *trialRun) prepare(in *yaml.Node) {
	kind := componentName(in)
	own := child(in, kind)
	switch kind {
	case "broker", "sequence", "dynamic":
		if list := child(own, "inputs"); list != nil {
			for i, n := range list.Content {
				if list.Kind == yaml.SequenceNode || i%2 == 1 {
					t.prepare(n)
				}
			}
		}
		return
	case "read_until", "batched":
		t.prepare(child(own, "input"))
		return
	case "":
		return
	}
	how, known := trials[kind]
	if !known {
		how = trial{giveBack: true}
	}
	how.harmless = how.harmless || kind == "aws_s3" && child(own, "sqs") == nil
	t.hold.trials[kind] = how
	if how.refuse != "" {
		t.problems.Addf(t.config.File, lineOf(in, t.config.root), "input."+kind, "%s", how.refuse)
		return
	}
	if own != nil && own.Kind == yaml.MappingNode && child(own, "auto_replay_nacks") != nil {
		setScalar(own, "auto_replay_nacks", "false", "!!bool")
	}
	if how.change != nil && own != nil && own.Kind == yaml.MappingNode {
		how.change(t, conf{own})
	}
	switch {
	case how.leaves != "":
		t.note("%s: %s", kind, how.leaves)
	case !known:
		t.note("%s: nothing was acked; what else reading it does is not known to this command", kind)
	}
}

// window makes an input hand out as many messages as are to be held at once.
func (t *trialRun) window(c conf, field string) {
	if t.rows > 10 {
		c.set(field, fmt.Sprint(t.rows), "!!int")
	}
}

func ownGroup(field string) func(*trialRun, conf) {
	return func(t *trialRun, c conf) {
		group := c.text(field)
		if group == "" {
			t.note("no consumer group: no offsets were moved")
			return
		}
		own := group + "-try-" + t.suffix
		c.set(field, own, "!!str")
		t.note("read as the consumer group %s, from where a new group begins, and no offsets were committed: %s is where it was, and Kafka forgets the empty group", own, group)
	}
}

func keepObjects(field string) func(*trialRun, conf) {
	return func(_ *trialRun, c conf) {
		if child(c.Node, field) != nil {
			c.set(field, "false", "!!bool")
		}
	}
}

func ownSession(t *trialRun, c conf) {
	c.set("client_id", strings.TrimPrefix(c.text("client_id")+"-try-"+t.suffix, "-"), "!!str")
	c.set("clean_session", "true", "!!bool")
}

// ephemeral reads a stream without the durable consumer, so that its place stays.
func ephemeral(t *trialRun, c conf) {
	if c.text("subject") == "" && c.text("stream") == "" && c.text("durable") != "" {
		t.note("read through the consumer %s: %s", c.text("durable"), givenBack)
		return
	}
	for _, f := range []string{"durable", "durable_name", "queue", "bind"} {
		remove(c.Node, f)
	}
	if child(c.Node, "client_id") != nil {
		c.set("client_id", c.text("client_id")+"-try-"+t.suffix, "!!str")
	}
	t.note("read through a consumer without a name, which the server forgets: the durable one is where it was")
}

func ownChannel(t *trialRun, c conf) {
	channel := "try-" + t.suffix + "#ephemeral"
	c.set("channel", channel, "!!str")
	t.note("read through a channel of its own, %s, which goes away by itself and sees only what is published meanwhile", channel)
}

func ownStreamGroup(t *trialRun, c conf) {
	group := c.text("consumer_group")
	own := strings.TrimPrefix(group+"-try-"+t.suffix, "-")
	c.set("consumer_group", own, "!!str")
	t.note("read as the consumer group %s, which stays in the streams until somebody removes it with XGROUP DESTROY; the connector's own group is where it was", own)
}
