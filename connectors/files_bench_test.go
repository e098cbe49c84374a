package connectors

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
)

// BenchmarkFileInputs lands a file of 500,000 NDJSON rows of 170 bytes with the input file
// and with files, on a store in memory. Compare rows/s, and on a busy machine the processor's time.
func BenchmarkFileInputs(b *testing.B) {
	const n = 500_000
	path := filepath.Join(b.TempDir(), "events.ndjson")
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, `{"id":%d,"name":"customer %d","card":"4556-7375-8689-%04d","amount":%d.%02d,"country":"DE","merchant":"m%d","ts":"2026-01-31T08:%02d:%02d.123Z","online":true}`+"\n",
			i, i%5000, i%10000, i%1000, i%100, i%777, i/60%60, i%60)
	}
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	columns := strings.Replace(eventsContract+"event_time: ts\n", "key: [id]", `  - {name: card, type: string}
  - {name: amount, type: double}
  - {name: country, type: string}
  - {name: merchant, type: string}
  - {name: ts, type: timestamp}
  - {name: online, type: boolean}
key: [id]`, 1)
	for name, conf := range map[string]string{
		"file":  fmt.Sprintf("input:\n  file: {paths: [%q]}\noutput:\n  lakehouse: {table: events}\n", path),
		"files": fmt.Sprintf("input:\n  files: {paths: [%q], poll: \"off\"}\noutput:\n  lakehouse: {table: events}\n", path),
	} {
		b.Run(name, func(b *testing.B) {
			before := cpuTime(b)
			for b.Loop() {
				l := newLake(b, mem.New(), columns)
				l.run(conf)
				if l.sum.Landed != n {
					b.Fatalf("%+v", l.sum)
				}
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
			b.ReportMetric(float64(cpuTime(b)-before)/float64(n)/float64(b.N), "cpu-ns/row")
			b.SetBytes(int64(text.Len()))
		})
	}
}

// cpuTime is the processor time that the process has taken, in nanoseconds.
func cpuTime(b *testing.B) int64 {
	b.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return r.Utime.Nano() + r.Stime.Nano()
}
