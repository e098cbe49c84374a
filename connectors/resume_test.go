package connectors

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/tidemill/tidemill/connectors/position"
	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
)

// pages is an input as ours are that go on by a cursor: page n has n%4 rows and more, its
// cursor is its number. It ends after some pages.
type pages struct {
	log    *resumer
	n, end int   // next page, and behind the last
	next   int64 // offset
	began  func(page int)
}

const pagesOfAll = 40

func pageRows(n int) int { return 1 + n%4 }

func (p *pages) Connect(ctx context.Context) error {
	at, err := p.log.at(ctx, "pages")
	if err != nil {
		return err
	}
	if at.Found {
		last, err := strconv.Atoi(at.Text)
		if err != nil {
			return err
		}
		p.n, p.next = last+1, at.Offset+1
	}
	p.began(p.n)
	return nil
}

func (p *pages) ReadBatch(context.Context) (service.MessageBatch, service.AckFunc, error) {
	if p.n >= p.end {
		return nil, nil, service.ErrEndOfInput
	}
	var b service.MessageBatch
	for i := range pageRows(p.n) {
		at := Position{Partition: "pages", Offset: p.next}
		if i == pageRows(p.n)-1 {
			at.Cursor = strconv.Itoa(p.n)
		}
		id := p.next
		if id%11 == 3 {
			b = append(b, position.Stamp(service.NewMessage(fmt.Appendf(nil, `{"id":"bad %d"}`, id)), at))
		} else {
			b = append(b, position.Stamp(service.NewMessage(fmt.Appendf(nil, `{"id":%d}`, id)), at))
		}
		p.next++
	}
	p.n++
	return b, func(context.Context, error) error { return nil }, nil
}

func (p *pages) Close(context.Context) error { return nil }

// TestResume runs a source of pages in many processes, each for a few pages. Rows go to
// both tables or are dropped on their way, a page's last one too. Each process goes on
// where the log says, never far back, and every row is in once.
func TestResume(t *testing.T) {
	resumed["pages"] = true
	t.Cleanup(func() { delete(resumed, "pages") })
	store := mem.New()
	var began []int
	for end := 7; end < pagesOfAll+14; end += 7 {
		l := newLake(t, store, eventsContract)
		e, err := New(Options{Tables: l})
		if err != nil {
			t.Fatal(err)
		}
		if err := e.env.RegisterBatchInput("pages", service.NewConfigSpec().Fields(resumeFields()...), func(conf *service.ParsedConfig, _ *service.Resources) (service.BatchInput, error) {
			r, err := newResumer(conf, l)
			return &pages{log: r, end: min(end, pagesOfAll), began: func(page int) { began = append(began, page) }}, err
		}); err != nil {
			t.Fatal(err)
		}
		c, err := ParseConfig("connectors/in.yaml", []byte("input: {pages: {}}\npipeline: {threads: 1, processors: [{mapping: 'root = if this.id.string().has_suffix(\"5\") { deleted() }'}]}\noutput: {lakehouse: {table: events, max_in_flight: 1, batching: {count: 3, period: 20ms}}}\n"))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		err = e.Run(ctx, c, time.Second)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
	}
	// What was dropped is said to be done with in the commit after its page's, so the last
	// pages of a process may be read again; no page of the process before that.
	for i := 2; i < len(began); i++ {
		if began[i] < 7*(i-1) {
			t.Errorf("process %d began at page %d; they all began at %v", i, began[i], began)
		}
	}
	var landed, bad []string
	id := int64(0)
	for n := range pagesOfAll {
		for range pageRows(n) {
			switch {
			case id%10 == 5:
			case id%11 == 3:
				bad = append(bad, fmt.Sprintf(`{"id":"bad %d"}`, id))
			default:
				landed = append(landed, fmt.Sprint(id))
			}
			id++
		}
	}
	slices.Sort(landed)
	slices.Sort(bad)
	equal(t, "landed", rows(t, store, "events", "id"), landed)
	got := rows(t, store, "events_quarantine", "raw")
	for i := range got {
		got[i] = string(bytes.TrimSpace([]byte(got[i])))
	}
	equal(t, "quarantined", got, bad)
}
