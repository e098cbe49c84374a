package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/tidemill/tidemill/activities"
	"github.com/tidemill/tidemill/internal/problem"
	"github.com/tidemill/tidemill/internal/project"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/models"
	"github.com/tidemill/tidemill/models/onnx"
)

// What an edit is refused for has to be known before any of it is done, and a model that
// was registered stays. So the models that an edit brings are registered in memory first,
// through the same gate and against the contracts of the edit, and these are checked
// with what is in memory and what there is.

// unregistered are those of the models whose alias does not exist yet.
func (p *process) unregistered(ctx context.Context, ms []project.Model) (out []project.Model, err error) {
	for _, m := range ms {
		if m.Alias != "" {
			_, err := p.registry.Resolve(ctx, m.Name+"@"+m.Alias)
			if err == nil {
				continue
			}
			if !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
		}
		out = append(out, m)
	}
	return out, nil
}

// rehearsed returns activities that run a generation's contracts, and for which its
// models are registered. Nothing of theirs is stored.
func (p *process) rehearsed(ctx context.Context, next *generation) (*activities.Activities, error) {
	store := &overlay{base: modelStore{p.store}, put: map[string][]byte{}}
	a := activities.New(activities.Options{
		Contracts: next.project.Contracts(), Tables: p.tables, Models: models.NewRegistry(store, modelPrefix, models.RegistryOptions{}),
		Runtime: onnx.Runtime{Logger: p.log}, Engine: p.engine, Files: &triedFiles{projectFiles: projectFiles{dir: p.project.Dir(), store: p.store}, kept: map[string][]byte{}},
		Logger: p.log,
	})
	for _, m := range next.models {
		err := p.tryModel(ctx, a, m)
		switch {
		case err == nil:
		case errors.Is(err, ErrUnavailable) || objstore.Retryable(err) || ctx.Err() != nil:
			return nil, errors.Join(err, a.Close())
		default:
			return nil, errors.Join(next.modelProblem(m, err), a.Close())
		}
	}
	return a, nil
}

// modelProblem is why a model of tidemill.yaml cannot be registered.
func (g *generation) modelProblem(m project.Model, err error) problem.List {
	return problem.List{{File: projectFile(g.project), Line: m.Line, Field: "models", Message: fmt.Sprintf("register model %s: %v", m.Name, plain(err))}}
}

// tryModel is the workflow RegisterModel, with activities that store nothing.
func (p *process) tryModel(ctx context.Context, a *activities.Activities, m project.Model) error {
	file, err := p.relative(m.File)
	if err != nil {
		return err
	}
	c := activities.Candidate{Name: m.Name, File: file}
	seen, err := a.InspectModel(ctx, c)
	if err != nil {
		return err
	}
	checks, err := a.GateModel(ctx, activities.GateInput{Candidate: c, Inspected: seen})
	if err != nil {
		return err
	}
	v, err := a.PublishModel(ctx, activities.PublishInput{Candidate: c, Inspected: seen, Checks: checks})
	if err != nil || m.Alias == "" {
		return err
	}
	return a.MoveAlias(ctx, activities.AliasInput{Name: m.Name, Alias: m.Alias, Version: v.Version})
}

// awaitModel waits while a model is being registered that an edit has brought.
func (p *process) awaitModel(ctx context.Context, ref string) error {
	g := p.gen.Load()
	if !slices.ContainsFunc(g.models, func(m project.Model) bool { return m.Name+"@"+m.Alias == ref }) {
		return nil
	}
	select {
	case <-g.registered:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// registerNew registers the models of a generation that runs; see awaitModel.
func (p *process) registerNew(ctx context.Context, g *generation) error {
	defer close(g.registered)
	if p.acts == nil || len(g.models) == 0 {
		return nil
	}
	if err := p.registerModels(ctx, p.project.Temporal().TaskQueue, g.models); err != nil {
		if errors.Is(err, ErrUnavailable) || objstore.Retryable(err) || ctx.Err() != nil {
			return err
		}
		return problem.List{{File: projectFile(g.project), Field: "models", Message: err.Error()}}
	}
	return nil
}

// overlay is a store whose writes stay in memory.
type overlay struct {
	base models.Store

	mu  sync.Mutex
	put map[string][]byte // guarded by mu
}

// Get implements models.Store.
func (o *overlay) Get(ctx context.Context, key string) ([]byte, error) {
	o.mu.Lock()
	data, ok := o.put[key]
	o.mu.Unlock()
	if ok {
		return data, nil
	}
	return o.base.Get(ctx, key)
}

// PutIfAbsent implements models.Store.
func (o *overlay) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	switch _, err := o.Get(ctx, key); {
	case err == nil:
		return fs.ErrExist
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.put[key] = slices.Clone(data)
	return nil
}

// Keys implements models.Store.
func (o *overlay) Keys(ctx context.Context, prefix, startAfter string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		var keys []string
		o.mu.Lock()
		for key := range o.put {
			if strings.HasPrefix(key, prefix) && key > startAfter {
				keys = append(keys, key)
			}
		}
		o.mu.Unlock()
		for key, err := range o.base.Keys(ctx, prefix, startAfter) {
			if err != nil {
				yield("", err)
				return
			}
			keys = append(keys, key)
		}
		slices.Sort(keys)
		for _, key := range keys {
			if !yield(key, nil) {
				return
			}
		}
	}
}

// triedFiles are the project's; uploads stay in memory.
type triedFiles struct {
	projectFiles
	kept map[string][]byte
}

// Read implements activities.Files.
func (f *triedFiles) Read(ctx context.Context, name string) ([]byte, error) {
	if data, ok := f.kept[name]; ok {
		return data, nil
	}
	return f.projectFiles.Read(ctx, name)
}

// Upload implements activities.Files.
func (f *triedFiles) Upload(_ context.Context, data []byte, sha256 string) (string, error) {
	name := "upload/" + sha256 + ".onnx"
	f.kept[name] = data
	return name, nil
}
