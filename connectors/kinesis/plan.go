package kinesis

import (
	"cmp"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"time"
)

// listed is a shard as the stream lists it.
type listed struct {
	id      string
	start   string   // sequence number that it begins with
	parents []string // ids
}

// name is a shard of a stream, both as they are in the config.
type name struct{ stream, shard string }

// sight is when a lease was first seen as it is.
type sight struct {
	owner, timeout, sequence string
	at                       time.Time
}

// state is what is known of one stream.
type state struct {
	id     string
	only   []string // shards that the config names; none: all
	shards map[string]listed
	items  map[string]item // by shard, as the config or the stream names it
	seen   map[string]sight
	looked time.Time // when items were read last
}

// see notes the leases of a stream, and since when each is as it is. After a gap, in which
// perhaps no process could reach the table, their owners have all their time again.
func (s *state) see(now time.Time, gap time.Duration, items []item) {
	if now.Sub(s.looked) > gap {
		s.seen = nil
	}
	s.looked = now
	s.items = make(map[string]item, len(items))
	seen := make(map[string]sight, len(items))
	for _, i := range items {
		if len(s.only) > 0 && !slices.Contains(s.only, i.shard) {
			continue
		}
		s.items[i.shard] = i
		v := sight{i.owner, i.timeout, i.sequence, now}
		if old, ok := s.seen[i.shard]; ok && old.owner == v.owner && old.timeout == v.timeout && old.sequence == v.sequence {
			v.at = old.at
		}
		seen[i.shard] = v
	}
	s.seen = seen
}

// names are the shards that this input may read, in order, as far as the stream lists them.
func (s *state) names() []string {
	if len(s.only) == 0 {
		return slices.Sorted(maps.Keys(s.shards))
	}
	var out []string
	for _, n := range s.only {
		if _, ok := s.shards[shardID(n)]; ok {
			out = append(out, n)
		}
	}
	return out
}

// done says that a shard has been read to its end.
func (s *state) done(name string) bool {
	l, i := s.shards[shardID(name)], s.items[name]
	return i.end != "" && i.end == l.start
}

// mayBegin says that the parents of a shard have been read to their ends, as far as the
// stream still has them and they are this input's to read.
func (s *state) mayBegin(name string) bool {
	for _, parent := range s.parents(name) {
		if !s.done(parent) {
			return false
		}
	}
	return true
}

// parents are those of a shard that the stream still has and that are this input's to read.
func (s *state) parents(name string) (out []string) {
	for _, id := range s.shards[shardID(name)].parents {
		n := s.named(id)
		if _, ok := s.shards[id]; ok && (len(s.only) == 0 || slices.Contains(s.only, n)) {
			out = append(out, n)
		}
	}
	return out
}

// unknown says that there are leases of shards that are not in the list of shards: they
// are newer than the list, or gone.
func (s *state) unknown() bool {
	for n := range s.items {
		if _, ok := s.shards[shardID(n)]; !ok {
			return true
		}
	}
	return false
}

// plan is what to do next.
type plan struct {
	claim  []name          // whose leases are free or over
	want   []name          // at most one: to be asked for
	yield  map[name]string // held, and the process that asked for it
	drop   []name          // held, and another's by now, or not there any more
	forget []name          // leases of shards that the stream has no more
	left   bool            // some leases are free and left to others, for now
}

// planner decides which shards this process reads.
type planner struct {
	me    string
	lease time.Duration
}

// over says that the lease of an item is nobody's.
func (p planner) over(s *state, i item, now time.Time) bool {
	return i.owner == "" || i.owner != p.me && now.Sub(s.seen[i.shard].at) >= p.lease
}

// next looks at all streams. held has the shards that are being read here, with the sequence number
// that each began with. Others are asked for shards only if balance is set.
func (p planner) next(now time.Time, streams []*state, held map[name]string, balance bool) plan {
	out := plan{yield: map[name]string{}}
	var free []name
	total := 0                   // of the shards that processes share
	counts := map[string]int{}   // of them, by the process that has or will have each
	owned := map[string][]name{} // that can be asked for, by owner
	counts[p.me] = 0
	for _, s := range streams {
		shared := len(s.only) == 0
		for _, n := range s.names() {
			k, i := name{s.id, n}, s.items[n]
			_, mine := held[k]
			if s.done(n) || !mine && i.owner == "" && !s.mayBegin(n) {
				continue
			}
			if shared {
				total++
			}
			switch {
			case i.owner == p.me && !mine, p.over(s, i, now):
				if mine { // the lease was given up or lost
					out.drop = append(out.drop, k)
				} else if s.mayBegin(n) {
					free = append(free, k)
				}
				continue
			case i.owner == p.me && i.wanted != "" && i.wanted != p.me:
				out.yield[k] = i.wanted
			}
			by := i.owner
			if i.wanted != "" {
				by = i.wanted
			} else if shared && i.owner != p.me {
				owned[i.owner] = append(owned[i.owner], k)
			}
			if shared {
				counts[by]++
			}
		}
	}
	for k, start := range held {
		s := streams[slices.IndexFunc(streams, func(s *state) bool { return s.id == k.stream })]
		l, ok := s.shards[shardID(k.shard)]
		if i := s.items[k.shard]; !ok || l.start != start || i.owner != p.me {
			if !slices.Contains(out.drop, k) {
				out.drop = append(out.drop, k)
			}
			delete(out.yield, k)
		}
	}
	out.forget = p.gone(now, streams, held)
	p.take(&out, free, total, counts, streams)
	if balance && len(free) == 0 {
		out.want = p.ask(counts, owned)
	}
	return out
}

// take chooses which of the free shards to claim: those that were named or are this process's already, and as
// many of the others as make its share, at least one, so that none stays free for ever.
func (p planner) take(out *plan, free []name, total int, counts map[string]int, streams []*state) {
	share := max((total+len(counts)-1)/len(counts)-counts[p.me], 1)
	slices.SortFunc(free, func(a, b name) int { return cmp.Compare(p.order(a), p.order(b)) })
	for _, k := range free {
		s := streams[slices.IndexFunc(streams, func(s *state) bool { return s.id == k.stream })]
		if len(s.only) == 0 && s.items[k.shard].owner != p.me {
			if share == 0 {
				out.left = true
				continue
			}
			share--
		}
		out.claim = append(out.claim, k)
	}
}

// order is another one in each process, so that those which look at once seldom take the same.
func (p planner) order(k name) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(p.me + "/" + k.stream + "/" + k.shard)) // never fails
	return h.Sum64()
}

// ask chooses a shard of the process that has most, if that has two more than this one.
// What moves makes the two more alike, so it does not move back.
func (p planner) ask(counts map[string]int, owned map[string][]name) []name {
	richest, most := "", 0
	for _, owner := range slices.Sorted(maps.Keys(owned)) {
		if n := counts[owner]; n > most {
			richest, most = owner, n
		}
	}
	if most-counts[p.me] < 2 {
		return nil
	}
	return []name{slices.MinFunc(owned[richest], func(a, b name) int { return cmp.Compare(p.order(a), p.order(b)) })}
}

// gone are the leases of shards that the streams have no more.
func (p planner) gone(now time.Time, streams []*state, held map[name]string) (out []name) {
	for _, s := range streams {
		for n, i := range s.items {
			k := name{s.id, n}
			_, mine := held[k]
			if _, ok := s.shards[shardID(n)]; !ok && !mine && (i.owner == p.me || p.over(s, i, now)) && !s.heirs(shardID(n)) {
				out = append(out, k)
			}
		}
	}
	slices.SortFunc(out, func(a, b name) int { return strings.Compare(a.stream+a.shard, b.stream+b.shard) })
	return out
}

// sinceFormat has as many digits for every time, so that texts are in the order of times.
const sinceFormat = "2006-01-02T15:04:05.000000000Z07:00"

// since is the time from which on the records of a shard count that nobody has read, with
// start_from_oldest: false. A child of shards that were read goes on from where these began, or from
// its oldest record if nobody knows that of them.
func (s *state) since(name string, now time.Time) string {
	if i, ok := s.items[name]; ok && i.since != "" {
		return i.since
	}
	from, known := "", false
	for _, id := range s.shards[shardID(name)].parents {
		parent, ok := s.items[s.named(id)]
		if !ok {
			continue
		}
		if !known || parent.since < from {
			from = parent.since
		}
		known = true
	}
	if known {
		return from
	}
	return now.UTC().Format(sinceFormat)
}

// named is what the config, and so the table, calls a shard.
func (s *state) named(id string) string {
	for _, n := range s.only {
		if shardID(n) == id {
			return n
		}
	}
	return id
}

// heirs says that a shard has children of which the table knows nothing yet.
func (s *state) heirs(id string) bool {
	for _, l := range s.shards {
		if _, ok := s.items[s.named(l.id)]; !ok && slices.Contains(l.parents, id) {
			return true
		}
	}
	return false
}
