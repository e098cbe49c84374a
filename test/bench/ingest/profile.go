package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/pprof/profile"

	"github.com/tidemill/tidemill/test/bench/harness"
)

// follow takes a CPU profile from now until the product ends. Profiles are of
// fixed length, so it takes short ones, one after the other, and joins them;
// what happens in the milliseconds between two of them, and in the last second,
// is missing.
func follow(ctx context.Context, p *harness.Product, dir string) []byte {
	file := filepath.Join(p.Dir, "cpu.pprof")
	if dir != "" {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			fmt.Fprintln(os.Stderr, "bench:ingest:", err)
		}
		file = filepath.Join(dir, "cpu.pprof")
	}
	var all []*profile.Profile
	for {
		data, err := p.Profile(ctx, "profile?seconds=2", file+".part")
		if err != nil {
			break // it has ended
		}
		one, err := profile.ParseData(data)
		if err != nil {
			break
		}
		all = append(all, one)
		if dir != "" {
			_, _ = p.Profile(ctx, "heap", filepath.Join(dir, "heap.pprof"))
			_, _ = p.Profile(ctx, "allocs", filepath.Join(dir, "allocs.pprof"))
		}
	}
	_ = os.Remove(file + ".part")
	if len(all) == 0 {
		return nil
	}
	joined, err := profile.Merge(all)
	if err != nil {
		return nil
	}
	f, err := os.Create(file)
	if err != nil {
		return nil
	}
	defer f.Close()
	if err := joined.Write(f); err != nil {
		return nil
	}
	data, _ := os.ReadFile(file)
	return data
}

// stages name where CPU time goes by the functions on a sample's stack. The
// first that matches anywhere on the stack counts, so the inner ones come first.
var stages = []struct{ name, function string }{
	{"collect garbage", "runtime.gcBgMarkWorker"},
	{"collect garbage", "runtime.bgsweep"},
	{"collect garbage", "runtime.bgscavenge"},
	{"collect garbage", "runtime.gcAssistAlloc"},
	{"S3 requests", "lakehouse/objstore/s3."},
	{"statistics", "lakehouse/delta.Stats"},
	{"encode Parquet", "lakehouse/parquet.Encode"}, // of both hops
	{"land: decode", "connectors/decode."},
	{"land: file", "connectors.(*rowsReader)"},
	{"check and features", "quality.(*Plan)"},
	{"score", "models.(*Scorer)"},
	{"read landed", "activities.(*piece).read"},
	{"write scored", "activities.(*piece).write"},
	{"turn, other", "activities."},
	{"land, other", "lakehouse.(*Appender)"},
	{"land, other", "connectors."},
	{"Benthos", "redpanda-data/benthos"},
	{"Temporal server", "go.temporal.io/server"},
	{"Temporal server", "modernc.org/sqlite"},
	{"Temporal SDK", "go.temporal.io/sdk"},
	{"gRPC", "google.golang.org/grpc"},
	{"HTTP", "net/http."},
	{"profiling", "runtime/pprof"},
}

// byStage sums a profile's CPU seconds by stage.
func byStage(data []byte) map[string]float64 {
	p, err := profile.ParseData(data)
	if err != nil {
		return nil
	}
	out := map[string]float64{}
	for _, s := range p.Sample {
		out[stageOf(s)] += float64(s.Value[len(s.Value)-1]) / 1e9
	}
	return out
}

func stageOf(s *profile.Sample) string {
	for _, stage := range stages {
		for _, l := range s.Location {
			for _, line := range l.Line {
				if line.Function != nil && strings.Contains(line.Function.Name, stage.function) {
					return stage.name
				}
			}
		}
	}
	return "runtime and other"
}
