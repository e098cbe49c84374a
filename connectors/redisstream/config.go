package redisstream

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redpanda-data/benthos/v4/public/service"
)

// Spec is the input's config.
func Spec() *service.ConfigSpec {
	return service.NewConfigSpec().
		Stable().
		Categories("Tidemill").
		Summary("Reads entries of Redis streams (Redis 5 or newer) through a consumer group.").
		Description("Each entry's id is its position, so that its rows land exactly once, also when several processes share the group. An entry is acked after the commit that holds its rows. Entries that a dead member of the group had are taken over once they have been idle for `claim_after` (Redis 6.2).").
		Fields(
			service.NewURLField("url").Description("The server, or several with commas between them: `redis://user:password@host:6379/0`.").Example("redis://localhost:6379"),
			service.NewStringEnumField("kind", "simple", "cluster", "failover").Description("What the URLs are of: a server, a cluster, or sentinels.").Default("simple").Advanced(),
			service.NewStringField("master").Description("The master's name, with `kind: failover`.").Default("").Advanced(),
			service.NewStringField("client_name").Description("What the connection is called at the server.").Default("tidemill").Advanced(),
			service.NewTLSToggledField("tls"),
			service.NewStringListField("streams").Description("The streams to read.").Example([]string{"events"}),
			service.NewStringField("consumer_group").Description("The group, made where it is missing. It must be this connector's alone.").Default("tidemill"),
			service.NewStringField("client_id").Description("The member's name in the group; by default `tidemill@` and the host's name. A process that comes back under its name gets at once what it had; another waits for `claim_after`.").Default(""),
			service.NewStringField("body_key").Description("The field of an entry that has its rows. Of an entry without it, the row is all its fields as one JSON object of texts.").Default("body"),
			service.NewIntField("limit").Description("How many entries are read at once.").Default(500),
			service.NewBoolField("create_streams").Description("Make streams that do not exist.").Default(true).Advanced(),
			service.NewBoolField("start_from_oldest").Description("Where a new group begins: with the oldest entry, or after the newest.").Default(true).Advanced(),
			service.NewDurationField("commit_period").Description("How long acks are collected before they are sent.").Default("250ms").Advanced(),
			service.NewDurationField("timeout").Description("How long one read waits for entries.").Default("1s").Advanced(),
			service.NewDurationField("claim_after").Description("How long an entry may be idle at another member before it is taken over; 0s: never.").Default("60s").Advanced(),
			service.NewAutoRetryNacksToggleField(),
		)
}

type config struct {
	group, consumer, bodyKey    string
	streams                     []string
	limit                       int64
	create, oldest              bool
	commit, timeout, claimAfter time.Duration
	connect                     func() redis.UniversalClient
}

func parse(conf *service.ParsedConfig) (c config, err error) {
	var errs []error
	str := func(name string) string {
		v, err := conf.FieldString(name)
		errs = append(errs, err)
		return v
	}
	dur := func(name string) time.Duration {
		v, err := conf.FieldDuration(name)
		errs = append(errs, err)
		return v
	}
	flag := func(name string) bool {
		v, err := conf.FieldBool(name)
		errs = append(errs, err)
		return v
	}
	c.group, c.consumer, c.bodyKey = str("consumer_group"), str("client_id"), str("body_key")
	c.create, c.oldest = flag("create_streams"), flag("start_from_oldest")
	c.commit, c.timeout, c.claimAfter = dur("commit_period"), dur("timeout"), dur("claim_after")
	limit, err := conf.FieldInt("limit")
	errs = append(errs, err)
	c.limit = int64(limit)
	c.streams, err = conf.FieldStringList("streams")
	errs = append(errs, err)
	tlsConf, useTLS, err := conf.FieldTLSToggled("tls")
	errs = append(errs, err)
	if !useTLS {
		tlsConf = nil
	}
	if err := errors.Join(errs...); err != nil {
		return c, err
	}
	switch {
	case len(c.streams) == 0:
		return c, errors.New("streams: name at least one stream")
	case c.group == "":
		return c, errors.New("consumer_group: must not be empty")
	case c.limit < 1:
		return c, fmt.Errorf("limit: is %d; it must be at least 1", c.limit)
	case c.commit <= 0 || c.timeout <= 0:
		return c, errors.New("commit_period, timeout: must be longer than 0s")
	}
	if c.consumer == "" {
		host, err := os.Hostname()
		if err != nil {
			return c, fmt.Errorf("client_id: say one, since the host has no name: %w", err)
		}
		c.consumer = "tidemill@" + host
	}
	c.connect, err = dialer(str("url"), str("kind"), str("master"), str("client_name"), tlsConf)
	return c, err
}

// dialer returns what opens a client; it connects when it is first used.
func dialer(urls, kind, master, name string, tlsConf *tls.Config) (func() redis.UniversalClient, error) {
	o := &redis.UniversalOptions{ClientName: name}
	for u := range strings.SplitSeq(urls, ",") {
		one, err := redis.ParseURL(strings.Replace(u, "tcp://", "redis://", 1))
		if err != nil {
			return nil, errors.New("url: is not one of a Redis server, such as redis://localhost:6379/0") // it may have a password
		}
		o.Addrs = append(o.Addrs, one.Addr)
		o.DB, o.Username, o.Password, o.TLSConfig = one.DB, one.Username, one.Password, one.TLSConfig
	}
	if tlsConf != nil {
		o.TLSConfig = tlsConf
	}
	switch kind {
	case "cluster":
		return func() redis.UniversalClient { return redis.NewClusterClient(o.Cluster()) }, nil
	case "failover":
		if o.MasterName = master; master == "" {
			return nil, errors.New("master: say the master's name, since kind is failover")
		}
		return func() redis.UniversalClient { return redis.NewFailoverClient(o.Failover()) }, nil
	}
	return func() redis.UniversalClient { return redis.NewClient(o.Simple()) }, nil
}
