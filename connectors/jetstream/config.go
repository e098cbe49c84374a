package jetstream

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	"github.com/redpanda-data/benthos/v4/public/service"
)

// Spec is the input's config.
func Spec() *service.ConfigSpec {
	secret := func(name, text string) *service.ConfigField {
		return service.NewStringField(name).Description(text).Secret().Default("")
	}
	return service.NewConfigSpec().
		Stable().
		Categories("Tidemill").
		Summary("Reads messages of a NATS JetStream stream through a pull consumer.").
		Description("Each message's stream sequence is its position, so that its rows land exactly once, also when several processes share the consumer. A message is acked after the commit that holds its rows.").
		Fields(
			service.NewStringListField("urls").Description("The servers.").Example([]string{"nats://127.0.0.1:4222"}),
			service.NewIntField("max_reconnects").Description("How often a lost connection is tried again; below 0: for ever.").Default(-1).Advanced(),
			service.NewStringField("stream").Description("The stream. Without it, the one that has the subject.").Default(""),
			service.NewStringField("subject").Description("The subject to read, with wildcards. Without it, all of the stream. Another subject is another source: its messages are taken in anew.").Default("").Example("orders.>"),
			service.NewStringField("durable").Description("The durable pull consumer to read through, made where it is missing. Processes with the same name share its messages. Without it, each start begins where `deliver` says, and what the table has is dropped.").Default(""),
			service.NewStringField("queue").Description("The same as `durable`.").Default("").Advanced(),
			service.NewBoolField("bind").Description("The consumer must be there.").Default(false).Advanced(),
			service.NewBoolField("create_stream").Description("Make the stream if it does not exist.").Default(false).Advanced(),
			service.NewStringEnumField("deliver", "all", "last", "last_per_subject", "new").Description("Where a new consumer begins.").Default("all"),
			service.NewDurationField("ack_wait").Description("How long the server waits for an ack before it delivers a message again. So long, too, wait the messages of a process that was killed.").Default("30s").Advanced(),
			service.NewIntField("max_ack_pending").Description("How many messages may be on their way, in all processes.").Default(20_000).Advanced(),
			service.NewIntField("limit").Description("How many messages a batch has at most.").Default(1000).Advanced(),
			service.NewTLSToggledField("tls"),
			service.NewBoolField("tls_handshake_first").Description("Begin with TLS, before the server's first word.").Default(false).Advanced(),
			service.NewObjectField("auth",
				service.NewStringField("nkey_file").Description("A file with an NKey seed.").Default(""),
				secret("nkey", "An NKey seed."),
				service.NewStringField("user_credentials_file").Description("A file with a user's JWT and seed.").Default(""),
				secret("user_jwt", "A user's JWT; with `user_nkey_seed`."),
				secret("user_nkey_seed", "The seed that goes with `user_jwt`."),
				service.NewStringField("user").Description("A user's name; with `password`.").Default(""),
				secret("password", "The user's password."),
				secret("token", "A token."),
			).Description("How to log in: one of these ways.").Advanced(),
			service.NewAutoRetryNacksToggleField(),
		)
}

type config struct {
	urls                     string
	options                  []nats.Option
	stream, subject, durable string
	bind, create             bool
	deliver                  jetstream.DeliverPolicy
	ackWait                  time.Duration
	maxPending, limit        int
}

var deliverPolicies = map[string]jetstream.DeliverPolicy{
	"all": jetstream.DeliverAllPolicy, "last": jetstream.DeliverLastPolicy,
	"last_per_subject": jetstream.DeliverLastPerSubjectPolicy, "new": jetstream.DeliverNewPolicy,
}

// fields reads a config and keeps the errors.
type fields struct {
	conf *service.ParsedConfig
	errs []error
}

func (f *fields) str(path ...string) string {
	v, err := f.conf.FieldString(path...)
	f.errs = append(f.errs, err)
	return v
}

func (f *fields) num(name string) int {
	v, err := f.conf.FieldInt(name)
	f.errs = append(f.errs, err)
	return v
}

func (f *fields) flag(name string) bool {
	v, err := f.conf.FieldBool(name)
	f.errs = append(f.errs, err)
	return v
}

func parse(conf *service.ParsedConfig) (c config, err error) {
	f := &fields{conf: conf}
	urls, err := conf.FieldStringList("urls")
	f.errs = append(f.errs, err)
	c.urls = strings.Join(urls, ",")
	c.stream, c.subject, c.durable = f.str("stream"), f.str("subject"), f.str("durable")
	queue := f.str("queue")
	c.bind, c.create = f.flag("bind"), f.flag("create_stream")
	c.deliver = deliverPolicies[f.str("deliver")]
	c.maxPending, c.limit = f.num("max_ack_pending"), f.num("limit")
	c.ackWait, err = conf.FieldDuration("ack_wait")
	f.errs = append(f.errs, err)
	c.options = []nats.Option{nats.Name("tidemill"), nats.MaxReconnects(f.num("max_reconnects")), nats.ReconnectWait(500 * time.Millisecond)}
	tlsConf, useTLS, err := conf.FieldTLSToggled("tls")
	f.errs = append(f.errs, err)
	if useTLS {
		c.options = append(c.options, nats.Secure(tlsConf))
	}
	if f.flag("tls_handshake_first") {
		c.options = append(c.options, nats.TLSHandshakeFirst())
	}
	login, err := f.login()
	f.errs = append(f.errs, err)
	c.options = append(c.options, login...)
	if err := errors.Join(f.errs...); err != nil {
		return c, err
	}
	switch {
	case len(urls) == 0:
		return c, errors.New("urls: name at least one server")
	case c.stream == "" && c.subject == "":
		return c, errors.New("stream, subject: say one of them")
	case c.durable != "" && queue != "" && c.durable != queue:
		return c, errors.New("durable, queue: both name the consumer; say one of them")
	case c.ackWait < time.Millisecond || c.maxPending < 1 || c.limit < 1:
		return c, errors.New("ack_wait, max_ack_pending, limit: must be more than 0")
	}
	if c.durable == "" {
		c.durable = queue
	}
	if c.bind && (c.durable == "" || c.stream == "") {
		return c, errors.New("bind: needs stream and durable, to know which consumer")
	}
	return c, nil
}

// login returns the options of the one way to log in that the config names.
func (f *fields) login() (out []nats.Option, err error) {
	var ways []string
	add := func(way string, set bool, o func() (nats.Option, error)) {
		if !set || err != nil {
			return
		}
		var opt nats.Option
		if opt, err = o(); err != nil {
			err = fmt.Errorf("auth.%s: %w", way, err)
			return
		}
		ways, out = append(ways, way), append(out, opt)
	}
	file, seed, creds := f.str("auth", "nkey_file"), f.str("auth", "nkey"), f.str("auth", "user_credentials_file")
	jwt, jwtSeed := f.str("auth", "user_jwt"), f.str("auth", "user_nkey_seed")
	user, password, token := f.str("auth", "user"), f.str("auth", "password"), f.str("auth", "token")
	ok := func(o nats.Option) func() (nats.Option, error) {
		return func() (nats.Option, error) { return o, nil }
	}
	add("nkey_file", file != "", func() (nats.Option, error) { return nats.NkeyOptionFromSeed(file) })
	add("nkey", seed != "", func() (nats.Option, error) {
		pair, err := nkeys.FromSeed([]byte(seed))
		if err != nil {
			return nil, errors.New("is not an NKey seed")
		}
		public, err := pair.PublicKey()
		return nats.Nkey(public, pair.Sign), err
	})
	add("user_credentials_file", creds != "", ok(nats.UserCredentials(creds)))
	add("user_jwt", jwt != "" || jwtSeed != "", ok(nats.UserJWTAndSeed(jwt, jwtSeed)))
	add("token", token != "", ok(nats.Token(token)))
	add("user", user != "" || password != "", ok(nats.UserInfo(user, password)))
	if len(ways) > 1 {
		return nil, fmt.Errorf("auth: %s are %d ways to log in; keep one", strings.Join(ways, ", "), len(ways))
	}
	return out, err
}
