package lakehouse

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/lakehouse/delta"
)

// step is one operation of a scenario. All it needs stands in it, so that what is left
// of a scenario without some of its steps is a scenario.
type step struct {
	Do      string `json:"do"` // see world.dispatch
	By      int    `json:"by"` // which process
	Part    string `json:"part,omitempty"`
	First   int64  `json:"first,omitempty"`   // append: offset
	Rows    int64  `json:"rows,omitempty"`    // append, commit
	Again   int64  `json:"again,omitempty"`   // append: so many of the first offsets come twice
	Settled bool   `json:"settled,omitempty"` // append: with the source's word
	Then    []step `json:"then,omitempty"`    // append: more of them, by the same process, while the commit is under way
	App     string `json:"app,omitempty"`     // commit
	Behind  int64  `json:"behind,omitempty"`  // commit: so far behind the truth is what it expects; at, restore: so far back
	Column  string `json:"column,omitempty"`
	Number  bool   `json:"number,omitempty"` // columns: a number, not a string
	Seconds int64  `json:"seconds,omitempty"`
	Orphans bool   `json:"orphans,omitempty"` // vacuum
	Sorted  bool   `json:"sorted,omitempty"`  // compact
	Fault   *fault `json:"fault,omitempty"`
}

// runs are the positions of an append. A partition "gap…" has offsets that its source
// never delivers, "#…" is a message with an idempotency key.
func (s step) runs() []batch.Run {
	if s.Part == "#" {
		return []batch.Run{{Partition: "#" + strconv.FormatInt(s.First, 10), Rows: 3}}
	}
	var out []batch.Run
	add := func(n int64) {
		for off := s.First; off < s.First+n; off++ {
			if !dropped(s.Part, off) {
				out = batch.AppendRun(out, perRow(s.Part, off, off))
			}
		}
	}
	add(s.Rows)
	add(s.Again)
	return out
}

func dropped(part string, off int64) bool { return strings.HasPrefix(part, "gap") && off%5 == 3 }

// ids are the rows that the runs stand for, once each.
func runIDs(runs []batch.Run) []string {
	var out []string
	for _, r := range runs {
		for i := range r.Rows {
			place := 0
			if !r.PerRow && r.Rows > 1 {
				place = i
			}
			out = append(out, fmt.Sprintf("%s/%d/%d", r.Partition, r.Offset(i), place))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// do runs one step. Its error is a broken promise; that the step itself failed may be
// right, and is for the model to judge.
func (w *world) do(s step) error {
	a := w.actors[s.By%len(w.actors)]
	if a.busy { // a step inside one of its own
		return nil
	}
	a.busy = true
	defer func() { a.busy = false }()
	w.now.Add(int64(time.Second))
	ctx := a.begin(s.Fault)
	w.dispatch(ctx, a, s)
	a.end()
	a.mu.Lock()
	defer a.mu.Unlock()
	err := a.problem
	a.problem = nil
	return err
}

func (w *world) dispatch(ctx context.Context, a *actor, s step) {
	c := w.propose(s)
	if s.Do == "crash" {
		a.leave()
		return
	}
	if s.Do == "reopen" {
		if a.app != nil {
			_ = a.app.Close(ctx)
		}
		a.leave()
	}
	err := a.open(ctx)
	if err == nil {
		switch s.Do {
		case "append":
			w.append(ctx, a, s, c)
			return
		case "commit":
			err = w.commit(ctx, a, s, c)
		case "columns":
			err = a.tbl.AddColumns(ctx, schemaWith(s))
		case "refresh":
			_, err = a.tbl.Refresh(ctx)
		case "wait":
			w.deliver(s.Seconds > 60) // no request is on its way for longer
			w.now.Add(s.Seconds * int64(time.Second))
		default:
			err = w.maintain(ctx, a, s, c)
		}
	}
	w.settle(c, Appended{}, err, a.dead())
}

func (a *actor) dead() bool { return a.path != nil && a.path.Crashed() }

func schemaWith(s step) *arrow.Schema {
	f := arrow.Field{Name: s.Column, Type: arrow.BinaryTypes.String, Nullable: true}
	if s.Number {
		f.Type = arrow.PrimitiveTypes.Int64
	}
	return arrow.NewSchema(append(lived().Fields(), f), nil)
}

// append runs an append, and those that queue up behind it while its commit is on its way.
func (w *world) append(ctx context.Context, a *actor, s step, c *claim) {
	one := func(s step, c *claim) {
		runs := s.runs()
		rec := livedRows(memory.DefaultAllocator, runs)
		defer rec.Release()
		in := Append{Record: rec, Runs: runs}
		if s.Settled {
			word := w.word(s.Part)
			in.Settled = func() batch.Claims { return word }
		}
		out, err := a.app.Append(ctx, in)
		if out.Record != nil {
			out.Record.Release()
		}
		w.settle(c, out, err, a.dead())
	}
	type follower struct {
		done chan struct{}
	}
	var mu sync.Mutex
	var behind []follower // guarded by mu
	started := 0          // guarded by mu
	// A commit goes on when its caller has given up, and then both come here.
	follow := func(hold bool) {
		mu.Lock()
		defer mu.Unlock()
		for ; started < len(s.Then); started++ {
			f := follower{make(chan struct{})}
			behind = append(behind, f)
			t := s.Then[started]
			t.Fault = s.Fault // it shares it
			tc := w.propose(t)
			queued := a.queued()
			go func() {
				defer close(f.done)
				one(t, tc)
			}()
			for hold && a.queued() == queued && !closed(f.done) {
				time.Sleep(20 * time.Microsecond)
			}
			if !hold {
				<-f.done
			}
		}
	}
	a.mu.Lock()
	if len(s.Then) > 0 {
		a.onCommit = func() { follow(true) }
	}
	a.mu.Unlock()
	one(s, c)
	a.mu.Lock()
	a.onCommit = nil
	a.mu.Unlock()
	follow(false)
	for _, f := range behind {
		<-f.done
	}
}

func (a *actor) queued() int {
	a.app.mu.Lock()
	defer a.app.mu.Unlock()
	return len(a.app.queue)
}

func closed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// commit is hop two's way: files, and a txn that must be where it was.
func (w *world) commit(ctx context.Context, a *actor, s step, c *claim) error {
	rec := livedRows(memory.DefaultAllocator, []batch.Run{{Partition: "commit/" + strconv.Itoa(c.id), Rows: int(s.Rows), PerRow: true}})
	defer rec.Release()
	files, err := a.tbl.WriteFiles(ctx, rec, map[string]string{"by": s.App})
	if err != nil {
		return err
	}
	c.version, err = a.tbl.Commit(ctx, Commit{
		Adds: files, Txns: []delta.Txn{{AppID: s.App, Version: c.expect + 1}}, ExpectTxn: map[string]int64{s.App: c.expect},
		Parameters: map[string]string{"claim": strconv.Itoa(c.id)},
	})
	return err
}

// expected says whether an error is one that a step may have when nothing goes wrong.
func (m *model) expected(c *claim, err error) bool {
	var moved *TxnMovedError
	switch {
	case c.step.Do == "commit" && errors.As(err, &moved):
		return true
	case c.step.Do == "columns":
		have, ok := m.last().columns[c.step.Column]
		return ok && have != typeName(c.step)
	case c.step.Do == "at", c.step.Do == "restore":
		return !m.readable(c.target)
	}
	return false
}

func typeName(s step) string {
	if s.Number {
		return "long"
	}
	return "string"
}
