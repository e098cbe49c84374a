// Package hist counts durations in logarithmic buckets, so that quantiles of
// any number of them cost a fixed amount of memory. It knows nothing of what
// the durations mean.
package hist

import (
	"fmt"
	"io"
	"math"
	"strings"
	"time"
)

const (
	least   = 100 * time.Microsecond // the first bucket holds everything up to here
	growth  = 1.05                   // of one bucket's bound over the one before: quantiles are exact to 5%
	buckets = 300                    // up to least * growth^299, about 216 s
)

var bounds = func() (b [buckets]time.Duration) {
	for i := range b {
		b[i] = time.Duration(float64(least) * math.Pow(growth, float64(i)))
	}
	return b
}()

// Histogram counts durations. The zero value is empty and ready for use.
type Histogram struct {
	counts [buckets]int64
	n      int64
	max    time.Duration
}

// Add counts a duration; negative ones count as zero.
func (h *Histogram) Add(d time.Duration) { h.AddN(d, 1) }

// AddN counts a duration n times.
func (h *Histogram) AddN(d time.Duration, n int64) {
	i := 0
	if d > least {
		i = min(buckets-1, int(math.Ceil(math.Log(float64(d)/float64(least))/math.Log(growth))))
	}
	h.counts[i] += n
	h.n += n
	h.max = max(h.max, d)
}

// Merge adds all that another histogram counted.
func (h *Histogram) Merge(o *Histogram) {
	for i, c := range o.counts {
		h.counts[i] += c
	}
	h.n += o.n
	h.max = max(h.max, o.max)
}

// Count returns how many durations were counted.
func (h *Histogram) Count() int64 { return h.n }

// Max returns the longest duration counted.
func (h *Histogram) Max() time.Duration { return h.max }

// Quantile returns a duration that at least a share q of those counted do not
// exceed, too long by at most 5%; 0 when nothing was counted.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.n == 0 {
		return 0
	}
	rank := int64(math.Ceil(q * float64(h.n)))
	var seen int64
	for i, c := range h.counts {
		if seen += c; seen >= max(1, rank) {
			return min(bounds[i], h.max)
		}
	}
	return h.max
}

// Draw prints the histogram as bars, a row for every step of about 25%.
func (h *Histogram) Draw(w io.Writer) {
	const step, width = 5, 50
	var rows [buckets / step]int64
	var top int64
	first, last := -1, 0
	for i, c := range h.counts {
		rows[i/step] += c
		top = max(top, rows[i/step])
		if c > 0 {
			if first < 0 {
				first = i / step
			}
			last = i / step
		}
	}
	if first < 0 {
		return
	}
	for r := first; r <= last; r++ {
		n := int(math.Ceil(float64(rows[r]) / float64(top) * width))
		fmt.Fprintf(w, "  ≤ %8s  %-*s %d\n", round(bounds[r*step+step-1]), width, strings.Repeat("█", n), rows[r])
	}
}

func round(d time.Duration) time.Duration {
	if d > time.Second {
		return d.Round(10 * time.Millisecond)
	}
	return d.Round(100 * time.Microsecond)
}
