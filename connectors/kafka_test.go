package connectors

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/redpanda-data/benthos/v4/public/service"
	"go.yaml.in/yaml/v3"
)

// fieldsOf returns the fields of an input, with their defaults as JSON.
func fieldsOf(t *testing.T, input string) map[string]string {
	t.Helper()
	view, ok := service.GlobalEnvironment().GetInputConfig(input)
	if !ok {
		t.Fatalf("no input %s", input)
	}
	text, err := view.FormatJSON()
	if err != nil {
		t.Fatal(err)
	}
	var spec struct {
		Config struct {
			Children []struct {
				Name    string          `json:"name"`
				Default json.RawMessage `json:"default"`
			} `json:"children"`
		} `json:"config"`
	}
	if err := json.Unmarshal(text, &spec); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, f := range spec.Config.Children {
		out[f.Name] = string(f.Default)
	}
	if len(out) == 0 {
		t.Fatalf("%s has no fields: %.300s", input, text)
	}
	return out
}

// TestKafkaBlocksFields: what kafka_franz has by default, its stand-in has; but for what
// is another on purpose.
func TestKafkaBlocksFields(t *testing.T) {
	// Of inputs in an environment of one's own nobody is told.
	if err := service.RegisterBatchInput(kafkaBlocks, kafkaBlocksSpec(), newKafkaBlocks); err != nil {
		t.Fatal(err)
	}
	theirs, ours := fieldsOf(t, kafkaFranz), fieldsOf(t, kafkaBlocks)
	onPurpose := map[string]string{"fetch_max_bytes": `"1MiB"`, "session_timeout": `"10s"`, "client_id": `"tidemill"`}
	for name, value := range ours {
		if !slices.Contains(kafkaFields, name) {
			t.Errorf("%s is not among kafkaFields, so nobody can set it", name)
		}
		want, ok := theirs[name]
		if !ok {
			t.Errorf("kafka_franz has no field %s", name)
		}
		if v, ok := onPurpose[name]; ok {
			want = v
		}
		if name != "tls" && value != want {
			t.Errorf("%s is %s by default, want %s", name, value, want)
		}
	}
	for _, name := range kafkaFields {
		if _, ok := ours[name]; !ok {
			t.Errorf("%s can be set, and is no field", name)
		}
	}
}

// TestReadsBlocks: what the stand-in does not know is left to kafka_franz itself.
func TestReadsBlocks(t *testing.T) {
	base := "seed_brokers: [b:9092]\ntopics: [t]\nconsumer_group: g\n"
	for text, want := range map[string]bool{
		base: true,
		base + "batching: {count: 5, period: 1s}\ncheckpoint_limit: 9\n":                              true,
		base + "tls: {enabled: true}\nsasl: [{mechanism: SCRAM-SHA-512, username: a, password: b}]\n": true,
		base + "sasl: [{mechanism: AWS_MSK_IAM, aws: {region: eu-west-1}}]\n":                         false,
		base + "sasl: [{mechanism: REDPANDA_CLOUD_SERVICE_ACCOUNT}]\n":                                false,
		base + "timely_nacks_maximum_wait: 1m\n":                                                      false,
		"seed_brokers: [b:9092]\ntopics: [t]\n":                                                       false,
		"seed_brokers: [b:9092]\ntopics: ['t:0-3']\nconsumer_group: g\n":                              false,
		"seed_brokers: [b:9092]\ntopics: ['${TOPICS}']\nconsumer_group: g\n":                          false,
		"seed_brokers: [b:9092]\ntopics: [t]\nconsumer_group: g\nnew_in_some_release: 1\n":            false,
	} {
		var doc yaml.Node
		if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
			t.Fatal(err)
		}
		if got := readsBlocks(doc.Content[0]); got != want {
			t.Errorf("%v, want %v:\n%s", got, want, text)
		}
	}
}

// TestKafkaBlocksConfig: what is wrong with a field is said by its name.
func TestKafkaBlocksConfig(t *testing.T) {
	for text, want := range map[string]string{
		"":                     "",
		"start_offset: soon\n": "start_offset: is \"soon\"; it must be earliest, latest or committed",
		"start_offset: earliest\nstart_from_oldest: false\n": "start_from_oldest: is false",
		"transaction_isolation_level: serial\n":              "transaction_isolation_level: is \"serial\"",
		"fetch_max_bytes: many\n":                            "fetch_max_bytes: is \"many\"",
		"fetch_max_bytes: 5GiB\n":                            "more than 2 GiB",
		"sasl: [{mechanism: KERBEROS}]\n":                    "sasl[0]: mechanism: is \"KERBEROS\"",
	} {
		conf, err := kafkaBlocksSpec().ParseYAML("seed_brokers: [b:9092]\ntopics: [t]\nconsumer_group: g\n"+text, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = newKafkaBlocks(conf, service.MockResources())
		if (want == "") != (err == nil) || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
