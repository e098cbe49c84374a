// Package freeport finds ports for servers that bind for themselves a moment later.
package freeport

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"syscall"
)

// Ports are looked for below those that kernels give to outgoing connections (from 32768
// on Linux, 49152 elsewhere): one that the kernel had picked would be given to the next
// connection of any process between the look and the server's own bind.
const (
	first = 15_000
	last  = 31_999
	tries = 200
)

var (
	mu    sync.Mutex
	given = map[int]bool{} // guarded by mu: not picked twice in a process
)

// Find returns a TCP port of host, an address of this machine, that nothing listens on
// now. Another process may still take it before the caller does; whoever starts a server
// on it sees that as an error.
func Find(ctx context.Context, host string) (int, error) {
	mu.Lock()
	defer mu.Unlock()
	for range tries {
		port := first + rand.IntN(last-first+1)
		if given[port] {
			continue
		}
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.EACCES) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("find a free port: %w", err)
		}
		if err := l.Close(); err != nil {
			return 0, fmt.Errorf("find a free port: %w", err)
		}
		given[port] = true
		return port, nil
	}
	return 0, fmt.Errorf("find a free port: none among %d of %d to %d on %s", tries, first, last, host)
}
