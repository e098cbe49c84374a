package connectors

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/tidemill/tidemill/connectors/paging"
	"github.com/tidemill/tidemill/connectors/position"
)

// paged is an input that reads a source page by page and goes on where the table's
// log says: a page's rows count on from those before it, and what the pager needs to go
// on behind them is the cursor that is committed with them.
type paged struct {
	engine    *Engine
	log       *resumer
	kind      string
	partition string // "": rows have no position
	single    bool   // a message is one row, else the rows of a page
	backoff   paging.Backoff
	pager     paging.Pager

	next int64 // offset
}

func pagedFields() []*service.ConfigField {
	return append(resumeFields(),
		service.NewBoolField(rowsSingle).Description("Set by Tidemill itself.").Default(false).Advanced(),
		service.NewDurationField("retry_min").Description("How long to wait after a failure; the wait doubles with each one that follows.").Default("500ms").Advanced(),
		service.NewDurationField("retry_max").Description("The longest such wait.").Default("1m").Advanced(),
	)
}

// newPaged fills in what all inputs of pages have.
func newPaged(e *Engine, kind string, p *parsed) (*paged, error) {
	log, err := newResumer(p.conf, e.tables)
	if err != nil {
		return nil, err
	}
	in := &paged{engine: e, log: log, kind: kind, single: p.bool(rowsSingle), backoff: paging.Backoff{Min: p.duration("retry_min"), Max: p.duration("retry_max")}}
	if err := in.backoff.Check(); err != nil {
		p.bad("retry_min", "%v", err)
	}
	return in, nil
}

// Connect goes to where the table's log says that the rows end.
func (in *paged) Connect(ctx context.Context) error {
	if in.partition == "" {
		return nil
	}
	at, err := in.log.at(ctx, in.partition)
	if err != nil {
		return err
	}
	in.next = 0
	if at.Found {
		in.next = at.Offset + 1
	}
	if err := in.pager.Resume(at.Text); err != nil {
		return fmt.Errorf("%s: %w", in.kind, err)
	}
	in.engine.log.Info("reading goes on", "connector", in.log.connector, "input", in.kind, "source", in.partition, "rows_in", in.next)
	return nil
}

func (in *paged) ReadBatch(ctx context.Context) (service.MessageBatch, service.AckFunc, error) {
	page, err := paging.NextOf(ctx, in.pager, in.backoff, func(err error, wait time.Duration) {
		in.engine.log.Warn("the source cannot be read", "connector", in.log.connector, "input", in.kind, "error", err, "next_attempt_in", wait)
	})
	if err != nil {
		return nil, nil, err
	}
	return in.messages(page), func(context.Context, error) error { return nil }, nil
}

func (in *paged) messages(page paging.Page) service.MessageBatch {
	n := len(page.Rows)
	at := Position{Partition: in.partition, Offset: in.next}
	in.next += int64(n)
	if !in.single {
		at.PerRow, at.Rows, at.Cursor = true, int64(n), page.State(n-1)
		return service.MessageBatch{in.message(bytes.Join(page.Rows, []byte{'\n'}), at)}
	}
	out := make(service.MessageBatch, n)
	for i, row := range page.Rows {
		at.Cursor = page.State(i)
		out[i] = in.message(row, at)
		at.Offset++
	}
	return out
}

func (in *paged) message(data []byte, at Position) *service.Message {
	m := service.NewMessage(data)
	if in.partition == "" {
		return m
	}
	return position.Stamp(m, at)
}

// Close implements service.BatchInput.
func (in *paged) Close(context.Context) error { return in.pager.Close() }
