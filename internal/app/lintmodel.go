package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemill/tidemill/activities"
	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/internal/problem"
	"github.com/tidemill/tidemill/internal/project"
	"github.com/tidemill/tidemill/models"
	"github.com/tidemill/tidemill/quality"
)

// modelLint holds contracts against the signatures of their models: those of files
// that tidemill.yaml names, read from the ONNX graph, and with online those that the
// registry has.
type modelLint struct {
	project   *project.Project
	online    bool
	log       *slog.Logger
	unchecked problem.List

	client *Client
	failed error // why the registry cannot be asked
}

func projectFile(p *project.Project) string { return filepath.Join(p.Dir(), project.File) }

// check returns the problems between a contract with a score and its model. plan is
// nil when the contract's SQL does not compile; the columns' types are then unknown.
func (l *modelLint) check(ctx context.Context, c *contract.Table, plan *quality.Plan) error {
	score := c.Score()
	table := models.GateTable{Score: score, Problem: c.Problem}
	if plan != nil {
		table.Schema = plan.Columns()
	}
	var ps problem.List
	local, err := localModelOf(l.project, score)
	if problem.Of(err) != nil {
		ps.AddErr("", err)
	} else if err != nil {
		return err
	}
	if local != nil {
		ps.Add(table.Problems(local.signature)...)
	}
	if l.online {
		registered, err := l.registered(ctx, c, &table)
		switch {
		case err == nil:
			ps.Add(registered...)
		case local == nil:
			l.unchecked.Add(c.Problem("score.model", "%s is not checked: %v", score.Model, err))
		}
	} else if local == nil && err == nil {
		l.unchecked.Add(c.Problem("score.model", "%s is not checked: there is no file for it that tidemill.yaml names and lint can read; `tidemill lint --online` looks it up in the registry", score.Model))
	}
	return ps.Err()
}

// registered checks against the version that the registry has for the contract's
// model. The error says why that could not be done.
func (l *modelLint) registered(ctx context.Context, c *contract.Table, table *models.GateTable) (problem.List, error) {
	if l.client == nil && l.failed == nil {
		log := l.log
		if log == nil {
			log = slog.New(slog.DiscardHandler)
		}
		if l.client, l.failed = Connect(ctx, l.project.Dir(), log); problem.Of(l.failed) != nil {
			l.failed = errors.New("the registry is asked once the project has no other problems")
		}
	}
	if l.failed != nil {
		return nil, l.failed
	}
	v, err := l.client.registry.Resolve(ctx, c.Score().Model)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("it is not registered; register it with `tidemill model register`")
	}
	if err != nil {
		return nil, err
	}
	if table.Scored, err = l.scoredSchema(ctx, c); err != nil {
		return nil, err
	}
	var ps problem.List
	for _, p := range table.Problems(v.Signature) {
		p.Message = fmt.Sprintf("%s (the registered %s)", p.Message, v.Ref())
		ps.Add(p)
	}
	return ps, nil
}

func (l *modelLint) scoredSchema(ctx context.Context, c *contract.Table) (*arrow.Schema, error) {
	t, err := l.client.tables.Open(ctx, c.Name()+activities.Suffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return t.Snapshot().Schema(), nil
}

func (l *modelLint) close() {
	if l.client != nil {
		l.client.Close()
	}
}
