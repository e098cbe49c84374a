package harness

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// CopyUncached copies a program so that none of the copy is in memory: its pages are
// then charged to the first who runs it.
func CopyUncached(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o700)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err == nil {
		err = errors.Join(out.Sync(), unix.Fadvise(int(out.Fd()), 0, 0, unix.FADV_DONTNEED))
	}
	return errors.Join(err, out.Close())
}

// ReadAhead sets how much the kernel reads around a page of a file that is not in memory, in
// KiB, on the device that has a path; restore sets it back. Linux' default is 128. With
// megabytes, as some machines have it, a program's pages drive each other out where memory is
// limited. Only root may.
func ReadAhead(path string, kib int) (restore func() error, err error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return nil, err
	}
	knob := fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", unix.Major(st.Dev), unix.Minor(st.Dev))
	before, err := os.ReadFile(knob)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(knob, strconv.AppendInt(nil, int64(kib), 10), 0o600); err != nil {
		return nil, err
	}
	return func() error { return os.WriteFile(knob, before, 0o600) }, nil
}
