package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/server/common/authorization"
	"go.temporal.io/server/common/cluster"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/membership/static"
	sqliteplugin "go.temporal.io/server/common/persistence/sql/sqlplugin/sqlite"
	"go.temporal.io/server/common/primitives"
	sqliteschema "go.temporal.io/server/schema/sqlite"
	"go.temporal.io/server/temporal"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"
)

const (
	// Namespace is the one that exists from the start.
	Namespace = "default"
	// Retention is how long finished workflows stay in it.
	Retention = 72 * time.Hour
	// historyShards is fixed when the database is made. A shard's writes are serial, and
	// so are SQLite's: more of them only add timers and memory.
	historyShards = 1
	clusterName   = "active"
	loopback      = "127.0.0.1"
)

// SearchAttributes are what workflows can be listed by, beside Temporal's own.
var SearchAttributes = map[string]enumspb.IndexedValueType{
	"TidemillTable":     enumspb.INDEXED_VALUE_TYPE_KEYWORD,
	"TidemillModel":     enumspb.INDEXED_VALUE_TYPE_KEYWORD,
	"TidemillConnector": enumspb.INDEXED_VALUE_TYPE_KEYWORD,
}

// temporalServer is a running Temporal server.
type temporalServer struct {
	server  temporal.Server
	log     *temporalLogger
	stopped chan struct{} // closed when Stop of the server has returned; made by stop
}

// startTemporal runs the server with its state in dir and waits until the namespace can
// be used. All ports but the frontend's are free ones on the loopback.
func startTemporal(ctx context.Context, dir, host string, port, historyEvents int, logger *slog.Logger) (*temporalServer, error) {
	sql, err := openDatabase(dir)
	if err != nil {
		return nil, fmt.Errorf("temporal: %w", err)
	}
	cfg, hosts, err := temporalConfig(ctx, sql, host, port)
	if err != nil {
		return nil, fmt.Errorf("temporal: %w", err)
	}
	log := newTemporalLogger(logger)
	server, err := temporal.NewServer(
		temporal.WithConfig(cfg),
		temporal.ForServices(temporal.DefaultServices),
		temporal.WithStaticHosts(hosts), // one process needs no membership protocol
		temporal.WithLogger(log),
		temporal.WithDynamicConfigClient(dynamicConfig(historyEvents)),
		temporal.WithAuthorizer(authorization.NewNoopAuthorizer()),
		temporal.WithClaimMapper(func(*config.Config) authorization.ClaimMapper {
			return authorization.NewNoopClaimMapper()
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("temporal: %w", err)
	}
	t := &temporalServer{server: server, log: log}
	if err := server.Start(); err != nil {
		return nil, fmt.Errorf("start temporal: %w", err)
	}
	if err := waitNamespace(ctx, cfg.PublicClient.HostPort); err != nil {
		sctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		return nil, errors.Join(fmt.Errorf("start temporal: %w", err), t.stop(sctx))
	}
	return t, nil
}

// stop ends the server. The server's own stop takes no context; when ctx ends first,
// the server is left to finish, and the caller must keep the directory's lock.
func (t *temporalServer) stop(ctx context.Context) error {
	if t.stopped == nil {
		t.log.quiet.Store(true) // its services miss each other while they go
		t.stopped = make(chan struct{})
		go func() {
			defer close(t.stopped)
			_ = t.server.Stop() // always nil
		}()
	}
	select {
	case <-t.stopped:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop temporal: %w", ctx.Err())
	}
}

// schemaMark is schema.json: it says that the database was set up to the end.
type schemaMark struct {
	Schema string `json:"schema"` // version of Temporal's SQLite schema
	Shards int32  `json:"history_shards"`
}

// openDatabase makes the database and namespace if they are not there.
func openDatabase(dir string) (*config.SQL, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	file, markFile := filepath.Join(dir, "temporal.db"), filepath.Join(dir, "schema.json")
	want := schemaMark{Schema: sqliteschema.Version + "/" + sqliteschema.VisibilityVersion, Shards: historyShards}
	sql := sqlConfig(file)

	data, err := os.ReadFile(markFile)
	switch {
	case err == nil:
		var have schemaMark
		if err := json.Unmarshal(data, &have); err != nil {
			return nil, fmt.Errorf("%s is damaged: %w", markFile, err)
		}
		if have != want {
			return nil, fmt.Errorf("%s was made by another version of Tidemill (%+v, this one uses %+v); "+
				"move it away to start with an empty Temporal: tables are not in it and lose nothing", file, have, want)
		}
		return sql, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	// No server has run on a database without the mark: whatever is there is half a setup.
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(file + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	if err := sqliteschema.SetupSchema(sql); err != nil {
		return nil, fmt.Errorf("set up %s: %w", file, err)
	}
	if err := createNamespace(sql); err != nil {
		return nil, fmt.Errorf("set up %s: %w", file, err)
	}
	if data, err = json.Marshal(want); err != nil {
		return nil, err
	}
	return sql, writeFile(markFile, append(data, '\n'))
}

func createNamespace(sql *config.SQL) error {
	ns, err := sqliteschema.NewNamespaceConfig(clusterName, Namespace, false, SearchAttributes)
	if err != nil {
		return err
	}
	ns.Detail.Config.Retention = durationpb.New(Retention)
	return sqliteschema.CreateNamespaces(sql, ns)
}

func sqlConfig(file string) *config.SQL {
	return &config.SQL{
		PluginName:   sqliteplugin.PluginName,
		DatabaseName: (&url.URL{Path: file}).EscapedPath(), // it becomes part of a URI
		ConnectAttributes: map[string]string{
			"mode":         "rwc",
			"journal_mode": "wal",
			"synchronous":  "normal",
			"busy_timeout": "10000",
			"cache_size":   "-16384", // kB
			"temp_store":   "memory",
			"mmap_size":    "134217728",
		},
	}
}

func temporalConfig(ctx context.Context, sql *config.SQL, host string, port int) (*config.Config, map[primitives.ServiceName]static.Hosts, error) {
	front := net.JoinHostPort(dialHost(host), strconv.Itoa(port))
	cfg := &config.Config{
		Persistence: config.Persistence{
			DefaultStore: "sqlite", VisibilityStore: "sqlite", NumHistoryShards: historyShards,
			DataStores: map[string]config.DataStore{"sqlite": {SQL: sql}},
		},
		ClusterMetadata: &cluster.Config{
			FailoverVersionIncrement: 10,
			MasterClusterName:        clusterName,
			CurrentClusterName:       clusterName,
			ClusterInformation: map[string]cluster.ClusterInformation{
				clusterName: {Enabled: true, InitialFailoverVersion: 1, RPCAddress: front},
			},
		},
		DCRedirectionPolicy: config.DCRedirectionPolicy{Policy: "noop"},
		PublicClient:        config.PublicClient{HostPort: front},
		Services: map[string]config.Service{
			string(primitives.FrontendService): {RPC: config.RPC{GRPCPort: port, BindOnIP: host}},
		},
	}
	cfg.Archival.History.State, cfg.Archival.Visibility.State = "disabled", "disabled"
	cfg.NamespaceDefaults.Archival.History.State, cfg.NamespaceDefaults.Archival.Visibility.State = "disabled", "disabled"
	hosts := map[primitives.ServiceName]static.Hosts{primitives.FrontendService: static.SingleLocalHost(front)}
	for _, s := range []primitives.ServiceName{primitives.HistoryService, primitives.MatchingService, primitives.WorkerService} {
		p, err := claimPort(ctx, "Temporal's "+string(s)+" service", "none", loopback, 0)
		if err != nil {
			return nil, nil, err
		}
		cfg.Services[string(s)] = config.Service{RPC: config.RPC{GRPCPort: p, BindOnIP: loopback}}
		hosts[s] = static.SingleLocalHost(net.JoinHostPort(loopback, strconv.Itoa(p)))
	}
	return cfg, hosts, nil
}

// dialHost is the address at which this machine reaches what listens on host.
func dialHost(host string) string {
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		return loopback
	}
	return host
}

// waitNamespace returns when the frontend at addr knows the namespace.
func waitNamespace(ctx context.Context, addr string) error {
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	client := workflowservice.NewWorkflowServiceClient(conn)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		actx, cancel := context.WithTimeout(ctx, time.Second)
		_, err := client.DescribeNamespace(actx, &workflowservice.DescribeNamespaceRequest{Namespace: Namespace})
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w: %w", ctx.Err(), err)
		case <-tick.C:
		}
	}
}
