package lakehouse

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// scenario is a table's life.
type scenario struct {
	Comment     string   `json:"comment,omitempty"`
	Processes   int      `json:"processes"`
	Partitioned bool     `json:"partitioned,omitempty"`
	Follower    bool     `json:"follower,omitempty"` // maintenance holds what a follower has yet to read
	Others      []step   `json:"others,omitempty"`   // what may happen within a call
	Has         []string `json:"has,omitempty"`      // operations of commits that it has, or it shows nothing
	Steps       []step   `json:"steps"`
}

var parts = []string{"kafka/t/0", "kafka/t/1", "gap/0"}

// generator makes scenarios: what a source would deliver, and what it should not.
type generator struct {
	r    *rand.Rand
	next map[string]int64
	keys bool // messages with keys, else rows are taken out: of those keys are forgotten
}

func generate(seed uint64) scenario {
	r := seeded(seed)
	g := generator{r, map[string]int64{}, r.IntN(2) == 0}
	sc := scenario{Processes: 2 + r.IntN(3), Partitioned: seed%3 == 0, Follower: r.IntN(2) == 0}
	upkeep := []int{0, 15, 40}[r.IntN(3)] // percent of the steps
	for range 10 + r.IntN(40) {
		s := g.step(sc.Processes, upkeep)
		if r.IntN(2) == 0 {
			other := g.step(sc.Processes, upkeep)
			s.Fault = &fault{Seed: r.Uint64(), Rate: uint64(20 + r.IntN(200)), Other: &other}
		}
		sc.Steps = append(sc.Steps, s)
	}
	return sc
}

func (g *generator) step(processes, upkeep int) step {
	s := step{By: g.r.IntN(processes)}
	if g.r.IntN(100) < upkeep {
		return g.upkeep(s)
	}
	switch n := g.r.IntN(100); {
	case n < 50:
		s = g.append(s.By)
		for range g.r.IntN(8) - 4 {
			s.Then = append(s.Then, g.append(s.By))
		}
	case n < 65:
		s.Do, s.App, s.Rows = "commit", fmt.Sprint("app", g.r.IntN(2)), int64(1+g.r.IntN(4))
		if g.r.IntN(4) == 0 {
			s.Behind = 1
		}
	case n < 72:
		s.Do, s.Column, s.Number = "columns", fmt.Sprint("c", g.r.IntN(3)), g.r.IntN(4) == 0
	case n < 85:
		s.Do = "refresh"
	case n < 90:
		s.Do = "reopen"
	case n < 95:
		s.Do = "crash"
	default:
		s.Do, s.Seconds = "wait", []int64{5, 120, 1000, 8000}[g.r.IntN(4)]
	}
	return s
}

func (g *generator) upkeep(s step) step {
	switch n := g.r.IntN(100); {
	case n < 20:
		s.Do = "checkpoint"
	case n < 35:
		s.Do = "clean"
	case n < 50:
		s.Do, s.Orphans = "vacuum", g.r.IntN(2) == 0
	case n < 70:
		s.Do, s.Sorted = "compact", g.r.IntN(2) == 0
	case n < 80:
		s.Do, s.Seconds = "wait", []int64{2400, 5000}[g.r.IntN(2)]
	case n < 84:
		s.Do = "follow"
	case n < 88 || g.keys:
		s.Do, s.Behind = "at", int64(g.r.IntN(12))
	case n < 94:
		s.Do, s.Behind = "restore", int64(1+g.r.IntN(6))
	default:
		s.Do, s.First = "expire", g.next[parts[g.r.IntN(len(parts))]]-int64(g.r.IntN(20))
	}
	return s
}

// append delivers what comes next, with something of before, or out of its order.
func (g *generator) append(by int) step {
	s := step{Do: "append", By: by}
	if g.keys && g.r.IntN(10) == 0 {
		s.Part, s.First = "#", int64(g.r.IntN(4))
		return s
	}
	s.Part = parts[g.r.IntN(len(parts))]
	if _, ok := g.next[s.Part]; !ok && g.r.IntN(3) == 0 {
		g.next[s.Part] = 100 // a topic whose beginning has expired
	}
	at := g.next[s.Part]
	s.First = max(0, at+int64(g.r.IntN(18)-8)) // 8 back to 9 ahead
	s.Rows = 1 + int64(g.r.IntN(8))
	if s.Rows > 4 && g.r.IntN(6) == 0 {
		s.Again = 2
	}
	s.Settled = g.r.IntN(3) == 0
	g.next[s.Part] = max(at, s.First+s.Rows)
	return s
}

// shrink leaves out what a broken scenario does not need to be broken.
func shrink(ctx context.Context, sc scenario) scenario {
	broken := func(sc scenario) bool { _, _, err := sc.run(ctx, 0); return err != nil }
	for again := true; again; {
		again = false
		for _, smaller := range sc.smaller() {
			if broken(smaller) {
				sc, again = smaller, true
				break
			}
		}
	}
	return sc
}

// smaller are scenarios with a little less in them.
func (sc scenario) smaller() []scenario {
	var out []scenario
	with := func(steps []step) {
		c := sc
		c.Steps = steps
		out = append(out, c)
	}
	for n := len(sc.Steps) / 2; n > 0; n /= 2 {
		for i := 0; i+n <= len(sc.Steps); i += n {
			with(slices.Delete(slices.Clone(sc.Steps), i, i+n))
		}
	}
	for i, s := range sc.Steps {
		change := func(f func(*step)) {
			steps := slices.Clone(sc.Steps)
			f(&steps[i])
			with(steps)
		}
		if s.Fault != nil {
			change(func(s *step) { s.Fault = nil })
		}
		for j := range s.Then {
			change(func(s *step) { s.Then = slices.Delete(slices.Clone(s.Then), j, j+1) })
		}
	}
	return out
}

// String is the scenario as JSON, a step a line.
func (sc scenario) String() string {
	head := sc
	head.Steps = nil
	text := jsonOf(head)
	var b strings.Builder
	b.WriteString(strings.TrimSuffix(text, "null}") + "[")
	for i, s := range sc.Steps {
		b.WriteString(strings.Repeat(",", min(i, 1)) + "\n\t" + jsonOf(s))
	}
	return b.String() + "\n]}\n"
}

func jsonOf(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// faults are the scenarios with a fault more: each kind at each of the calls of a step.
func (sc scenario) faults(at int, calls []string) (out []scenario) {
	for _, call := range calls {
		for _, k := range kinds {
			for j, other := range sc.Others {
				if k != meets && j > 0 {
					break
				}
				bad := sc
				bad.Comment = fmt.Sprintf("%s: step %d, %s: %s %s", sc.Comment, at, call, k, other.Do)
				bad.Has = nil
				bad.Processes++ // the one that does other
				other.By = sc.Processes
				bad.Steps = slices.Clone(sc.Steps)
				bad.Steps[at].Fault = &fault{Call: call, Kind: k, Other: &other}
				out = append(out, bad)
			}
		}
	}
	return out
}
