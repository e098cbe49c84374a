package lakehouse

import (
	"math/bits"
	"time"
)

// rowKey is the hash of what tells a row apart; zero: the row has nothing that does. 96
// bits do not meet by chance: for five million of them, once in 10^22 rows.
type rowKey struct {
	a uint64
	b uint32
}

// keySet remembers keys for a while, and no more than so many. It forgets in
// generations: a sixteenth of the window, or of the limit, whichever is full first. So a
// key is remembered for the window and at most a sixteenth more, unless there are too
// many: then the oldest go early.
type keySet struct {
	window time.Duration
	limit  int

	shards [keyShards]keyShard
	gens   []generation // the oldest first
	first  uint32       // number of gens[0], from 1; keys of lower ones are forgotten
	live   int          // keys in gens
}

// keyShard is a hash table with open addressing. Its slots are half to three quarters
// full, so a key takes 21 to 32 bytes; keys that are forgotten keep their slots until
// another needs them.
type keyShard struct {
	slots []keySlot
	used  int // slots that are not free
}

// keySlot is a rowKey and its generation, 0 when it is free: 16 bytes.
type keySlot struct {
	a      uint64
	b, gen uint32
}

type generation struct {
	since, newest time.Time
	keys          int
}

// keyShards bounds how long the set stands still when a table grows: a million keys are
// 16,000 in each.
const (
	keyShards   = 64
	generations = 16
	leastSlots  = 16
)

func newKeySet(window time.Duration, limit int) *keySet {
	return &keySet{window: window, limit: limit, first: 1}
}

// has says whether a key is remembered. The caller has called forget with the time.
func (s *keySet) has(k rowKey) bool {
	slot, _ := s.shards[k.b%keyShards].find(k, s.first)
	return slot != nil && slot.gen >= s.first
}

// forget lets go of the generations that are over at a time.
func (s *keySet) forget(now time.Time) {
	for len(s.gens) > 0 && now.Sub(s.gens[0].newest) > s.window {
		s.dropOldest()
	}
}

func (s *keySet) dropOldest() {
	s.live -= s.gens[0].keys
	s.gens = s.gens[1:]
	s.first++
}

// add takes in keys that came at a time. If others had to go early for them, it returns
// how old the oldest that is left is.
func (s *keySet) add(keys []rowKey, at time.Time) (shrunk bool, left time.Duration) {
	for _, k := range keys {
		if k == (rowKey{}) {
			continue
		}
		g := s.current(at)
		if old := s.shards[k.b%keyShards].put(k, g, s.first); old >= s.first {
			s.gens[old-s.first].keys--
			s.live--
		}
		s.gens[g-s.first].keys++
		s.live++
		if s.live > s.limit && len(s.gens) > 1 {
			shrunk = true
			s.dropOldest()
		}
	}
	if shrunk {
		left = at.Sub(s.gens[0].since)
	}
	return shrunk, left
}

// current returns the number of the generation for keys of a time, the last one.
func (s *keySet) current(at time.Time) uint32 {
	n := len(s.gens)
	if n == 0 || at.Sub(s.gens[n-1].since) > s.window/generations || s.gens[n-1].keys > s.limit/generations {
		s.gens = append(s.gens, generation{since: at, newest: at})
		n++
	}
	if g := &s.gens[n-1]; at.After(g.newest) {
		g.newest = at
	}
	return s.first + uint32(n-1) //nolint:gosec // a few dozen generations
}

// find returns a key's slot, nil when it has none; then free is one that it can have.
func (t *keyShard) find(k rowKey, first uint32) (slot, free *keySlot) {
	n := uint64(len(t.slots))
	if n == 0 {
		return nil, nil
	}
	for at, _ := bits.Mul64(k.a, n); ; at++ {
		if at == n {
			at = 0
		}
		x := &t.slots[at]
		switch {
		case x.a == k.a && x.b == k.b && x.gen != 0:
			return x, nil
		case x.gen == 0:
			if free == nil {
				free = x
			}
			return nil, free
		case x.gen < first && free == nil:
			free = x
		}
	}
}

// put gives a key a generation and returns the one that it had, 0 for none.
func (t *keyShard) put(k rowKey, gen, first uint32) (old uint32) {
	if 4*(t.used+1) > 3*len(t.slots) {
		t.rebuild(first)
	}
	slot, free := t.find(k, first)
	if slot != nil {
		old, slot.gen = slot.gen, gen
		return old
	}
	if free.gen == 0 {
		t.used++
	}
	*free = keySlot{k.a, k.b, gen}
	return 0
}

// rebuild makes room, without the keys that are forgotten.
func (t *keyShard) rebuild(first uint32) {
	old, live := t.slots, 0
	for i := range old {
		if old[i].gen >= first {
			live++
		}
	}
	*t = keyShard{slots: make([]keySlot, max(leastSlots, 2*live)), used: live}
	for _, x := range old {
		if x.gen >= first {
			_, free := t.find(rowKey{x.a, x.b}, 1)
			*free = x
		}
	}
}

// firsts finds the rows of one record whose key an earlier row of it has.
type firsts struct {
	slots []int32 // row+1 by hash; 0: free
	keys  []rowKey
}

func newFirsts(keys []rowKey) firsts {
	n := 16
	for n < 2*len(keys) {
		n *= 2
	}
	return firsts{make([]int32, n), keys}
}

// again takes a row in and says whether its key was there.
func (f firsts) again(row int32) bool {
	mask := uint64(len(f.slots) - 1)
	for at := f.keys[row].a & mask; ; at = (at + 1) & mask {
		switch other := f.slots[at]; {
		case other == 0:
			f.slots[at] = row + 1
			return false
		case f.keys[other-1] == f.keys[row]:
			return true
		}
	}
}
