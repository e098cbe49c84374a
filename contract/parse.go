package contract

import (
	"github.com/tidemill/tidemill/internal/problem"
	"github.com/tidemill/tidemill/internal/strictyaml"
)

// Parse reads a contract. The error is a [problem.List] of all that is wrong;
// file is the name that it and the contract use for the source.
func Parse(file string, src []byte) (*Table, error) {
	var ps problem.List
	root := strictyaml.Read(file, src, &ps)
	if root == nil {
		return nil, ps.Err()
	}
	tableSpec.Check(root, &ps)
	t := build(root, &ps)
	if err := ps.Err(); err != nil {
		return nil, err
	}
	return t, nil
}

// Load reads the contract in a file. Beside a [problem.List] it returns what
// the file system says, such as [fs.ErrNotExist].
func Load(path string) (*Table, error) {
	src, err := strictyaml.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return Parse(path, src)
}

// LoadDir reads the contracts in the *.yaml files of a directory, sorted by
// file name. The error is a [problem.List] over all of the files, or what the
// file system says. With a problem.List come the contracts that are valid, for
// whoever has more to check in them.
func LoadDir(dir string) ([]*Table, error) {
	var ps problem.List
	files, err := strictyaml.Files(dir, &ps)
	if err != nil {
		return nil, err
	}
	var tables []*Table
	for _, file := range files {
		t, err := Load(file)
		if err != nil && problem.Of(err) == nil {
			return nil, err
		}
		ps.AddErr(file, err)
		if t != nil {
			tables = append(tables, t)
		}
	}
	ps.Add(sameName(tables)...)
	return tables, ps.Err()
}

func sameName(tables []*Table) problem.List {
	var ps problem.List
	first := map[string]*Table{}
	for _, t := range tables {
		if f := first[t.name]; f != nil {
			ps.Add(t.Problem("table", "%s is the table of %s:%d too; give one of them another name", t.name, f.file, f.position("table").line))
			continue
		}
		first[t.name] = t
	}
	return ps
}
