package sources

import (
	"io"
	"net"
	"sync"
	"testing"
)

// proxy passes connections on to a server until they are cut.
type proxy struct {
	addr     string
	listener net.Listener

	mu    sync.Mutex
	to    string            // guarded by mu
	down  bool              // guarded by mu
	conns map[net.Conn]bool // guarded by mu
}

func newProxy(t *testing.T) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: l.Addr().String(), listener: l, conns: map[net.Conn]bool{}}
	go p.accept()
	t.Cleanup(func() {
		_ = l.Close()
		p.cut()
	})
	return p
}

// aim says where connections go.
func (p *proxy) aim(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.to = addr
}

func (p *proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		go p.serve(c)
	}
}

func (p *proxy) serve(c net.Conn) {
	p.mu.Lock()
	to, down := p.to, p.down
	p.mu.Unlock()
	if down || to == "" {
		_ = c.Close()
		return
	}
	s, err := net.Dial("tcp", to)
	if err != nil {
		_ = c.Close()
		return
	}
	p.mu.Lock()
	if down = p.down; !down {
		p.conns[c], p.conns[s] = true, true
	}
	p.mu.Unlock()
	var both sync.WaitGroup
	pass := func(to, from net.Conn) {
		_, _ = io.Copy(to, from) // how a connection ends is the point of it
		_ = to.Close()
		_ = from.Close()
	}
	if down {
		_, _ = c.Close(), s.Close()
		return
	}
	both.Go(func() { pass(c, s) })
	both.Go(func() { pass(s, c) })
	both.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
	delete(p.conns, s)
}

// cut ends all connections and lets none through until mend.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = true
	for c := range p.conns {
		_ = c.Close()
	}
}

func (p *proxy) mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = false
}
