package app

import (
	"os"
	"runtime/debug"
	"sync/atomic"
)

// What a process under full load needs of Go's memory, measured and rounded up:
// the servers and the runtime, a connector with its batches on their way to the
// table, and a turn of a pipeline. The cache and maintenance have bounds of their own.
const (
	memoryBase         = 256 << 20
	memoryPerConnector = 192 << 20
	memoryPerTable     = 128 << 20
	memoryPerSink      = 64 << 20
)

var memoryExpected atomic.Int64

// expectMemory tells the garbage collector of a project's needs. Batches are a
// few large buffers that come and go, and left to itself the collector lets
// their remains grow to as much again as is in use. The limit is a soft one: a
// process that does need more gets it and collects more often. Whoever sets
// GOMEMLIMIT decides instead.
func expectMemory(connectors, tables, sinks int, others ...int64) {
	sum := int64(connectors)*memoryPerConnector + int64(tables)*memoryPerTable + int64(sinks)*memoryPerSink
	for _, n := range others {
		sum += n
	}
	sum = memoryExpected.Add(sum)
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryBase + sum)
	}
}
