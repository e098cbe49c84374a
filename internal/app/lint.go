package app

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tidemill/tidemill/activities"
	"github.com/tidemill/tidemill/connectors"
	"github.com/tidemill/tidemill/connectors/cases"
	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/internal/problem"
	"github.com/tidemill/tidemill/internal/project"
	"github.com/tidemill/tidemill/query"
)

// Lint checks everything a project's files say, without running any of it:
// tidemill.yaml, contracts with their SQL, connectors with their tests, models that
// tidemill.yaml names, and that they fit each other. The error lists every problem;
// see problem.Of.
func Lint(ctx context.Context, dir string) error {
	_, err := LintWith(ctx, LintOptions{Dir: dir})
	return err
}

// LintOptions of [LintWith].
type LintOptions struct {
	Dir    string
	Online bool // look models up in the store's registry, and subjects in schema registries
	Logger *slog.Logger
}

// LintWith is [Lint]; it also returns what it could not check, as problems say it.
func LintWith(ctx context.Context, o LintOptions) (unchecked problem.List, err error) {
	p, err := project.Load(o.Dir)
	ps := problem.Of(err)
	if err != nil && ps == nil {
		return nil, err
	}
	// A contract that cannot be read is there all the same for the connectors
	// that name it.
	var unread []string
	if err != nil {
		unread = tableFiles(o.Dir)
	}
	conns, configs, err := lintProject(p, unread, nil, nil, slog.New(slog.DiscardHandler))
	if err != nil && problem.Of(err) == nil {
		return nil, err
	}
	ps.Add(problem.Of(err)...)
	_, err = readTests(p.Connectors())
	ps.AddErr("", err)
	engine, err := query.Open(query.Options{})
	if err != nil {
		return nil, err
	}
	defer engine.Close()
	m := modelLint{project: p, online: o.Online, log: o.Logger}
	defer m.close()
	if o.Online {
		for _, c := range configs {
			bad, not := conns.CheckRegistries(ctx, c)
			ps.Add(bad...)
			m.unchecked.Add(not...)
		}
		for _, c := range p.Contracts() {
			bad, not := conns.CheckSinkRegistries(ctx, c)
			ps.Add(bad...)
			m.unchecked.Add(not...)
		}
	}
	for _, c := range p.Contracts() {
		plan, err := activities.CompileContract(ctx, engine, c)
		ps.AddErr(c.File(), err)
		if c.Score() != nil {
			ps.AddErr(c.File(), m.check(ctx, c, plan))
		}
		if err := activities.CheckSinks(ctx, engine, c); err != nil {
			ps.AddErr(c.File(), err)
		}
	}
	return m.unchecked.Scrubbed(), ps.Scrubbed().Err()
}

// tableFiles are the names that contract files have for themselves.
func tableFiles(dir string) (names []string) {
	files, err := filepath.Glob(filepath.Join(dir, "tables", "*.yaml"))
	if err != nil {
		return nil // of a bad pattern: a directory with brackets in its name
	}
	for _, f := range files {
		names = append(names, strings.TrimSuffix(filepath.Base(f), ".yaml"))
	}
	return names
}

// lintProject reads and lints the connectors of a project. They may name its
// contracts and the further tables.
func lintProject(p *project.Project, further []string, proc *process, mux *connectors.Mux, log *slog.Logger) (*connectors.Engine, []*connectors.Config, error) {
	o := connectors.Options{Logger: quiet(log), Mux: mux}
	if proc != nil {
		o.Tables = lateTables{proc}
		o.OpenBucket = proc.openBucket
	}
	e, err := connectors.New(o)
	if err != nil {
		return nil, nil, err
	}
	var names []string
	for _, c := range p.Contracts() {
		names = append(names, c.Name())
	}
	names = append(names, further...)
	slices.Sort(names)
	names = slices.Compact(names)
	var ps problem.List
	var configs []*connectors.Config
	for _, path := range p.Connectors() {
		c, err := connectors.ReadConfig(path)
		if err != nil {
			ps.AddErr(path, err)
		}
		if c != nil {
			ps.Add(e.Lint(c, names)...)
		}
		if err == nil {
			configs = append(configs, c)
		}
	}
	ps.Add(connectors.SharedPaths(configs)...)
	for _, c := range p.Contracts() {
		ps.Add(e.LintSinks(c)...)
	}
	return e, configs, ps.Err()
}

// lateTables hands the process's tables to connectors that are linted before
// the store is reached.
type lateTables struct{ p *process }

func (l lateTables) Landing(ctx context.Context, table string) (*connectors.Landing, error) {
	return l.p.tables.Landing(ctx, table)
}

// Init writes a new project directory and returns its files.
func Init(dir string) ([]string, error) {
	schemas := map[string][]byte{}
	for _, of := range []string{"connector", "test"} {
		s, err := Schema(of)
		if err != nil {
			return nil, err
		}
		schemas[of] = s
	}
	return project.Init(dir, schemas)
}

// Schema returns the JSON Schema of files of one kind: "connector", "contract", "project" or "test".
func Schema(of string) ([]byte, error) {
	switch of {
	case "contract":
		return contract.JSONSchema()
	case "project":
		return project.JSONSchema()
	case "connector":
		return connectors.JSONSchema()
	case "test":
		return cases.JSONSchema()
	}
	return nil, fmt.Errorf("no schema of %q", of)
}
