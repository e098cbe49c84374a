package app

import (
	"os"
	"runtime/debug"
	"sync/atomic"

	"github.com/tidemill/tidemill/connectors"
)

// What a process under full load needs of Go's memory, measured and rounded up: the servers,
// DuckDB's side of a turn and the runtime, or less where only connectors run; a connector with
// its batches on their way to the table, which is less where they are blocks and not
// messages; what hop one keeps of a table, and a turn of a pipeline. The cache and
// maintenance have bounds of their own.
const (
	memoryBase        = 256 << 20
	memoryBaseConnect = 56 << 20
	memoryPerMessages = 192 << 20 // a connector
	memoryPerBlocks   = 64 << 20  // a connector of Kafka, with up to three brokers
	memoryPerLanding  = 16 << 20
	memoryPerTurn     = 112 << 20
	memoryPerSink     = 64 << 20
)

// memoryNeeds is what the parts of a project need in this process.
func memoryNeeds(configs []*connectors.Config, tables, sinks int, connect, worker bool) int64 {
	need := int64(tables)*memoryPerLanding + int64(sinks)*memoryPerSink
	if worker {
		need += int64(tables) * memoryPerTurn
	}
	for _, c := range configs {
		switch {
		case !connect:
		case c.InBlocks():
			need += memoryPerBlocks
		default:
			need += memoryPerMessages
		}
	}
	return need
}

var memoryExpected atomic.Int64

// expectMemory tells the garbage collector of a project's needs. Batches are a
// few large buffers that come and go, and left to itself the collector lets
// their remains grow to as much again as is in use. The limit is a soft one: a
// process that does need more gets it and collects more often. Whoever sets
// GOMEMLIMIT decides instead.
func expectMemory(base, needs int64) {
	sum := memoryExpected.Add(needs)
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(base + sum)
	}
}
