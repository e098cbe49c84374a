package testserver

import (
	"io"
	"net"
	"slices"
	"sync"
	"testing"
)

// Forward is a way to a TCP server, or to several in turn, that can be cut. It ends with the test.
type Forward struct {
	Addr     string
	listener net.Listener

	mu    sync.Mutex
	to    []string          // guarded by mu: the next one first
	down  bool              // guarded by mu
	conns map[net.Conn]bool // guarded by mu
}

// StartForward listens on a free port and passes connections on to the addresses in turn;
// without any it ends them until Aim is called.
func StartForward(tb testing.TB, to ...string) *Forward {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	f := &Forward{Addr: l.Addr().String(), listener: l, to: to, conns: map[net.Conn]bool{}}
	go f.accept()
	tb.Cleanup(func() {
		_ = l.Close()
		f.Cut()
	})
	return f
}

// Aim says where connections go from now on.
func (f *Forward) Aim(addrs ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.to = addrs
}

func (f *Forward) accept() {
	for {
		c, err := f.listener.Accept()
		if err != nil {
			return
		}
		go f.serve(c)
	}
}

// dial connects to the server whose turn it is, or to the first behind it that is there.
func (f *Forward) dial() net.Conn {
	f.mu.Lock()
	to, down := f.to, f.down
	if len(to) > 1 {
		f.to = append(slices.Clone(to[1:]), to[0])
	}
	f.mu.Unlock()
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

func (f *Forward) serve(c net.Conn) {
	s := f.dial()
	if s == nil {
		_ = c.Close()
		return
	}
	f.mu.Lock()
	down := f.down
	if !down {
		f.conns[c], f.conns[s] = true, true
	}
	f.mu.Unlock()
	if down {
		_, _ = c.Close(), s.Close()
		return
	}
	pass := func(to, from net.Conn) {
		_, _ = io.Copy(to, from) // how a connection ends is the point of it
		_ = to.Close()
		_ = from.Close()
	}
	var both sync.WaitGroup
	both.Go(func() { pass(c, s) })
	both.Go(func() { pass(s, c) })
	both.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.conns, c)
	delete(f.conns, s)
}

// Cut ends all connections and lets none through until Mend.
func (f *Forward) Cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = true
	for c := range f.conns {
		_ = c.Close()
	}
}

// Mend lets connections through again.
func (f *Forward) Mend() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = false
}
