package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"reflect"
	"sync"

	"github.com/tidemill/tidemill/activities"
	"github.com/tidemill/tidemill/connectors"
	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/quarantine"
)

// tables holds a project's open tables. Both hops share them, so that a commit
// of one is known to the other without asking the store.
type tables struct {
	store     objstore.Store
	contracts map[string]*contract.Table // in a process guarded by mu; see setContracts
	cache     *lakehouse.RecordCache
	metrics   *metrics
	live      func(table string) *live
	notify    func(table string)
	landed    func(connectors.Outcome) // may be nil
	fault     func(point string)
	log       *slog.Logger

	mu        sync.Mutex
	appenders map[string]keptAppender // by the table they append to
	open      map[string]*lakehouse.Table
	landings  map[string]*connectors.Landing
	fields    map[string]*fieldBook // of landings with on_new_field: add
}

// keptAppender is an appender with what it was made for.
type keptAppender struct {
	*lakehouse.Appender
	dedupe *lakehouse.Dedupe
}

// Open implements activities.Tables.
func (t *tables) Open(ctx context.Context, name string) (*lakehouse.Table, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l, ok := t.open[name]; ok {
		return l, nil
	}
	l, err := lakehouse.Open(ctx, t.store, name, t.options()...)
	if err != nil {
		return nil, err
	}
	t.open[name] = l
	return l, nil
}

// Create implements activities.Tables.
func (t *tables) Create(ctx context.Context, name string, o lakehouse.CreateOptions) (*lakehouse.Table, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.create(ctx, name, o)
}

func (t *tables) create(ctx context.Context, name string, o lakehouse.CreateOptions) (*lakehouse.Table, error) {
	if l, ok := t.open[name]; ok {
		// Opened as it was; a changed contract or model may bring columns.
		if err := l.Evolve(ctx, o.Schema, o.PartitionBy); err != nil {
			return nil, fmt.Errorf("table %s: %w", name, err)
		}
		return l, nil
	}
	l, err := lakehouse.Create(ctx, t.store, name, o, t.options()...)
	if err != nil {
		return nil, err
	}
	t.open[name] = l
	return l, nil
}

// Landing implements connectors.Tables: the landed table and its quarantine,
// created when they are not there yet.
func (t *tables) Landing(ctx context.Context, name string) (*connectors.Landing, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l, ok := t.landings[name]; ok {
		return l, nil
	}
	c, ok := t.contracts[name]
	if !ok {
		return nil, fmt.Errorf("no contract tables/%s.yaml", name)
	}
	landed, err := t.create(ctx, name, lakehouse.CreateOptions{Schema: connectors.LandedSchema(c), PartitionBy: c.PartitionBy()})
	if _, ok := errors.AsType[*lakehouse.SchemaError](err); ok {
		return nil, activities.SchemaProblems(c, name, err)
	}
	if err != nil {
		return nil, err
	}
	bad, err := t.create(ctx, name+quarantine.Suffix, lakehouse.CreateOptions{Schema: quarantine.Schema()})
	if err != nil {
		return nil, err
	}
	observe := t.metrics.landing(name)
	dedupe, dedupeBad := connectors.Dedupe(c)
	l := &connectors.Landing{
		Contract:   c,
		Landed:     t.appender(ctx, landed, name, dedupe, true),
		Quarantine: t.appender(ctx, bad, name, dedupeBad, false),
		Table:      landed,
		Pages:      objstore.WithPrefix(t.store, name+"/_tidemill/pages"),
		Observe: func(o connectors.Outcome) {
			observe(o)
			t.live(name).land(o)
			if t.landed != nil {
				t.landed(o)
			}
		},
		Fault: t.fault,
		Committed: func(done lakehouse.Appended) {
			if done.Record != nil && len(done.Files) == 1 {
				t.cache.Put(name+"/"+done.Files[0].Path, done.Record)
			}
			t.notify(name)
		},
	}
	if c.OnNewField() == contract.NewFieldAdd {
		t.keepFields(name, l)
	}
	t.landings[name] = l
	return l, nil
}

// keepFields has the fields that a contract does not know recorded. The caller holds t.mu.
func (t *tables) keepFields(name string, l *connectors.Landing) {
	book := newFieldBook(t.store, name, t.log, t.metrics.newField(name))
	if t.fields == nil {
		t.fields = map[string]*fieldBook{}
	}
	t.fields[name] = book
	l.NewFields = book.met
	observe := l.Observe
	l.Observe = func(o connectors.Outcome) {
		observe(o)
		book.landed(o.Extra)
	}
}

// appender returns the group committer of one table. It stays the same one when the
// contract changes, so that what is on its way under the old one is known to the new,
// unless it is to look for repeated rows in another way. Only the landed table's steps
// are fault points: tests kill the process there by name.
func (t *tables) appender(ctx context.Context, l *lakehouse.Table, name string, dedupe *lakehouse.Dedupe, faults bool) *lakehouse.Appender {
	at := name
	if !faults {
		at += quarantine.Suffix
	}
	if k, ok := t.appenders[at]; ok {
		if reflect.DeepEqual(k.dedupe, dedupe) {
			return k.Appender
		}
		// What it has taken is committed, and so known to the one that follows it.
		if err := k.Close(ctx); err != nil {
			t.log.Warn("close the appender of a table whose dedupe has changed", "table", at, "error", err)
		}
	}
	o := lakehouse.AppenderOptions{Dedupe: dedupe, Logger: t.log.With("table", name), Metrics: t.metrics.appender(name)}
	if faults {
		o.Fault = t.fault
	}
	if t.appenders == nil {
		t.appenders = map[string]keptAppender{}
	}
	k := keptAppender{lakehouse.NewAppender(l, o), dedupe}
	t.appenders[at] = k
	return k.Appender
}

// close ends the appenders; what they have taken is committed first.
func (t *tables) close(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs []error
	for _, a := range t.appenders {
		errs = append(errs, a.Close(ctx))
	}
	for _, b := range t.fields {
		b.close(ctx)
	}
	return errors.Join(errs...)
}

// names lists the project's tables that exist: per contract the landed, the
// scored and the quarantine table.
func (t *tables) names(ctx context.Context) ([]string, error) {
	var out []string
	for _, c := range sortedKeys(t.contracts) {
		for _, name := range []string{c, c + activities.Suffix, c + quarantine.Suffix} {
			_, err := t.Open(ctx, name)
			switch {
			case errors.Is(err, fs.ErrNotExist):
			case err != nil:
				return nil, fmt.Errorf("table %s: %w", name, err)
			default:
				out = append(out, name)
			}
		}
	}
	return out, nil
}
