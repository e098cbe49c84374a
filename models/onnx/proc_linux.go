package onnx

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// childAttributes: the child dies with the thread that started it, and a
// Ctrl-C meant for the parent, which may still need it, does not reach it.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// claimOutput returns a duplicate of a standard stream and points the stream
// itself at stderr.
func claimOutput(out *os.File) (*os.File, error) {
	fd, err := syscall.Dup(int(out.Fd()))
	if err != nil {
		return nil, err
	}
	syscall.CloseOnExec(fd)
	if err := syscall.Dup3(2, int(out.Fd()), 0); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "answers"), nil
}

// limitProcess forgoes core dumps and offers this process to the kernel's
// out-of-memory killer before its parent. Both are best effort.
func limitProcess() {
	_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("500"), 0)
}

const (
	rlimitData = 2 // RLIMIT_DATA: private writable memory; package syscall names it on some architectures only
	// runtimeSlack is for Go's heap, which grows by 64 MiB at a time, and for the
	// stacks of new threads, 8 MiB each. It is not the model's to use in practice.
	runtimeSlack = 128 << 20
)

// limitMemory makes allocations beyond what the process has now, and bytes
// more, fail. 0: no limit.
func limitMemory(bytes int64) error {
	if bytes <= 0 {
		return nil
	}
	now, err := status("VmData:")
	if err != nil {
		return err
	}
	limit := uint64(now + bytes + runtimeSlack)
	return syscall.Setrlimit(rlimitData, &syscall.Rlimit{Cur: limit, Max: limit})
}

// peakMemory is the most memory that this process ever had resident, in bytes; 0 if unknown.
func peakMemory() int64 {
	n, err := status("VmHWM:")
	if err != nil {
		return 0
	}
	return n
}

// status reads a field of /proc/self/status that is in kB, as bytes.
func status(field string) (int64, error) {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), field); ok {
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("/proc/self/status has no %s", field)
}
