package embedded

import (
	"os"
	"path/filepath"
	"syscall"
)

// Running says whether a process has a stack in dir now.
func Running(dir string) bool {
	f, err := os.Open(filepath.Join(dir, "lock"))
	if err != nil {
		return false
	}
	defer f.Close()
	// A shared lock is refused only while someone holds the exclusive one, and
	// goes with the file.
	return syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) != nil
}
