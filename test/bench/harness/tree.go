package harness

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Parts of the product's process tree.
const (
	PartProduct = "product"
	PartStore   = "store"  // the embedded object store
	PartModels  = "models" // the processes that models run in
)

var parts = []string{PartProduct, PartStore, PartModels}

// Usage is what a part of the tree used. Resident memory has the program's own
// pages in it, about 200 MB, which the processes share.
type Usage struct {
	Peak int64   `json:"peak_rss_bytes"`  // of all its processes together, sampled
	Anon int64   `json:"peak_anon_bytes"` // the same without pages of files: what the system cannot take back
	CPU  float64 `json:"cpu_seconds"`     // user and system
}

// Tree samples a process and its descendants.
type Tree struct {
	root int
	stop chan struct{}
	done chan struct{}

	mu   sync.Mutex
	peak map[string]int64
	anon map[string]int64
	sum  int64
	cpu  map[int]cpuOf // by pid, those that have ended too
}

type cpuOf struct {
	part  string
	ticks int64
}

const sampleEvery = 100 * time.Millisecond

// Watch samples the tree below a process until Stop.
func Watch(pid int) *Tree {
	t := &Tree{root: pid, stop: make(chan struct{}), done: make(chan struct{}), peak: map[string]int64{}, anon: map[string]int64{}, cpu: map[int]cpuOf{}}
	t.sample()
	go func() {
		defer close(t.done)
		tick := time.NewTicker(sampleEvery)
		defer tick.Stop()
		for {
			select {
			case <-t.stop:
				return
			case <-tick.C:
				t.sample()
			}
		}
	}()
	return t
}

// Stop ends the sampling.
func (t *Tree) Stop() {
	close(t.stop)
	<-t.done
}

// Usage returns what the parts used until now, and the most that all of them
// had resident at one time, the program's pages counted once.
func (t *Tree) Usage() (byPart map[string]Usage, peak int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	byPart = map[string]Usage{}
	for _, p := range parts {
		u := Usage{Peak: t.peak[p], Anon: t.anon[p]}
		for _, c := range t.cpu {
			if c.part == p {
				u.CPU += float64(c.ticks) / ticksPerSecond
			}
		}
		byPart[p] = u
	}
	return byPart, t.sum
}

// ticksPerSecond is USER_HZ, which is 100 on every Linux that Go runs on.
const ticksPerSecond = 100

type stat struct {
	ppid        int
	ticks       int64
	anon, files int64 // resident: of its own, and pages of files
}

func (t *Tree) sample() {
	stats := map[int]stat{}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			if s, ok := readStat(pid); ok {
				stats[pid] = s
			}
		}
	}
	now, own := map[string]int64{}, map[string]int64{}
	var anon, files int64
	t.mu.Lock()
	defer t.mu.Unlock()
	for pid, s := range stats {
		if !t.below(stats, pid) {
			continue
		}
		part := t.cpu[pid].part
		if part == "" {
			part = partOf(pid, pid == t.root)
		}
		t.cpu[pid] = cpuOf{part, s.ticks}
		s.memory(pid)
		now[part] += s.anon + s.files
		own[part] += s.anon
		anon, files = anon+s.anon, max(files, s.files)
	}
	for p, rss := range now {
		t.peak[p] = max(t.peak[p], rss)
		t.anon[p] = max(t.anon[p], own[p])
	}
	t.sum = max(t.sum, anon+files)
}

func (t *Tree) below(stats map[int]stat, pid int) bool {
	for range 16 {
		if pid == t.root {
			return true
		}
		s, ok := stats[pid]
		if !ok || s.ppid <= 1 {
			return false
		}
		pid = s.ppid
	}
	return false
}

// readStat reads /proc/pid/stat, in which the name, of any bytes, is in brackets.
func readStat(pid int) (stat, bool) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	at := bytes.LastIndexByte(data, ')')
	if err != nil || at < 0 {
		return stat{}, false
	}
	f := bytes.Fields(data[at+1:])
	if len(f) < 22 {
		return stat{}, false
	}
	n := func(i int) int64 { v, _ := strconv.ParseInt(string(f[i]), 10, 64); return v }
	return stat{ppid: int(n(1)), ticks: n(11) + n(12)}, true
}

// memory adds what is resident.
func (s *stat) memory(pid int) {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(data)) {
		name, rest, _ := strings.Cut(line, ":")
		var to *int64
		switch name {
		case "RssAnon":
			to = &s.anon
		case "RssFile", "RssShmem":
			to = &s.files
		default:
			continue
		}
		kB, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		*to += kB << 10
	}
}

func partOf(pid int, root bool) string {
	line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	switch {
	case root:
		return PartProduct
	case bytes.HasPrefix(line, []byte("tidemill-store")):
		return PartStore
	case bytes.Contains(line, []byte("onnx-worker")):
		return PartModels
	}
	return PartProduct
}

// Print shows the tree's use.
func (t *Tree) Print(w io.Writer) {
	by, sum := t.Usage()
	cpu := 0.0
	for _, p := range parts {
		u := by[p]
		cpu += u.CPU
		fmt.Fprintf(w, "  %-8s peak RSS %5d MiB   CPU %6.1f s\n", p, u.Peak>>20, u.CPU)
	}
	fmt.Fprintf(w, "  %-8s peak RSS %5d MiB   CPU %6.1f s\n", "together", sum>>20, cpu)
}
