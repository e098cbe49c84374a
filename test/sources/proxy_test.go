package sources

import (
	"io"
	"net"
	"sync"
	"testing"
)

// proxy passes connections on to a server, or to several in turn, until they are cut.
type proxy struct {
	addr     string
	listener net.Listener

	mu    sync.Mutex
	to    []string          // guarded by mu: the next one first
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
func (p *proxy) aim(addrs ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.to = addrs
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

// dial connects to the server whose turn it is, or to the first behind it that is there.
func (p *proxy) dial() (s net.Conn) {
	p.mu.Lock()
	to, down := p.to, p.down
	if len(to) > 1 {
		p.to = append(append([]string(nil), to[1:]...), to[0])
	}
	p.mu.Unlock()
	if down {
		return nil
	}
	for _, addr := range to {
		if s, err := net.Dial("tcp", addr); err == nil {
			return s
		}
	}
	return nil
}

func (p *proxy) serve(c net.Conn) {
	s := p.dial()
	if s == nil {
		_ = c.Close()
		return
	}
	p.mu.Lock()
	down := p.down
	if !down {
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
