package archtest

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// area is a part of the tree and what of the module it may import beside
// itself and the leaves: the packages below internal/ that have no area of
// their own (batch, problem, secret and the like), which import only leaves.
type area struct {
	path string
	may  []string
	why  string
}

// areas are the layers of docs/ARCHITECTURE.md, top to bottom.
var areas = []area{
	{"test", []string{"."}, ""},
	{"cmd", []string{"internal/app"}, "cmd parses flags and maps errors to exit codes; all wiring is in internal/app, where it can be tested"},
	{"internal/app", []string{"."}, ""},
	{"console", []string{"contract", "lakehouse", "models", "query", "internal/project"}, "the console shows what is there; it is handed what it calls, so that it runs without Temporal or Benthos"},
	{"workflows", []string{"activities", "contract"}, "orchestration is deterministic and is replayed from history: it does no I/O, activities do"},
	{"activities", []string{"contract", "lakehouse", "models", "quality", "query"}, "activities put the lower layers together, and know neither who schedules them nor where rows come from"},
	{"connectors", []string{"contract", "lakehouse", "connectors", "sinks"}, "a connector lands rows and tells of commits; it knows neither activities nor workflows, so that it runs and is tested without Temporal; of sinks it is the output"},
	{"connectors/webhook", []string{"connectors/csvjson"}, sourceWhy},
	{"connectors/httppoll", []string{"connectors/paging"}, sourceWhy},
	{"connectors/sqlpoll", []string{"connectors/paging"}, sourceWhy},
	{"connectors/paging", nil, sourceWhy},
	{"connectors/csvjson", nil, sourceWhy},
	{"sinks", []string{"contract", "lakehouse"}, "a sink follows a scored table; the system that rows go to and the SQL of its condition are handed in, so that it is tested without Benthos and DuckDB"},
	{"quality", []string{"contract", "query"}, "checks are SQL over records; where records come from and go to is not theirs"},
	{"models", []string{"contract"}, "models and lakehouse do not know each other: a registry needs only the few calls of its own Store interface"},
	{"query", nil, "the engine runs SQL over records and files that it is handed; whose they are is not its business"},
	{"lakehouse", nil, "tables are made of Arrow schemas and objects; what a contract, a model or a check is, is for the layers above"},
	{"internal/project", []string{"contract"}, "reading configuration must not pull in what is configured"},
	{"deploy", []string{"lakehouse/objstore"}, "the embedded servers stand in for real ones, which know nothing of Tidemill either"},
	{"contract", nil, "contracts are the centre that every layer may use, so they can use none"},
	{"examples", nil, "examples are data"},
}

const sourceWhy = "how a source is read has nothing to do with where its rows go; these packages are tested without tables and without Benthos"

const leafWhy = "packages below internal/ without an area of their own are vocabulary that every layer uses, so they can use no layer"

// driver is an implementation of an interface that others must not come to depend on.
var drivers = []string{"lakehouse/objstore", "models/onnx", "deploy/embedded"}

const driverWhy = "drivers are chosen in one place, internal/app; everything else works with any of them through the interface, tests with the fake"

// library is a large dependency and who may import it.
type library struct {
	prefixes []string
	may      []string
	why      string
}

var libraries = []library{
	{[]string{"go.temporal.io/sdk", "go.temporal.io/api"}, []string{"workflows", "activities", "internal/app", "deploy/embedded"},
		"only orchestration may depend on Temporal; the layers below must run without it"},
	{[]string{"go.temporal.io/server", "github.com/temporalio"}, []string{"deploy/embedded"},
		"the server is embedded in one place, so that a build without it stays possible"},
	{[]string{"github.com/redpanda-data"}, []string{"connectors", "internal/app"},
		"Benthos is how rows come in; nothing behind the landed table may depend on it"},
	{[]string{"github.com/jackc/pglogrepl"}, []string{"connectors/pgchanges"},
		"the replication protocol is spoken in one place, without Benthos and without tables"},
	{[]string{"github.com/yalue/onnxruntime_go"}, []string{"models/onnx"},
		"ONNX Runtime can take the process down; everything that calls it is in one place, to be run in a child process"},
	{[]string{"github.com/duckdb"}, []string{"query"}, "DuckDB is one engine behind package query, in one place"},
	{[]string{"C", "github.com/apache/arrow/go/v17/arrow/cdata", "github.com/apache/arrow-go/v18/arrow/cdata"}, []string{"models/onnx", "query"},
		"memory that Go does not manage is kept to two packages, where its rules are reviewed"},
	{[]string{"github.com/minio/minio-go"}, []string{"lakehouse/objstore/s3"},
		"conditional writes need the client's retries tamed, which is done in one place"},
	{[]string{"github.com/versity/versitygw"}, []string{"deploy/embedded"}, "the embedded store stands in for any S3 store; nothing may depend on it beyond the S3 API"},
	{[]string{"github.com/apache/arrow-go/v18/parquet"}, []string{}, "it does not link into one binary with arrow v17's parquet package: duplicate assembly symbols"},
}

// judge returns what is wrong with the packages, sorted, each with the rule's reason.
func judge(pkgs []pkg) []string {
	var out []string
	for _, p := range pkgs {
		for _, imported := range slices.Sorted(maps.Keys(p.imports)) {
			for _, complaint := range p.judge(imported) {
				out = append(out, fmt.Sprintf("%s: %s", p.imports[imported][0], complaint))
			}
		}
		if complaint := p.judgeComment(); complaint != "" {
			out = append(out, p.path+": "+complaint)
		}
	}
	slices.Sort(out)
	return out
}

func (p pkg) judge(imported string) []string {
	var out []string
	add := func(what, why string) { out = append(out, what+": "+why) }
	if target, ok := strings.CutPrefix(imported, "./"); ok {
		if why := p.mayNotImport(target); why != "" {
			add("imports "+target, why)
		}
		if within(target, drivers...) && target != "lakehouse/objstore" && !supportsTests(target) &&
			!within(p.path, "internal/app", "test") && !supportsTests(p.path) && driverOf(p.path) != driverOf(target) {
			add("imports the driver "+target, driverWhy)
		}
		if supportsTests(target) && !supportsTests(p.path) {
			add("imports "+target+" outside of a test", "packages that support tests do not ship")
		}
		return out
	}
	for _, l := range libraries {
		if within(imported, l.prefixes...) && !within(p.path, append(l.may, "test")...) && !supportsTests(p.path) {
			only := "nothing may import it"
			if len(l.may) > 0 {
				only = "only " + strings.Join(l.may, ", ") + " may"
			}
			add("imports "+imported+"; "+only, l.why)
		}
	}
	if within(imported, "testing", "github.com/stretchr/testify", "net/http/httptest") && !supportsTests(p.path) {
		add("imports "+imported, "what ships must not carry test code or its flags")
	}
	return out
}

// mayNotImport returns why a package may not import another of the module, or "".
func (p pkg) mayNotImport(target string) string {
	from, to := areaOf(p.path), areaOf(target)
	switch {
	case supportsTests(p.path):
		return ""
	case from == nil && !within(p.path, "internal"):
		return "it is in no area; say in internal/archtest what it may import, and why"
	case to == nil && within(target, "internal"): // a leaf
		return ""
	case from == nil:
		return leafWhy
	case to == from, slices.Contains(from.may, "."), within(target, from.may...):
		return ""
	}
	return from.why
}

func (p pkg) judgeComment() string {
	const why = "a package says what lives in it and what does not"
	switch {
	case p.doc == "" && p.onlyIn:
		return "its tests have no package comment: " + why
	case p.doc == "":
		return "has no package comment: " + why
	case p.name != "main" && !p.onlyIn && !strings.HasPrefix(p.doc, "Package "+p.name+" "):
		return fmt.Sprintf("its comment begins with %q, not with %q: tools show the first sentence by itself", firstWords(p.doc), "Package "+p.name)
	}
	return ""
}

func firstWords(text string) string {
	return strings.Join(strings.Fields(text)[:min(3, len(strings.Fields(text)))], " ")
}

// areaOf returns the innermost area that a package is in, nil for leaves and
// for what has no area.
func areaOf(p string) *area {
	var best *area
	for i := range areas {
		if within(p, areas[i].path) && (best == nil || len(areas[i].path) > len(best.path)) {
			best = &areas[i]
		}
	}
	return best
}

// driverOf returns the driver that a package is part of, such as
// "lakehouse/objstore/s3", or "".
func driverOf(p string) string {
	for _, d := range drivers {
		if rest, ok := strings.CutPrefix(p, d+"/"); ok && d == "lakehouse/objstore" {
			first, _, _ := strings.Cut(rest, "/")
			return d + "/" + first
		}
		if within(p, d) && d != "lakehouse/objstore" {
			return d
		}
	}
	return ""
}

// supportsTests reports whether a package exists for tests only, which its name
// tells: storetest, testserver.
func supportsTests(p string) bool {
	base := path.Base(p)
	return within(p, "test") || strings.HasPrefix(base, "test") || strings.HasSuffix(base, "test")
}

// within reports whether a path is one of the parents or below one.
func within(p string, parents ...string) bool {
	return slices.ContainsFunc(parents, func(parent string) bool { return p == parent || strings.HasPrefix(p, parent+"/") })
}
