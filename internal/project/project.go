package project

import (
	"net/url"
	"slices"
	"time"

	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/internal/secret"
)

// File is the name of a project's own file in its directory.
const File = "tidemill.yaml"

// Project is a project directory as it was when it was loaded. It is immutable
// and valid; [Load] is the only way to get one.
type Project struct {
	dir        string
	name       string
	connectors []string
	contracts  []*contract.Table
	store      *Store
	temporal   Temporal
	models     []Model
	http       HTTP
	dev        Dev
	cache      Cache
	maintain   Maintenance
}

// Store is the S3 store that holds tables and models.
type Store struct {
	Endpoint  string // "http://localhost:9000"; see Host and TLS
	Bucket    string
	Prefix    string // no slash at either end
	Region    string
	AccessKey secret.String // both keys are set, or neither
	SecretKey secret.String
}

// Host is the endpoint without its scheme: host, or host:port.
func (s Store) Host() string { return s.url().Host }

// TLS reports whether the endpoint is https.
func (s Store) TLS() bool { return s.url().Scheme == "https" }

func (s Store) url() *url.URL {
	u, err := url.Parse(s.Endpoint)
	if err != nil {
		return &url.URL{} // Load has refused what does not parse
	}
	return u
}

// Temporal is the cluster that workflows run on.
type Temporal struct {
	Address   string // host:port
	Namespace string
	TaskQueue string
	TLS       bool
	APIKey    secret.String
}

// Model is a model file to register when the project starts.
type Model struct {
	Name  string
	File  string // path with the project's directory in front
	Alias string // to set to the model when it does not exist yet
	Line  int    // of the file's name in tidemill.yaml
}

// HTTP is Tidemill's own HTTP server.
type HTTP struct {
	Address string // host:port
}

// Dev holds the ports of the embedded servers.
type Dev struct{ TemporalPort, UIPort, S3Port int }

// Cache bounds the caches of one process, in bytes.
type Cache struct{ Memory, Disk int64 }

// Maintenance says when the tables are kept in order.
type Maintenance struct {
	Every        time.Duration // 0: never by itself
	OrphansEvery time.Duration // 0: never by itself
	Memory       int64         // bytes, of one process
}

// Dir is the project's directory, as it was given to [Load].
func (p *Project) Dir() string { return p.dir }

// Name is the project's name: [a-z][a-z0-9-]*.
func (p *Project) Name() string { return p.name }

// Connectors are the paths of connectors/*.yaml, sorted. A connector's name is
// its file's name without the extension.
func (p *Project) Connectors() []string { return slices.Clone(p.connectors) }

// Contracts are the contracts in tables/*.yaml, sorted by file. Their names differ.
func (p *Project) Contracts() []*contract.Table { return slices.Clone(p.contracts) }

// Contract finds the contract of a table.
func (p *Project) Contract(table string) (*contract.Table, bool) {
	for _, c := range p.contracts {
		if c.Name() == table {
			return c, true
		}
	}
	return nil, false
}

// Store is the store that tidemill.yaml names; false when it names none.
func (p *Project) Store() (Store, bool) {
	if p.store == nil {
		return Store{}, false
	}
	return *p.store, true
}

// StorePrefix is what all keys begin with, whichever store is used: the store's
// prefix, or without a store the project's name.
func (p *Project) StorePrefix() string {
	if p.store == nil {
		return p.name
	}
	return p.store.Prefix
}

// Temporal says where workflows run when the embedded server does not run them.
func (p *Project) Temporal() Temporal { return p.temporal }

// Models are the model files that tidemill.yaml names. They exist.
func (p *Project) Models() []Model { return slices.Clone(p.models) }

// HTTP says where metrics and health are served.
func (p *Project) HTTP() HTTP { return p.http }

// Dev holds the ports of the embedded servers; they differ.
func (p *Project) Dev() Dev { return p.dev }

// Cache bounds the caches of one process.
func (p *Project) Cache() Cache { return p.cache }

// Maintenance says when the tables are kept in order.
func (p *Project) Maintenance() Maintenance { return p.maintain }
