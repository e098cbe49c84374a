package connectors

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
)

// TestStdinGoesOn restarts the connector again and again while rows are piped in, in pieces
// that end anywhere, and once more behind their end: each row is in once.
func TestStdinGoesOn(t *testing.T) {
	const rowsIn, long = 3000, 100_000
	var text strings.Builder
	for id := range rowsIn {
		name := ""
		if id%500 == 77 {
			name = strings.Repeat("x", long) // longer than a line of Benthos' scanner may be
		}
		fmt.Fprintf(&text, "{\"id\":%d,\"name\":%q}\n", id, name)
	}
	for name, conf := range map[string]string{
		"blocks":     "input: {stdin: {}}\n",
		"null":       "input:\n  stdin:\n",
		"row by row": "input: {stdin: {}}\npipeline: {processors: [{mapping: root = this}]}\n",
		"a scanner":  "input: {stdin: {scanner: {lines: {custom_delimiter: \"\\n\", max_buffer_size: 1000000}}}}\n",
	} {
		t.Run(name, func(t *testing.T) {
			store := mem.New()
			e, err := New(Options{Tables: newLake(t, store, eventsContract)})
			if err != nil {
				t.Fatal(err)
			}
			r, w := io.Pipe()
			e.stdin.from = r
			pieces := rand.New(rand.NewPCG(5, 8))
			fed := make(chan struct{})
			go func() {
				defer close(fed)
				for left := text.String(); left != ""; {
					n := min(len(left), 1+pieces.IntN(5000))
					_, _ = io.WriteString(w, left[:n])
					left = left[n:]
				}
				_ = w.Close()
			}()
			c, err := ParseConfig("connectors/in.yaml", []byte(conf+"output:\n  lakehouse: {table: events, batching: {count: 20, period: 5ms}}\n"))
			if err != nil {
				t.Fatal(err)
			}
			run := func(until func() bool) {
				t.Helper()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				done := make(chan error, 1)
				go func() { done <- e.Run(ctx, c, 20*time.Second) }()
				ended := false
				waitFor(t, "rows", func() bool {
					select {
					case err := <-done:
						ended = true
						done <- err
					default:
					}
					return ended || until()
				})
				cancel()
				if err := <-done; err != nil {
					t.Fatal(err)
				}
			}
			for restarts := 0; countRows(t, store, "events") < rowsIn-200; restarts++ {
				have := countRows(t, store, "events")
				run(func() bool { return countRows(t, store, "events") > have+150 })
				if restarts > rowsIn {
					t.Fatal("it does not get on")
				}
			}
			never := func() bool { return false }
			run(never)
			run(never) // behind the end, where there is nothing
			<-fed
			seen := map[string]int{}
			for _, id := range rows(t, store, "events", "id") {
				seen[id]++
			}
			for id := range rowsIn {
				if n := seen[strconv.Itoa(id)]; n != 1 {
					t.Errorf("%d is in %d times", id, n)
				}
			}
			if n := countRows(t, store, "events_quarantine"); n != 0 || len(seen) != rowsIn {
				t.Errorf("%d rows and %d in quarantine", len(seen), n)
			}
		})
	}
}

// TestStdinKeepsItsScanner: what has been cut in one way cannot be cut in another.
func TestStdinKeepsItsScanner(t *testing.T) {
	e, err := New(Options{Tables: newLake(t, mem.New(), eventsContract)})
	if err != nil {
		t.Fatal(err)
	}
	e.stdin.from = strings.NewReader("{\"id\":1}\n")
	for _, c := range []struct{ conf, want string }{{"{}", ""}, {"{scanner: {csv: {}}}", "start it anew"}, {"{scanner: {lines: {}}}", ""}} {
		conf, want := c.conf, c.want
		c, err := ParseConfig("connectors/in.yaml", []byte("input: {stdin: "+conf+"}\noutput: {lakehouse: {table: events}}\n"))
		if err != nil {
			t.Fatal(err)
		}
		err = e.Run(t.Context(), c, time.Second)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "connectors/in.yaml:1: input: scanner: ")) {
			t.Errorf("%s: %v", conf, err)
		}
	}
}
