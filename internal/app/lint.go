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
	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/internal/problem"
	"github.com/tidemill/tidemill/internal/project"
	"github.com/tidemill/tidemill/query"
)

// Lint checks everything a project's files say, without running any of it:
// tidemill.yaml, contracts with their SQL, connectors, and that they fit each
// other. The error lists every problem; see problem.Of.
func Lint(ctx context.Context, dir string) error {
	p, err := project.Load(dir)
	ps := problem.Of(err)
	if err != nil && ps == nil {
		return err
	}
	// A contract that cannot be read is there all the same for the connectors
	// that name it.
	var unread []string
	if err != nil {
		unread = tableFiles(dir)
	}
	_, _, err = lintProject(p, unread, nil, nil, slog.New(slog.DiscardHandler))
	if err != nil && problem.Of(err) == nil {
		return err
	}
	ps.Add(problem.Of(err)...)
	engine, err := query.Open(query.Options{})
	if err != nil {
		return err
	}
	defer engine.Close()
	for _, c := range p.Contracts() {
		if err := activities.CheckContract(ctx, engine, c); err != nil {
			ps.AddErr(c.File(), err)
		}
	}
	return ps.Err()
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
			continue
		}
		ps.Add(e.Lint(c, names)...)
		configs = append(configs, c)
	}
	ps.Add(connectors.SharedPaths(configs)...)
	return e, configs, ps.Err()
}

// lateTables hands the process's tables to connectors that are linted before
// the store is reached.
type lateTables struct{ p *process }

func (l lateTables) Landing(ctx context.Context, table string) (*connectors.Landing, error) {
	return l.p.tables.Landing(ctx, table)
}

// Init writes a new project directory and returns its files.
func Init(dir string) ([]string, error) { return project.Init(dir) }

// Schema returns the JSON Schema of "contract" or "project" files.
func Schema(of string) ([]byte, error) {
	switch of {
	case "contract":
		return contract.JSONSchema()
	case "project":
		return project.JSONSchema()
	}
	return nil, fmt.Errorf("no schema of %q", of)
}
