package sources

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// maxRow is what connectors here take of a row.
const maxRow = 4000

// message is what is sent at once: the numbers of its rows.
type message []int64

// lines are the message's rows as JSON, one a line. Some are poison, some too large.
func (m message) lines() []byte {
	var b bytes.Buffer
	for i, id := range m {
		if i > 0 {
			b.WriteByte('\n')
		}
		if poison(id) {
			fmt.Fprintf(&b, `{"id": %d, "pad": "`, id)
		} else {
			fmt.Fprintf(&b, `{"id": %d, "pad": %q}`, id, pad(id))
		}
	}
	return b.Bytes()
}

// csv are the rows as CSV with a header. Poison has a number that is none.
func (m message) csv() []byte {
	var b bytes.Buffer
	b.WriteString("id,pad\n")
	for _, id := range m {
		mark := ""
		if poison(id) {
			mark = "x"
		}
		fmt.Fprintf(&b, "%d%s,%s\n", id, mark, pad(id))
	}
	return b.Bytes()
}

// typed is a row where only whole documents are sent: poison has its number in quotes.
func typed(id int64) string {
	if poison(id) {
		return fmt.Sprintf(`{"id":"%d","pad":"p"}`, id)
	}
	return fmt.Sprintf(`{"pad":%q,"id":%d}`, pad(id), id)
}

func pad(id int64) string {
	if oversized(id) {
		return strings.Repeat("x", 3*maxRow)
	}
	return "p"
}

func poison(id int64) bool    { return id%50 == 7 }
func oversized(id int64) bool { return id%50 == 31 }

// feeder sends numbered rows until it is stopped, each number once.
type feeder struct {
	source
	cancel context.CancelFunc
	lanes  sync.WaitGroup

	mu   sync.Mutex
	next int64
	sent map[int64]bool // false: perhaps
}

func startFeeder(t *testing.T, s source) *feeder {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	f := &feeder{source: s, cancel: cancel, sent: map[int64]bool{}}
	for range max(s.lanes, 1) {
		f.lanes.Go(func() { f.run(ctx) })
	}
	t.Cleanup(f.stop)
	return f
}

func (f *feeder) run(ctx context.Context) {
	every := f.every
	if every == 0 {
		every = 15 * time.Millisecond
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	away := time.NewTicker(20 * every)
	defer away.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		m := f.take()
		sending, end := context.WithTimeout(context.Background(), 15*time.Second)
		err := f.send(sending, m)
		end()
		f.mu.Lock()
		for _, id := range m {
			f.sent[id] = err == nil
		}
		f.mu.Unlock()
		if err != nil { // nobody there; not every tick
			select {
			case <-ctx.Done():
			case <-away.C:
			}
		}
	}
}

// take numbers the rows of the next message.
func (f *feeder) take() (m message) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for range max(f.rows, 1) {
		f.next++
		m = append(m, f.next)
	}
	return m
}

func (f *feeder) stop() {
	f.cancel()
	f.lanes.Wait()
}

func (f *feeder) count() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, ok := range f.sent {
		if ok {
			n++
		}
	}
	return n
}
