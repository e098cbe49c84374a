package harness

import (
	"errors"
	"io"
	"os"

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
