package kinesis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// Attributes of the table, see the package's comment.
const (
	attrStream   = "StreamID"
	attrShard    = "ShardID"
	attrSequence = "SequenceNumber"
	attrOwner    = "ClientID"
	attrTimeout  = "LeaseTimeout"
	attrWanted   = "WantedBy"
	attrSince    = "StartTime"
	attrEnd      = "ShardEnd"
)

// item is what the table says of a shard. A text that is not there is empty.
type item struct {
	shard    string
	sequence string
	owner    string
	timeout  string
	wanted   string
	since    string
	end      string
}

func parseItem(in map[string]types.AttributeValue) item {
	text := func(name string) string {
		if v, ok := in[name].(*types.AttributeValueMemberS); ok {
			return v.Value
		}
		return ""
	}
	return item{text(attrShard), text(attrSequence), text(attrOwner), text(attrTimeout), text(attrWanted), text(attrSince), text(attrEnd)}
}

// errLost says that a lease is another's by now.
var errLost = errors.New("the lease is another's")

// callTimeout bounds one call of DynamoDB or Kinesis, with its retries.
const callTimeout = 20 * time.Second

// table keeps the leases. It is safe for concurrent use.
type table struct {
	conf   tableConfig
	client *dynamodb.Client
	me     string
	lease  time.Duration
}

// open makes the table if it is missing and may be made, and waits until it can be used.
func (t *table) open(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	_, err := t.client.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: &t.conf.name})
	if _, missing := errors.AsType[*types.ResourceNotFoundException](err); !missing {
		if err != nil {
			return fmt.Errorf("table of leases %s: %w", t.conf.name, err)
		}
		return nil
	}
	if !t.conf.create {
		return fmt.Errorf("dynamodb.table: there is no table %s; make it, with the texts %s as hash key and %s as range key, or write create: true", t.conf.name, attrStream, attrShard)
	}
	in := &dynamodb.CreateTableInput{
		TableName: &t.conf.name,
		AttributeDefinitions: []types.AttributeDefinition{
			{AttributeName: aws.String(attrStream), AttributeType: types.ScalarAttributeTypeS},
			{AttributeName: aws.String(attrShard), AttributeType: types.ScalarAttributeTypeS},
		},
		KeySchema: []types.KeySchemaElement{
			{AttributeName: aws.String(attrStream), KeyType: types.KeyTypeHash},
			{AttributeName: aws.String(attrShard), KeyType: types.KeyTypeRange},
		},
		BillingMode: types.BillingMode(t.conf.mode),
	}
	if in.BillingMode == types.BillingModeProvisioned {
		in.ProvisionedThroughput = &types.ProvisionedThroughput{ReadCapacityUnits: &t.conf.reads, WriteCapacityUnits: &t.conf.writes}
	}
	_, err = t.client.CreateTable(ctx, in)
	if _, others := errors.AsType[*types.ResourceInUseException](err); err != nil && !others {
		return fmt.Errorf("make the table of leases %s: %w", t.conf.name, err)
	}
	ready := dynamodb.NewTableExistsWaiter(t.client, func(o *dynamodb.TableExistsWaiterOptions) {
		o.MinDelay, o.MaxDelay = 200*time.Millisecond, 2*time.Second
	})
	if err := ready.Wait(ctx, &dynamodb.DescribeTableInput{TableName: &t.conf.name}, time.Minute); err != nil {
		return fmt.Errorf("wait for the table of leases %s: %w", t.conf.name, err)
	}
	return nil
}

// items returns what the table has of a stream.
func (t *table) items(ctx context.Context, stream string) ([]item, error) {
	var out []item
	pages := dynamodb.NewQueryPaginator(t.client, &dynamodb.QueryInput{
		TableName: &t.conf.name, ConsistentRead: aws.Bool(true),
		KeyConditionExpression:    aws.String(attrStream + " = :stream"),
		ExpressionAttributeValues: map[string]types.AttributeValue{":stream": text(stream)},
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("leases of stream %s: %w", stream, err)
		}
		for _, i := range page.Items {
			out = append(out, parseItem(i))
		}
	}
	return out, nil
}

// change is one conditional write.
type change struct {
	stream, shard string
	set           map[string]string // attribute and text; "" is left as it is
	remove        []string
	when          map[string]string // attribute and text that it must have; "": it must be missing
	not           map[string]string // attribute and text that it must not have
}

// apply writes a change and returns the item as it is then, or errLost.
func (t *table) apply(ctx context.Context, c change) (item, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	values := map[string]types.AttributeValue{}
	bind := func(v string) string {
		name := fmt.Sprintf(":v%d", len(values))
		values[name] = text(v)
		return name
	}
	var set, remove, when string
	for name, v := range c.set {
		if v != "" {
			set += sep(set, "SET ", ", ") + name + " = " + bind(v)
		}
	}
	for _, name := range c.remove {
		remove += sep(remove, " REMOVE ", ", ") + name
	}
	for name, v := range c.when {
		if v == "" {
			when += sep(when, "", " AND ") + "attribute_not_exists(" + name + ")"
		} else {
			when += sep(when, "", " AND ") + name + " = " + bind(v)
		}
	}
	for name, v := range c.not {
		when += sep(when, "", " AND ") + "(attribute_not_exists(" + name + ") OR " + name + " <> " + bind(v) + ")"
	}
	res, err := t.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: &t.conf.name, Key: key(c.stream, c.shard),
		UpdateExpression: aws.String(strings.TrimSpace(set + remove)), ConditionExpression: &when, ExpressionAttributeValues: values,
		ReturnValues: types.ReturnValueAllNew,
	})
	if err != nil {
		return item{}, leaseError(c.shard, err)
	}
	return parseItem(res.Attributes), nil
}

func leaseError(shard string, err error) error {
	if _, lost := errors.AsType[*types.ConditionalCheckFailedException](err); lost {
		return errLost
	}
	return fmt.Errorf("lease of %s: %w", shard, err)
}

func sep(before, first, next string) string {
	if before == "" {
		return first
	}
	return next
}

func text(v string) types.AttributeValue { return &types.AttributeValueMemberS{Value: v} }

func key(stream, shard string) map[string]types.AttributeValue {
	return map[string]types.AttributeValue{attrStream: text(stream), attrShard: text(shard)}
}

func (t *table) until() string { return time.Now().Add(t.lease).UTC().Format(time.RFC3339Nano) }

// claim takes a shard whose lease is as it was seen last. start is the sequence number
// that the shard begins with; since is noted where there is nothing yet.
func (t *table) claim(ctx context.Context, stream string, seen item, start, since string) (item, error) {
	c := change{
		stream: stream, shard: seen.shard,
		set:    map[string]string{attrOwner: t.me, attrTimeout: t.until(), attrSince: since},
		remove: []string{attrWanted},
		when:   map[string]string{attrOwner: seen.owner, attrTimeout: seen.timeout},
		not:    map[string]string{attrEnd: start},
	}
	if seen.owner == "" {
		delete(c.when, attrTimeout)
	}
	return t.apply(ctx, c)
}

// renew keeps a lease, with up to where its shard is acked; "": as it was.
func (t *table) renew(ctx context.Context, stream, shard, acked string) (item, error) {
	return t.apply(ctx, change{
		stream: stream, shard: shard,
		set:  map[string]string{attrTimeout: t.until(), attrSequence: acked},
		when: map[string]string{attrOwner: t.me},
	})
}

// want asks the owner of a shard for it.
func (t *table) want(ctx context.Context, stream string, seen item) error {
	_, err := t.apply(ctx, change{
		stream: stream, shard: seen.shard,
		set:  map[string]string{attrWanted: t.me},
		when: map[string]string{attrOwner: seen.owner, attrWanted: ""},
	})
	return err
}

// unwant takes back that a shard was asked for.
func (t *table) unwant(ctx context.Context, stream, shard string) error {
	_, err := t.apply(ctx, change{stream: stream, shard: shard, remove: []string{attrWanted}, when: map[string]string{attrWanted: t.me}})
	return err
}

// release gives a lease up, to another process that wants it or, with "", to whoever takes it.
func (t *table) release(ctx context.Context, stream, shard, acked, to string) error {
	c := change{
		stream: stream, shard: shard,
		set:    map[string]string{attrSequence: acked},
		remove: []string{attrOwner, attrTimeout, attrWanted},
		when:   map[string]string{attrOwner: t.me},
	}
	if to != "" {
		c.set[attrOwner], c.set[attrTimeout], c.remove = to, t.until(), []string{attrWanted}
		c.when[attrWanted] = to
	}
	_, err := t.apply(ctx, c)
	return err
}

// finish says that a shard, which began with start, has been read to its end and acked.
func (t *table) finish(ctx context.Context, stream, shard, acked, start string) error {
	_, err := t.apply(ctx, change{
		stream: stream, shard: shard,
		set:    map[string]string{attrSequence: acked, attrEnd: start},
		remove: []string{attrOwner, attrTimeout, attrWanted},
		when:   map[string]string{attrOwner: t.me},
	})
	return err
}

// forget removes the item of a shard that the stream has no more, if nobody has changed it.
func (t *table) forget(ctx context.Context, stream string, seen item) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	in := &dynamodb.DeleteItemInput{TableName: &t.conf.name, Key: key(stream, seen.shard), ConditionExpression: aws.String("attribute_not_exists(" + attrOwner + ")")}
	if seen.owner != "" {
		in.ConditionExpression = aws.String(attrOwner + " = :owner AND " + attrTimeout + " = :timeout")
		in.ExpressionAttributeValues = map[string]types.AttributeValue{":owner": text(seen.owner), ":timeout": text(seen.timeout)}
	}
	if _, err := t.client.DeleteItem(ctx, in); err != nil {
		return leaseError(seen.shard, err)
	}
	return nil
}
