package hist

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestQuantilesAgainstSorting(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 7))
		var a, b Histogram
		var all []time.Duration
		for i := range 5000 {
			d := time.Duration(r.ExpFloat64() * float64(50*time.Millisecond))
			all = append(all, d)
			if i%2 == 0 {
				a.Add(d)
			} else {
				b.Add(d)
			}
		}
		a.Merge(&b)
		slices.Sort(all)
		if a.Count() != 5000 || a.Max() != all[len(all)-1] {
			t.Fatalf("seed %d: count %d max %v", seed, a.Count(), a.Max())
		}
		for _, q := range []float64{0.5, 0.9, 0.99} {
			want := all[int(q*5000)-1]
			if got := a.Quantile(q); got < want || float64(got) > 1.06*float64(want)+float64(least) {
				t.Errorf("seed %d: quantile %v is %v, want %v", seed, q, got, want)
			}
		}
	}
}

func TestEmptyAndExtreme(t *testing.T) {
	var h Histogram
	if h.Quantile(0.5) != 0 {
		t.Fatal("empty histogram has a median")
	}
	h.Add(-time.Second)
	h.Add(time.Hour)
	if h.Count() != 2 || h.Quantile(1) < time.Minute {
		t.Fatalf("count %d, top %v", h.Count(), h.Quantile(1))
	}
	var b strings.Builder
	h.Draw(&b)
	if !strings.Contains(b.String(), "█") {
		t.Fatalf("drew %q", b.String())
	}
}
