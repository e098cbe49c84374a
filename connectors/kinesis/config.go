package kinesis

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/redpanda-data/benthos/v4/public/utils/netutil"
)

// Spec is the input's config.
func Spec() *service.ConfigSpec {
	return service.NewConfigSpec().
		Stable().
		Categories("Tidemill").
		Summary("Reads records of AWS Kinesis' streams, whose shards processes share by leases in a DynamoDB table.").
		Description("Each record's sequence number is its position, so that its rows land exactly once, whoever reads it. A lease says up to where a shard is acked, which is after the commit that holds the rows. Metadata: `kinesis_stream`, `kinesis_shard`, `kinesis_partition_key`, `kinesis_sequence_number`.").
		Fields(
			service.NewStringListField("streams").Description("The streams to read, by name or ARN; several may stand in one text, with commas between them. `stream:shardId-000000000000` is one shard of a stream.").Example([]string{"events"}),
			service.NewObjectField("dynamodb", append([]*service.ConfigField{
				service.NewStringField("table").Description("The table's name. For each stream, it must be this connector's alone.").Default(""),
				service.NewBoolField("create").Description("Make the table where it is missing.").Default(false),
				service.NewStringEnumField("billing_mode", "PROVISIONED", "PAY_PER_REQUEST").Description("How a table that is made is paid for.").Default("PAY_PER_REQUEST").Advanced(),
				service.NewIntField("read_capacity_units").Description("Of a table that is made with `billing_mode: PROVISIONED`.").Default(0).Advanced(),
				service.NewIntField("write_capacity_units").Description("Of a table that is made with `billing_mode: PROVISIONED`.").Default(0).Advanced(),
			}, sessionFields()...)...).Description("The table of leases. Without a region, endpoint and credentials of its own it is reached with those of the streams."),
			service.NewIntField("checkpoint_limit").Description("How many records of a shard may be on their way at once.").Default(100_000).Advanced(),
			service.NewAutoRetryNacksToggleField(),
			service.NewDurationField("commit_period").Description("How often a lease is told up to where its shard is acked.").Default("5s"),
			service.NewDurationField("steal_grace_period").Description("How long whoever hands a shard over waits for acks of what is on its way; what is not acked by then is read again, and dropped.").Default("2s"),
			service.NewDurationField("rebalance_period").Description("How often shards are listed, and counted to see whether others have more.").Default("5s").Advanced(),
			service.NewDurationField("lease_period").Description("How long the shards of a process that was killed stand still.").Default("10s").Advanced(),
			service.NewBoolField("start_from_oldest").Description("Where a shard begins of which the table of leases knows nothing: with the oldest record, or after the newest.").Default(true),
		).
		Fields(sessionFields()...).
		Field(service.NewBatchPolicyField("batching").Advanced())
}

// sessionFields say where a service of AWS is and how to log in.
func sessionFields() []*service.ConfigField {
	return []*service.ConfigField{
		service.NewStringField("region").Description("The region; by default that of the environment or the profile.").Optional().Advanced(),
		service.NewStringField("endpoint").Description("Another address than AWS' own: `http://localhost:4566`.").Optional().Advanced(),
		netutil.DialerConfigSpec(),
		service.NewObjectField("credentials",
			service.NewStringField("profile").Description("A profile in `~/.aws`.").Optional(),
			service.NewStringField("id").Description("The id of an access key.").Optional().Advanced(),
			service.NewStringField("secret").Description("The access key itself.").Optional().Advanced().Secret(),
			service.NewStringField("token").Description("The token that temporary keys have.").Optional().Advanced().Secret(),
			service.NewBoolField("from_ec2_role").Description("Log in as the EC2 machine's role.").Optional(),
			service.NewStringField("role").Description("The ARN of a role to take on.").Optional().Advanced(),
			service.NewStringField("role_external_id").Description("The external id that the role asks for.").Optional().Advanced(),
		).Advanced().Optional().Description("How to log in; by default as the AWS SDK does: by environment, profile, or machine."),
	}
}

// Problem is what is wrong with a field, and what to do.
type Problem struct{ Field, Message string }

type config struct {
	streams                         []streamConfig
	table                           tableConfig
	kinesis, dynamo                 session
	limit                           int
	commit, grace, rebalance, lease time.Duration
	oldest                          bool
}

type streamConfig struct {
	id     string   // name or ARN, as it is in the config: what leases and messages call the stream
	shards []string // those to read, as they are in the config; none: all, shared with other processes
}

type tableConfig struct {
	name          string
	create        bool
	mode          string
	reads, writes int64
}

// fields reads a config and keeps what is wrong with it.
type fields struct {
	conf     *service.ParsedConfig
	problems []Problem
}

func (f *fields) add(path []string, format string, args ...any) {
	f.problems = append(f.problems, Problem{strings.Join(path, "."), fmt.Sprintf(format, args...)})
}

func (f *fields) str(path ...string) string {
	if !f.conf.Contains(path...) {
		return ""
	}
	v, err := f.conf.FieldString(path...)
	if err != nil {
		f.add(path, "must be a text")
	}
	return strings.TrimSpace(v)
}

func (f *fields) flag(path ...string) bool {
	if !f.conf.Contains(path...) {
		return false
	}
	v, err := f.conf.FieldBool(path...)
	if err != nil {
		f.add(path, "must be true or false")
	}
	return v
}

func (f *fields) num(least int, path ...string) int {
	v, err := f.conf.FieldInt(path...)
	switch {
	case err != nil:
		f.add(path, "must be a whole number")
	case v < least:
		f.add(path, "is %d; it must be at least %d", v, least)
	}
	return v
}

func (f *fields) duration(least time.Duration, name string) time.Duration {
	text := f.str(name)
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		f.add([]string{name}, "%q is no duration; write one such as 5s or 250ms", text)
	case d < least:
		f.add([]string{name}, "is %s; it must be at least %s", text, least)
	}
	return d
}

// Problems finds what is wrong with a config, without a network.
func Problems(conf *service.ParsedConfig) []Problem {
	_, problems := parse(conf)
	return problems
}

// shortest is what a period may be: DynamoDB and Kinesis answer in some 10 ms.
const shortest = 50 * time.Millisecond

func parse(conf *service.ParsedConfig) (config, []Problem) {
	f := &fields{conf: conf}
	c := config{
		streams: f.streams(), limit: f.num(1, "checkpoint_limit"), oldest: f.flag("start_from_oldest"),
		commit: f.duration(shortest, "commit_period"), grace: f.duration(0, "steal_grace_period"),
		rebalance: f.duration(shortest, "rebalance_period"), lease: f.duration(4*shortest, "lease_period"),
	}
	c.kinesis = f.session()
	c.table = tableConfig{name: f.str("dynamodb", "table"), create: f.flag("dynamodb", "create"), mode: f.str("dynamodb", "billing_mode")}
	if c.table.name == "" {
		f.add([]string{"dynamodb", "table"}, "missing; name the DynamoDB table that keeps the leases, and write create: true to have it made")
	}
	least := 0
	if c.table.create && c.table.mode == "PROVISIONED" {
		least = 1
	}
	c.table.reads = int64(f.num(least, "dynamodb", "read_capacity_units"))
	c.table.writes = int64(f.num(least, "dynamodb", "write_capacity_units"))
	c.dynamo = c.kinesis
	for _, field := range []string{"region", "endpoint", "credentials"} {
		if conf.Contains("dynamodb", field) {
			c.dynamo = f.session("dynamodb")
			break
		}
	}
	if conf.Contains("batching", "processors") {
		if list, err := conf.FieldAnyList("batching", "processors"); err == nil && len(list) > 0 {
			f.add([]string{"batching", "processors"}, "would hide where rows came from; move them to pipeline.processors")
		}
	}
	return c, f.problems
}

var (
	streamName = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,128}$`)
	streamARN  = regexp.MustCompile(`^arn:[a-z0-9-]+:kinesis:[^:/]*:[0-9]*:stream/([^/]*)$`)
)

// streams takes the list apart.
func (f *fields) streams() (out []streamConfig) {
	at := []string{"streams"}
	list, err := f.conf.FieldStringList(at...)
	if err != nil {
		f.add(at, "must be a list of streams")
		return nil
	}
	before := len(f.problems)
	index := map[string]int{}
	seen := map[string]bool{}
	for _, text := range list {
		for one := range strings.SplitSeq(text, ",") {
			if one = strings.TrimSpace(one); one == "" {
				continue
			}
			id, shard, err := parseStream(one)
			if err != nil {
				f.add(at, "%s", err)
				continue
			}
			key := id + ":" + shardID(shard)
			i, known := index[id]
			switch {
			case seen[key]:
				f.add(at, "%s is there twice; remove one of them", one)
				continue
			case known && (shard == "" || len(out[i].shards) == 0):
				f.add(at, "%s is there as a whole and by shards; keep one of the two", id)
				continue
			case !known:
				i = len(out)
				index[id] = i
				out = append(out, streamConfig{id: id})
			}
			seen[key] = true
			if shard != "" {
				out[i].shards = append(out[i].shards, shard)
			}
		}
	}
	if len(out) == 0 && len(f.problems) == before {
		f.add(at, "name at least one stream")
	}
	return out
}

// parseStream takes name or ARN and a shard apart.
func parseStream(text string) (id, shard string, err error) {
	head, tail := "", text
	if at := strings.LastIndex(text, "/"); at >= 0 {
		head, tail = text[:at+1], text[at+1:]
	}
	name, shard, with := strings.Cut(tail, ":")
	id, name, shard = head+strings.TrimSpace(name), strings.TrimSpace(name), strings.TrimSpace(shard)
	const neither = "%s is neither a stream's name nor its ARN; a name has letters, digits, _, . and -, and an ARN is arn:aws:kinesis:<region>:<account>:stream/<name>"
	switch {
	case name == "arn" && head == "":
		return "", "", fmt.Errorf(neither, text)
	case strings.Contains(shard, ":"):
		return "", "", fmt.Errorf("%s names two shards; write each with its stream, as %s:0,%s:1", text, id, id)
	case with && !streamName.MatchString(shard):
		return "", "", fmt.Errorf("%s has no shard behind its colon; write one, such as %s:shardId-000000000000, or remove the colon", text, id)
	case !streamName.MatchString(name) || head != "" && !streamARN.MatchString(id):
		return "", "", fmt.Errorf(neither, text)
	}
	return id, shard, nil
}

// shardID is the whole id of a shard that may be named by its number alone.
func shardID(name string) string {
	if n, err := strconv.ParseUint(name, 10, 31); err == nil {
		return fmt.Sprintf("shardId-%012d", n)
	}
	return name
}

// session reads where a service is and how to log in.
func (f *fields) session(under ...string) session {
	path := func(names ...string) []string { return append(append([]string(nil), under...), names...) }
	str := func(names ...string) string { return f.str(path(names...)...) }
	s := session{
		region: str("region"), endpoint: str("endpoint"),
		profile: str("credentials", "profile"), id: str("credentials", "id"), secret: str("credentials", "secret"), token: str("credentials", "token"),
		role: str("credentials", "role"), externalID: str("credentials", "role_external_id"),
		ec2: f.flag(path("credentials", "from_ec2_role")...),
	}
	if s.endpoint != "" {
		if u, err := url.Parse(s.endpoint); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			f.add(path("endpoint"), "is no URL such as http://localhost:4566; correct it, or remove it to reach AWS") // it may have a password
		}
	}
	var ways []string
	for way, set := range map[string]bool{"profile": s.profile != "", "id": s.id != "", "from_ec2_role": s.ec2} {
		if set {
			ways = append(ways, way)
		}
	}
	if len(ways) > 1 {
		f.add(path("credentials"), "profile, id and from_ec2_role are different ways to log in; keep one of them")
	}
	switch {
	case s.id != "" && s.secret == "":
		f.add(path("credentials", "secret"), "missing; write the access key that belongs to id")
	case s.id == "" && (s.secret != "" || s.token != ""):
		f.add(path("credentials", "id"), "missing; write the id of the access key that secret or token belong to")
	}
	if s.externalID != "" && s.role == "" {
		f.add(path("credentials", "role"), "missing; write the ARN of the role that asks for role_external_id")
	}
	if f.conf.Contains(path("tcp")...) {
		var err error
		if s.dialer, err = netutil.DialerConfigFromParsed(f.conf.Namespace(path("tcp")...)); err != nil {
			f.add(path("tcp"), "%v", err)
		}
		s.dials = true
	}
	return s
}

// joined makes one error of problems.
func joined(problems []Problem) error {
	errs := make([]error, len(problems))
	for i, p := range problems {
		errs[i] = errors.New(p.Field + ": " + p.Message)
	}
	return errors.Join(errs...)
}
