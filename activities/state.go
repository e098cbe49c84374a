package activities

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"golang.org/x/sync/errgroup"

	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/quarantine"
	"github.com/tidemill/tidemill/models"
	"github.com/tidemill/tidemill/quality"
)

// aliasTTL is for how long an alias is taken to name the version it did when
// it was last looked up: how late a moved alias takes effect.
const aliasTTL = time.Second

// state is what a worker keeps of one table between turns. All of it can be
// lost: the logs say what is done.
type state struct {
	name     string
	contract *contract.Table

	leave atomic.Bool // somebody waits for mu to put another state in this one's place

	mu                         sync.Mutex // one turn of a table at a time in this process
	gone                       bool       // another state is in its place, or none; see lock
	landed, scored, quarantine *lakehouse.Table

	plan     *quality.Plan
	scorer   *models.Scorer  // nil when the contract has no score
	model    *models.Version // what scorer runs
	resolved time.Time
	schema   *arrow.Schema // of scored rows, for the contract, model and landed table at hand; nil when it must be made again
	landedAs *arrow.Schema // of the landed table when schema was made
	work     *arrow.Schema // workSchema, for the landed table at hand
	owner    int64         // what own returned for the pipeline; 0 when it must be asked again
}

// appID is the name under which both of the pipeline's tables remember how far it is.
func (s *state) appID() string { return AppID(s.name) }

// AppID is the transaction id of a table's pipeline in its scored and quarantine tables.
func AppID(table string) string { return "pipeline/" + table }

func (s *state) closeScorer() error {
	if s.scorer == nil {
		return nil
	}
	err := s.scorer.Close()
	s.scorer, s.model = nil, nil
	return err
}

// closeAfter closes the scorer of a state that only one activity uses. It leaves the
// activity's own error as it is: inside of another one Temporal would not see that there
// is no use in trying again.
func (s *state) closeAfter(err *error) {
	if closing := s.closeScorer(); *err == nil {
		*err = closing
	}
}

// open opens the landed and the quarantine table, and the scored one if there
// is one. A table that has landed nothing yet is created empty by its connector.
func (a *Activities) open(ctx context.Context, s *state) (err error) {
	if s.landed == nil {
		if s.landed, err = a.o.Tables.Open(ctx, s.name); err != nil {
			return err
		}
	}
	if s.quarantine == nil {
		s.quarantine, err = a.o.Tables.Create(ctx, s.name+quarantine.Suffix, lakehouse.CreateOptions{Schema: quarantine.Schema()})
		if err != nil {
			return fmt.Errorf("quarantine table: %w", err)
		}
	}
	if s.scored == nil {
		s.scored, err = a.o.Tables.Open(ctx, s.name+Suffix)
		if errors.Is(err, fs.ErrNotExist) {
			s.scored = nil
			return nil
		}
		if err != nil {
			return fmt.Errorf("scored table: %w", err)
		}
	}
	return nil
}

// refreshAll brings the three tables up to date.
func (s *state) refreshAll(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, t := range []*lakehouse.Table{s.landed, s.quarantine, s.scored} {
		if t != nil {
			g.Go(func() error {
				_, err := t.Refresh(ctx)
				return err
			})
		}
	}
	return g.Wait()
}

// cursor is the landed version up to which the scored table has everything, -1 for none.
func (s *state) cursor() int64 { return txn(s.scored, s.appID()) }

func txn(t *lakehouse.Table, app string) int64 {
	if t == nil {
		return -1
	}
	if v, ok := t.Snapshot().Txn(app); ok {
		return v
	}
	return -1
}

// prepare has checks, features and model ready, and the scored table created.
func (a *Activities) prepare(ctx context.Context, s *state) error {
	if s.plan == nil {
		plan, err := quality.Compile(ctx, a.o.Engine, s.contract, workSchema(s.contract, nil))
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return Permanent(ErrTypeContract, err)
		}
		s.plan = plan.WithClock(a.o.Now)
	}
	if err := a.resolve(ctx, s); err != nil {
		return err
	}
	if s.scored != nil && s.schema != nil && s.landedAs == s.landed.Snapshot().Schema() {
		return nil
	}
	return a.prepareScored(ctx, s)
}

// resolve follows the contract's model reference and opens another scorer when
// it names another version than before.
func (a *Activities) resolve(ctx context.Context, s *state) error {
	score := s.contract.Score()
	if score == nil || s.scorer != nil && a.o.Now().Sub(s.resolved) < aliasTTL {
		return nil
	}
	if a.o.AwaitModel != nil {
		if err := a.o.AwaitModel(ctx, score.Model); err != nil {
			return err
		}
	}
	v, err := a.o.Models.Resolve(ctx, score.Model)
	if errors.Is(err, fs.ErrNotExist) {
		return Permanent(ErrTypeModel, s.contract.Problem("score.model", "%v", err))
	}
	if err != nil {
		return err
	}
	if s.scorer != nil && s.model.Version == v.Version && s.model.Name == v.Name {
		s.resolved = a.o.Now()
		return nil
	}
	data, err := a.o.Models.Load(ctx, v)
	if err != nil {
		return err
	}
	var have *arrow.Schema
	if s.scored != nil {
		have = s.scored.Snapshot().Schema()
	}
	next, err := models.NewScorer(ctx, models.ScorerOptions{
		Runtime: a.o.Runtime, Version: v, Data: data, Score: score, Scored: have, Processes: parallelism(), Allocator: a.mem,
	})
	if err != nil {
		if _, ok := errors.AsType[*models.BindError](err); ok || errors.Is(err, models.ErrRejected) || errors.Is(err, models.ErrRuntime) {
			return Permanent(ErrTypeModel, s.contract.Problem("score", "%v", err))
		}
		return err
	}
	old := s.scorer
	s.scorer, s.model, s.schema, s.resolved = next, &v, nil, a.o.Now()
	if old != nil {
		a.o.Logger.Info("model changed", "table", s.name, "model", v.Ref().String())
		if err := old.Close(); err != nil {
			a.o.Logger.Warn("close model", "table", s.name, "error", err)
		}
	}
	return nil
}

// openParts are the recoveries that the scored table's log has as not done.
func (s *state) openParts() []Part {
	if s.scored == nil {
		return nil
	}
	var parts []Part
	for t := range s.scored.Snapshot().Txns() {
		if t.Version != partOpen {
			continue
		}
		if p, ok := parsePart(t.AppID); ok {
			parts = append(parts, p)
		}
	}
	return parts
}
