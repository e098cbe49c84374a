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
//
// The points, and where they are:
//
//   - after-data-put: landed: the file is stored, not committed
//   - before-commit, after-commit: landed: around the conditional PUT
//   - before-ack: committed, the source not told
//   - between-hops: a turn has found work
//   - after-scored-put: scored file stored, nothing committed
//   - after-quarantine-commit: between the two commits of a turn
//   - before-commit-scored, after-commit-scored: around the scored table's conditional PUT
//   - replay-before-mark, replay-after-mark, replay-before-land, replay-after-land: rows
//     come out of quarantine: around the commit that marks them, and around their landing
//   - sink-sent: a sink has taken rows; its cursor does not say so yet
//   - maintain-plan: somebody looks at what a table's maintenance has to do
//   - checkpoint-encoded, checkpoint-put, hint-put: a checkpoint: before it is stored,
//     before the hint, after it
//   - compact-written, compact-before-commit, compact-after-commit: files were joined:
//     stored, and around the commit
//   - expire-before-commit: rows are about to be taken out
//   - clean-before-delete, clean-after-delete, vacuum-before-delete, vacuum-after-delete:
//     around each object's deletion
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
