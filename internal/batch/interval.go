package batch

import (
	"slices"
	"sort"
)

// EndOffset is the highest offset there is. A set that has it says of a partition that
// it has ended: no offsets come between its rows and this one. It is the largest number
// that readers of JSON keep exactly.
const EndOffset int64 = 1<<53 - 1

// Interval is an inclusive range of offsets.
type Interval struct{ First, Last int64 }

// Intervals is a set of offsets: sorted, disjoint, and with a gap between
// neighbours. The zero value is the empty set. Methods that change the set
// return it, as append does.
type Intervals []Interval

// Contains reports whether the set has an offset.
func (s Intervals) Contains(offset int64) bool {
	i := s.search(offset)
	return i < len(s) && s[i].First <= offset
}

// Covers reports whether the set has every offset of the interval.
func (s Intervals) Covers(v Interval) bool {
	i := s.search(v.First)
	return i < len(s) && s[i].First <= v.First && v.Last <= s[i].Last
}

// Overlaps reports whether the set has any offset of the interval.
func (s Intervals) Overlaps(v Interval) bool {
	i := s.search(v.First)
	return i < len(s) && s[i].First <= v.Last
}

// Find returns the interval of the set that holds an offset.
func (s Intervals) Find(offset int64) (Interval, bool) {
	if i := s.search(offset); i < len(s) && s[i].First <= offset {
		return s[i], true
	}
	return Interval{}, false
}

// search returns the index of the first interval that ends at or after offset.
func (s Intervals) search(offset int64) int {
	return sort.Search(len(s), func(i int) bool { return s[i].Last >= offset })
}

// Add puts an interval into the set. An interval that ends before it begins is empty.
func (s Intervals) Add(v Interval) Intervals {
	if v.Last < v.First {
		return s
	}
	// Neighbours that touch become one interval, so look one offset further on both sides.
	lo := sort.Search(len(s), func(i int) bool { return s[i].Last >= v.First || s[i].Last+1 == v.First })
	hi := lo
	for hi < len(s) && (s[hi].First <= v.Last || s[hi].First-1 == v.Last) {
		v.First, v.Last = min(v.First, s[hi].First), max(v.Last, s[hi].Last)
		hi++
	}
	return slices.Replace(s, lo, hi, v)
}

// AddSet puts all of another set into this one.
func (s Intervals) AddSet(o Intervals) Intervals {
	for _, v := range o {
		s = s.Add(v)
	}
	return s
}

// Remove takes an interval out of the set.
func (s Intervals) Remove(v Interval) Intervals {
	if v.Last < v.First || !s.Overlaps(v) {
		return s
	}
	out := make(Intervals, 0, len(s)+1)
	for _, x := range s {
		if x.Last < v.First || x.First > v.Last {
			out = append(out, x)
			continue
		}
		if x.First < v.First {
			out = append(out, Interval{x.First, v.First - 1})
		}
		if x.Last > v.Last {
			out = append(out, Interval{v.Last + 1, x.Last})
		}
	}
	return out
}

// Len counts the offsets in the set.
func (s Intervals) Len() int64 {
	var n int64
	for _, v := range s {
		n += v.Last - v.First + 1
	}
	return n
}

// Claims says for each source partition which offsets are in.
type Claims map[string]Intervals

// ClaimsOf returns what is in once the rows of a list of runs are.
func ClaimsOf(runs []Run) Claims {
	c := Claims{}
	for i := 0; i < len(runs); {
		part := runs[i].Partition
		set := c[part]
		for ; i < len(runs) && runs[i].Partition == part; i++ {
			set = set.Add(runs[i].Claim())
		}
		c[part] = set
	}
	return c
}

// Add puts all of another set of claims into this one.
func (c Claims) Add(o Claims) {
	for p, s := range o {
		c[p] = c[p].AddSet(s)
	}
}

// Clone returns a copy that shares nothing.
func (c Claims) Clone() Claims {
	out := make(Claims, len(c))
	for p, s := range c {
		out[p] = slices.Clone(s)
	}
	return out
}

// Overlaps reports whether any offset of the runs is in the claims.
func (c Claims) Overlaps(runs []Run) bool {
	for _, r := range runs {
		if s, ok := c[r.Partition]; ok && s.Overlaps(r.Interval()) {
			return true
		}
	}
	return false
}

// Filter returns the runs' rows that are not in the claims: the indices of the
// rows to keep, and the runs of those rows. When all rows stay, keep is nil.
func (c Claims) Filter(runs []Run) (keep []int32, kept []Run) {
	if !c.Overlaps(runs) {
		return nil, runs
	}
	keep = []int32{}
	row := int32(0)
	for _, r := range runs {
		s := c[r.Partition]
		for i := range r.Rows {
			if !s.Contains(r.Offset(i)) {
				keep = append(keep, row)
				kept = AppendRun(kept, r.Row(i))
			}
			row++
		}
	}
	return keep, kept
}
