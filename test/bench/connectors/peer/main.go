// Command peer is Redpanda Connect with just the free components that do what hop one
// does: Kafka to Parquet files on S3. The benchmark beside it runs both side by side.
package main

import (
	"context"

	"github.com/redpanda-data/benthos/v4/public/service"

	_ "github.com/redpanda-data/benthos/v4/public/components/io"
	_ "github.com/redpanda-data/benthos/v4/public/components/pure"
	_ "github.com/redpanda-data/connect/v4/public/components/aws"
	_ "github.com/redpanda-data/connect/v4/public/components/kafka"
	_ "github.com/redpanda-data/connect/v4/public/components/pure/extended"
)

func main() { service.RunCLI(context.Background()) }
