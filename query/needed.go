package query

import (
	"context"
	"fmt"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemill/tidemill/internal/predicate"
)

// Needed says what a row of a view must be like to have a part in the result of a SELECT:
// what can be read off the statement, nil when nothing can. The statement is checked as
// Describe does, and not run.
func (e *Engine) Needed(ctx context.Context, sql, view string, schema *arrow.Schema) (*predicate.Node, error) {
	c, err := e.acquire(ctx, map[string]*arrow.Schema{view: schema})
	if err != nil {
		return nil, fmt.Errorf("analyse query: %w", err)
	}
	node, err := c.needed(ctx, sql, view, schema)
	e.giveBack(c, err)
	if err != nil {
		return nil, fmt.Errorf("analyse query: %w", err)
	}
	return node, nil
}

func (c *conn) needed(ctx context.Context, sql, view string, schema *arrow.Schema) (*predicate.Node, error) {
	if _, err := c.prepare(sql); err != nil {
		return nil, err
	}
	tree := c.syntax(ctx, sql)
	if tree == nil {
		return nil, ctx.Err()
	}
	n := newNeeds()
	n.schemas[view] = schema
	n.walk(tree["statements"], nil)
	if err := c.compute(ctx, n.consts); err != nil {
		return nil, err
	}
	return n.need(view), nil
}
