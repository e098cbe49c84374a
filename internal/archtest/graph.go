package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// pkg is one package: a directory's Go files.
type pkg struct {
	path    string              // below the module, such as "lakehouse/delta"
	name    string              // of the package clause
	doc     string              // package comment, "" when there is none
	imports map[string][]string // what shipped files import -> the files; packages of the module as "./lakehouse/delta"
	onlyIn  bool                // true when all files are tests
}

// read returns the packages of the module whose go.mod is in root, sorted.
func read(root, module string) ([]pkg, error) {
	found := map[string]*pkg{}
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return enter(root, file, d.Name())
		}
		if filepath.Ext(file) != ".go" {
			return nil
		}
		rel, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		dir := path.Dir(rel)
		if found[dir] == nil {
			found[dir] = &pkg{path: dir, imports: map[string][]string{}, onlyIn: true}
		}
		return found[dir].add(file, rel, module)
	})
	pkgs := make([]pkg, 0, len(found))
	for _, p := range found {
		pkgs = append(pkgs, *p)
	}
	slices.SortFunc(pkgs, func(a, b pkg) int { return strings.Compare(a.path, b.path) })
	return pkgs, err
}

// enter says whether a directory may hold packages of the module.
func enter(root, dir, name string) error {
	if dir == root {
		return nil
	}
	if strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") ||
		slices.Contains([]string{"testdata", "node_modules", "vendor", "tools", "bin"}, name) {
		return fs.SkipDir
	}
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
		return fs.SkipDir // a module of its own
	}
	return nil
}

// add takes in one file's package clause and imports.
func (p *pkg) add(file, rel, module string) error {
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly|parser.ParseComments)
	if err != nil {
		return fmt.Errorf("%s: %w", rel, err)
	}
	test := strings.HasSuffix(rel, "_test.go")
	if doc := comment(f); doc != "" && (p.doc == "" || !test) {
		p.doc = doc
	}
	if test {
		if p.name == "" {
			p.name = f.Name.Name
		}
		return nil
	}
	p.name, p.onlyIn = f.Name.Name, false
	for _, spec := range f.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return fmt.Errorf("%s: %w", rel, err)
		}
		if name == module || strings.HasPrefix(name, module+"/") {
			name = "." + strings.TrimPrefix(name, module)
		}
		p.imports[name] = append(p.imports[name], rel)
	}
	return nil
}

func comment(f *ast.File) string {
	if f.Doc == nil {
		return ""
	}
	return strings.TrimSpace(f.Doc.Text())
}
