package kinesis

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// shardEnd stands for the sequence number of a shard of which all is acked.
const shardEnd = "SHARD_END"

// Names of an item's attributes; all are texts.
const (
	attrStream   = "StreamID" // hash key
	attrShard    = "ShardID"  // range key
	attrSequence = "SequenceNumber"
	attrOwner    = "ClientID"
	attrTimeout  = "LeaseTimeout"
	attrFrom     = "StartAt" // from when on a stream without a sequence number is read
)

// lease is an item of the table.
type lease struct {
	shard    string
	sequence string // up to where the shard is acked, or shardEnd; "": nothing is yet
	owner    string // "": nobody
	timeout  string // of the owner's clock, and what changes while it lives
	from     string
}

var errLost = errors.New("the lease is another process' now")

// leases is the table.
type leases struct {
	c    config
	db   *dynamodb.Client
	self string // the owner that this process is
}

// open makes the table, if it is to, and waits until it is there.
func (l *leases) open(ctx context.Context) error {
	in := &dynamodb.DescribeTableInput{TableName: &l.c.table.name}
	_, err := l.db.DescribeTable(ctx, in)
	var missing *types.ResourceNotFoundException
	if !errors.As(err, &missing) {
		return err
	}
	if !l.c.table.create {
		return fmt.Errorf("dynamodb.table: there is no table %s; make one with the string keys %s (hash) and %s (range), or set create: true", l.c.table.name, attrStream, attrShard)
	}
	make := &dynamodb.CreateTableInput{
		TableName:   &l.c.table.name,
		BillingMode: types.BillingMode(l.c.table.mode),
		AttributeDefinitions: []types.AttributeDefinition{
			{AttributeName: aws.String(attrStream), AttributeType: types.ScalarAttributeTypeS},
			{AttributeName: aws.String(attrShard), AttributeType: types.ScalarAttributeTypeS},
		},
		KeySchema: []types.KeySchemaElement{
			{AttributeName: aws.String(attrStream), KeyType: types.KeyTypeHash},
			{AttributeName: aws.String(attrShard), KeyType: types.KeyTypeRange},
		},
	}
	if make.BillingMode == types.BillingModeProvisioned {
		make.ProvisionedThroughput = &types.ProvisionedThroughput{ReadCapacityUnits: &l.c.table.reads, WriteCapacityUnits: &l.c.table.writes}
	}
	var exists *types.ResourceInUseException // another process has just made it
	if _, err := l.db.CreateTable(ctx, make); err != nil && !errors.As(err, &exists) {
		return fmt.Errorf("make the table %s: %w", l.c.table.name, err)
	}
	return dynamodb.NewTableExistsWaiter(l.db, func(o *dynamodb.TableExistsWaiterOptions) { o.MinDelay = 200 * time.Millisecond }).Wait(ctx, in, time.Minute)
}

func text(s string) *types.AttributeValueMemberS { return &types.AttributeValueMemberS{Value: s} }

func key(stream, shard string) map[string]types.AttributeValue {
	return map[string]types.AttributeValue{attrStream: text(stream), attrShard: text(shard)}
}

// of returns a stream's leases by shard.
func (l *leases) of(ctx context.Context, stream string) (map[string]lease, error) {
	out := map[string]lease{}
	pages := dynamodb.NewQueryPaginator(l.db, &dynamodb.QueryInput{
		TableName: &l.c.table.name, ConsistentRead: aws.Bool(true),
		KeyConditionExpression:    aws.String(attrStream + " = :s"),
		ExpressionAttributeValues: map[string]types.AttributeValue{":s": text(stream)},
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("read the leases: %w", err)
		}
		for _, item := range page.Items {
			get := func(name string) string {
				s, _ := item[name].(*types.AttributeValueMemberS)
				if s == nil {
					return ""
				}
				return s.Value
			}
			shard := get(attrShard)
			out[shard] = lease{shard: shard, sequence: get(attrSequence), owner: get(attrOwner), timeout: get(attrTimeout), from: get(attrFrom)}
		}
	}
	return out, nil
}

// until is what an owner writes to show that it lives.
func (l *leases) until() string { return time.Now().Add(l.c.lease).UTC().Format(time.RFC3339Nano) }

// update changes an item under a condition; errLost if that does not hold.
func (l *leases) update(ctx context.Context, stream, shard, change, condition string, values map[string]types.AttributeValue) error {
	_, err := l.db.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: &l.c.table.name, Key: key(stream, shard),
		UpdateExpression: &change, ConditionExpression: &condition, ExpressionAttributeValues: values,
	})
	var failed *types.ConditionalCheckFailedException
	if errors.As(err, &failed) {
		return errLost
	}
	return err
}

// claim takes a shard that was seen with a lease, or none; another's as well. from is when a
// shard without a sequence number begins, "" for its oldest record.
func (l *leases) claim(ctx context.Context, stream, shard string, seen lease, from string) error {
	change := "SET " + attrOwner + " = :me, " + attrTimeout + " = :until"
	condition := "attribute_not_exists(" + attrOwner + ")"
	values := map[string]types.AttributeValue{":me": text(l.self), ":until": text(l.until())}
	if seen.owner != "" {
		condition = attrOwner + " = :owner AND " + attrTimeout + " = :seen"
		values[":owner"], values[":seen"] = text(seen.owner), text(seen.timeout)
		if seen.timeout == "" {
			condition = attrOwner + " = :owner AND attribute_not_exists(" + attrTimeout + ")"
			delete(values, ":seen")
		}
	}
	if from != "" {
		change += ", " + attrFrom + " = :from"
		values[":from"] = text(from)
	}
	return l.update(ctx, stream, shard, change, condition, values)
}

// renew writes down how far a shard is acked ("": nothing new), and that its owner lives.
func (l *leases) renew(ctx context.Context, stream, shard, sequence string) error {
	change := "SET " + attrTimeout + " = :until"
	values := map[string]types.AttributeValue{":me": text(l.self), ":until": text(l.until())}
	if sequence != "" {
		change += ", " + attrSequence + " = :n"
		values[":n"] = text(sequence)
	}
	return l.update(ctx, stream, shard, change, attrOwner+" = :me", values)
}

// release gives a shard up, at a sequence number ("": the one that is there).
func (l *leases) release(ctx context.Context, stream, shard, sequence string) error {
	change := "REMOVE " + attrOwner + ", " + attrTimeout
	values := map[string]types.AttributeValue{":me": text(l.self)}
	if sequence != "" {
		change += " SET " + attrSequence + " = :n"
		values[":n"] = text(sequence)
	}
	return l.update(ctx, stream, shard, change, attrOwner+" = :me", values)
}

// forget deletes the item of a shard that Kinesis does not know any more, unless somebody has it.
func (l *leases) forget(ctx context.Context, stream, shard string) error {
	_, err := l.db.DeleteItem(ctx, &dynamodb.DeleteItemInput{
		TableName: &l.c.table.name, Key: key(stream, shard), ConditionExpression: aws.String("attribute_not_exists(" + attrOwner + ")"),
	})
	var failed *types.ConditionalCheckFailedException
	if errors.As(err, &failed) {
		return nil
	}
	return err
}
