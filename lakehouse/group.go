package lakehouse

import (
	"errors"
	"log/slog"

	"github.com/tidemill/tidemill/internal/batch"
)

// group is the items that one commit is made of.
type group struct {
	items   []*item
	claims  batch.Claims // of items
	keys    map[rowKey]struct{}
	planned int // how often
}

func (a *Appender) commitGroup(g *group) {
	start := a.t.opt.now()
	version, err := a.t.commit(a.ctx, func(s *Snapshot) (*Commit, error) {
		if a.dedupe != nil { // what others have committed is judged by its keys, too
			if err := a.dedupe.sync(a.ctx, s); err != nil {
				return nil, err
			}
		}
		return a.plan(g, s), nil
	})
	if err == nil && a.dedupe != nil {
		a.dedupe.landed(version, g.items)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil {
		a.positions.add(g.claims, a.t.opt.now())
	} else if len(g.items) > 0 {
		a.o.Logger.Warn("commit failed", slog.String("table", a.t.root), slog.Int("files", len(g.items)), slog.Any("error", err))
	}
	var files int
	var rows, bytes int64
	// Nothing is in, and not in doubt: the rows only have to be written again.
	again := errors.Is(err, ErrFilesTooOld) && !errors.Is(err, ErrOutcomeUnknown)
	for _, it := range g.items {
		for _, f := range it.files {
			files, rows, bytes = files+1, rows+f.Rows, bytes+f.Size
		}
		if again {
			it.done <- outcome{again: true}
			continue
		}
		it.done <- outcome{version: version, err: err}
	}
	if a.o.Metrics.Committed != nil && err == nil && files > 0 {
		a.o.Metrics.Committed(a.t.opt.now().Sub(start), files, rows, bytes)
	}
}

// plan makes the commit of a group that may follow a snapshot. Items of which the log
// has a part by then go back to their callers; those that overlap with another of the
// group wait for its outcome.
func (a *Appender) plan(g *group, s *Snapshot) *Commit {
	settled := batch.Claims{}
	for _, it := range g.items {
		if it.settled != nil {
			settled.Add(it.settled())
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if g.planned++; g.planned > 1 && a.o.Metrics.Conflict != nil {
		a.o.Metrics.Conflict()
	}
	now := a.t.opt.now()
	a.positions.sync(a.t, s, now)
	c := &Commit{Operation: "STREAMING UPDATE", Fault: a.o.Fault}
	g.claims, g.keys = batch.Claims{}, nil
	var items, wait []*item
	for _, it := range g.items {
		switch err := a.stillFits(it, s); {
		case err != nil:
			it.done <- outcome{err: err}
		case a.positions.has(it.runs, now), a.dedupe != nil && a.dedupe.has(it):
			it.done <- outcome{again: true}
		case g.claims.Overlaps(it.runs), g.repeats(it):
			it.taken = false
			wait = append(wait, it)
		default:
			items = append(items, it)
			g.take(it, len(g.items) > 1)
			c.Adds = append(c.Adds, it.files...)
		}
	}
	g.items = items
	a.queue = append(wait, a.queue...)
	if len(items) == 0 {
		return nil
	}
	a.positions.add(settled, now)
	c.Txns = a.positions.txns(g.claims, settled, s)
	return c
}

// repeats says whether an item has a row that must not be in together with one of the
// group's, by their keys.
func (g *group) repeats(it *item) bool {
	return len(g.keys) > 0 && it.anyJudged(func(k rowKey) bool { _, ok := g.keys[k]; return ok })
}

// take notes an item's offsets and, if others may follow, its keys.
func (g *group) take(it *item, more bool) {
	g.claims.Add(it.claims)
	if !more || it.keys == nil {
		return
	}
	if g.keys == nil {
		g.keys = make(map[rowKey]struct{}, len(it.keys))
	}
	for _, k := range it.keys {
		if k != (rowKey{}) {
			g.keys[k] = struct{}{}
		}
	}
}

// stillFits keeps a file that the table cannot take any more from failing its group.
func (a *Appender) stillFits(it *item, s *Snapshot) error {
	for i := range it.files {
		if err := stillFits(it.files[i].meta, s.meta); err != nil {
			return err
		}
	}
	return nil
}
