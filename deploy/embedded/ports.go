package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
	"time"

	gopsnet "github.com/shirou/gopsutil/v4/net"
	"github.com/shirou/gopsutil/v4/process"

	"github.com/tidemill/tidemill/internal/freeport"
)

// PortError: a port that a service should listen on cannot be had.
type PortError struct {
	Service string // "Temporal"
	Addr    string // host:port
	Option  string // the setting that chooses it, such as "temporal-port"
	Holder  string // the process that has it, if we may know
	Err     error
}

func (e *PortError) Error() string {
	if !errors.Is(e.Err, syscall.EADDRINUSE) {
		return fmt.Sprintf("%s cannot listen on %s (option %s): %v", e.Service, e.Addr, e.Option, e.Err)
	}
	by := ""
	if e.Holder != "" {
		by = " by process " + e.Holder
	}
	return fmt.Sprintf("%s cannot listen on %s: the address is in use%s; stop that, or choose another port with option %s",
		e.Service, e.Addr, by, e.Option)
}

func (e *PortError) Unwrap() error { return e.Err }

// claimPort checks that port on host is free, or picks a free one when it is 0. The
// services bind for themselves, a moment later, and report who comes in between.
func claimPort(ctx context.Context, service, option, host string, port int) (int, error) {
	if port == 0 {
		return freeport.Find(ctx, host)
	}
	addr := net.JoinHostPort(host, strconv.Itoa(port))
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		e := &PortError{Service: service, Addr: addr, Option: option, Err: err}
		if errors.Is(err, syscall.EADDRINUSE) {
			e.Holder = listener(ctx, uint32(port))
		}
		var oerr *net.OpError
		if errors.As(err, &oerr) {
			e.Err = oerr.Err
		}
		return 0, e
	}
	return port, l.Close()
}

// listener names the process that listens on port, or "".
func listener(ctx context.Context, port uint32) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conns, err := gopsnet.ConnectionsWithContext(ctx, "tcp")
	if err != nil {
		return ""
	}
	for _, c := range conns {
		if c.Status == "LISTEN" && c.Laddr.Port == port && c.Pid != 0 {
			return describeProcess(c.Pid)
		}
	}
	return ""
}

func describeProcess(pid int32) string {
	if p, err := process.NewProcess(pid); err == nil {
		if name, err := p.Name(); err == nil {
			return fmt.Sprintf("%d (%s)", pid, name)
		}
	}
	return strconv.Itoa(int(pid))
}
