package connectors

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/internal/secret"
	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
	"github.com/tidemill/tidemill/sinks"
)

const (
	awsLogin   = `region: us-east-1, credentials: {id: SECRET, secret: SECRET, token: SECRET}`
	azureLogin = `storage_account: acc, storage_access_key: SECRET`
	azureURL   = `storage_connection_string: "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=SECRET;BlobEndpoint=http://HOST/a;QueueEndpoint=http://HOST/a;TableEndpoint=http://HOST/a"`
	google     = `credentials_json: '{"type": "service_account", "client_email": "a@b.c", "private_key": "SECRET", "token_uri": "http://u:SECRET@HOST/token"}'`
)

// brokenSinks are outputs with secrets in all places that they have for one; see broken.
var brokenSinks = map[string]string{
	"amqp_0_9":                  `{urls: ["amqp://user:SECRET@HOST/"], exchange: e}`,
	"amqp_0_9 malformed":        `{urls: ["amqp://user:SECRET%zz@HOST/"], exchange: e}`,
	"amqp_0_9 tls":              `{urls: ["amqps://user:SECRET@HOST/"], exchange: e, tls: {enabled: true}}`,
	"amqp_1":                    `{urls: ["amqp://user:SECRET@HOST/"], target_address: /q}`,
	"amqp_1 sasl":               `{urls: ["amqp://HOST/"], target_address: /q, sasl: {mechanism: plain, user: u, password: SECRET}}`,
	"aws_dynamodb":              `{table: t, endpoint: "http://u:SECRET@HOST", string_columns: {a: b}, max_retries: 1, ` + awsLogin + `}`,
	"aws_kinesis":               `{stream: s, partition_key: k, endpoint: "http://u:SECRET@HOST", max_retries: 1, ` + awsLogin + `}`,
	"aws_kinesis_firehose":      `{stream: s, endpoint: "http://u:SECRET@HOST", max_retries: 1, ` + awsLogin + `}`,
	"aws_s3":                    `{bucket: b, path: p, endpoint: "http://u:SECRET@HOST", force_path_style_urls: true, ` + awsLogin + `}`,
	"aws_sns":                   `{topic_arn: "arn:aws:sns:us-east-1:1:t", endpoint: "http://u:SECRET@HOST", ` + awsLogin + `}`,
	"aws_sqs":                   `{url: "http://u:SECRET@HOST/q", endpoint: "http://u:SECRET@HOST", max_retries: 1, ` + awsLogin + `}`,
	"azure_blob_storage":        `{container: c, path: p, ` + azureLogin + `}`,
	"azure_blob_storage url":    `{container: c, path: p, ` + azureURL + `}`,
	"azure_blob_storage sas":    `{container: c, path: p, storage_account: acc, storage_sas_token: "sv=2020&sig=SECRET"}`,
	"azure_cosmosdb":            `{endpoint: "https://u:SECRET@HOST", account_key: SECRET, database: d, container: c, partition_keys_map: root = "a"}`,
	"azure_cosmosdb url":        `{connection_string: "AccountEndpoint=https://HOST/;AccountKey=SECRET;", database: d, container: c, partition_keys_map: root = "a"}`,
	"azure_data_lake_gen2":      `{filesystem: f, path: p, ` + azureLogin + `}`,
	"azure_data_lake_gen2 url":  `{filesystem: f, path: p, ` + azureURL + `}`,
	"azure_queue_storage":       `{queue_name: q, ` + azureURL + `}`,
	"azure_table_storage":       `{table_name: t, partition_key: a, row_key: b, ` + azureURL + `}`,
	"broker":                    `{outputs: [{redis_list: {url: "redis://user:SECRET@HOST", key: k}}, {http_client: {url: "http://user:SECRET@HOST/x", verb: POST, retries: 0}}]}`,
	"cassandra":                 `{addresses: ["HOST"], query: "INSERT INTO t (a) VALUES (?)", args_mapping: "root = [1]", password_authenticator: {enabled: true, username: u, password: SECRET}, timeout: 500ms}`,
	"drop_on":                   `{error: true, output: {http_client: {url: "http://user:SECRET@HOST/x", verb: POST, retries: 0}}}`,
	"elasticsearch_v8":          `{urls: ["http://user:SECRET@HOST"], index: i, id: a, action: index, basic_auth: {enabled: true, username: u, password: SECRET}}`,
	"elasticsearch_v8 key":      `{urls: ["http://HOST"], index: i, id: a, action: index, api_key: SECRET}`,
	"fallback":                  `[{redis_list: {url: "redis://user:SECRET@HOST", key: k}}, {http_client: {url: "http://user:SECRET@HOST/x", verb: POST, retries: 0}}]`,
	"gcp_bigquery":              `{project: p, dataset: d, table: t, ` + google + `}`,
	"gcp_cloud_storage":         `{bucket: b, path: p, timeout: 1s, ` + google + `}`,
	"http_client":               `{url: "http://user:SECRET@HOST/x", verb: POST, retries: 0, headers: {Authorization: "Bearer SECRET", X-Api-Key: SECRET}}`,
	"http_client again":         `{url: "http://user:SECRET@HOST/x?token=SECRET", verb: POST, retries: 2, retry_period: 10ms}`,
	"http_client malformed":     `{url: "http://user:SECRET@HOST:x/%zz", verb: POST, retries: 0}`,
	"http_client basic":         `{url: "http://HOST/x?api_key=SECRET", verb: POST, retries: 0, basic_auth: {enabled: true, username: u, password: SECRET}}`,
	"http_client oauth":         `{url: "http://HOST/x", verb: POST, retries: 0, oauth: {enabled: true, consumer_key: SECRET, consumer_secret: SECRET, access_token: SECRET, access_token_secret: SECRET}}`,
	"http_client oauth2":        `{url: "http://HOST/x", verb: POST, retries: 0, oauth2: {enabled: true, client_key: k, client_secret: SECRET, token_url: "http://u:SECRET@HOST/token"}}`,
	"http_client proxy":         `{url: "http://example.invalid/x", verb: POST, retries: 0, proxy_url: "http://user:SECRET@HOST"}`,
	"http_client tls":           `{url: "https://user:SECRET@HOST/x", verb: POST, retries: 0}`,
	"http_client key":           `{url: "https://HOST/x", verb: POST, retries: 0, tls: {enabled: true, client_certs: [{cert: "x", key: SECRET, password: SECRET}]}}`,
	"kafka_franz":               `{seed_brokers: ["HOST"], topic: t, timeout: 1s, sasl: [{mechanism: PLAIN, username: u, password: SECRET}]}`,
	"kafka_franz url":           `{seed_brokers: ["kafka://u:SECRET@HOST"], topic: t, timeout: 1s}`,
	"kafka_franz tls":           `{seed_brokers: ["HOST"], topic: t, timeout: 1s, tls: {enabled: true}, sasl: [{mechanism: SCRAM-SHA-256, username: u, password: SECRET}]}`,
	"mongodb":                   `{url: "mongodb://user:SECRET@HOST/?serverSelectionTimeoutMS=300", database: d, collection: c, operation: insert-one, document_map: "root = this", username: u, password: SECRET, write_concern: {w: majority, w_timeout: 1s}}`,
	"mongodb malformed":         `{url: "mongodb://user:SEC/SECRET@@HOST", database: d, collection: c, operation: insert-one, document_map: "root = this", write_concern: {w: majority, w_timeout: 1s}}`,
	"mqtt":                      `{urls: ["tcp://u:SECRET@HOST"], topic: t, client_id: c, user: u, password: SECRET, connect_timeout: 1s}`,
	"nats":                      `{urls: ["nats://user:SECRET@HOST"], subject: s}`,
	"nats token":                `{urls: ["nats://SECRET@HOST"], subject: s}`,
	"nats_jetstream":            `{urls: ["nats://user:SECRET@HOST"], subject: s, auth: {user_jwt: SECRET, user_nkey_seed: SECRET}}`,
	"nats_kv":                   `{urls: ["nats://user:SECRET@HOST"], bucket: b, key: k}`,
	"nats_stream":               `{urls: ["nats://user:SECRET@HOST"], cluster_id: c, client_id: i, subject: s}`,
	"nsq":                       `{nsqd_tcp_address: "HOST", topic: t, user_agent: a, tls: {enabled: true, client_certs: [{cert: x, key: SECRET, password: SECRET}]}}`,
	"opensearch":                `{urls: ["http://user:SECRET@HOST"], index: i, id: a, action: index, basic_auth: {enabled: true, username: u, password: SECRET}}`,
	"pulsar":                    `{url: "pulsar://HOST", topic: t, auth: {token: {enabled: true, token: SECRET}}}`,
	"pulsar oauth2":             `{url: "pulsar://HOST", topic: t, auth: {oauth2: {enabled: true, audience: a, issuer_url: "http://u:SECRET@HOST", private_key_file: SECRET}}}`,
	"questdb":                   `{address: "HOST", table: t, username: u, password: SECRET, retry_timeout: 100ms}`,
	"questdb token":             `{address: "HOST", table: t, token: SECRET, retry_timeout: 100ms}`,
	"redis_hash":                `{url: "redis://user:SECRET@HOST", key: k, fields: {a: b}}`,
	"redis_list":                `{url: "redis://:SECRET@HOST", key: k}`,
	"redis_pubsub":              `{url: "redis://:SECRET@HOST", channel: c}`,
	"redis_streams":             `{url: "redis://user:SECRET@HOST", stream: s}`,
	"redis_streams bad":         `{url: "redis://user:SECRET@HOST/notanumber", stream: s}`,
	"reject_errored":            `{http_client: {url: "http://user:SECRET@HOST/x", verb: POST, retries: 0}}`,
	"retry":                     `{max_retries: 1, backoff: {initial_interval: 1ms}, output: {http_client: {url: "http://user:SECRET@HOST/x", verb: POST, retries: 0}}}`,
	"schema_registry":           `{url: "http://user:SECRET@HOST", subject: s, basic_auth: {enabled: true, username: u, password: SECRET}}`,
	"sftp":                      `{address: "HOST", path: /x, credentials: {username: u, password: SECRET}}`,
	"sftp key":                  `{address: "HOST", path: /x, credentials: {username: u, private_key: SECRET, private_key_pass: SECRET}}`,
	"socket":                    `{network: tcp, address: "HOST", tls: {enabled: true, client_certs: [{cert: x, key: SECRET, password: SECRET}]}}`,
	"sql_insert clickhouse":     `{driver: clickhouse, dsn: "clickhouse://user:SECRET@HOST/db", table: t, columns: [a], args_mapping: "root = [1]"}`,
	"sql_insert mssql":          `{driver: mssql, dsn: "sqlserver://user:SECRET@HOST?database=d", table: t, columns: [a], args_mapping: "root = [1]"}`,
	"sql_insert mysql":          `{driver: mysql, dsn: "user:SECRET@tcp(HOST)/db", table: t, columns: [a], args_mapping: "root = [1]"}`,
	"sql_insert oracle":         `{driver: oracle, dsn: "oracle://user:SECRET@HOST/s", table: t, columns: [a], args_mapping: "root = [1]"}`,
	"sql_insert postgres":       `{driver: postgres, dsn: "postgres://user:SECRET@HOST/db?sslmode=disable", table: t, columns: [a], args_mapping: "root = [1]"}`,
	"sql_insert snowflake":      `{driver: snowflake, dsn: "user:SECRET@account/db/schema?loginTimeout=1", table: t, columns: [a], args_mapping: "root = [1]"}`,
	"sql_insert trino":          `{driver: trino, dsn: "http://user:SECRET@HOST?catalog=c", table: t, columns: [a], args_mapping: "root = [1]"}`,
	"sql_raw pgx":               `{driver: pgx, dsn: "postgres://user:SECRET@HOST/db", query: "SELECT 1"}`,
	"sql_raw postgres kv":       `{driver: postgres, dsn: "host=h user=u password=SECRET port=x", query: "SELECT 1"}`,
	"sql_raw postgres bad":      `{driver: postgres, dsn: "postgres://user:SEC%zzSECRET@HOST/db", query: "SELECT 1"}`,
	"switch":                    `{cases: [{output: {http_client: {url: "http://user:SECRET@HOST/x", verb: POST, retries: 0}}}]}`,
	"websocket":                 `{url: "ws://user:SECRET@HOST/x", headers: {Authorization: "Bearer SECRET"}, basic_auth: {enabled: true, username: u, password: SECRET}}`,
	"http_client misspelled":    `{url: "http://user:SECRET@HOST/x", verb: POST, pasword: SECRET}`,
	"redis_streams wrong place": `{url: {password: SECRET}, stream: s}`,
}

// secretless are the outputs that have no place for a secret: what they reach takes none,
// or they are made of others.
var secretless = []string{
	"beanstalkd", "cache", "drop", "file", "hdfs", "http_server", "inproc", "reject", "stdout", "subprocess", "sync_response",
}

// TestSecretsOfSinksInLogs is TestSecretsInLogs for the outputs of sinks.
func TestSecretsOfSinksInLogs(t *testing.T) {
	tested := map[string]bool{}
	for name := range brokenSinks {
		kind, _, _ := strings.Cut(name, " ")
		tested[kind] = true
	}
	for _, kind := range sinkOutputs {
		if tested[kind] == slices.Contains(secretless, kind) {
			t.Errorf("output %s is neither broken here nor known to have no secret", kind)
		}
	}
	breakAll(t, brokenSinks, sendBroken)
}

// TestSecretlessOutputs: what counts as without a secret has no field for one.
func TestSecretlessOutputs(t *testing.T) {
	newSinkEnvironment().WalkOutputs(func(name string, view *service.ConfigView) {
		data, err := view.FormatJSON()
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(secretless, name) && (strings.Contains(string(data), `"is_secret":true`) || strings.Contains(string(data), `"password"`)) {
			t.Errorf("output %s has a field for a secret", name)
		}
	})
}

// sendBroken sends a row through an output until it warns or answers, and returns what
// came out of it, scrubbed and as it was.
func sendBroken(t *testing.T, dir, kind, fields string) (scrubbed, raw string) {
	t.Helper()
	clean, dirty := &said{warned: make(chan struct{})}, &said{warned: make(chan struct{})}
	e, err := New(Options{Logger: logBoth(clean, dirty), Tables: newLake(t, mem.New(), eventsContract)})
	if err != nil {
		t.Fatal(err)
	}
	c, err := contract.Parse(filepath.Join(dir, "tables", "events.yaml"), []byte("table: events\ncolumns: [{name: id, type: string, required: true}]\nsinks:\n  - {name: s, output: {"+kind+": "+fields+"}}\n"))
	if err != nil {
		t.Errorf("%s: %v", kind, err)
		return "", ""
	}
	lint := e.LintSinks(c)
	said := func(err error) (string, string) {
		text := ""
		if err != nil {
			text = err.Error()
		}
		return clean.String() + lint.Scrubbed().Error() + secret.Scrub(text), dirty.String() + lint.Error() + text
	}
	out, err := e.OpenSink(c, c.Sinks()[0], nil)
	if err != nil {
		return said(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
	defer cancel()
	row := json.RawMessage(`{"id":"1"}`)
	done := make(chan error, 1)
	go func() { done <- out.Send(ctx, []sinks.Message{{JSON: row, Key: "events_scored/1/0", Version: 1}}) }()
	select {
	case err = <-done:
	case <-dirty.warned:
		cancel()
		err = <-done
	}
	end, stop := context.WithTimeout(context.WithoutCancel(t.Context()), 50*time.Millisecond)
	defer stop()
	_ = out.Close(end)
	return said(err)
}

// logBoth logs at debug level, scrubbed and as it is.
func logBoth(clean, dirty *said) *slog.Logger {
	debug := &slog.HandlerOptions{Level: slog.LevelDebug}
	return slog.New(both{secret.Handler(slog.NewTextHandler(clean, debug)), slog.NewTextHandler(dirty, debug)})
}

// breakAll runs components with secrets of two origins, and looks for the secrets in what
// comes out. Each component has secrets of its own: what is known of one hides nothing of
// another. It says how many give them away by themselves, which is what the scrubbing is for.
func breakAll(t *testing.T, components map[string]string, run func(t *testing.T, dir, kind, fields string) (scrubbed, raw string)) {
	t.Helper()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	odd := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A server that is indiscreet itself.
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = fmt.Fprintf(w, "wrong credentials %s in %s", r.Header.Get("Authorization"), r.URL)
	}))
	defer odd.Close()
	dir := t.TempDir()
	var mu sync.Mutex
	leaked, quiet := 0, 0
	var wg sync.WaitGroup
	atOnce := make(chan struct{}, 64)
	for n, name := range slices.Sorted(maps.Keys(components)) {
		fields := components[name]
		kind, _, _ := strings.Cut(name, " ")
		own, env, file := fmt.Sprintf("%s-%03d", planted, n), fmt.Sprintf("PLANTED_%d_PASSWORD", n), fmt.Sprintf("pw%d", n)
		if err := os.WriteFile(filepath.Join(dir, file), []byte(own+"-file/\"x\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Setenv(env, own+"-env")
		for from, value := range map[string]string{"literal": own + "-lit", "env": "${" + env + "}", "file": "${file:" + file + "}", "cmd": "${cmd:printf " + own + "-cmd}"} {
			// What a secret's origin is to scrubbing does not depend on the component: each has that
			// of the environment and one other, or it would take minutes.
			if from != "env" && from != []string{"literal", "file", "cmd"}[n%3] {
				continue
			}
			host := closed.Addr().String()
			if from == "env" {
				host = odd.Listener.Addr().String()
			}
			wg.Go(func() {
				atOnce <- struct{}{}
				defer func() { <-atOnce }()
				fields := strings.NewReplacer(": SECRET", `: "SECRET"`, "[SECRET]", `["SECRET"]`).Replace(fields)
				out, raw := run(t, dir, kind, strings.NewReplacer("SECRET", value, "HOST", host).Replace(fields))
				mu.Lock()
				defer mu.Unlock()
				if strings.Contains(out, planted) {
					t.Errorf("%s, a secret from %s comes out:\n%s", name, from, linesWith(out, planted))
				}
				if strings.Contains(raw, planted) {
					leaked++
				}
				if raw == "" {
					quiet++
					t.Logf("%s says nothing", name)
				}
			})
		}
	}
	wg.Wait()
	if leaked == 0 {
		t.Error("not one of the components gives its secrets away by itself: the test breaks nothing")
	}
	t.Logf("%d of %d would have given their secrets away, %d said nothing", leaked, 2*len(components), quiet)
}
