package connectors

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemill/tidemill/internal/secret"
	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
)

// planted is in every secret of the configs below. A password has characters that must be
// encoded in a URL.
const planted = "pl4nted-s3cret"

// said keeps what a connector logs, and says when it has warned of something.
type said struct {
	mu     sync.Mutex
	buf    bytes.Buffer
	warned chan struct{}
	once   sync.Once
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if bytes.Contains(p, []byte("level=ERROR")) || bytes.Contains(p, []byte("level=WARN")) {
		s.once.Do(func() { close(s.warned) })
	}
	return s.buf.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

// broken are inputs with secrets in all places that they have for one. HOST is an address
// where nothing listens, or one that answers what nobody expects.
var broken = map[string]string{
	"amqp_0_9":              `{urls: ["amqp://user:SECRET@HOST/"], queue: q}`,
	"amqp_0_9 malformed":    `{urls: ["amqp://user:SECRET%zz@HOST/"], queue: q}`,
	"amqp_0_9 tls":          `{urls: ["amqps://user:SECRET@HOST/"], queue: q, tls: {enabled: true}}`,
	"amqp_1":                `{urls: ["amqp://user:SECRET@HOST/"], source_address: /q}`,
	"amqp_1 sasl":           `{urls: ["amqp://HOST/"], source_address: /q, sasl: {mechanism: plain, user: u, password: SECRET}}`,
	"aws_kinesis":           `{streams: [s], endpoint: "http://u:SECRET@HOST", region: us-east-1, dynamodb: {table: t}, credentials: {id: SECRET, secret: SECRET, token: SECRET}}`,
	"aws_s3":                `{bucket: b, endpoint: "http://u:SECRET@HOST", region: us-east-1, credentials: {id: SECRET, secret: SECRET}}`,
	"aws_sqs":               `{url: "http://u:SECRET@HOST/q", region: us-east-1, endpoint: "http://HOST", credentials: {id: SECRET, secret: SECRET}}`,
	"azure_blob_storage":    `{storage_account: acc, storage_access_key: SECRET, container: c}`,
	"azure_queue_storage":   `{storage_connection_string: "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=SECRET;QueueEndpoint=http://HOST/a", queue_name: q}`,
	"cassandra":             `{addresses: ["HOST"], query: "SELECT * FROM t", password_authenticator: {enabled: true, username: u, password: SECRET}, timeout: 500ms}`,
	"http_client":           `{url: "http://user:SECRET@HOST/x", verb: GET, retry_period: 10ms, headers: {Authorization: "Bearer SECRET", X-Api-Key: SECRET}}`,
	"http_client malformed": `{url: "http://user:SECRET@HOST:x/%zz", verb: GET, retry_period: 10ms}`,
	"http_client basic":     `{url: "http://HOST/x?api_key=SECRET", verb: GET, retry_period: 10ms, basic_auth: {enabled: true, username: u, password: SECRET}}`,
	"http_client oauth2":    `{url: "http://HOST/x", verb: GET, retry_period: 10ms, oauth2: {enabled: true, client_key: k, client_secret: SECRET, token_url: "http://u:SECRET@HOST/token"}}`,
	"http_client tls":       `{url: "https://user:SECRET@HOST/x", verb: GET, retry_period: 10ms}`,
	"http_poll":             `{url: "http://user:SECRET@HOST/x?api_key=SECRET", headers: {Authorization: "Bearer SECRET"}, next: "root = null", retry_min: 10ms}`,
	"http_server":           `{address: "256.0.0.1:1", path: /x, auth: {tokens: [SECRET], hmac: {secrets: [SECRET], header: X-Sig}}}`,
	"postgres_changes":      `{dsn: "postgres://user:SECRET@HOST/db", slot: s, tables: [t]}`,
	"postgres_changes bad":  `{dsn: "postgres://user:SEC%zzSECRET@HOST/db", slot: s, tables: [t]}`,
	"sql_poll":              `{driver: pgx, dsn: "postgres://user:SECRET@HOST/db", table: t, columns: [id], cursor: [id], retry_min: 10ms}`,
	"sql_poll mysql":        `{driver: mysql, dsn: "user:SECRET@tcp(HOST)/db", table: t, columns: [id], cursor: [id], retry_min: 10ms}`,
	"kafka":                 `{addresses: ["HOST"], topics: [t], consumer_group: g, tls: {enabled: true, client_certs: [{cert: "x", key: SECRET, password: SECRET}]}}`,
	"kafka_franz":           `{seed_brokers: ["HOST"], topics: [t], consumer_group: g, sasl: [{mechanism: PLAIN, username: u, password: SECRET}]}`,
	"kafka_franz url":       `{seed_brokers: ["kafka://u:SECRET@HOST"], topics: [t], consumer_group: g}`,
	"kafka_franz tls":       `{seed_brokers: ["HOST"], topics: [t], consumer_group: g, tls: {enabled: true}, sasl: [{mechanism: SCRAM-SHA-256, username: u, password: SECRET}]}`,
	"mongodb":               `{url: "mongodb://user:SECRET@HOST/?serverSelectionTimeoutMS=300", database: d, collection: c, query: "root = {}", username: u, password: SECRET}`,
	"mongodb malformed":     `{url: "mongodb://user:SEC/SECRET@@HOST", database: d, collection: c, query: "root = {}"}`,
	"mqtt":                  `{urls: ["tcp://u:SECRET@HOST"], topics: [t], client_id: c, user: u, password: SECRET, connect_timeout: 1s}`,
	"nats":                  `{urls: ["nats://user:SECRET@HOST"], subject: s}`,
	"nats token":            `{urls: ["nats://SECRET@HOST"], subject: s}`,
	"nats_jetstream":        `{urls: ["nats://user:SECRET@HOST"], subject: s, stream: s, auth: {user_jwt: SECRET, user_nkey_seed: SECRET}}`,
	"nats_kv":               `{urls: ["nats://user:SECRET@HOST"], bucket: b}`,
	"nsq":                   `{nsqd_tcp_addresses: ["HOST"], lookupd_http_addresses: ["http://u:SECRET@HOST"], topic: t, channel: c}`,
	"pulsar":                `{url: "pulsar://HOST", topics: [t], subscription_name: s, auth: {token: {enabled: true, token: SECRET}}}`,
	"redis_list":            `{url: "redis://:SECRET@HOST", key: k}`,
	"redis_pubsub":          `{url: "redis://:SECRET@HOST", channels: [c]}`,
	"redis_scan":            `{url: "redis://user:SECRET@HOST"}`,
	"redis_streams":         `{url: "redis://user:SECRET@HOST", streams: [s], consumer_group: g}`,
	"redis_streams bad":     `{url: "redis://user:SECRET@HOST/notanumber", streams: [s], consumer_group: g}`,
	"schema_registry":       `{url: "http://user:SECRET@HOST", basic_auth: {enabled: true, username: u, password: SECRET}}`,
	"sftp":                  `{address: "HOST", paths: [/x], credentials: {username: u, password: SECRET}}`,
	"sql_raw mysql":         `{driver: mysql, dsn: "user:SECRET@tcp(HOST)/db", query: "SELECT 1"}`,
	"sql_raw postgres":      `{driver: postgres, dsn: "postgres://user:SECRET@HOST/db?sslmode=disable", query: "SELECT 1"}`,
	"sql_raw postgres kv":   `{driver: postgres, dsn: "host=h user=u password=SECRET port=x", query: "SELECT 1"}`,
	"sql_raw postgres bad":  `{driver: postgres, dsn: "postgres://user:SEC%zzSECRET@HOST/db", query: "SELECT 1"}`,
	"sql_raw pgx":           `{driver: pgx, dsn: "postgres://user:SECRET@HOST/db", query: "SELECT 1"}`,
	"sql_select clickhouse": `{driver: clickhouse, dsn: "clickhouse://user:SECRET@HOST/db", table: t, columns: ["*"]}`,
	"sql_select mssql":      `{driver: mssql, dsn: "sqlserver://user:SECRET@HOST?database=d", table: t, columns: ["*"]}`,
	"sql_select oracle":     `{driver: oracle, dsn: "oracle://user:SECRET@HOST/s", table: t, columns: ["*"]}`,
	"sql_select snowflake":  `{driver: snowflake, dsn: "user:SECRET@account/db/schema?loginTimeout=1", table: t, columns: ["*"]}`,
	"sql_select trino":      `{driver: trino, dsn: "http://user:SECRET@HOST?catalog=c", table: t, columns: ["*"]}`,
	"websocket":             `{url: "ws://user:SECRET@HOST/x", headers: {Authorization: "Bearer SECRET"}}`,
}

// TestSecretsInLogs breaks inputs in every way and looks for their secrets in what comes
// out: at debug level, in errors of lint and of the run.
func TestSecretsInLogs(t *testing.T) { breakAll(t, broken, runBroken) }

// runBroken runs a connector until it warns or ends, and returns what came out of it,
// scrubbed and as it was.
func runBroken(t *testing.T, dir, kind, fields string) (scrubbed, raw string) {
	t.Helper()
	clean, dirty := &said{warned: make(chan struct{})}, &said{warned: make(chan struct{})}
	e, err := New(Options{Logger: logBoth(clean, dirty), Tables: newLake(t, mem.New(), eventsContract)})
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseConfig(filepath.Join(dir, "in.yaml"), fmt.Appendf(nil, "input:\n  %s: %s\noutput:\n  lakehouse: {table: events}\n", kind, fields))
	if err != nil {
		t.Errorf("%s: %v", kind, err)
		return "", ""
	}
	lint := e.Lint(c, []string{"events"})
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx, c, time.Second) }()
	select {
	case err = <-done:
	case <-dirty.warned:
		cancel()
		err = <-done
	}
	if err == nil {
		err = errors.New("")
	}
	return clean.String() + lint.Scrubbed().Error() + secret.Scrub(err.Error()), dirty.String() + lint.Error() + err.Error()
}

// both hands records to two handlers.
type both [2]slog.Handler

func (b both) Enabled(context.Context, slog.Level) bool { return true }
func (b both) Handle(ctx context.Context, r slog.Record) error {
	return errors.Join(b[0].Handle(ctx, r.Clone()), b[1].Handle(ctx, r))
}
func (b both) WithAttrs(a []slog.Attr) slog.Handler {
	return both{b[0].WithAttrs(a), b[1].WithAttrs(a)}
}
func (b both) WithGroup(n string) slog.Handler { return both{b[0].WithGroup(n), b[1].WithGroup(n)} }

func linesWith(text, part string) string {
	var out []string
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			out = append(out, line)
		}
	}
	return strings.Join(out[:min(3, len(out))], "")
}

// TestResolve: what stands in a file or comes from a command reaches the component, and
// whatever it looks like it is text there.
func TestResolve(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "connectors"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"token": "a: [${HOME}] \"b\" # c\n", "one": "1\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got := make(chan http.Header, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case got <- r.Header:
		default:
		}
	}))
	defer srv.Close()
	const head = "input:\n  http_client:\n    url: %s\n    verb: GET\n    headers:\n"
	file := filepath.Join(dir, "connectors", "in.yaml")
	conf := fmt.Sprintf(head+"      A: ${file:token}\n      B: \"x-${cmd: cat token | head -c 1}-${file:one}\"\n      C: \"${{file:one}}\"\n      D: \"${file:one}\"\noutput:\n  lakehouse: {table: events}\n", srv.URL)
	c, err := ParseConfig(file, []byte(conf))
	if err != nil {
		t.Fatal(err)
	}
	e, err := New(Options{Tables: newLake(t, mem.New(), eventsContract)})
	if err != nil {
		t.Fatal(err)
	}
	if ps := e.Lint(c, []string{"events"}); ps != nil {
		t.Fatal(ps)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx, c, time.Second) }()
	h := <-got
	cancel()
	<-done
	for name, want := range map[string]string{"A": `a: [${HOME}] "b" # c`, "B": "x-a-1", "C": "${file:one}", "D": "1"} {
		if h.Get(name) != want {
			t.Errorf("header %s is %q, want %q", name, h.Get(name), want)
		}
	}

	again, err := ParseConfig(file, []byte(conf))
	if err != nil {
		t.Fatal(err)
	}
	if !c.Same(again) {
		t.Error("the same file with the same values is another one")
	}
	if err := os.WriteFile(filepath.Join(dir, "one"), []byte("2"), 0o600); err != nil {
		t.Fatal(err)
	}
	if again, err = ParseConfig(file, []byte(conf)); err != nil || c.Same(again) {
		t.Errorf("another value in the file changes nothing: %v", err)
	}
	bad, err := ParseConfig(file, []byte(fmt.Sprintf(head+"      A: ${file:nosuch}\noutput:\n  lakehouse: {table: events}\n", srv.URL)))
	if err != nil {
		t.Fatal(err)
	}
	if ps := e.Lint(bad, []string{"events"}); len(ps) != 1 || ps[0].Line != 6 || ps[0].Field != "input.http_client.headers.A" || !strings.Contains(ps[0].Message, "the file nosuch does not exist") {
		t.Errorf("a file that is not there: %v", ps)
	}
}
