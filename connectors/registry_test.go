package connectors

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hamba/avro/v2"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tidemill/tidemill/internal/testserver"
	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
)

const (
	avroOld = `{"type":"record","name":"Event","fields":[{"name":"id","type":"long"},{"name":"name","type":["null","string"]}]}`
	avroNew = `{"type":"record","name":"Event","fields":[{"name":"id","type":"long"},{"name":"name","type":["null","string"]},
		{"name":"price","type":["null",{"type":"bytes","logicalType":"decimal","precision":20,"scale":2}],"default":null},
		{"name":"at","type":[{"type":"long","logicalType":"timestamp-micros"},"null"]},
		{"name":"ratio","type":"double"},{"name":"flags","type":{"type":"array","items":"boolean"}}]}`
	protoEvent = `syntax = "proto3";
import "google/protobuf/timestamp.proto";
message Other { int64 id = 1; }
message Event { int64 id = 1; string name = 2; double ratio = 5; google.protobuf.Timestamp at = 4; repeated bool flags = 6; }`
)

// registry is a schema registry over HTTP, as far as decoding and lint ask: Confluent's API
// for schemas by their ids, and for the subject orders-value. A real one is not to be had
// for these tests.
type registry struct {
	*httptest.Server
	away     atomic.Int32 // HTTP status of every answer, if not 0
	asked    atomic.Int32
	password string // of the user u; "": it asks for none
}

func startRegistry(t *testing.T) *registry {
	r := &registry{}
	schemas := map[string][2]string{"1": {avroOld, "AVRO"}, "2": {avroNew, ""}, "3": {protoEvent, "PROTOBUF"}}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.asked.Add(1)
		w.Header().Set("Content-Type", "application/vnd.schemaregistry.v1+json")
		s, ok := schemas[strings.TrimPrefix(req.URL.Path, "/schemas/ids/")]
		var answer any
		fails := func(status, code int, message string) {
			w.WriteHeader(status)
			answer = map[string]any{"error_code": code, "message": message}
		}
		user, password, _ := req.BasicAuth()
		switch status := int(r.away.Load()); {
		case status != 0:
			fails(status, status*100, "not now")
		case r.password != "" && (user != "u" || password != r.password):
			fails(http.StatusUnauthorized, 40101, "Unauthorized")
		case req.URL.Path == "/schemas/types":
			answer = []string{"AVRO", "PROTOBUF"}
		case req.URL.Path == "/subjects":
			answer = []string{"orders-value"}
		case req.URL.Path == "/subjects/orders-value/versions/latest":
			answer = map[string]any{"subject": "orders-value", "id": 1, "version": 1, "schema": avroOld}
		case strings.HasPrefix(req.URL.Path, "/subjects/"):
			fails(http.StatusNotFound, 40401, "Subject not found.")
		case !ok:
			fails(http.StatusNotFound, 40403, "Schema 99 not found")
		case s[1] != "":
			answer = map[string]any{"schema": s[0], "schemaType": s[1]}
		default:
			answer = map[string]any{"schema": s[0]}
		}
		_ = json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(r.Close)
	return r
}

// wire puts the magic byte and a schema's id before a payload.
func wire(id uint32, payload []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, id), payload...)
}

func avroBytes(t *testing.T, schema string, v map[string]any) []byte {
	t.Helper()
	b, err := avro.Marshal(avro.MustParse(schema), v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// protoBytes is an Event: the path to the message's type in its file, then its fields.
func protoBytes(id int64, name string) []byte {
	b := []byte{2, 2} // one step, to the message number 1, both zigzag
	b = protowire.AppendTag(b, 1, protowire.VarintType)
	b = protowire.AppendVarint(b, uint64(id))
	b = protowire.AppendTag(b, 2, protowire.BytesType)
	b = protowire.AppendString(b, name)
	b = protowire.AppendTag(b, 5, protowire.Fixed64Type)
	b = protowire.AppendFixed64(b, 0x3fe0000000000000) // 0.5
	at := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 1769846400)
	b = protowire.AppendTag(b, 4, protowire.BytesType)
	b = protowire.AppendBytes(b, at)
	b = protowire.AppendTag(b, 6, protowire.BytesType)
	return protowire.AppendBytes(b, []byte{1, 0})
}

const registryContract = `table: events
columns:
  - {name: id, type: long, required: true}
  - {name: name, type: string}
  - {name: price, type: "decimal(20,2)"}
  - {name: at, type: timestamp}
  - {name: ratio, type: double}
  - {name: flags, type: "list<boolean>"}
`

// TestSchemaRegistry sends messages in Kafka's wire format through a real broker. While the
// registry is away they wait; then those that can be decoded land with their types, and the
// others are in quarantine byte for byte, all at their places in the topic.
func TestSchemaRegistry(t *testing.T) {
	k := testserver.StartKafka(t)
	k.CreateTopic(t, "events", 1)
	reg := startRegistry(t)
	reg.away.Store(http.StatusServiceUnavailable)
	price := big.NewRat(-1234567890123456789, 100)
	whole := avroBytes(t, avroNew, map[string]any{"id": int64(9007199254740993), "name": "ä", "price": price, "at": time.UnixMicro(1769846400123456).UTC(), "ratio": 0.1, "flags": []any{true, false}})
	sent := [][]byte{
		wire(1, avroBytes(t, avroOld, map[string]any{"id": int64(1), "name": "old"})),
		wire(1, avroBytes(t, avroOld, map[string]any{"id": int64(2), "name": nil})),
		wire(2, whole),
		wire(3, protoBytes(9007199254740995, "proto")),
		wire(99, whole),               // a schema that is nowhere
		wire(2, whole[:len(whole)/2]), // torn
		append([]byte{7}, whole...),   // no magic byte
		[]byte(`{"id":5}`),            // plain JSON
		{0, 0},
		wire(3, protoBytes(9, "torn")[:12]),
		wire(1, avroBytes(t, avroOld, map[string]any{"id": int64(3), "name": "last"})),
	}
	client := k.Client(t)
	for _, m := range sent {
		if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: "events", Value: m}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	store := mem.New()
	for run := range 2 { // the second by a group that has read nothing
		l := newLake(t, store, registryContract)
		e, c := linted(t, Options{Tables: l}, fmt.Sprintf(`input:
  kafka_franz: {seed_brokers: [%q], topics: [events], consumer_group: group%d, start_offset: earliest}
pipeline:
  processors:
    - schema_registry_decode:
        url: %s
        avro: {raw_unions: true, preserve_logical_types: true}
        protobuf: {use_proto_names: true, serialize_to_json: false}
output:
  lakehouse: {table: events, batching: {period: 20ms}}
`, k.Addr, run, reg.URL))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- e.Run(ctx, c, 10*time.Second) }()
		if run == 0 {
			until(t, "the registry is asked", done, func() bool { return reg.asked.Load() > 3 })
			l.mu.Lock()
			if n := l.sum.Landed + int64(len(l.sum.Quarantined)); n > 0 {
				t.Errorf("without a registry: %+v", l.sum)
			}
			l.mu.Unlock()
			reg.away.Store(0)
		}
		until(t, "all messages", done, func() bool {
			l.mu.Lock()
			defer l.mu.Unlock()
			n := l.sum.Landed + l.sum.Duplicates
			for _, q := range l.sum.Quarantined {
				n += q
			}
			return n == int64(len(sent))
		})
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		equal(t, "landed", rows(t, store, "events", "_offset", "id", "name", "price", "at", "ratio", "flags"), []string{
			"0 1 old (null) (null) (null) (null)",
			"1 2 (null) (null) (null) (null) (null)",
			"10 3 last (null) (null) (null) (null)",
			"2 9007199254740993 ä -12345678901234567.89 2026-01-31 08:00:00.123456Z 0.1 [true,false]",
			"3 9007199254740995 proto (null) 2026-01-31 08:00:00Z 0.5 [true,false]",
		})
		var want []string
		for _, i := range []int{4, 5, 6, 7, 8, 9} {
			want = append(want, fmt.Sprintf("%d processor_failed %s", i, sent[i]))
		}
		equal(t, "quarantined", rows(t, store, "events_quarantine", "_offset", "rule", "raw"), want)
	}
}

// until waits for a condition while a connector runs.
func until(t *testing.T, what string, done <-chan error, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case err := <-done:
			t.Fatalf("%s: the connector ended: %v", what, err)
		case <-deadline.C:
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// TestProtobuf decodes payloads by a .proto file of the project, without a registry.
func TestProtobuf(t *testing.T) {
	dir := t.TempDir()
	put(t, dir+"/event.proto", protoEvent)
	good := protoBytes(9007199254740995, "proto")[2:]
	var inputs []string
	for _, m := range [][]byte{good, good[:11]} {
		inputs = append(inputs, fmt.Sprintf(`{generate: {count: 1, interval: "", mapping: 'root = "%s".decode("base64")'}}`, base64.StdEncoding.EncodeToString(m)))
	}
	store := mem.New()
	newLake(t, store, registryContract).run(fmt.Sprintf(`input:
  broker: {inputs: [%s]}
pipeline:
  processors:
    - protobuf: {operator: decode, message: Event, import_paths: [%q], use_proto_names: true}
output:
  lakehouse: {table: events, batching: {period: 20ms}}
`, strings.Join(inputs, ", "), dir))
	equal(t, "landed", rows(t, store, "events", "id", "name", "at", "ratio", "flags"), []string{"9007199254740995 proto 2026-01-31 08:00:00Z 0.5 [true,false]"})
	equal(t, "quarantined", rows(t, store, "events_quarantine", "rule", "raw"), []string{"processor_failed " + string(good[:11])})
}
