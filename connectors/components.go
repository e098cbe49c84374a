package connectors

// The components that connectors may use. Blank imports register them globally;
// which of them a connector can name is decided by newEnvironment. Left out are
// those that come under an enterprise licence, those that call language models,
// and those that need libraries of the system.
import (
	"log"
	"os"
	"sync"

	_ "github.com/redpanda-data/benthos/v4/public/components/io"
	_ "github.com/redpanda-data/benthos/v4/public/components/pure"
	_ "github.com/redpanda-data/benthos/v4/public/components/pure/extended"
	_ "github.com/redpanda-data/connect/v4/public/components/amqp09"
	_ "github.com/redpanda-data/connect/v4/public/components/amqp1"
	_ "github.com/redpanda-data/connect/v4/public/components/avro"
	_ "github.com/redpanda-data/connect/v4/public/components/aws"
	_ "github.com/redpanda-data/connect/v4/public/components/azure"
	_ "github.com/redpanda-data/connect/v4/public/components/beanstalkd"
	_ "github.com/redpanda-data/connect/v4/public/components/cassandra"
	_ "github.com/redpanda-data/connect/v4/public/components/cockroachdb"
	_ "github.com/redpanda-data/connect/v4/public/components/confluent"
	_ "github.com/redpanda-data/connect/v4/public/components/crypto"
	_ "github.com/redpanda-data/connect/v4/public/components/elasticsearch/v8"
	_ "github.com/redpanda-data/connect/v4/public/components/gcp"
	_ "github.com/redpanda-data/connect/v4/public/components/hdfs"
	_ "github.com/redpanda-data/connect/v4/public/components/influxdb"
	_ "github.com/redpanda-data/connect/v4/public/components/io"
	_ "github.com/redpanda-data/connect/v4/public/components/javascript"
	_ "github.com/redpanda-data/connect/v4/public/components/kafka"
	_ "github.com/redpanda-data/connect/v4/public/components/maxmind"
	_ "github.com/redpanda-data/connect/v4/public/components/memcached"
	_ "github.com/redpanda-data/connect/v4/public/components/mongodb"
	_ "github.com/redpanda-data/connect/v4/public/components/mqtt"
	_ "github.com/redpanda-data/connect/v4/public/components/msgpack"
	_ "github.com/redpanda-data/connect/v4/public/components/nats"
	_ "github.com/redpanda-data/connect/v4/public/components/nsq"
	_ "github.com/redpanda-data/connect/v4/public/components/opensearch"
	_ "github.com/redpanda-data/connect/v4/public/components/pulsar"
	_ "github.com/redpanda-data/connect/v4/public/components/pure"
	_ "github.com/redpanda-data/connect/v4/public/components/pure/extended"
	_ "github.com/redpanda-data/connect/v4/public/components/questdb"
	_ "github.com/redpanda-data/connect/v4/public/components/redis"
	_ "github.com/redpanda-data/connect/v4/public/components/sftp"
	_ "github.com/redpanda-data/connect/v4/public/components/sql/base"
	_ "github.com/redpanda-data/connect/v4/public/components/statsd"

	// Drivers of the SQL components.
	_ "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "github.com/lib/pq"
	_ "github.com/microsoft/go-mssqldb"
	_ "github.com/sijms/go-ora/v2"
	"github.com/snowflakedb/gosnowflake"
	_ "github.com/trinodb/trino-go-client/trino"
	_ "modernc.org/sqlite"

	"github.com/tidemill/tidemill/internal/secret"
)

// tameLibraries has what a library writes to standard error by itself scrubbed of
// secrets, as our own log is.
var tameLibraries = sync.OnceFunc(func() {
	to := secret.Writer(os.Stderr)
	gosnowflake.GetLogger().SetOutput(to)
	_ = mysql.SetLogger(log.New(to, "mysql: ", log.LstdFlags)) // fails for nil only
})

// inputs are those of the components above that come under a free licence (Apache
// 2.0 or MIT); a connector may use them, and those of our own (see New). Some of the packages bring others as well.
var inputs = []string{
	"amqp_0_9", "amqp_1", "aws_cloudwatch_logs", "aws_kinesis", "aws_s3", "aws_sqs", "azure_blob_storage",
	"azure_cosmosdb", "azure_queue_storage", "azure_table_storage", "batched", "beanstalkd", "broker",
	"cassandra", "cockroachdb_changefeed", "csv", "dynamic", "file", "gcp_bigquery_select", "gcp_cloud_storage",
	"gcp_pubsub", "generate", "hdfs", "http_client", "inproc", "kafka", "kafka_franz", "mongodb",
	"nats", "nats_jetstream", "nats_kv", "nats_stream", "nsq", "parquet", "pulsar", "read_until",
	"redis_list", "redis_pubsub", "redis_scan", "redis_streams", "schema_registry", "sequence", "sftp", "socket",
	"socket_server", "sql_raw", "sql_select", "subprocess", "websocket",
}

// outputs are what a connector may name beside `lakehouse`, to be rid of messages.
var outputs = []string{"drop", "reject"}

// sinkOutputs are those of the components above that come under a free licence (Apache
// 2.0 or MIT); a contract's sinks may use them. Some of the packages bring others as well.
// Left out are two that can take the process down: gcp_pubsub, closed before it has
// connected, as with a key that is none; and kafka, when a login is refused and the next
// connection breaks (see ackProblems). kafka_franz does what that one does.
var sinkOutputs = []string{
	"amqp_0_9", "amqp_1", "aws_dynamodb", "aws_kinesis", "aws_kinesis_firehose", "aws_s3", "aws_sns", "aws_sqs",
	"azure_blob_storage", "azure_cosmosdb", "azure_data_lake_gen2", "azure_queue_storage", "azure_table_storage",
	"beanstalkd", "broker", "cache", "cassandra", "drop", "drop_on", "elasticsearch_v8", "fallback", "file",
	"gcp_bigquery", "gcp_cloud_storage", "hdfs", "http_client", "http_server", "inproc",
	"kafka_franz", "mongodb", "mqtt", "nats", "nats_jetstream", "nats_kv", "nats_stream", "nsq", "opensearch",
	"pulsar", "questdb", "redis_hash", "redis_list", "redis_pubsub", "redis_streams", "reject", "reject_errored",
	"retry", "schema_registry", "sftp", "socket", "sql_insert", "sql_raw", "stdout", "subprocess", "switch",
	"sync_response", "websocket",
}
