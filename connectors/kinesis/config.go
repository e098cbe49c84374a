package kinesis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/redpanda-data/benthos/v4/public/utils/netutil"
)

// Spec is the input's config.
func Spec() *service.ConfigSpec {
	return service.NewConfigSpec().
		Stable().
		Categories("Tidemill").
		Summary("Reads records of AWS Kinesis streams, whose shards several processes share by leases in a DynamoDB table.").
		Description("Each record's sequence number is its position, so that its rows land exactly once, whoever reads the shard. A shard that comes out of a split or a merge is read after those before it.").
		Fields(
			service.NewStringListField("streams").Description("Names or ARNs of streams, all of whose shards are shared between the processes, or single shards as `stream:shardId-000000000000`.").Example([]string{"events"}),
			service.NewObjectField("dynamodb", append([]*service.ConfigField{
				service.NewStringField("table").Description("The table of leases. Several connectors may share it as long as they read different streams."),
				service.NewBoolField("create").Description("Make the table if it is missing.").Default(false),
				service.NewStringEnumField("billing_mode", "PROVISIONED", "PAY_PER_REQUEST").Description("Of a table that is made.").Default("PAY_PER_REQUEST").Advanced(),
				service.NewIntField("read_capacity_units").Description("Of a table that is made with `billing_mode: PROVISIONED`.").Default(0).Advanced(),
				service.NewIntField("write_capacity_units").Description("Of a table that is made with `billing_mode: PROVISIONED`.").Default(0).Advanced(),
			}, sessionFields()...)...).Description("Where leases are kept. Without a region, endpoint or credentials of its own it is reached as the streams are."),
			service.NewDurationField("commit_period").Description("How often it is written down how far a shard is acked.").Default("5s"),
			service.NewDurationField("rebalance_period").Description("How often shards are looked for that nobody has, that a dead process had, or of which another process has too many.").Default("5s").Advanced(),
			service.NewDurationField("lease_period").Description("How long the shards of a killed process stand still.").Default("10s").Advanced(),
			service.NewBoolField("start_from_oldest").Description("Whether a stream of which the table knows nothing is read from its oldest record, or from now on.").Default(true),
			service.NewIntField("checkpoint_limit").Description("Of no effect: what is on its way is bounded by bytes.").Default(0).Advanced(),
			service.NewDurationField("steal_grace_period").Description("Of no effect: a shard that changes hands goes on from what was written down last, and what comes again is dropped.").Default("2s").Advanced(),
			service.NewBatchPolicyField("batching").Description("Of no effect: the lakehouse output forms batches.").Advanced(),
			service.NewAutoRetryNacksToggleField(),
		).
		Fields(sessionFields()...)
}

// sessionFields are the fields that say how a service of AWS is reached.
func sessionFields() []*service.ConfigField {
	return []*service.ConfigField{
		service.NewStringField("region").Description("The region, such as `eu-central-1`; by default that of the environment.").Optional(),
		service.NewStringField("endpoint").Description("Another address than AWS' own.").Optional().Advanced(),
		netutil.DialerConfigSpec(),
		service.NewObjectField("credentials",
			service.NewStringField("profile").Description("A profile of `~/.aws/credentials`.").Optional(),
			service.NewStringField("id").Description("The access key's id.").Optional().Advanced(),
			service.NewStringField("secret").Description("The access key's secret.").Optional().Advanced().Secret(),
			service.NewStringField("token").Description("Of short-term credentials.").Optional().Advanced().Secret(),
			service.NewBoolField("from_ec2_role").Description("Take those of the EC2 machine.").Optional().Advanced(),
			service.NewStringField("role").Description("The ARN of a role to assume.").Optional().Advanced(),
			service.NewStringField("role_external_id").Description("The external id to assume it with.").Optional().Advanced(),
		).Description("By default those of the environment, the machine or the pod.").Optional().Advanced(),
	}
}

// source is a stream, and which of its shards are asked for.
type source struct {
	id     string   // as the config names it, and the table of leases
	shards []string // nil: all
}

type config struct {
	streams                  []source
	table                    string
	create                   bool
	billing                  string
	readUnits, writeUnits    int64
	commit, rebalance, lease time.Duration
	oldest                   bool
	session, tableSession    *service.ParsedConfig
}

func parse(conf *service.ParsedConfig) (c config, err error) {
	var errs []error
	dur := func(name string) time.Duration {
		v, err := conf.FieldDuration(name)
		errs = append(errs, err)
		return v
	}
	c.commit, c.rebalance, c.lease = dur("commit_period"), dur("rebalance_period"), dur("lease_period")
	c.oldest, err = conf.FieldBool("start_from_oldest")
	errs = append(errs, err)
	db := conf.Namespace("dynamodb")
	c.table, err = db.FieldString("table")
	errs = append(errs, err)
	c.create, err = db.FieldBool("create")
	errs = append(errs, err)
	c.billing, err = db.FieldString("billing_mode")
	errs = append(errs, err)
	for name, to := range map[string]*int64{"read_capacity_units": &c.readUnits, "write_capacity_units": &c.writeUnits} {
		n, err := db.FieldInt(name)
		errs = append(errs, err)
		*to = int64(n)
	}
	names, err := conf.FieldStringList("streams")
	errs = append(errs, err)
	if err := errors.Join(errs...); err != nil {
		return c, err
	}
	if c.streams, err = parseStreams(names); err != nil {
		return c, fmt.Errorf("streams: %w", err)
	}
	switch {
	case c.table == "":
		return c, errors.New("dynamodb.table: say which table keeps the leases, by which processes share shards and find where to go on")
	case c.commit <= 0 || c.rebalance <= 0 || c.lease <= 0:
		return c, errors.New("commit_period, rebalance_period, lease_period: must be longer than 0s")
	}
	c.session, c.tableSession = conf, conf
	if db.Contains("region") || db.Contains("endpoint") || db.Contains("credentials") {
		c.tableSession = db
	}
	return c, nil
}

// parseStreams reads names, ARNs, several of them with commas between, and shards behind a colon.
func parseStreams(names []string) (out []source, err error) {
	at := map[string]int{}
	for _, list := range names {
		for name := range strings.SplitSeq(list, ",") {
			if name = strings.TrimSpace(name); name == "" {
				continue
			}
			path, rest := "", name // an ARN has colons, and ends with /stream
			if i := strings.LastIndexByte(name, '/'); i >= 0 {
				path, rest = name[:i+1], name[i+1:]
			}
			id, shard, explicit := strings.Cut(rest, ":")
			id = path + strings.TrimSpace(id)
			if shard = strings.TrimSpace(shard); explicit && (shard == "" || strings.Contains(shard, ":")) {
				return nil, fmt.Errorf("%q names a shard wrongly; write stream:shard, once for each shard", name)
			}
			i, known := at[id]
			switch {
			case !known:
				at[id] = len(out)
				out = append(out, source{id: id})
				i = at[id]
			case !explicit || out[i].shards == nil:
				return nil, fmt.Errorf("%s is there twice", id)
			}
			if explicit && !slices.Contains(out[i].shards, shardID(shard)) {
				out[i].shards = append(out[i].shards, shardID(shard))
			}
		}
	}
	if len(out) == 0 {
		return nil, errors.New("name at least one stream")
	}
	return out, nil
}

// shardID takes `0` for shardId-000000000000, as the number is all that differs.
func shardID(s string) string {
	if strings.Trim(s, "0123456789") == "" && len(s) <= 12 {
		return "shardId-" + strings.Repeat("0", 12-len(s)) + s
	}
	return s
}

// session is what a client of AWS is made with.
func session(ctx context.Context, conf *service.ParsedConfig) (aws.Config, error) {
	var opts []func(*awsconfig.LoadOptions) error
	str := func(path ...string) string {
		v, _ := conf.FieldString(path...) // absent
		return v
	}
	if r := str("region"); r != "" {
		opts = append(opts, awsconfig.WithRegion(r))
	}
	if conf.Contains("tcp") {
		tcp, err := netutil.DialerConfigFromParsed(conf.Namespace("tcp"))
		if err != nil {
			return aws.Config{}, fmt.Errorf("tcp: %w", err)
		}
		d := new(net.Dialer)
		if err := netutil.DecorateDialer(d, tcp); err != nil {
			return aws.Config{}, fmt.Errorf("tcp: %w", err)
		}
		opts = append(opts, awsconfig.WithHTTPClient(awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) { t.DialContext = d.DialContext })))
	}
	switch {
	case str("credentials", "profile") != "":
		opts = append(opts, awsconfig.WithSharedConfigProfile(str("credentials", "profile")))
	case str("credentials", "id") != "":
		opts = append(opts, awsconfig.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(
			str("credentials", "id"), str("credentials", "secret"), str("credentials", "token"))))
	}
	c, err := awsconfig.LoadDefaultConfig(ctx, opts...)
	if err != nil {
		return c, fmt.Errorf("credentials: %w", err)
	}
	if e := str("endpoint"); e != "" {
		c.BaseEndpoint = aws.String(e)
	}
	if role := str("credentials", "role"); role != "" {
		c.Credentials = aws.NewCredentialsCache(stscreds.NewAssumeRoleProvider(sts.NewFromConfig(c), role, func(o *stscreds.AssumeRoleOptions) {
			if id := str("credentials", "role_external_id"); id != "" {
				o.ExternalID = aws.String(id)
			}
		}))
	}
	if ec2, _ := conf.FieldBool("credentials", "from_ec2_role"); ec2 {
		c.Credentials = aws.NewCredentialsCache(ec2rolecreds.New())
	}
	return c, nil
}
