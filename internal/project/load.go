package project

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/internal/problem"
	"github.com/tidemill/tidemill/internal/secret"
	"github.com/tidemill/tidemill/internal/strictyaml"
)

// Load reads the project in a directory, with variables from the environment.
// The error is a [problem.List] of all that is wrong with tidemill.yaml, the
// contracts and the names of the connectors, or what the file system says. With
// a problem.List comes what there is of the project: enough to look for further
// problems in it, not to run it.
func Load(dir string) (*Project, error) { return LoadEnv(dir, os.LookupEnv) }

// LoadEnv is [Load] with variables from lookup.
func LoadEnv(dir string, lookup func(string) (string, bool)) (*Project, error) {
	var ps problem.List
	p, err := readProject(dir, lookup, &ps)
	if err != nil {
		return nil, err
	}
	if p.connectors, err = connectorFiles(filepath.Join(dir, "connectors"), &ps); err != nil {
		return nil, err
	}
	tables := filepath.Join(dir, "tables")
	p.contracts, err = contract.LoadDir(tables)
	switch {
	case errors.Is(err, fs.ErrNotExist): // a project without tables yet
	case err != nil && problem.Of(err) == nil:
		return nil, err
	default:
		ps.AddErr(tables, err)
	}
	return p, ps.Err()
}

// readProject reads tidemill.yaml. What it returns is whole only when nothing
// was added to ps.
func readProject(dir string, lookup func(string) (string, bool), ps *problem.List) (*Project, error) {
	file := filepath.Join(dir, File)
	src, err := strictyaml.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		ps.Addf(file, 0, "", "does not exist; run tidemill in a project's directory, or make one with: tidemill init DIR")
		return &Project{dir: dir}, nil
	case problem.Of(err) != nil:
		ps.AddErr(file, err)
		return &Project{dir: dir}, nil //nolint:nilerr // it is in the list
	case err != nil:
		return nil, err
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("name of the project's directory: %w", err)
	}
	return parse(dir, filepath.Base(abs), src, lookup, ps), nil
}

// parse reads what is in tidemill.yaml, in a directory of the given name.
func parse(dir, dirName string, src []byte, lookup func(string) (string, bool), ps *problem.List) *Project {
	p := &Project{dir: dir}
	root := strictyaml.Read(filepath.Join(dir, File), src, ps)
	if root == nil {
		return p
	}
	if root.Kind == strictyaml.Null {
		root.Kind = strictyaml.Mapping // every field has a default
	}
	strictyaml.Interpolate(root, lookup, ps)
	projectSpec.Check(root, ps)
	p.setName(root, dirName, ps)
	p.setStore(root.Get("store"), ps)
	p.setTemporal(root.Get("temporal"), ps)
	p.setModels(root.Get("models"), ps)
	p.setDev(root.Get("dev"), ps)
	p.http = HTTP{Address: root.Get("http").Get("address").TextOr(defaultHTTP)}
	p.setMaintenance(root.Get("maintenance"), ps)
	cache := root.Get("cache")
	p.cache = Cache{Memory: cache.Get("memory").BytesOr(defaultMemory), Disk: cache.Get("disk").BytesOr(defaultDisk)}
	return p
}

func (p *Project) setName(root *strictyaml.Node, dirName string, ps *problem.List) {
	p.name = root.Get("project").Text()
	if root.Has("project") {
		return
	}
	p.name = nameOf(dirName)
	if p.name == "" {
		n := root.Problem("the directory's name %s makes no project name; add project: and a name of %s", strictyaml.Quote(dirName), nameLooks)
		n.Field = "project"
		ps.Add(n)
	}
}

var notName = regexp.MustCompile(`[^a-z0-9]+`)

// nameOf makes a project's name of its directory's, "" when it cannot.
func nameOf(dirName string) string {
	name := strings.Trim(notName.ReplaceAllString(strings.ToLower(dirName), "-"), "-")
	if !namePattern.MatchString(name) {
		return ""
	}
	return name
}

func (p *Project) setStore(n *strictyaml.Node, ps *problem.List) {
	if n == nil {
		return
	}
	for _, pair := range [][2]string{{"access_key", "secret_key"}, {"secret_key", "access_key"}} {
		if n.Has(pair[0]) && !n.Has(pair[1]) {
			at := n.Problem("is missing; add it, or remove %s to use the machine's own credentials", pair[0])
			at.Field = strictyaml.Join(n.Path, pair[1])
			ps.Add(at)
		}
	}
	p.store = &Store{
		Endpoint:  strings.TrimRight(n.Get("endpoint").Text(), "/"),
		Bucket:    n.Get("bucket").Text(),
		Prefix:    n.Get("prefix").TextOr(p.name),
		Region:    n.Get("region").TextOr(defaultRegion),
		AccessKey: secret.New(n.Get("access_key").Text()),
		SecretKey: secret.New(n.Get("secret_key").Text()),
	}
}

func (p *Project) setTemporal(n *strictyaml.Node, ps *problem.List) {
	p.temporal = Temporal{
		Address:   n.Get("address").TextOr(defaultTemporal),
		Namespace: n.Get("namespace").TextOr(defaultNamespace),
		TaskQueue: n.Get("task_queue").TextOr("tidemill-" + p.name),
		TLS:       n.Get("tls").Bool(),
		APIKey:    secret.New(n.Get("api_key").Text()),
	}
	if key := n.Get("api_key"); key != nil && !p.temporal.TLS {
		ps.Add(key.Problem("would cross the network in the clear; add tls: true"))
	}
}

func (p *Project) setModels(n *strictyaml.Node, ps *problem.List) {
	first := map[string]int{}
	for _, item := range n.Each() {
		name, file := item.Get("name"), item.Get("file")
		m := Model{Name: name.Text(), Alias: item.Get("alias").TextOr(defaultAlias)}
		if name != nil {
			if line, ok := first[m.Name]; ok {
				ps.Add(name.Problem("is the model on line %d too; one file is registered for a name, later versions come with the RegisterModel workflow", line))
			} else {
				first[m.Name] = name.Line
			}
		}
		if file != nil {
			m.Line = file.Line
			m.File = filepath.Join(p.dir, filepath.FromSlash(file.Value))
			switch info, err := os.Stat(m.File); {
			case errors.Is(err, fs.ErrNotExist):
				ps.Add(file.Problem("the file %s does not exist below %s; put the model there or remove the entry", file.Quoted(), p.dir))
			case err != nil:
				ps.Add(file.Problem("the file %s cannot be read: %v", file.Quoted(), pathless(err)))
			case !info.Mode().IsRegular():
				ps.Add(file.Problem("%s is not a file; name an .onnx file", file.Quoted()))
			}
		}
		p.models = append(p.models, m)
	}
}

// pathless drops the path from an error that is told beside the field that has it.
func pathless(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}

func (p *Project) setDev(n *strictyaml.Node, ps *problem.List) {
	p.dev = Dev{
		TemporalPort: n.Get("temporal_port").IntOr(defaultTemporalPort),
		UIPort:       n.Get("ui_port").IntOr(defaultUIPort),
		S3Port:       n.Get("s3_port").IntOr(defaultS3Port),
	}
	if n != nil && (p.dev.TemporalPort == p.dev.UIPort || p.dev.UIPort == p.dev.S3Port || p.dev.S3Port == p.dev.TemporalPort) {
		ps.Add(n.Problem("two servers cannot share a port: temporal_port %d, ui_port %d, s3_port %d; choose others", p.dev.TemporalPort, p.dev.UIPort, p.dev.S3Port))
	}
}

// leastMaintainMemory is what joining files takes at the least.
const leastMaintainMemory = 32 << 20

func (p *Project) setMaintenance(n *strictyaml.Node, ps *problem.List) {
	p.maintain = Maintenance{
		Every:        n.Get("every").DurationOr(defaultMaintainEvery),
		OrphansEvery: n.Get("orphans_every").DurationOr(defaultOrphansEvery),
		Memory:       n.Get("memory").BytesOr(defaultMaintainMemory),
	}
	if m := n.Get("memory"); m != nil && p.maintain.Memory < leastMaintainMemory {
		ps.Add(m.Problem("is %s; joining files takes at least 32MiB", m.Quoted()))
	}
}

// A connector's name begins the names of its source partitions in the tables'
// logs, where / and @ separate parts and a leading ~ or # means something.
var connectorName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*$`)

// TestSuffix is what the names of files with a connector's unit tests end in.
const TestSuffix = "_test.yaml"

func connectorFiles(dir string, ps *problem.List) ([]string, error) {
	files, err := strictyaml.Files(dir, ps)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // a project that only serves tables
	}
	// Unit tests lie beside the connectors that they are for.
	files = slices.DeleteFunc(files, func(f string) bool { return strings.HasSuffix(f, TestSuffix) })
	for _, f := range files {
		if name := strings.TrimSuffix(filepath.Base(f), ".yaml"); !connectorName.MatchString(name) {
			ps.Addf(f, 0, "", "the connector's name %s must be letters, digits, _ and -, beginning with a letter or digit; rename the file", strictyaml.Quote(name))
		}
	}
	return files, err
}
