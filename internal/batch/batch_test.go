package batch

import (
	"math/rand/v2"
	"reflect"
	"testing"
)

// TestIntervalsAgainstSet compares the interval set with a plain set under
// random operations; the seed is in the failure's name.
func TestIntervalsAgainstSet(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		var s Intervals
		want := map[int64]bool{}
		for range 60 {
			first := r.Int64N(100)
			v := Interval{first, first + r.Int64N(12) - 1}
			if r.IntN(3) == 0 {
				s = s.Remove(v)
				for o := v.First; o <= v.Last; o++ {
					delete(want, o)
				}
			} else {
				s = s.Add(v)
				for o := v.First; o <= v.Last; o++ {
					want[o] = true
				}
			}
			if s.Len() != int64(len(want)) {
				t.Fatalf("seed %d: %v has %d offsets, want %d", seed, s, s.Len(), len(want))
			}
			for o := int64(-2); o < 120; o++ {
				if s.Contains(o) != want[o] {
					t.Fatalf("seed %d: %v.Contains(%d) = %v", seed, s, o, !want[o])
				}
			}
			for i := 1; i < len(s); i++ {
				if s[i].First <= s[i-1].Last+1 {
					t.Fatalf("seed %d: %v: neighbours touch", seed, s)
				}
			}
		}
	}
}

func TestOverlapsAndCovers(t *testing.T) {
	s := Intervals{{10, 20}, {30, 40}}
	for _, c := range []struct {
		v                Interval
		overlaps, covers bool
	}{
		{Interval{0, 9}, false, false}, {Interval{0, 10}, true, false}, {Interval{10, 20}, true, true},
		{Interval{15, 35}, true, false}, {Interval{21, 29}, false, false}, {Interval{40, 50}, true, false},
		{Interval{41, 50}, false, false}, {Interval{31, 31}, true, true},
	} {
		if s.Overlaps(c.v) != c.overlaps || s.Covers(c.v) != c.covers {
			t.Errorf("%v: overlaps %v covers %v", c.v, s.Overlaps(c.v), s.Covers(c.v))
		}
	}
}

func TestAppendRunJoins(t *testing.T) {
	var runs []Run
	for _, r := range []Run{{"a", 5, 1, false, 0}, {"a", 6, 1, false, 0}, {"a", 7, 3, true, 0}, {"a", 10, 2, false, 0}, {"a", 10, 1, false, 0}, {"b", 11, 1, false, 0}} {
		runs = AppendRun(runs, r)
	}
	want := []Run{{"a", 5, 5, true, 0}, {"a", 10, 3, false, 0}, {"b", 11, 1, false, 0}}
	if !reflect.DeepEqual(runs, want) {
		t.Fatalf("got %v, want %v", runs, want)
	}
	if Rows(runs) != 9 {
		t.Fatalf("rows %d", Rows(runs))
	}
}

func TestFilterKeepsWhatIsNotIn(t *testing.T) {
	c := Claims{"a": {{0, 6}, {9, 9}}}
	keep, runs := c.Filter([]Run{{"a", 5, 5, true, 0}, {"a", 10, 3, false, 0}, {"b", 5, 1, false, 0}})
	if !reflect.DeepEqual(keep, []int32{2, 3, 5, 6, 7, 8}) {
		t.Fatalf("keep %v", keep)
	}
	if want := []Run{{"a", 7, 2, true, 0}, {"a", 10, 3, false, 0}, {"b", 5, 1, false, 0}}; !reflect.DeepEqual(runs, want) {
		t.Fatalf("runs %v, want %v", runs, want)
	}
	if keep, _ := c.Filter([]Run{{"a", 7, 2, true, 0}}); keep != nil {
		t.Fatalf("nothing overlaps, got %v", keep)
	}
}

// TestVoid: what no row has goes with the row behind it, into claims and into what a
// filter keeps, and says nothing of whether that row is in.
func TestVoid(t *testing.T) {
	var runs []Run
	for _, r := range []Run{{"a", 10, 1, false, 4}, {"a", 11, 1, false, 0}, {"a", 20, 1, false, 8}, {"a", 20, 1, false, 8}, {"a", 30, 2, true, 2}, {"b", 7, 1, false, 3}} {
		runs = AppendRun(runs, r)
	}
	want := []Run{{"a", 10, 2, true, 4}, {"a", 20, 2, false, 8}, {"a", 30, 2, true, 2}, {"b", 7, 1, false, 3}}
	if !reflect.DeepEqual(runs, want) {
		t.Fatalf("got %v, want %v", runs, want)
	}
	if got, want := ClaimsOf(runs), (Claims{"a": {{6, 20}, {28, 31}}, "b": {{4, 7}}}); !reflect.DeepEqual(got, want) {
		t.Fatalf("claims %v, want %v", got, want)
	}
	keep, kept := Claims{"a": {{6, 9}, {11, 19}, {31, 31}}}.Filter(runs)
	if !reflect.DeepEqual(keep, []int32{0, 2, 3, 4, 6}) {
		t.Fatalf("kept %v", keep)
	}
	if want := []Run{{"a", 10, 1, true, 4}, {"a", 20, 2, false, 8}, {"a", 30, 1, true, 2}, {"b", 7, 1, false, 3}}; !reflect.DeepEqual(kept, want) {
		t.Fatalf("kept %v, want %v", kept, want)
	}
}
