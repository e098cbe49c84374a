package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// ErrLocked: another process uses the directory.
var ErrLocked = errors.New("the directory is in use")

// lockDir makes dir, checks that it can be written, and takes its lock, which the
// operating system lets go when this process ends, however it ends.
func lockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, notWritable(dir, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, notWritable(dir, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", dir, err)
		}
		return nil, fmt.Errorf("%w: %s is held by process %s; stop it, or choose another directory", ErrLocked, dir, holder(f))
	}
	if err := writePid(f); err != nil {
		_ = f.Close()
		return nil, notWritable(dir, err)
	}
	return f, nil
}

func notWritable(dir string, err error) error {
	var perr *fs.PathError
	if errors.As(err, &perr) {
		err = perr.Err // the path is said
	}
	return fmt.Errorf("cannot write to %s: %w; choose a directory that user %d can write to", dir, err, os.Getuid())
}

func writePid(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

func holder(f *os.File) string {
	b := make([]byte, 32)
	n, _ := f.ReadAt(b, 0)
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	if err != nil {
		return "unknown"
	}
	return describeProcess(int32(pid))
}
