package kinesis

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// sketch writes a state and what a planner makes of it in words.
type sketch struct {
	s    *state
	held map[name]string
}

// draw makes a state of words: `shard<parent+parent:owner`, with `!` behind a shard that was read to its
// end, `?who` behind an owner who was asked, and `-` before a shard that is not listed.
func draw(now time.Time, me string, words string, only ...string) sketch {
	d := sketch{&state{id: "s", only: only, shards: map[string]listed{}}, map[name]string{}}
	var items []item
	for word := range strings.FieldsSeq(words) {
		gone := strings.HasPrefix(word, "-")
		id, owner, leased := strings.Cut(strings.TrimPrefix(word, "-"), ":")
		owner, wanted, _ := strings.Cut(owner, "?")
		id, ended := strings.CutSuffix(id, "!")
		id, parents, _ := strings.Cut(id, "<")
		l := listed{id: id, start: "1" + id}
		if parents != "" {
			l.parents = strings.Split(parents, "+")
		}
		if !gone {
			d.s.shards[id] = l
		}
		if leased || ended {
			i := item{shard: id, owner: owner, wanted: wanted, timeout: "t"}
			if ended {
				i.end = l.start
			}
			items = append(items, i)
		}
		if owner == me {
			d.held[name{"s", id}] = l.start
		}
	}
	d.s.see(now, time.Hour, items)
	return d
}

func (p plan) words() string {
	var out []string
	add := func(what string, list []name) {
		var of []string
		for _, k := range list {
			of = append(of, k.shard)
		}
		if slices.Sort(of); len(of) > 0 {
			out = append(out, what+" "+strings.Join(of, " "))
		}
	}
	add("claim", p.claim)
	if len(p.want) > 0 {
		out = append(out, "want one")
	}
	add("yield", slices.Collect(maps.Keys(p.yield)))
	add("drop", p.drop)
	add("forget", p.forget)
	if p.left {
		out = append(out, "left")
	}
	return strings.Join(out, ", ")
}

func TestPlans(t *testing.T) {
	now := time.Now()
	for words, want := range map[string]string{
		"a b c":                  "claim a b c",
		"a:x b:x c:x":            "want one",
		"a:x b:x":                "want one",
		"a:x b:me":               "",
		"a:x b:x c:me":           "",
		"a:x b:x c:x d:me":       "want one",
		"a:x b:x?me c:x d:me":    "",
		"a:x?me b:x?y c:x d:x":   "", // one each, and one more somewhere
		"a:x?me b:x?y c:x d:x?y": "",
		"a:me?x b:me":            "yield a",
		"a:x b":                  "claim b",
		// Children.
		"a b<a":             "claim a",
		"a:x b<a":           "",
		"a! b<a":            "claim b",
		"a! b:x c<a+b":      "",
		"a! b! c<a+b":       "claim c",
		"-a:x b<a":          "claim b", // the stream has forgotten the parent
		"a! b:x c<a d:x e":  "claim c e",
		"a:me b<a c<a d":    "claim d",
		"a! b<a:x c<a:x d!": "want one",
		// Shards that are gone.
		"-a! b:me":   "forget a",
		"-a: b:me":   "forget a",
		"-a:x b:me":  "",
		"-a:me b:me": "drop a",
		"-a! b<a":    "claim b", // its child still asks where it began
	} {
		d := draw(now, "me", words)
		got := planner{"me", time.Second}.next(now, []*state{d.s}, d.held, true).words()
		if got != want {
			t.Errorf("%s: %q, want %q", words, got, want)
		}
	}
}

// TestLeaves: of many free shards a process takes its share, and the rest if nobody else does.
func TestLeaves(t *testing.T) {
	now := time.Now()
	d := draw(now, "me", "a b c d e:x f:y g:me")
	p := planner{"me", time.Second}.next(now, []*state{d.s}, d.held, true)
	if len(p.claim) != 2 || !p.left || len(p.want) > 0 {
		t.Errorf("of seven shards for three processes: %+v", p)
	}
	d = draw(now, "me", "a b e:x g:me h:me")
	if p := (planner{"me", time.Second}).next(now, []*state{d.s}, d.held, true); len(p.claim) != 1 || !p.left {
		t.Errorf("beyond its share: %+v", p)
	}
}

// TestPlansNamed: shards that the config names are not shared, and wait only for parents that are named, too.
func TestPlansNamed(t *testing.T) {
	now := time.Now()
	const zero, one, two = "shardId-000000000000", "shardId-000000000001", "shardId-000000000002"
	for _, c := range []struct{ words, want string }{
		{zero + " " + one + " " + two, "claim 0 " + two},
		{zero + ":x " + one + ":x " + two + ":x", "claim 0"}, // of "0" the table says nothing
		{zero + " " + one + " " + two + "<" + one, "claim 0 " + two},
		{zero + " " + one + " " + two + "<" + zero, "claim 0"},
	} {
		d := draw(now, "me", c.words, "0", two)
		if got := (planner{"me", time.Second}).next(now, []*state{d.s}, d.held, true).words(); got != c.want {
			t.Errorf("%s: %q, want %q", c.words, got, c.want)
		}
	}
}

// TestOver: a lease is over when it has been the same for a lease_period, by this process' clock,
// in which this process has looked.
func TestOver(t *testing.T) {
	now := time.Now()
	p := planner{"me", 10 * time.Second}
	s := draw(now, "me", "a:x").s
	items := []item{s.items["a"]}
	look := func(after time.Duration) string {
		now = now.Add(after)
		s.see(now, p.lease/2, items)
		return p.next(now, []*state{s}, nil, true).words()
	}
	for i, c := range []struct {
		after time.Duration
		want  string
	}{
		{4 * time.Second, ""}, {4 * time.Second, ""}, {2 * time.Second, "claim a"}, // unchanged
		{6 * time.Second, ""}, {4 * time.Second, ""}, {5 * time.Second, ""}, {time.Second, "claim a"}, // not looked for long
	} {
		if got := look(c.after); got != c.want {
			t.Errorf("look %d: %q, want %q", i, got, c.want)
		}
	}
	items[0].timeout = "later" // it lives
	if got := look(time.Second); got != "" {
		t.Errorf("renewed: %q", got)
	}
}

// TestShares: however many processes look in turn, each gets its share, and then nothing moves.
func TestShares(t *testing.T) {
	for processes := 1; processes <= 5; processes++ {
		for shards := 1; shards <= 13; shards++ {
			now := time.Now()
			d := draw(now, "", "")
			for n := range shards {
				id := shardNo(n)
				d.s.shards[id] = listed{id: id, start: "1"}
			}
			items := map[string]item{}
			moves := 0
			for turn := range 200 {
				me := fmt.Sprint("p", turn%processes)
				if turn < 20 {
					me = "p0" // the others join later
				}
				d.s.see(now, time.Hour, slices.Collect(maps.Values(items)))
				held := map[name]string{}
				for id, i := range items {
					if i.owner == me {
						held[name{"s", id}] = "1"
					}
				}
				p := planner{me, time.Hour}.next(now, []*state{d.s}, held, true)
				for _, k := range p.claim {
					items[k.shard] = item{shard: k.shard, owner: me}
				}
				for _, k := range p.want {
					i := items[k.shard]
					i.wanted = me
					items[k.shard] = i
				}
				for k, to := range p.yield {
					items[k.shard] = item{shard: k.shard, owner: to}
					moves++
				}
			}
			counts := map[string]int{}
			for _, i := range items {
				counts[i.owner]++
				if i.wanted != "" {
					t.Errorf("%d processes, %d shards: %+v", processes, shards, i)
				}
			}
			for _, n := range counts {
				if n < shards/processes || n > (shards+processes-1)/processes {
					t.Errorf("%d processes, %d shards: %v", processes, shards, counts)
				}
			}
			if len(items) != shards || moves > shards {
				t.Errorf("%d processes, %d shards: %d are read, after %d moves", processes, shards, len(items), moves)
			}
		}
	}
}

// TestSince: where a shard begins of which nothing was read, with start_from_oldest: false.
func TestSince(t *testing.T) {
	now := time.Now()
	d := draw(now, "me", "a b<a c<a+x d<y")
	early, late := now.Add(-time.Hour).UTC().Format(sinceFormat), now.Add(-time.Minute).UTC().Format(sinceFormat)
	d.s.items = map[string]item{"a": {shard: "a", since: late}, "x": {shard: "x", since: early}, "y": {shard: "y", sequence: "1"}}
	for shard, want := range map[string]string{"a": late, "b": late, "c": early, "d": "", "new": now.UTC().Format(sinceFormat)} {
		if got := d.s.since(shard, now); got != want {
			t.Errorf("%s: %q, want %q", shard, got, want)
		}
	}
}
