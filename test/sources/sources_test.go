package sources

import "testing"

// TestSources lets all sources go through the scenario, those of one line in the same processes.
func TestSources(t *testing.T) {
	w := newWorld(t, "kafka", "kinesis", "nats", "redis", "rabbitmq", "rabbitmq_ids", "mqtt", "postgres", "sql_poll", "http_poll", "files", "bucket", "http_keys", "http_dedupe", "http_plain", "stdin", "generate")
	for name, of := range map[string]func(t *testing.T, at [2]string) []source{
		"kafka and kinesis": func(t *testing.T, _ [2]string) []source {
			t.Helper()
			return []source{kafkaSource(t), kinesisSource(t)}
		},
		"brokers": func(t *testing.T, _ [2]string) []source {
			t.Helper()
			return append(rabbitSources(t), natsSource(t), redisSource(t), mqttSource(t))
		},
		"http": func(t *testing.T, at [2]string) []source {
			t.Helper()
			return append(httpServerSources(t, at), httpPollSource(t))
		},
		"databases": postgresSources,
		"files":     filesSources,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each waits for others most of the time
			w.scenario(t, of)
		})
	}
	for name, of := range map[string]func(*testing.T, *world){"stdin": testStdin, "generate": testGenerate} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			of(t, w)
		})
	}
}
