package kinesis

import (
	"strings"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
)

const plainConfig = "streams: [s]\nregion: r\ndynamodb: {table: t}\n"

func TestRefusesConfig(t *testing.T) {
	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_DEFAULT_REGION", "")
	t.Setenv("AWS_CONFIG_FILE", "/nowhere")
	for conf, want := range map[string]string{
		"streams: []":                                "streams: name at least one stream",
		"streams: ['a,b:1:2']":                       "streams: b:1:2 names two shards; write each with its stream, as b:0,b:1",
		"streams: ['a:']":                            "streams: a: has no shard behind its colon",
		"streams: ['a b']":                           "streams: a b is neither a stream's name nor its ARN",
		"streams: ['arn:aws:sqs:r:1:a']":             "is neither a stream's name nor its ARN",
		"streams: [a, 'b,a']":                        "streams: a is there twice",
		"streams: ['a:0', 'a:shardId-000000000000']": "streams: a:shardId-000000000000 is there twice",
		"streams: [a, 'a:0']":                        "streams: a is there as a whole and by shards",
		"streams: ['a:0', a]":                        "streams: a is there as a whole and by shards",
		"dynamodb: {}":                               "dynamodb.table: missing; name the DynamoDB table",
		"dynamodb: {table: t, create: true, billing_mode: PROVISIONED, write_capacity_units: 1}": "dynamodb.read_capacity_units: is 0; it must be at least 1",
		"checkpoint_limit: 0":                                           "checkpoint_limit: is 0; it must be at least 1",
		"commit_period: soon":                                           `commit_period: "soon" is no duration`,
		"rebalance_period: 0s":                                          "rebalance_period: is 0s; it must be at least 50ms",
		"lease_period: 100ms":                                           "lease_period: is 100ms; it must be at least 200ms",
		"steal_grace_period: -1s":                                       "steal_grace_period: is -1s; it must be at least 0s",
		"endpoint: localhost:4566":                                      "endpoint: is no URL",
		"endpoint: 'http://u:hush@ho st'":                               "endpoint: is no URL",
		"credentials: {id: a}":                                          "credentials.secret: missing",
		"credentials: {secret: hush}":                                   "credentials.id: missing",
		"credentials: {id: a, secret: hush, profile: p}":                "credentials: profile, id and from_ec2_role are different ways",
		"credentials: {role_external_id: hush}":                         "credentials.role: missing",
		"credentials: {profile: p}":                                     "credentials: failed to get shared config profile, p",
		"dynamodb: {table: t, credentials: {id: a}}":                    "dynamodb.credentials.secret: missing",
		"dynamodb: {table: t, endpoint: 'http://h'}":                    "dynamodb.region: missing",
		"region: ''":                                                    "region: missing; write the region of the streams, or set AWS_REGION",
		"batching: {count: 1, processors: [{mapping: root = this}]}":    "batching.processors: would hide where rows came from",
		"streams: []\ncommit_period: soon\ncredentials: {secret: hush}": "commit_period",
	} {
		text := conf
		for line := range strings.Lines(plainConfig) {
			if field, _, _ := strings.Cut(line, ":"); !strings.Contains("\n"+conf, "\n"+field+":") {
				text += "\n" + strings.TrimSuffix(line, "\n")
			}
		}
		c, err := Spec().ParseYAML(text, nil)
		if err == nil {
			_, err = open(c, service.MockResources().Logger())
		}
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%q: %v, want %q", conf, err, want)
		}
		if strings.Count(conf, "\n") == 2 && (err == nil || strings.Count(err.Error(), "\n") != 2) {
			t.Errorf("%q: %v, want all three problems", conf, err)
		}
	}
}

func TestConfig(t *testing.T) {
	read := func(text string) config {
		t.Helper()
		conf, err := Spec().ParseYAML(text, nil)
		if err != nil {
			t.Fatal(err)
		}
		c, problems := parse(conf)
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		return c
	}
	c := read(plainConfig)
	if c.lease != 10*time.Second || !c.oldest || c.limit != 100_000 || c.dynamo != c.kinesis || c.kinesis.region != "r" {
		t.Errorf("defaults %+v", c)
	}
	// The order of Benthos' own example, with everything else that it takes.
	c = read(`
streams: ['foo, bar:0', 'arn:aws:kinesis:*:111122223333:stream/my-stream', 'bar:shardId-000000000007 ,']
dynamodb: {table: t, create: true, billing_mode: PROVISIONED, read_capacity_units: 1, write_capacity_units: 2, region: other, credentials: {role: a, role_external_id: b}}
checkpoint_limit: 1024
auto_replay_nacks: true
commit_period: 5s
steal_grace_period: 2s
rebalance_period: 30s
lease_period: 30s
start_from_oldest: false
region: r
endpoint: http://localhost:4566
tcp: {connect_timeout: 1s}
credentials: {id: a, secret: b, token: c, role: d}
batching: {count: 10, period: 1s}
`)
	if len(c.streams) != 3 || c.streams[1].id != "bar" || len(c.streams[1].shards) != 2 || c.streams[2].id != "arn:aws:kinesis:*:111122223333:stream/my-stream" {
		t.Errorf("streams %+v", c.streams)
	}
	if c.dynamo.region != "other" || c.dynamo.endpoint != "" || c.dynamo.id != "" || c.kinesis.endpoint != "http://localhost:4566" {
		t.Errorf("%+v %+v", c.kinesis, c.dynamo)
	}
	for _, s := range []session{c.kinesis, c.dynamo} {
		if _, err := s.load(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
