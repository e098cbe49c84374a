package app

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// faultVar names the environment variable that makes a process kill itself at
// a named step: "after-commit:3" is the third time that step is reached. With
// "after-commit:3:stop" it falls asleep there, all of it, until it gets a
// SIGCONT: a process that was given up and wakes up to finish what it was at.
// It is how the tests hurt a real process where it matters; unset, nothing happens.
const faultVar = "TIDEMILL_FAULT"

var (
	faultMu   sync.Mutex
	faultLeft = map[string]int{}
	faultStop = map[string]bool{}
	faultOnce sync.Once
)

// faultPoint returns the hook for fault points, nil when none is asked for.
func faultPoint() func(point string) {
	faultOnce.Do(func() {
		for _, f := range strings.Split(os.Getenv(faultVar), ",") {
			name, count, _ := strings.Cut(f, ":")
			count, how, _ := strings.Cut(count, ":")
			n, err := strconv.Atoi(count)
			if err != nil {
				n = 1
			}
			if name != "" {
				faultLeft[name], faultStop[name] = n, how == "stop"
			}
		}
	})
	if len(faultLeft) == 0 {
		return nil
	}
	return func(point string) {
		faultMu.Lock()
		defer faultMu.Unlock()
		n, ok := faultLeft[point]
		if !ok {
			return
		}
		faultLeft[point] = n - 1
		switch {
		case n == 1 && faultStop[point]:
			_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		case n == 1:
			// SIGKILL, so that nothing of the process gets to tidy up.
			if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
				os.Exit(137)
			}
			select {}
		}
	}
}
