package connectors

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/disk"
	"github.com/shirou/gopsutil/v4/host"
	"github.com/shirou/gopsutil/v4/load"
	"github.com/shirou/gopsutil/v4/mem"
	gopsnet "github.com/shirou/gopsutil/v4/net"
)

func hostMetricsSpec() *service.ConfigSpec {
	return service.NewConfigSpec().
		Categories("Tidemill").
		Summary("Reads the telemetry of the machine it runs on: CPU, memory, load, disk and network.").
		Description("One message per interval: `host`, `ts`, `cpu_percent`, `memory_percent`, `load1`, `disk_read_mb_s`, `disk_write_mb_s`, `net_recv_mb_s`, `net_sent_mb_s`. Rates are means over the interval, in MB (10^6 bytes) per second. Readings cannot be had again after a restart.").
		Field(service.NewDurationField("interval").Description("Time between two readings.").Default("250ms"))
}

// reading is one message of host_metrics.
type reading struct {
	Host     string    `json:"host"`
	Time     time.Time `json:"ts"`
	CPU      float64   `json:"cpu_percent"`
	Memory   float64   `json:"memory_percent"`
	Load1    float64   `json:"load1"`
	DiskRead float64   `json:"disk_read_mb_s"`
	DiskWrit float64   `json:"disk_write_mb_s"`
	NetRecv  float64   `json:"net_recv_mb_s"`
	NetSent  float64   `json:"net_sent_mb_s"`
}

// counters are the running totals that rates are taken from.
type counters struct {
	at                         time.Time
	busy, total                float64 // CPU seconds
	read, written, recvd, sent uint64  // bytes
}

type hostMetrics struct {
	interval time.Duration
	host     string

	mu     sync.Mutex
	ticker *time.Ticker
	last   counters
}

func newHostMetrics(conf *service.ParsedConfig, _ *service.Resources) (service.BatchInput, error) {
	interval, err := conf.FieldDuration("interval")
	if err != nil {
		return nil, err
	}
	if interval < 10*time.Millisecond {
		return nil, fmt.Errorf("interval: %s is too short; 10ms is the least that the counters resolve", interval)
	}
	return service.AutoRetryNacksBatched(&hostMetrics{interval: interval}), nil
}

func (h *hostMetrics) Connect(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	info, err := host.InfoWithContext(ctx)
	if err != nil {
		return fmt.Errorf("host information: %w", err)
	}
	h.host = info.Hostname
	if h.last, err = readCounters(ctx); err != nil {
		return err
	}
	h.ticker = time.NewTicker(h.interval)
	return nil
}

func (h *hostMetrics) ReadBatch(ctx context.Context) (service.MessageBatch, service.AckFunc, error) {
	h.mu.Lock()
	tick := h.ticker
	h.mu.Unlock()
	if tick == nil {
		return nil, nil, service.ErrNotConnected
	}
	select {
	case <-tick.C:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	r, err := h.read(ctx)
	if err != nil {
		return nil, nil, err
	}
	data, err := json.Marshal(r)
	if err != nil {
		return nil, nil, fmt.Errorf("encode reading: %w", err)
	}
	return service.MessageBatch{service.NewMessage(data)}, func(context.Context, error) error { return nil }, nil
}

func (h *hostMetrics) read(ctx context.Context) (reading, error) {
	now, err := readCounters(ctx)
	if err != nil {
		return reading{}, err
	}
	m, err := mem.VirtualMemoryWithContext(ctx)
	if err != nil {
		return reading{}, fmt.Errorf("memory: %w", err)
	}
	l, err := load.AvgWithContext(ctx)
	if err != nil {
		return reading{}, fmt.Errorf("load: %w", err)
	}
	last := h.last
	h.last = now
	seconds := now.at.Sub(last.at).Seconds()
	rate := func(now, last uint64) float64 {
		if now < last || seconds <= 0 { // a counter that began anew
			return 0
		}
		return float64(now-last) / seconds / 1e6
	}
	r := reading{
		Host: h.host, Time: now.at.UTC(), Memory: m.UsedPercent, Load1: l.Load1,
		DiskRead: rate(now.read, last.read), DiskWrit: rate(now.written, last.written),
		NetRecv: rate(now.recvd, last.recvd), NetSent: rate(now.sent, last.sent),
	}
	if d := now.total - last.total; d > 0 {
		r.CPU = min(100, max(0, 100*(now.busy-last.busy)/d))
	}
	return r, nil
}

func readCounters(ctx context.Context) (c counters, err error) {
	c.at = time.Now()
	times, err := cpu.TimesWithContext(ctx, false)
	if err != nil {
		return c, fmt.Errorf("cpu: %w", err)
	}
	for _, t := range times {
		busy := t.User + t.System + t.Nice + t.Irq + t.Softirq + t.Steal
		c.busy += busy
		c.total += busy + t.Idle + t.Iowait
	}
	// A machine may show no disks or interfaces (a container); rates are then 0.
	if disks, err := disk.IOCountersWithContext(ctx); err == nil {
		for _, d := range disks {
			c.read += d.ReadBytes
			c.written += d.WriteBytes
		}
	}
	if nets, err := gopsnet.IOCountersWithContext(ctx, false); err == nil {
		for _, n := range nets {
			c.recvd += n.BytesRecv
			c.sent += n.BytesSent
		}
	}
	return c, nil
}

func (h *hostMetrics) Close(context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ticker != nil {
		h.ticker.Stop()
	}
	return nil
}
