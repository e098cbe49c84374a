//go:build unix

package query

import (
	"os"
	"syscall"
)

// Locks belong to the open file, so two opens in one process are two holders.

func lockShared(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_SH) }

func lockExclusive(f *os.File) error {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}
