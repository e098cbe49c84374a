package harness

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Cgroup has the kernel count the memory of the processes that run in it, pages of files
// that they are the first to touch included.
type Cgroup struct {
	dir      string
	usage    string // name of the file that says how much is in use, in bytes
	inactive string // and of the line of memory.stat with pages of files that lie idle
	limit    string // name of the file that says how much may be in use, in bytes
}

// NewCgroup makes a memory cgroup, in either version of the kernel's interface. Only root
// may, and not in every container.
func NewCgroup(name string) (*Cgroup, error) {
	v1 := &Cgroup{filepath.Join("/sys/fs/cgroup/memory", name), "memory.usage_in_bytes", "total_inactive_file", "memory.limit_in_bytes"}
	v2 := &Cgroup{filepath.Join("/sys/fs/cgroup", name), "memory.current", "inactive_file", "memory.max"}
	var errs []error
	for _, c := range []*Cgroup{v1, v2} {
		err := os.Mkdir(c.dir, 0o755)
		if err == nil {
			if _, err = os.Stat(filepath.Join(c.dir, c.usage)); err == nil {
				return c, nil
			}
			err = errors.Join(err, os.Remove(c.dir))
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("no memory cgroup can be made here: %w", errors.Join(errs...))
}

// Command is a program and arguments that begin another program in the cgroup, which
// keeps the process id: append that program's path and arguments.
func (c *Cgroup) Command() (path string, args []string) {
	return "/bin/sh", []string{"-c", `echo $$ >"$0/cgroup.procs" && exec "$@"`, c.dir}
}

// WorkingSet is what is in use now, in bytes, without pages of files that nobody has
// touched of late: what Kubernetes counts when it looks for a pod to evict.
func (c *Cgroup) WorkingSet() (int64, error) {
	used, err := os.ReadFile(filepath.Join(c.dir, c.usage))
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(used)), 10, 64)
	if err != nil {
		return 0, err
	}
	stat, err := os.ReadFile(filepath.Join(c.dir, "memory.stat"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(stat)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name == c.inactive {
			idle, err := strconv.ParseInt(value, 10, 64)
			return n - idle, err
		}
	}
	return 0, fmt.Errorf("%s/memory.stat has no %s", c.dir, c.inactive)
}

// Limit is the most, in bytes, that all of the cgroup may have in memory: its processes' own,
// and pages of files. For more the kernel takes pages of files back, and when that is
// not enough, kills.
func (c *Cgroup) Limit(bytes int64) error {
	return os.WriteFile(filepath.Join(c.dir, c.limit), strconv.AppendInt(nil, bytes, 10), 0o600)
}

// Remove removes the cgroup, whose processes must have ended.
func (c *Cgroup) Remove() error { return os.Remove(c.dir) }
