package strictyaml

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/tidemill/tidemill/internal/problem"
)

// ReadFile reads a file for [Read], but not one that is far too large to be
// meant; that is a problem. Other errors are the file system's.
func ReadFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().IsRegular() && info.Size() > MaxSize {
		return nil, problem.Problem{File: path, Message: tooLarge(info.Size())}
	}
	return os.ReadFile(path)
}

// Files returns the paths of the *.yaml files in a directory, sorted. Hidden
// files are passed over; *.yml files are problems, because to ignore one in
// silence would be a riddle to its writer.
func Files(dir string, ps *problem.List) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		switch filepath.Ext(path) {
		case ".yaml":
			files = append(files, path)
		case ".yml":
			ps.Addf(path, 0, "", "is not read; rename it to %s.yaml", strings.TrimSuffix(e.Name(), ".yml"))
		}
	}
	return files, nil
}
