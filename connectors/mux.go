package connectors

import (
	"log/slog"
	"net/http"
	"sync"
)

// Mux serves the paths that inputs without an address of their own, such as
// http_server, register. It is safe for concurrent use. A path whose connector
// has ended answers 503 until one takes it again: 404 would tell senders to give
// up, while a connector or the process is only being restarted.
type Mux struct {
	mu    sync.RWMutex
	paths map[string]registration
}

type registration struct {
	connector string
	handler   func(http.ResponseWriter, *http.Request) // nil: the connector has ended
}

// NewMux returns a Mux without paths.
func NewMux() *Mux { return &Mux{paths: map[string]registration{}} }

// ServeHTTP implements http.Handler.
func (m *Mux) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.RLock()
	reg, ok := m.paths[r.URL.Path]
	m.mu.RUnlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	if reg.handler == nil {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "the connector that takes rows here does not run now; send it again after the time in Retry-After", http.StatusServiceUnavailable)
		return
	}
	// Answers are a status and a few bytes. Benthos would compress them for
	// every client that says it can take that, which costs more than the row did.
	r.Header.Del("Accept-Encoding")
	reg.handler(w, r)
}

// benthosPaths are what every stream registers of its own accord; the process
// has its own health and metrics.
var benthosPaths = map[string]bool{
	"/ready": true, "/ping": true, "/version": true, "/stats": true, "/metrics": true, "/endpoints": true,
	"/config": true, "/config/json": true, "/config/yaml": true,
}

// of returns the Mux as one connector's stream sees it.
func (m *Mux) of(connector string, log *slog.Logger) connectorMux {
	return connectorMux{m, connector, log}
}

type connectorMux struct {
	m         *Mux
	connector string
	log       *slog.Logger
}

// HandleFunc implements service.HTTPMultiplexer. The first connector to take a
// path keeps it; lint finds such pairs before they run.
func (c connectorMux) HandleFunc(pattern string, handler func(http.ResponseWriter, *http.Request)) {
	if benthosPaths[pattern] {
		return
	}
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	if have, ok := c.m.paths[pattern]; ok && have.handler != nil && have.connector != c.connector {
		c.log.Error("path is taken by another connector", "path", pattern, "connector", c.connector, "taken_by", have.connector)
		return
	}
	c.m.paths[pattern] = registration{c.connector, handler}
}

// forget gives a connector's paths up.
func (m *Mux) forget(connector string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for p, reg := range m.paths {
		if reg.connector == connector {
			m.paths[p] = registration{connector: connector}
		}
	}
}

// release gives up the paths that a connector had and does not have any more: nobody will
// take them again.
func (m *Mux) release(connector string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for p, reg := range m.paths {
		if reg.connector == connector && reg.handler == nil {
			delete(m.paths, p)
		}
	}
}
