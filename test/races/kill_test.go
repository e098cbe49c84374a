package races

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tidemill/tidemill/lakehouse"
)

// points are the steps of maintenance where a process is killed.
var points = []string{
	"checkpoint-encoded", "checkpoint-put", "hint-put",
	"compact-written", "compact-before-commit", "compact-after-commit",
	"vacuum-before-delete", "vacuum-after-delete",
	"clean-before-delete", "clean-after-delete",
	"expire-before-commit",
}

const childEnv = "TIDEMILL_RACES_CHILD"

// TestMain runs the maintaining process when it is asked to.
func TestMain(m *testing.M) {
	if spec := os.Getenv(childEnv); spec != "" {
		if err := maintainUntilKilled(spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// maintainUntilKilled maintains the table over and over, and kills its own process at
// the n-th pass of a point.
func maintainUntilKilled(spec string) error {
	f := strings.Split(spec, " ")
	e := endpoint{f[0], f[1], f[2], f[3]}
	point, seed := f[4], f[6]
	n, err := strconv.Atoi(f[5])
	if err != nil {
		return err
	}
	s, err := strconv.ParseUint(seed, 10, 64)
	if err != nil {
		return err
	}
	fault := func(at string) {
		if at != point {
			return
		}
		if n--; n <= 0 {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	store, err := e.store(ctx)
	if err != nil {
		return err
	}
	rnd := rand.New(rand.NewPCG(s, 5))
	for ctx.Err() == nil {
		t, err := lakehouse.Open(ctx, store, root, lakehouse.WithFault(fault))
		if err != nil {
			return err
		}
		o := lakehouse.MaintainOptions{Hold: lakehouse.NoHold, Fault: fault}
		if _, err := t.Checkpoint(ctx); err != nil {
			return err
		}
		_, err = t.Compact(ctx, lakehouse.CompactOptions{MaintainOptions: o, ClusterBy: []string{"ts"}, TargetBytes: 1 << (13 + rnd.IntN(6)), MinAge: time.Millisecond, MinFiles: 2})
		if err != nil {
			return err
		}
		if _, err := t.Vacuum(ctx, lakehouse.VacuumOptions{MaintainOptions: o, Orphans: rnd.IntN(3) == 0}); err != nil {
			return err
		}
		if _, err := t.CleanLog(ctx, o); err != nil {
			return err
		}
		if _, err := t.Expire(ctx, lakehouse.ExpireOptions{MaintainOptions: o, Column: "ts", Before: expired}); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// TestKilledMaintenance kills the process that maintains a table at each of its steps,
// while rows come in. The table opens, nothing is lost or doubled, and what the dead
// process left over is gone in the end.
func TestKilledMaintenance(t *testing.T) {
	e, store := startStore(t)
	create(t, store)
	rnd := seeded(t)
	r := &run{t: t, store: store}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	appending := make(chan struct{})
	own := rand.New(rand.NewPCG(rnd.Uint64(), 1))
	go func() {
		defer close(appending)
		r.appender(ctx, 1, own)
	}()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range rnd.Perm(len(points)) {
		n := 1 + rnd.IntN(3)
		spec := fmt.Sprint(e.addr, " ", e.access, " ", e.secret, " ", e.bucket, " ", points[i], " ", n, " ", rnd.Uint64())
		cmd := exec.CommandContext(ctx, self)
		cmd.Env = append(os.Environ(), childEnv+"="+spec)
		out, err := cmd.CombinedOutput()
		status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
		if !ok || !status.Signaled() || status.Signal() != syscall.SIGKILL {
			t.Errorf("at %s: the process was not killed: %v\n%s", points[i], err, out)
			continue
		}
		acked := r.ledger.now()
		tbl, err := r.open(ctx)
		if err != nil {
			t.Fatalf("after a kill at %s: %v", points[i], err)
		}
		if _, err := check(ctx, tbl, tbl.Snapshot(), acked); err != nil {
			t.Errorf("after a kill at %s: %v", points[i], err)
		}
	}
	stop()
	<-appending
	t.Logf("%d kills during %d appends", len(points), r.appends.Load())
	r.end(t)
}

func number(t *testing.T, name string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(name, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
