package embedded

import (
	"time"

	dc "go.temporal.io/server/common/dynamicconfig"
)

// dynamicConfig tunes the server for one machine and low latency. What is left at its
// default on purpose: updates, eager workflow starts, eager activities, schedules and
// user metadata are on.
func dynamicConfig(historyEvents int) dc.StaticClient {
	// A shard reads each of its queues at most so many times a second; the default of 20
	// makes every hop through a task queue wait up to 50 ms.
	const polls = 2000
	// Rates that protect a cluster from its users, on a machine that has one.
	const unlimited = 100_000
	c := dc.StaticClient{
		dc.TransferProcessorMaxPollRPS.Key():   polls,
		dc.TimerProcessorMaxPollRPS.Key():      polls,
		dc.VisibilityProcessorMaxPollRPS.Key(): polls,
		dc.OutboundProcessorMaxPollRPS.Key():   polls,

		// Who waits for a workflow's result is told by a channel that drops what comes too
		// fast, and then asks again only after this time; the default is 20 s.
		dc.HistoryLongPollExpirationInterval.Key(): 2 * time.Second,

		// More partitions of a task queue would only forward to one another.
		dc.MatchingNumTaskqueueReadPartitions.Key():  1,
		dc.MatchingNumTaskqueueWritePartitions.Key(): 1,

		dc.FrontendRPS.Key():                                  unlimited,
		dc.FrontendMaxNamespaceRPSPerInstance.Key():           unlimited,
		dc.FrontendMaxNamespaceVisibilityRPSPerInstance.Key(): 1000,
		dc.FrontendPersistenceMaxQPS.Key():                    unlimited,
		dc.MatchingRPS.Key():                                  unlimited,
		dc.MatchingPersistenceMaxQPS.Key():                    unlimited,
		dc.HistoryRPS.Key():                                   unlimited,
		dc.HistoryPersistenceMaxQPS.Key():                     unlimited,

		// Memory and goroutines for tens of tables, not for a cluster.
		dc.HistoryCacheHostLevelMaxSize.Key():             2048,
		dc.EventsHostLevelCacheMaxSizeBytes.Key():         32 << 20,
		dc.TransferProcessorSchedulerWorkerCount.Key():    32,
		dc.TimerProcessorSchedulerWorkerCount.Key():       32,
		dc.VisibilityProcessorSchedulerWorkerCount.Key():  32,
		dc.MemoryTimerProcessorSchedulerWorkerCount.Key(): 16,

		// They look for what clusters with many hands leave behind.
		dc.HistoryScannerEnabled.Key():   false,
		dc.TaskQueueScannerEnabled.Key(): false,

		dc.EnableServerVersionCheck.Key(): false, // it calls out
	}
	if historyEvents > 0 {
		c[dc.HistoryCountSuggestContinueAsNew.Key()] = historyEvents
	}
	return c
}
