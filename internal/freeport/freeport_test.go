package freeport

import (
	"net"
	"strconv"
	"testing"
)

func TestFind(t *testing.T) {
	seen := map[int]bool{}
	for range 300 {
		port, err := Find(t.Context(), "127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		if seen[port] || port < first || port > last {
			t.Fatalf("port %d, after %d others", port, len(seen))
		}
		seen[port] = true
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
	}
	if _, err := Find(t.Context(), "192.0.2.1"); err == nil {
		t.Error("a port of another machine's address")
	}
}
