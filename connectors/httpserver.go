package connectors

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/tidemill/tidemill/connectors/csvjson"
	"github.com/tidemill/tidemill/connectors/position"
	"github.com/tidemill/tidemill/connectors/webhook"
)

// httpServer is the http_server input: rows by HTTP and WebSocket. It takes the
// place of Benthos' own, which knows no limits, no signatures and no CSV.
const httpServer = "http_server"

func httpServerSpec() *service.ConfigSpec {
	str, num := service.NewStringField, service.NewIntField
	return service.NewConfigSpec().
		Stable().
		Categories("Tidemill").
		Summary("Takes rows by HTTP and WebSocket, and answers after the commit.").
		Description("A body is JSON (an object, an array of objects, NDJSON) or CSV with a header, plain or compressed with gzip or zstd. 200 means that every row is committed, to the table or to quarantine; any other status means: send it again when its text is followed. With the header `Idempotency-Key` a repeated request adds nothing twice.").
		Fields(
			str("address").Description("An address of its own to listen on, such as 0.0.0.0:8080; by default the paths are on the process's own server, `http.address` of tidemill.yaml.").Default(""),
			str("path").Description("Where requests are taken.").Default("/post"),
			str("ws_path").Description("Where WebSockets are taken; by default `path` with /ws behind it.").Default("/post/ws"),
			str("ws_welcome_message").Description("Sent to every new WebSocket.").Default("").Advanced(),
			service.NewStringListField("allowed_verbs").Description("The methods that are taken.").Default([]any{"POST"}),
			service.NewDurationField("timeout").Description("A request that is not committed by then is answered with 503; its rows may still land.").Default(webhook.DefaultTimeout.String()),
			service.NewStringEnumField("format", webhook.FormatAuto, webhook.FormatJSON, webhook.FormatNDJSON, webhook.FormatCSV).Description("What bodies are; by default what their Content-Type says, and JSON where it says nothing of use.").Default(webhook.FormatAuto),
			str("csv_delimiter").Description("What parts the fields of CSV.").Default(",").Advanced(),
			num("max_body_bytes").Description("A longer body, as sent or unpacked, is refused with 413.").Default(webhook.DefaultMaxBody),
			num("max_pending_bytes").Description("What all requests that wait for their commit hold in memory; beyond it they are refused with 503 and Retry-After.").Default(webhook.DefaultMaxPending).Advanced(),
			str("rate_limit").Description("A rate limit resource; a request beyond it is refused with 429 and Retry-After.").Default("").Advanced(),
			httpAuthField(),
			service.NewObjectField("cors",
				service.NewBoolField("enabled").Description("Let web pages of other sites send.").Default(false),
				service.NewStringListField("allowed_origins").Description("Those sites; \"*\" is all of them.").Default([]any{}),
			).Advanced(),
			str("cert_file").Description("TLS certificate, with an address of its own.").Default("").Advanced(),
			str("key_file").Description("TLS key, with an address of its own.").Default("").Advanced(),
		).
		Field(service.NewBoolField(rowsSingle).Description("Set by Tidemill itself.").Default(false).Advanced()).
		Fields(resumeFields()...).
		LintRule(`root = match {
  this.auth.hmac.header.or("") != "" && this.auth.hmac.secrets.or([]).length() == 0 => "auth.hmac has no secrets; name at least one",
  this.auth.hmac.secrets.or([]).length() > 0 && this.auth.hmac.header.or("") == "" => "auth.hmac has no header; name the one that has the signature, such as X-Hub-Signature-256",
}`)
}

func httpAuthField() *service.ConfigField {
	str := service.NewStringField
	return service.NewObjectField("auth",
		service.NewStringListField("tokens").Description("Tokens that are taken, any of them; take them from the environment: \"${WEBHOOK_TOKEN}\".").Secret().Default([]any{}),
		str("token_header").Description("The header that has the token; in Authorization it stands after \"Bearer \".").Default("Authorization"),
		service.NewObjectField("hmac",
			service.NewStringListField("secrets").Description("Secrets that bodies are signed with, any of them.").Secret().Default([]any{}),
			str("header").Description("The header that has the signature.").Default(""),
			service.NewStringEnumField("algorithm", "sha256", "sha512", "sha1").Default("sha256"),
			service.NewStringEnumField("encoding", "hex", "base64").Default("hex"),
			str("prefix").Description("What stands before the signature, such as \"sha256=\". The header may list several values, separated by commas; those with the prefix count.").Default(""),
			str("signed").Description("What is signed: {body}, and {timestamp} where the sender has one.").Default("{body}"),
			str("timestamp_header").Description("The header that has the timestamp, in Unix seconds.").Default(""),
			str("timestamp_prefix").Description("What stands before the timestamp, such as \"t=\".").Default(""),
			service.NewDurationField("tolerance").Description("How far the timestamp may be from now.").Default(webhook.DefaultSkew.String()),
		).Description("A signature over the body as it was sent, as GitHub, Stripe, Slack and Shopify have it.").Optional(),
	).Description("Who may send; by default everyone who reaches the address.")
}

// httpInput is a running http_server.
type httpInput struct {
	server       *webhook.Server
	engine       *Engine
	connector    string
	path, wsPath string

	listener net.Listener // of an address of its own
	own      *http.Server

	begin sync.Once
}

func newHTTPServer(e *Engine) service.BatchInputConstructor {
	return func(conf *service.ParsedConfig, res *service.Resources) (service.BatchInput, error) {
		p := &parsed{conf: conf}
		c := webhook.Config{
			Verbs: p.strings("allowed_verbs"), Timeout: p.duration("timeout"), Format: p.str("format"),
			MaxBody: int64(p.int("max_body_bytes")), MaxPending: int64(p.int("max_pending_bytes")),
			CORS:    webhook.CORS{Enabled: p.bool("cors", "enabled"), Origins: p.strings("cors", "allowed_origins")},
			Welcome: p.str("ws_welcome_message"), Single: p.bool(rowsSingle),
			Kinds: csvKinds(e, p.str(ownerTable)),
			Auth:  webhook.Auth{Tokens: p.secrets("auth", "tokens"), Header: p.str("auth", "token_header")},
		}
		// Its fields have defaults, so that whether it was named shows only in what was said.
		if h := hmacOf(p); len(h.Secrets) > 0 || h.Header+h.Prefix+h.TimestampHeader != "" {
			c.Auth.HMAC = h
		}
		c.Delimiter, _ = utf8.DecodeRuneInString(p.str("csv_delimiter"))
		if utf8.RuneCountInString(p.str("csv_delimiter")) != 1 || strings.ContainsRune("\"\r\n\uFFFD", c.Delimiter) {
			p.bad("csv_delimiter", "must be one character, and neither a quote nor a newline")
		}
		c.Limit = p.limit(res)
		in := &httpInput{engine: e, connector: p.str(ownerConnector), path: p.str("path"), wsPath: p.str("ws_path")}
		for field, path := range map[string]string{"path": in.path, "ws_path": in.wsPath} {
			if path != "" && !strings.HasPrefix(path, "/") {
				p.bad(field, "%q must begin with a slash", path)
			}
		}
		var err error
		in.server, err = webhook.New(c)
		p.errs = append(p.errs, err)
		if err := p.err(); err != nil {
			return nil, err
		}
		if err := in.listen(p.str("address"), p.str("cert_file"), p.str("key_file")); err != nil {
			return nil, err
		}
		e.servers.add(in.connector, in.server)
		return in, nil
	}
}

func hmacOf(p *parsed) *webhook.HMAC {
	str := func(name string) string { return p.str("auth", "hmac", name) }
	return &webhook.HMAC{
		Secrets: p.secrets("auth", "hmac", "secrets"), Header: str("header"), Algorithm: str("algorithm"), Encoding: str("encoding"),
		Prefix: str("prefix"), Signed: str("signed"), TimestampHeader: str("timestamp_header"), TimestampPrefix: str("timestamp_prefix"),
		Tolerance: p.duration("auth", "hmac", "tolerance"),
	}
}

// csvKinds returns how CSV is written for a table's contract. While the table cannot
// be opened, its rows could not land either; columns are then guessed.
func csvKinds(e *Engine, table string) func(context.Context) func(string) csvjson.Kind {
	return func(ctx context.Context) func(string) csvjson.Kind {
		if e.tables == nil {
			return nil
		}
		l, err := e.tables.Landing(ctx, table)
		if err != nil {
			e.log.Warn("the contract's types are not known for CSV", "table", table, "error", err)
			return nil
		}
		schema := l.Contract.ArrowSchema()
		return func(name string) csvjson.Kind {
			if f, ok := schema.FieldsByName(name); ok {
				return csvjson.KindOf(f[0].Type)
			}
			return csvjson.Guess
		}
	}
}

// listen takes an address of the input's own, so that one that is taken already is
// told before anything runs.
func (h *httpInput) listen(address, cert, key string) error {
	if address == "" {
		return nil
	}
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", address)
	if err != nil {
		return fmt.Errorf("address: %w; choose another one, or end what uses it", err)
	}
	if cert != "" || key != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return errors.Join(fmt.Errorf("cert_file and key_file: %w", err), l.Close())
		}
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS12})
	}
	mux := NewMux()
	h.register(mux)
	h.listener, h.own = l, &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	return nil
}

func (h *httpInput) register(m *Mux) {
	paths := m.of(h.connector, h.engine.log)
	if h.path != "" {
		paths.HandleFunc(h.path, h.server.ServeHTTP)
	}
	if h.wsPath != "" {
		paths.HandleFunc(h.wsPath, h.server.Socket().ServeHTTP)
	}
}

// Connect begins to take requests.
func (h *httpInput) Connect(context.Context) error {
	h.begin.Do(func() {
		switch {
		case h.own != nil:
			go func() {
				if err := h.own.Serve(h.listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
					h.engine.log.Error("http_server has ended", "connector", h.connector, "error", err)
				}
			}()
		case h.engine.mux != nil:
			h.register(h.engine.mux)
		default:
			h.engine.log.Error("http_server has no address, and there is no server of the process's own", "connector", h.connector)
		}
	})
	return nil
}

func (h *httpInput) ReadBatch(ctx context.Context) (service.MessageBatch, service.AckFunc, error) {
	m, err := h.server.Next(ctx)
	if err != nil {
		return nil, nil, err
	}
	msg := service.NewMessageWithContext(context.WithValue(context.Background(), countKey{}, counter(m)), m.Data)
	if m.Key != "" {
		msg = position.Stamp(msg, Position{Partition: "#" + hashHex(m.Key), Offset: m.First, PerRow: m.PerRow, Rows: m.Lines})
	}
	describe(msg, m.From)
	return service.MessageBatch{msg}, func(_ context.Context, err error) error {
		if err != nil {
			h.engine.log.Warn("rows of a request were not committed", "connector", h.connector, "error", err)
		}
		m.Done(err)
		return nil
	}, nil
}

// describe puts what a request says of itself into metadata, for processors.
func describe(msg *service.Message, from *webhook.Origin) {
	for name, v := range from.Header {
		msg.MetaSetMut(name, v[0])
	}
	for name, v := range from.Query {
		msg.MetaSetMut(name, v[0])
	}
	msg.MetaSetMut("http_server_user_agent", from.UserAgent)
	msg.MetaSetMut("http_server_request_path", from.Path)
	msg.MetaSetMut("http_server_verb", from.Verb)
	if host, _, err := net.SplitHostPort(from.RemoteAddr); err == nil {
		msg.MetaSetMut("http_server_remote_ip", host)
	}
}

// Close is called when nothing that was taken in waits for its commit any more.
func (h *httpInput) Close(ctx context.Context) error {
	h.engine.servers.remove(h.connector, h.server)
	err := h.server.Close(ctx)
	if h.own != nil {
		err = errors.Join(err, h.own.Shutdown(ctx))
		_ = h.listener.Close() // when it never began to serve
	}
	return err
}

// httpServers are the running http_server inputs, so that a connector that stops can
// have them refuse what comes before it waits for what has come.
type httpServers struct {
	mu sync.Mutex
	by map[string][]*webhook.Server // guarded by mu: by connector
}

func (s *httpServers) add(connector string, server *webhook.Server) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.by == nil {
		s.by = map[string][]*webhook.Server{}
	}
	s.by[connector] = append(s.by[connector], server)
}

func (s *httpServers) remove(connector string, server *webhook.Server) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var left []*webhook.Server
	for _, o := range s.by[connector] {
		if o != server {
			left = append(left, o)
		}
	}
	s.by[connector] = left
}

func (s *httpServers) drain(connector string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, server := range s.by[connector] {
		server.Drain()
	}
}
