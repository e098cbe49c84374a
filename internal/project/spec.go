package project

import (
	"errors"
	"net"
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/tidemill/tidemill/internal/strictyaml"
)

// What holds when tidemill.yaml says nothing.
const (
	defaultRegion       = "us-east-1"
	defaultTemporal     = "localhost:7233"
	defaultNamespace    = "default"
	defaultHTTP         = "127.0.0.1:4195"
	defaultAlias        = "champion"
	defaultTemporalPort = 7233
	defaultUIPort       = 8233
	defaultS3Port       = 9000
	defaultMemory       = 64 << 20
	defaultDisk         = 2 << 30

	defaultMaintainEvery  = 2 * time.Minute
	defaultOrphansEvery   = 24 * time.Hour
	defaultMaintainMemory = 256 << 20
)

const (
	nameLooks  = "lower-case letters, digits and -, beginning with a letter, at most 63"
	modelLooks = "lower-case letters, digits, _ and -, beginning with a letter, at most 128"
)

var (
	namePattern  = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)
	modelPattern = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,127}$`)
)

func port(doc string, def int) strictyaml.Spec {
	return strictyaml.Spec{Kind: strictyaml.Integer, Min: 1, Max: 65535, Default: strconv.Itoa(def), Doc: doc}
}

// projectSpec is the format of tidemill.yaml: what [Load] reads, and what
// [JSONSchema] tells editors.
var projectSpec = strictyaml.Spec{
	Kind: strictyaml.Object,
	Doc:  "A Tidemill project: where its store, Temporal and models are; values may hold ${NAME}, ${NAME:default}, ${file:PATH} and ${cmd:COMMAND}",
	Fields: []strictyaml.Field{
		{Name: "project", Spec: strictyaml.Spec{
			Kind: strictyaml.Text, Pattern: namePattern, Looks: nameLooks,
			Doc: "The project's name; by default the name of its directory"}},
		{Name: "store", Spec: storeSpec},
		{Name: "temporal", Spec: temporalSpec},
		{Name: "models", Spec: strictyaml.Spec{
			Kind: strictyaml.List, MinItems: 1, Of: &modelSpec,
			Doc: "Model files that are registered when the project starts"}},
		{Name: "http", Spec: strictyaml.Spec{
			Kind: strictyaml.Object, Doc: "Tidemill's own HTTP server",
			Fields: []strictyaml.Field{
				{Name: "address", Spec: strictyaml.Spec{
					Kind: strictyaml.Text, Valid: validAddress, Default: defaultHTTP,
					Doc: "Where metrics and health are served, as host:port"}},
			}}},
		{Name: "dev", Spec: strictyaml.Spec{
			Kind: strictyaml.Object, Doc: "Ports of what tidemill dev runs itself, on 127.0.0.1",
			Fields: []strictyaml.Field{
				{Name: "temporal_port", Spec: port("Port of the Temporal server", defaultTemporalPort)},
				{Name: "ui_port", Spec: port("Port of the Temporal UI", defaultUIPort)},
				{Name: "s3_port", Spec: port("Port of the S3 store", defaultS3Port)},
			}}},
		{Name: "cache", Spec: strictyaml.Spec{
			Kind: strictyaml.Object, Doc: "Bounds of the caches of one process",
			Fields: []strictyaml.Field{
				{Name: "memory", Spec: strictyaml.Spec{Kind: strictyaml.Bytes, Default: "64MiB", Doc: "Most memory for batches that were just landed"}},
				{Name: "disk", Spec: strictyaml.Spec{Kind: strictyaml.Bytes, Default: "2GiB", Doc: "Most disk for table files that queries read"}},
			}}},
		{Name: "maintenance", Spec: maintenanceSpec},
	},
}

var storeSpec = strictyaml.Spec{
	Kind: strictyaml.Object,
	Doc:  "The S3 store that holds the tables and the models; tidemill run needs one, tidemill dev runs its own when there is none",
	Fields: []strictyaml.Field{
		{Name: "endpoint", Required: true, Spec: strictyaml.Spec{
			Kind: strictyaml.Text, Secret: true, Valid: validEndpoint, Examples: []string{"http://localhost:9000", "https://s3.eu-central-1.amazonaws.com"},
			Doc: "The store's URL, http:// or https://, without bucket"}},
		{Name: "bucket", Required: true, Spec: strictyaml.Spec{
			Kind: strictyaml.Text, Pattern: regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`), Looks: "3 to 63 lower-case letters, digits, dots and -",
			Doc: "The bucket's name"}},
		{Name: "prefix", Spec: strictyaml.Spec{
			Kind: strictyaml.Text, Valid: validPrefix,
			Doc: "What all keys in the bucket begin with; by default the project's name"}},
		{Name: "region", Spec: strictyaml.Spec{Kind: strictyaml.Text, Default: defaultRegion, Doc: "The store's region"}},
		{Name: "access_key", Spec: strictyaml.Spec{Kind: strictyaml.Text, Secret: true, Examples: []string{"${TIDEMILL_S3_ACCESS_KEY}"},
			Doc: "The access key's id; keep it in an environment variable"}},
		{Name: "secret_key", Spec: strictyaml.Spec{Kind: strictyaml.Text, Secret: true, Examples: []string{"${TIDEMILL_S3_SECRET_KEY}"},
			Doc: "The access key's secret; keep it in an environment variable"}},
	},
}

var temporalSpec = strictyaml.Spec{
	Kind: strictyaml.Object,
	Doc:  "The Temporal cluster that tidemill run uses",
	Fields: []strictyaml.Field{
		{Name: "address", Spec: strictyaml.Spec{Kind: strictyaml.Text, Valid: validAddress, Default: defaultTemporal, Doc: "The frontend's address, as host:port"}},
		{Name: "namespace", Spec: strictyaml.Spec{Kind: strictyaml.Text, Default: defaultNamespace, Doc: "The namespace, which must exist"}},
		{Name: "task_queue", Spec: strictyaml.Spec{Kind: strictyaml.Text, Doc: "The queue that the project's workers share; by default tidemill- and the project's name"}},
		{Name: "tls", Spec: strictyaml.Spec{Kind: strictyaml.Boolean, Default: "false", Doc: "Whether to connect with TLS"}},
		{Name: "api_key", Spec: strictyaml.Spec{Kind: strictyaml.Text, Secret: true, Examples: []string{"${TEMPORAL_API_KEY}"},
			Doc: "An API key, as Temporal Cloud gives out; it needs tls: true. Keep it in an environment variable"}},
	},
}

var maintenanceSpec = strictyaml.Spec{
	Kind: strictyaml.Object,
	Doc:  "When the tables are kept in order: old rows expired, small files joined, logs and unused files cleaned up",
	Fields: []strictyaml.Field{
		{Name: "every", Spec: strictyaml.Spec{Kind: strictyaml.Duration, OrOff: true, Least: time.Second, Default: "2m", Examples: []string{"2m", "1h"},
			Doc: "How often each contract's tables are looked after; off for never by itself"}},
		{Name: "orphans_every", Spec: strictyaml.Spec{Kind: strictyaml.Duration, OrOff: true, Least: time.Second, Default: "1d", Examples: []string{"1d", "12h"},
			Doc: "How often a whole table is listed to find files that nothing names, left by writers that died; off for never by itself"}},
		{Name: "memory", Spec: strictyaml.Spec{Kind: strictyaml.Bytes, Default: "256MiB", Doc: "Most memory for joining files, of one process; at least 32MiB"}},
	},
}

var modelSpec = strictyaml.Spec{
	Kind: strictyaml.Object,
	Fields: []strictyaml.Field{
		{Name: "name", Required: true, Spec: strictyaml.Spec{
			Kind: strictyaml.Text, Pattern: modelPattern, Looks: modelLooks, Examples: []string{"fraud"},
			Doc: "The name that the model is registered under"}},
		{Name: "file", Required: true, Spec: strictyaml.Spec{
			Kind: strictyaml.Text, Valid: validFile, Examples: []string{"models/fraud.onnx"},
			Doc: "The ONNX file, as a path from the project's directory"}},
		{Name: "alias", Spec: strictyaml.Spec{
			Kind: strictyaml.Text, Pattern: modelPattern, Looks: modelLooks, Default: defaultAlias,
			Doc: "The alias that is set to the model when it does not exist yet"}},
	},
}

func validAddress(text string) error {
	host, port, err := net.SplitHostPort(text)
	if err != nil || strings.ContainsAny(host, "/@ ") {
		return errors.New("must be host:port, such as localhost:7233")
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return errors.New("must end in a port between 1 and 65535, such as localhost:7233")
	}
	return nil
}

// validEndpoint never quotes the URL: people put credentials into them.
func validEndpoint(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return errors.New("must be a URL that begins with http:// or https://, such as http://localhost:9000")
	case u.User != nil:
		return errors.New("must not hold credentials; move them to access_key and secret_key")
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return errors.New("must end after the host and port; the bucket goes into bucket, a path into prefix")
	}
	return nil
}

var prefixPattern = regexp.MustCompile(`^[A-Za-z0-9._=/-]+$`)

func validPrefix(text string) error {
	if !prefixPattern.MatchString(text) || path.Clean("/"+text) != "/"+text {
		return errors.New("must be names of letters, digits and . _ = -, with a slash between them and none at the ends, such as prod/fraud")
	}
	return nil
}

func validFile(text string) error {
	if !filepath.IsLocal(filepath.FromSlash(text)) {
		return errors.New("must be a path below the project's directory, such as models/fraud.onnx; copy the file there")
	}
	return nil
}

// JSONSchema returns the format of tidemill.yaml as a JSON Schema, draft 2020-12.
func JSONSchema() ([]byte, error) {
	return projectSpec.JSONSchema(strictyaml.SchemaOptions{
		ID: "urn:tidemill:project", Title: "Tidemill project", Variables: true,
	})
}
