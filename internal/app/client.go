package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tidemill/tidemill/connectors"
	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/deploy/embedded"
	"github.com/tidemill/tidemill/internal/project"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/models"
	"github.com/tidemill/tidemill/workflows"
)

// Client looks at and changes a project from outside of the process that runs it.
type Client struct {
	project  *project.Project
	home     *project.Project // by which what runs is found; project, but for a plan of files elsewhere
	ends     endpoints
	running  bool // a cluster is known to be there
	store    objstore.Store
	registry *models.Registry
	tables   *tables
	log      *slog.Logger
	closers  []func()
}

// Connect opens a project's store: that of a running `tidemill dev`, else that
// of tidemill.yaml, else the embedded one just for this command.
func Connect(ctx context.Context, dir string, log *slog.Logger) (*Client, error) {
	return connect(ctx, dir, dir, log)
}

func connect(ctx context.Context, dir, home string, log *slog.Logger) (*Client, error) {
	p, err := project.Load(dir)
	if err != nil {
		return nil, err
	}
	c := &Client{project: p, home: p, log: log}
	if home != dir {
		if c.home, err = project.Load(home); err != nil {
			return nil, err
		}
	}
	if err := c.open(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// open connects to the store. What it has opened is in closers, also when it fails.
func (c *Client) open(ctx context.Context) (err error) {
	if c.ends, c.running, err = c.find(ctx); err != nil {
		return err
	}
	s, closeStore, err := openStore(ctx, c.ends.Store, 5*time.Second, c.log)
	if err != nil {
		return err
	}
	c.closers = append(c.closers, func() { _ = closeStore() })
	c.store, c.registry = s, newRegistry(s)
	contracts := map[string]*contract.Table{}
	for _, t := range c.project.Contracts() {
		contracts[t.Name()] = t
	}
	c.tables = &tables{store: s, contracts: contracts, open: map[string]*lakehouse.Table{}, landings: map[string]*connectors.Landing{}, log: c.log}
	return nil
}

func (c *Client) find(ctx context.Context) (endpoints, bool, error) {
	state := stateDir(c.home.Dir())
	data, err := os.ReadFile(filepath.Join(state, addressesFile))
	if err == nil && embedded.Running(state) {
		var a addresses
		if err := json.Unmarshal(data, &a); err != nil {
			return endpoints{}, false, fmt.Errorf("%s: %w", filepath.Join(state, addressesFile), err)
		}
		return a.endpoints(c.home), true, nil
	}
	if _, ok := c.home.Store(); ok {
		e, err := configured(c.home)
		return e, true, err
	}
	if _, err := os.Stat(state); err != nil {
		return endpoints{}, false, fmt.Errorf("%s has no data yet: start `tidemill dev %s`, or name a store in tidemill.yaml", c.home.Dir(), c.home.Dir())
	}
	st, err := embedded.Start(ctx, embedded.Options{Dir: state, FreePorts: true, S3: true, Logger: quiet(c.log)})
	if err != nil {
		return endpoints{}, false, unavailableError{err}
	}
	c.closers = append(c.closers, func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		logStop(c.log, st.Stop(ctx))
	})
	s := st.S3()
	return addresses{S3: s.Endpoint, Access: s.AccessKey, Secret: s.SecretKey.Reveal()}.endpoints(c.home), false, nil
}

// Close ends what Connect opened.
func (c *Client) Close() {
	for i := len(c.closers) - 1; i >= 0; i-- {
		c.closers[i]()
	}
	c.closers = nil
}

// RegisterModel uploads a file and runs the RegisterModel workflow.
func (c *Client) RegisterModel(ctx context.Context, name, file, alias, table string) (res workflows.RegisterModelResult, err error) {
	if !c.running {
		return res, unavailableError{fmt.Errorf("no worker is running for %s; start `tidemill dev %s` first", c.project.Dir(), c.project.Dir())}
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return res, fmt.Errorf("model file: %w", err)
	}
	sum := sha256.Sum256(data)
	files := &projectFiles{dir: c.project.Dir(), store: c.store}
	up, err := files.Upload(ctx, data, hex.EncodeToString(sum[:]))
	if err != nil {
		return res, err
	}
	t, err := dialTemporal(c.ends.Temporal, c.log)
	if err != nil {
		return res, err
	}
	defer t.Close()
	if err := reachTemporal(ctx, t, c.ends.Temporal, 5*time.Second, c.log); err != nil {
		return res, err
	}
	res, err = registerModel(ctx, t, c.project.Temporal().TaskQueue, c.project.Name(), workflows.RegisterModelInput{Name: name, File: up, Alias: alias, Table: table})
	if err != nil {
		return res, uploadError{err, up, file}
	}
	return res, nil
}

// uploadError calls a file what the person called it, where the worker knows
// only the name it was uploaded under.
type uploadError struct {
	error
	upload, file string
}

func (e uploadError) Error() string { return strings.ReplaceAll(e.error.Error(), e.upload, e.file) }
func (e uploadError) Unwrap() error { return e.error }

// ModelInfo is one registered version.
type ModelInfo struct {
	Name      string    `json:"name"`
	Version   int       `json:"version"`
	Aliases   string    `json:"aliases"` // joined by commas
	Bytes     int64     `json:"bytes"`
	SHA256    string    `json:"sha256"`
	CreatedAt time.Time `json:"created_at"`
}

// Models lists the registered versions.
func (c *Client) Models(ctx context.Context) ([]ModelInfo, error) {
	ms, err := c.registry.List(ctx)
	if err != nil {
		return nil, err
	}
	out := []ModelInfo{}
	for _, m := range ms {
		for _, v := range m.Versions {
			var names []string
			for _, alias := range sortedKeys(m.Aliases) {
				if m.Aliases[alias] == v.Version {
					names = append(names, alias)
				}
			}
			out = append(out, ModelInfo{Name: m.Name, Version: v.Version, Aliases: strings.Join(names, ","), Bytes: v.Size, SHA256: v.SHA256, CreatedAt: v.RegisteredAt})
		}
	}
	return out, nil
}

// Tables lists the project's tables.
func (c *Client) Tables(ctx context.Context) ([]TableInfo, error) {
	names, err := c.tables.names(ctx)
	if err != nil {
		return nil, err
	}
	out := []TableInfo{}
	for _, n := range names {
		t, err := c.openTable(ctx, n)
		if err != nil {
			return nil, err
		}
		info, err := t.Show(ctx, At{}, false)
		if err != nil {
			return nil, err
		}
		out = append(out, TableInfo{
			Name: info.Name, Version: info.Version, Rows: info.Rows, Files: info.Files, Bytes: info.Bytes, Committed: info.Committed, Location: info.Location, PartitionBy: info.PartitionBy,
		})
	}
	return out, nil
}

// openTable is one of the project's tables, open as long as the client is.
func (c *Client) openTable(ctx context.Context, name string) (*Table, error) {
	l, err := c.table(ctx, name)
	if err != nil {
		return nil, err
	}
	url := "s3://" + c.ends.Store.S3.Bucket + "/" + c.ends.Store.Prefix + "/" + name
	return &Table{name: name, url: url, table: l, close: func() {}}, nil
}

func (c *Client) table(ctx context.Context, name string) (*lakehouse.Table, error) {
	l, err := c.tables.Open(ctx, name)
	if !errors.Is(err, fs.ErrNotExist) {
		return l, err
	}
	names, lerr := c.tables.names(ctx)
	if lerr != nil {
		return nil, lerr
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("no table %s; nothing has landed yet", name)
	}
	return nil, fmt.Errorf("no table %s; there are: %s", name, strings.Join(names, ", "))
}
