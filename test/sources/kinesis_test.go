package sources

import (
	"context"
	"fmt"
	"strconv"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/tidemill/tidemill/internal/testserver"
)

func kinesisSource(t *testing.T) source {
	t.Helper()
	p := testserver.StartForward(t)
	k := testserver.StartKinesis(t)
	p.Aim(k.Addr)
	const stream, leases, shards = "in", "leases", 3
	login := credentials.NewStaticCredentialsProvider("key", "secret", "")
	c := kinesis.New(kinesis.Options{Region: "us-east-1", BaseEndpoint: aws.String(k.Endpoint()), Credentials: login, Retryer: aws.NopRetryer{}})
	db := dynamodb.New(dynamodb.Options{Region: "us-east-1", BaseEndpoint: aws.String(k.DynamoEndpoint()), Credentials: login})
	if _, err := c.CreateStream(t.Context(), &kinesis.CreateStreamInput{StreamName: aws.String(stream), ShardCount: aws.Int32(shards)}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "make the stream", func(ctx context.Context) error {
		d, err := c.DescribeStreamSummary(ctx, &kinesis.DescribeStreamSummaryInput{StreamName: aws.String(stream)})
		if err == nil && d.StreamDescriptionSummary.StreamStatus != types.StreamStatusActive {
			err = fmt.Errorf("it is %s", d.StreamDescriptionSummary.StreamStatus)
		}
		return err
	})
	n := 0
	return source{
		name: "kinesis", once: true, proxy: p,
		input: fmt.Sprintf(`  aws_kinesis:
    streams: [%s]
    region: us-east-1
    endpoint: http://%s
    credentials: {id: key, secret: secret}
    dynamodb:
      table: %s
      create: true
      region: us-east-1
      endpoint: %s
      credentials: {id: key, secret: secret}
    commit_period: 300ms
    rebalance_period: 1s
    lease_period: 2s
`, stream, p.Addr, leases, k.DynamoEndpoint()),
		send: func(ctx context.Context, m message) error {
			n++
			_, err := c.PutRecord(ctx, &kinesis.PutRecordInput{StreamName: aws.String(stream), PartitionKey: aws.String(strconv.Itoa(n)), Data: m.lines()})
			return err
		},
		kill: k.Kill, start: func(t *testing.T) { k.Start(t) },
		rewind: func(t *testing.T) {
			if _, err := db.DeleteTable(t.Context(), &dynamodb.DeleteTableInput{TableName: aws.String(leases)}); err != nil {
				t.Fatal(err)
			}
		},
	}
}
