package connectors

import (
	"go.yaml.in/yaml/v3"

	"github.com/tidemill/tidemill/connectors/files"
	"github.com/tidemill/tidemill/internal/problem"
)

// filesProblems finds what Benthos' linter cannot see in inputs of files.
func filesProblems(c *Config) (ps problem.List) {
	eachInput(child(c.root, "input"), func(kind string, conf *yaml.Node) {
		if kind != filesInput {
			return
		}
		add := func(at *yaml.Node, field, message string, args ...any) {
			ps.Addf(c.File, lineOf(at, conf), "input.files."+field, message, args...)
		}
		paths := child(conf, "paths")
		if paths == nil || len(paths.Content) == 0 {
			add(paths, "paths", `missing; name files, directories, globs or s3://bucket/prefix/, for example ["data/*.ndjson"]`)
		} else {
			for _, p := range paths.Content {
				if _, rest, ok := files.SplitS3(p.Value); ok && (rest == "" || len(rest) > 0 && rest[0] == '/') {
					add(p, "paths", "%s: want s3://bucket/prefix/ or s3://bucket/name; a whole bucket is s3://bucket/**", p.Value)
				} else if _, err := files.Local(p.Value); err != nil {
					add(p, "paths", "%v; correct the glob", err)
				}
			}
		}
		csv, s3 := child(conf, "csv"), child(conf, "s3")
		if h := child(csv, "header"); h != nil && h.Value == "false" && child(csv, "columns") == nil {
			add(h, "csv.columns", "missing; without a header the columns need names")
		}
		access, key := child(s3, "access_key"), child(s3, "secret_key")
		if (access == nil) != (key == nil) {
			add(s3, "s3", "give both access_key and secret_key, or neither to use those of the project's store or of the environment")
		}
	})
	return ps
}

// eachInput calls fn for an input and those that it holds.
func eachInput(in *yaml.Node, fn func(kind string, conf *yaml.Node)) {
	kind := componentName(in)
	conf := child(in, kind)
	if nested[kind] {
		if list := child(conf, "inputs"); list != nil {
			for _, sub := range list.Content {
				eachInput(sub, fn)
			}
		}
		return
	}
	fn(kind, conf)
}
