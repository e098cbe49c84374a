package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/tidemill/tidemill/activities"
	"github.com/tidemill/tidemill/deploy/embedded"
	"github.com/tidemill/tidemill/internal/problem"
	"github.com/tidemill/tidemill/internal/project"
	"github.com/tidemill/tidemill/internal/secret"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/quarantine"
)

// statusPath is where a process tells what it runs.
const statusPath = "/tidemill/status"

// Status is what runs where.
type Status struct {
	Process  string          `json:"process"` // address of the process that answered
	Projects []ProjectStatus `json:"projects"`
}

// ProjectStatus is one project in one process.
type ProjectStatus struct {
	Project    string            `json:"project"`
	Roles      []string          `json:"roles"` // connect, worker
	Generation int64             `json:"generation"`
	Since      time.Time         `json:"since"`           // when the generation began
	Waits      []string          `json:"waits,omitempty"` // fields of tidemill.yaml that wait for a restart of the process
	Refused    *RefusedEdit      `json:"refused,omitempty"`
	Connectors []ConnectorStatus `json:"connectors"`
	Tables     []TableStatus     `json:"tables"`
	Files      *RunningFiles     `json:"files,omitempty"` // when asked for
}

// RunningFiles are the files of the generation that runs, for `tidemill plan`.
type RunningFiles struct {
	Contracts  []json.RawMessage `json:"contracts"`  // in their canonical form
	Connectors map[string]string `json:"connectors"` // hashes by name
}

// RefusedEdit is the last edit that changed nothing, while the files are as they were then.
type RefusedEdit struct {
	At       time.Time    `json:"at"`
	Problems problem.List `json:"problems"`
}

// ConnectorStatus is one connector.
type ConnectorStatus struct {
	Name        string     `json:"name"`
	Table       string     `json:"table"`
	Input       string     `json:"input"`
	State       string     `json:"state"` // running | ended | failed
	Since       time.Time  `json:"since"`
	Landed      int64      `json:"landed"`                // rows since then
	Quarantined int64      `json:"quarantined"`           // rows since then that did not decode
	LastCommit  *time.Time `json:"last_commit,omitempty"` // of its rows
	Error       string     `json:"error,omitempty"`       // the last warning or error it logged, or why it failed
	ErrorAt     *time.Time `json:"error_at,omitempty"`
}

// TableStatus is one contract's tables and their pipeline.
type TableStatus struct {
	Name         string `json:"name"`
	Contract     string `json:"contract"`
	Landed       int64  `json:"landed"`  // version, -1: there is no table yet
	Scored       int64  `json:"scored"`  // version, -1
	Backlog      int64  `json:"backlog"` // landed versions that are not scored yet
	Rows         int64  `json:"rows"`    // of the landed table
	ScoredRows   int64  `json:"scored_rows"`
	Quarantined  int64  `json:"quarantined"` // rows of the quarantine table
	Doing        string `json:"doing"`       // waiting | scoring | catching up | paused | blocked | not running
	Model        string `json:"model,omitempty"`
	Error        string `json:"error,omitempty"`
	ModelVersion int64  `json:"model_version,omitempty"`

	Sinks []SinkStatus `json:"sinks,omitempty"`
}

// SinkStatus is one sink of a table, wherever it is at work.
type SinkStatus struct {
	Name       string     `json:"name"`
	Output     string     `json:"output"`      // its kind, such as redis_streams
	State      string     `json:"state"`       // sending | waiting | down | not running | not known
	Version    int64      `json:"version"`     // of the scored table, up to which all rows are sent; -1: none
	Behind     int64      `json:"behind"`      // scored versions that are not done with
	BehindRows int64      `json:"behind_rows"` // rows in them; -1: not known without looking far
	Sent       int64      `json:"sent"`        // rows, since the sink was new
	Refused    int64      `json:"refused"`
	Process    string     `json:"process,omitempty"` // host/pid that has it, or had it last
	Here       bool       `json:"here"`              // that is the process which answers
	Seen       *time.Time `json:"seen,omitempty"`    // when it last gave a sign of life
	Generation int64      `json:"generation,omitempty"`
	Error      string     `json:"error,omitempty"` // the last warning or error, or why the status is not known
	ErrorAt    *time.Time `json:"error_at,omitempty"`
}

// board is the projects of this process, for whoever asks over HTTP.
type board struct {
	mu    sync.Mutex
	procs []*process
}

func (b *board) add(p *process) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.procs = append(b.procs, p)
}

// ServeHTTP implements http.Handler.
func (b *board) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	b.mu.Lock()
	procs := append([]*process(nil), b.procs...)
	b.mu.Unlock()
	s := Status{Process: r.Host, Projects: []ProjectStatus{}}
	for _, p := range procs {
		ps := p.status(ctx)
		if r.URL.Query().Has("files") {
			ps.Files = p.gen.Load().files()
		}
		s.Projects = append(s.Projects, ps)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(s) //nolint:errchkjson // plain values
}

func (g *generation) files() *RunningFiles {
	f := &RunningFiles{Contracts: []json.RawMessage{}, Connectors: map[string]string{}}
	for _, c := range g.project.Contracts() {
		if data, err := c.JSON(); err == nil {
			f.Contracts = append(f.Contracts, json.RawMessage(secret.Scrub(string(data))))
		}
	}
	for _, c := range g.configs {
		f.Connectors[c.Name] = c.Sum()
	}
	return f
}

func (p *process) status(ctx context.Context) ProjectStatus {
	g := p.gen.Load()
	s := ProjectStatus{
		Project: p.project.Name(), Generation: g.number, Since: g.since, Waits: g.waits,
		Connectors: p.fleet.status(), Tables: make([]TableStatus, len(p.contracts())),
	}
	if p.connect {
		s.Roles = append(s.Roles, "connect")
	}
	if p.acts != nil {
		s.Roles = append(s.Roles, "worker")
	}
	if r := p.refused.Load(); r != nil {
		s.Refused = &RefusedEdit{At: r.at, Problems: problem.Of(r.err)}
		if s.Refused.Problems == nil {
			s.Refused.Problems = problem.List{{Message: r.err.Error()}}
		}
	}
	var wg sync.WaitGroup
	for i, c := range g.project.Contracts() {
		wg.Go(func() {
			s.Tables[i] = p.tableStatus(ctx, c.Name(), c.Version())
			s.Tables[i].Sinks = p.sinkStatus(ctx, c)
		})
	}
	wg.Wait()
	return s
}

func (p *process) tableStatus(ctx context.Context, table, contract string) TableStatus {
	s := TableStatus{Name: table, Contract: contract, Landed: -1, Scored: -1}
	cursor := int64(-1)
	for name, note := range map[string]func(*lakehouse.Snapshot){
		table: func(t *lakehouse.Snapshot) { s.Landed, s.Rows = t.Version(), t.NumRows() },
		table + activities.Suffix: func(t *lakehouse.Snapshot) {
			s.Scored, s.ScoredRows = t.Version(), t.NumRows()
			if v, ok := t.Txn(activities.AppID(table)); ok {
				cursor = v
			}
		},
		table + quarantine.Suffix: func(t *lakehouse.Snapshot) { s.Quarantined = t.NumRows() },
	} {
		t, err := p.tables.Open(ctx, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			var snap *lakehouse.Snapshot
			if snap, err = t.Refresh(ctx); err == nil {
				note(snap)
			}
		}
		if err != nil {
			s.Error = secret.Scrub(err.Error())
		}
	}
	s.Backlog = s.Landed - cursor
	w, err := pipelineStatus(ctx, p.temporal, p.project.Name(), table)
	if err != nil {
		s.Doing, s.Error = "not known", secret.Scrub(plain(err).Error())
		return s
	}
	s.Doing, s.Model, s.ModelVersion = w.Doing, w.Last.Model, w.Last.ModelVersion
	if w.Error != "" {
		s.Error = secret.Scrub(w.Error)
	}
	return s
}

func (f *fleet) status() []ConnectorStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := []ConnectorStatus{}
	for _, name := range sortedKeys(f.ships) {
		out = append(out, f.ships[name].status())
	}
	return out
}

func (s *ship) status() ConnectorStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := ConnectorStatus{
		Name: s.conf.Name, Table: s.conf.Table, Input: s.conf.Input, State: "running", Since: s.started, Landed: s.landed, Quarantined: s.rejected,
	}
	if !s.last.IsZero() {
		c.LastCommit = &s.last
	}
	if text, at := s.note.last(); text != "" {
		c.Error, c.ErrorAt = text, &at
	}
	switch {
	case s.err != nil:
		c.State, c.Error = "failed", secret.Scrub(s.err.Error())
	case s.ended:
		c.State = "ended"
	}
	return c
}

// AskStatus asks the process that runs a project: a running `tidemill dev` or demo, else
// the one at the address (host:port), by default that of http in tidemill.yaml.
func AskStatus(ctx context.Context, dir, address string) (Status, error) {
	return askStatus(ctx, dir, address, "")
}

func askStatus(ctx context.Context, dir, address, query string) (Status, error) {
	var s Status
	url, err := statusURL(dir, address)
	if err != nil {
		return s, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+statusPath+query, nil)
	if err != nil {
		return s, fmt.Errorf("address of the process: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return s, unavailableError{fmt.Errorf("nothing that runs %s answers: %w; start `tidemill dev %s` or `tidemill run %s`, or name the process with --address", dir, err, dir, dir)}
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil || resp.StatusCode != http.StatusOK {
		return s, unavailableError{fmt.Errorf("%s does not answer as tidemill does (%s)", url, resp.Status)}
	}
	return s, nil
}

func statusURL(dir, address string) (string, error) {
	if address != "" {
		return "http://" + address, nil
	}
	state := stateDir(dir)
	data, err := os.ReadFile(filepath.Join(state, addressesFile))
	if err == nil && embedded.Running(state) {
		var a addresses
		if err := json.Unmarshal(data, &a); err != nil {
			return "", fmt.Errorf("%s: %w", filepath.Join(state, addressesFile), err)
		}
		return a.HTTP, nil
	}
	p, err := project.Load(dir)
	if p == nil {
		return "", err
	}
	// With problems in the files what runs is asked all the same: that is when one asks.
	if a := p.HTTP().Address; a != "" {
		return "http://" + a, nil
	}
	return "", err
}
