package app

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tidemill/tidemill/connectors/cases"
	"github.com/tidemill/tidemill/internal/problem"
	"github.com/tidemill/tidemill/internal/project"
)

// connectorCases are the unit tests of one connector.
type connectorCases struct {
	connector string // its file
	cases     []cases.Case
}

// readTests reads the tests that connectors hold themselves and those in the files
// beside them. Connectors without tests are left out. The error is a problem.List;
// with it come the tests that can be read.
func readTests(files []string) (out []connectorCases, err error) {
	var ps problem.List
	for _, file := range files {
		c := connectorCases{connector: file}
		src, err := os.ReadFile(file)
		if err != nil {
			continue // who reads the connector says so
		}
		own, err := cases.ParseSection(file, src)
		ps.AddErr(file, err)
		c.cases = append(c.cases, own...)
		beside := strings.TrimSuffix(file, ".yaml") + project.TestSuffix
		src, err = os.ReadFile(beside)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			ps.Addf(beside, 0, "", "cannot be read: %v", err)
		default:
			more, err := cases.Parse(beside, src)
			ps.AddErr(beside, err)
			c.cases = append(c.cases, more...)
		}
		if len(c.cases) > 0 {
			out = append(out, c)
		}
	}
	for _, dir := range dirsOf(files) {
		found, err := filepath.Glob(filepath.Join(dir, "*"+project.TestSuffix))
		if err != nil {
			continue // of a bad pattern: a directory with brackets in its name
		}
		for _, f := range found {
			of := strings.TrimSuffix(f, project.TestSuffix) + ".yaml"
			if _, err := os.Stat(of); err != nil {
				ps.Addf(f, 0, "", "tests %s, which does not exist; rename one of them", of)
			}
		}
	}
	return out, ps.Err()
}

func dirsOf(files []string) (dirs []string) {
	for _, f := range files {
		if d := filepath.Dir(f); !slices.Contains(dirs, d) {
			dirs = append(dirs, d)
		}
	}
	return dirs
}

// testedFiles finds the connectors that paths name: a project's directory, a directory
// of connectors, a connector, or a file of tests.
func testedFiles(paths []string) (files []string, err error) {
	add := func(f string) {
		if strings.HasSuffix(f, project.TestSuffix) {
			f = strings.TrimSuffix(f, project.TestSuffix) + ".yaml"
		}
		if !slices.Contains(files, f) {
			files = append(files, f)
		}
	}
	for _, p := range paths {
		info, err := os.Stat(p)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, problem.List{{File: p, Message: "does not exist; name a project's directory, a connector or a file of tests"}}
		}
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			add(p)
			continue
		}
		dir := p
		if _, err := os.Stat(filepath.Join(p, project.File)); err == nil {
			dir = filepath.Join(p, "connectors")
		}
		found, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
		if err != nil {
			return nil, fmt.Errorf("connectors of %s: %w", p, err)
		}
		for _, f := range found {
			add(f)
		}
	}
	return files, nil
}
