package project

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/internal/problem"
)

// template holds the files of a new project as they are written.
//
//go:embed all:template
var template embed.FS

// Init writes a new project to a directory, which it makes if need be, and
// returns the files' paths below it, sorted. It never overwrites: when one of
// the files is there already, nothing is written and the error is a
// [problem.List] that names all such files. Beside the JSON Schemas that this package
// knows, schemas holds further ones, by the names that their files get in schemas/.
func Init(dir string, schemas map[string][]byte) ([]string, error) {
	files, err := newFiles()
	if err != nil {
		return nil, fmt.Errorf("new project: %w", err)
	}
	for name, data := range schemas {
		files[path.Join("schemas", name+".json")] = append(slices.Clone(data), '\n')
	}
	var names []string
	var ps problem.List
	for name := range files {
		names = append(names, name)
		target := filepath.Join(dir, filepath.FromSlash(name))
		switch _, err := os.Lstat(target); {
		case err == nil:
			ps.Addf(target, 0, "", "exists already and is not overwritten; choose another directory or move it away")
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
	}
	if err := ps.Err(); err != nil {
		return nil, err
	}
	slices.Sort(names)
	for _, name := range names {
		if err := writeNew(filepath.Join(dir, filepath.FromSlash(name)), files[name]); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// newFiles returns the files of a new project by their slash-separated paths.
func newFiles() (map[string][]byte, error) {
	files := map[string][]byte{}
	err := fs.WalkDir(template, "template", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel("template", filepath.FromSlash(name))
		if err != nil {
			return err
		}
		files[filepath.ToSlash(rel)], err = template.ReadFile(name)
		return err
	})
	if err != nil {
		return nil, err
	}
	for name, schema := range map[string]func() ([]byte, error){"table": contract.JSONSchema, "tidemill": JSONSchema} {
		data, err := schema()
		if err != nil {
			return nil, err
		}
		files[path.Join("schemas", name+".json")] = append(data, '\n')
	}
	return files, nil
}

// writeNew writes a file that must not exist, also when it came to be a moment ago.
func writeNew(name string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}
