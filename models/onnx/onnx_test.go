package onnx

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tidemill/tidemill/internal/ortlib"
	"github.com/tidemill/tidemill/models"
)

// The test binary is its own child, as the program is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == WorkerArgument {
		os.Exit(WorkerMain(os.Stdin, os.Stdout))
	}
	if len(os.Args) > 1 && os.Args[1] == parentArgument {
		parent()
	}
	os.Exit(m.Run())
}

const parentArgument = "onnx-parent"

// parent says which child it has, keeps it computing, and waits to be killed.
func parent() {
	data, err := os.ReadFile(filepath.Join("..", "testdata", "count.onnx"))
	if err != nil {
		panic(err)
	}
	s, err := OpenIsolated(context.Background(), data, IsolatedOptions{OpenOptions: models.OpenOptions{Timeout: time.Hour}})
	if err != nil {
		panic(err)
	}
	fmt.Println((<-s.(*isolated).warm).child.pid)
	select {}
}

func TestChildDiesWithAKilledParent(t *testing.T) {
	needRuntime(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, parentArgument)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscan(out, &pid); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, 0); err != nil {
		t.Fatalf("child %d: %v", pid, err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	gone(t, pid)
}

// needRuntime skips where the library is absent, but never in CI.
func needRuntime(t testing.TB) {
	t.Helper()
	if _, err := ortlib.Find(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

func readModel(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "testdata", name+".onnx"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func open(t testing.TB, name string, o models.OpenOptions) models.Session {
	t.Helper()
	needRuntime(t)
	s, err := Runtime{Logger: slog.New(slog.DiscardHandler)}.Open(t.Context(), readModel(t, name), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func tensorOf[T models.Element](typ models.Type, values []T, shape ...int64) models.Tensor {
	t := models.NewTensor(typ, shape...)
	copy(models.Values[T](t), values)
	return t
}

func longs(values ...int64) []models.Tensor {
	return []models.Tensor{tensorOf(models.Int64, values, int64(len(values)), 1)}
}

// both runs a test in process and in a child.
func both(t *testing.T, test func(t *testing.T, inProcess bool)) {
	for _, inProcess := range []bool{true, false} {
		t.Run(fmt.Sprintf("inProcess=%v", inProcess), func(t *testing.T) { test(t, inProcess) })
	}
}

func TestRun(t *testing.T) {
	both(t, func(t *testing.T, inProcess bool) {
		s := open(t, "linear", models.OpenOptions{InProcess: inProcess})
		for rows := int64(1); rows < 50_000; rows *= 7 { // small and large messages
			x := models.NewTensor(models.Float32, rows, 3)
			in := models.Values[float32](x)
			for i := range rows {
				in[3*i], in[3*i+1], in[3*i+2] = float32(i%7), 1, 2
			}
			out, err := s.Run(t.Context(), []models.Tensor{x})
			if err != nil {
				t.Fatal(err)
			}
			y, both := out[0], out[1]
			if !slices.Equal(y.Shape, []int64{rows, 1}) || !slices.Equal(both.Shape, []int64{rows, 2}) {
				t.Fatalf("shapes %v %v", y.Shape, both.Shape)
			}
			for i := range rows {
				want := float32(i%7) + 210
				if got := models.Values[float32](y)[i]; got != want {
					t.Fatalf("row %d: %v, want %v", i, got, want)
				}
				if got := models.Values[float32](both)[2*i+1]; got != -want {
					t.Fatalf("row %d: %v, want %v", i, got, -want)
				}
			}
		}
		if s.Usage().Time <= 0 {
			t.Error("no time measured")
		}
	})
}

func TestEveryType(t *testing.T) {
	both(t, func(t *testing.T, inProcess bool) {
		s := open(t, "named", models.OpenOptions{InProcess: inProcess})
		text := models.NewTensor(models.String, 2)
		copy(text.Strings, []string{"", "grüße"})
		out, err := s.Run(t.Context(), []models.Tensor{
			tensorOf(models.Float32, []float32{1.5, 2.5}, 2, 1), tensorOf(models.Float64, []float64{0.25, 0.5}, 2, 1),
			tensorOf(models.Int32, []int32{10, -20}, 2, 1), tensorOf(models.Int64, []int64{100, math.MinInt64}, 2, 1),
			tensorOf(models.Bool, []uint8{1, 0}, 2, 1), text,
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := models.Values[float64](out[0])[0]; got != 112.75 {
			t.Errorf("sum %v", got)
		}
		if got := models.Values[int64](out[1]); !slices.Equal(got, []int64{100, math.MinInt64}) {
			t.Errorf("long %v", got)
		}
		if got := models.Values[int32](out[2]); !slices.Equal(got, []int32{10, -20}) {
			t.Errorf("int %v", got)
		}
		if got := out[3].Data; !slices.Equal(got, []byte{0, 1}) {
			t.Errorf("not %v", got)
		}
		if got := out[4].Strings; !slices.Equal(got, []string{"", "grüße"}) {
			t.Errorf("echo %q", got)
		}
	})
}

func TestOutputsAreChosen(t *testing.T) {
	both(t, func(t *testing.T, inProcess bool) {
		s := open(t, "zipmap", models.OpenOptions{InProcess: inProcess})
		out, err := s.Run(t.Context(), []models.Tensor{models.NewTensor(models.Float32, 1, 1)})
		if err != nil || len(out) != 1 {
			t.Fatalf("%d outputs, %v", len(out), err)
		}
		_, err = Runtime{}.Open(t.Context(), readModel(t, "zipmap"), models.OpenOptions{InProcess: inProcess, Outputs: []string{"probabilities"}})
		if !errors.Is(err, models.ErrRejected) {
			t.Errorf("a sequence as output: %v", err)
		}
	})
}

func TestModelsThatDoNotLoad(t *testing.T) {
	needRuntime(t)
	both(t, func(t *testing.T, inProcess bool) {
		for _, test := range []struct {
			name string
			data []byte
			want error
			text string
		}{
			{"future opset", readModel(t, "future"), models.ErrRejected, "999"},
			{"external data", readModel(t, "external"), models.ErrRejected, "in another file"},
			{"text", []byte("hello"), models.ErrNotONNX, ""},
			{"truncated", readModel(t, "linear")[:100], models.ErrNotONNX, "truncated"},
		} {
			_, err := Runtime{}.Open(t.Context(), test.data, models.OpenOptions{InProcess: inProcess})
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.text) {
				t.Errorf("%s: %v", test.name, err)
			}
		}
	})
}

func TestRejectedInputs(t *testing.T) {
	both(t, func(t *testing.T, inProcess bool) {
		s := open(t, "lookup", models.OpenOptions{InProcess: inProcess})
		run := func(values ...int64) error {
			_, err := s.Run(t.Context(), []models.Tensor{tensorOf(models.Int64, values, int64(len(values)))})
			return err
		}
		if err := run(0, 3); !errors.Is(err, models.ErrRejected) || errors.Is(err, models.ErrCrashed) {
			t.Errorf("index out of range: %v", err)
		}
		if _, err := s.Run(t.Context(), []models.Tensor{models.NewTensor(models.Float32, 2)}); !errors.Is(err, models.ErrRejected) {
			t.Errorf("wrong type: %v", err)
		}
		if _, err := s.Run(t.Context(), nil); !errors.Is(err, models.ErrRejected) {
			t.Errorf("no inputs: %v", err)
		}
		if err := run(0, 2); err != nil {
			t.Errorf("after refusals: %v", err)
		}
	})
}

func TestClose(t *testing.T) {
	both(t, func(t *testing.T, inProcess bool) {
		s := open(t, "linear", models.OpenOptions{InProcess: inProcess, Processes: 2})
		for range 2 {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.Run(t.Context(), []models.Tensor{models.NewTensor(models.Float32, 1, 3)}); !errors.Is(err, models.ErrClosed) {
			t.Errorf("run after close: %v", err)
		}
	})
}

// pids are the children that run now.
func pids(t testing.TB, s models.Session) (out []int) {
	t.Helper()
	iso := s.(*isolated)
	for range len(iso.warm) {
		slot := <-iso.warm
		out = append(out, slot.child.pid)
		iso.warm <- slot
	}
	return out
}

// gone waits until a process has ended, whether or not it was reaped.
func gone(t *testing.T, pid int) {
	t.Helper()
	there := func() bool {
		data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return syscall.Kill(pid, 0) == nil && !strings.Contains(string(data), ") Z ")
	}
	poll(t, 10*time.Second, fmt.Sprintf("process %d is still there", pid), func() bool { return !there() })
}

// poll asks until the condition holds: what another process does gives no signal.
func poll(t *testing.T, most time.Duration, otherwise string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.After(most); !holds(); {
		select {
		case <-tick.C:
		case <-end:
			t.Fatal(otherwise)
		}
	}
}

func TestCrashCostsOneChild(t *testing.T) {
	s := open(t, "poison", models.OpenOptions{})
	before := pids(t, s)
	_, err := s.Run(t.Context(), longs(1, math.MinInt64))
	if !errors.Is(err, models.ErrCrashed) || !strings.Contains(err.Error(), "SIGFPE") {
		t.Fatalf("poison: %v", err)
	}
	out, err := s.Run(t.Context(), longs(1, 2))
	if err != nil {
		t.Fatalf("after the crash: %v", err)
	}
	if got := models.Values[int64](out[0]); !slices.Equal(got, []int64{-1, -2}) {
		t.Errorf("after the crash: %v", got)
	}
	if after := pids(t, s); slices.Equal(before, after) {
		t.Errorf("the same process, %v", after)
	}
	gone(t, before[0])
}

func TestKilledBetweenRuns(t *testing.T) {
	s := open(t, "linear", models.OpenOptions{})
	x := []models.Tensor{models.NewTensor(models.Float32, 1, 3)}
	pid := pids(t, s)[0]
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	gone(t, pid)
	if _, err := s.Run(t.Context(), x); !errors.Is(err, models.ErrCrashed) || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("after kill -9: %v", err)
	}
	if _, err := s.Run(t.Context(), x); err != nil {
		t.Fatalf("the next run: %v", err)
	}
}

func TestKilledWhileRunning(t *testing.T) {
	s := open(t, "count", models.OpenOptions{})
	pid := pids(t, s)[0]
	result := make(chan error)
	go func() {
		_, err := s.Run(context.Background(), longs(math.MaxInt64))
		result <- err
	}()
	busy(t, pid)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := <-result; !errors.Is(err, models.ErrCrashed) {
		t.Fatalf("killed while running: %v", err)
	}
	if _, err := s.Run(t.Context(), longs(3)); err != nil {
		t.Fatalf("the next run: %v", err)
	}
}

// busy waits until a process has computed for a while.
func busy(t *testing.T, pid int) {
	t.Helper()
	ticks := func() (n int) {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			t.Skip("needs /proc:", err)
		}
		_, rest, _ := strings.Cut(string(data), ") ")
		fmt.Sscan(strings.Fields(rest)[11], &n)
		return n
	}
	first := ticks()
	poll(t, 20*time.Second, "the child computes nothing", func() bool { return ticks() >= first+5 })
}

func TestHangingModelIsKilled(t *testing.T) {
	s := open(t, "count", models.OpenOptions{Timeout: 2 * time.Second})
	pid := pids(t, s)[0]
	if _, err := s.Run(t.Context(), longs(math.MaxInt64)); !errors.Is(err, models.ErrCrashed) || !strings.Contains(err.Error(), "no answer within 2s") {
		t.Fatalf("endless loop: %v", err)
	}
	gone(t, pid)
	if _, err := s.Run(t.Context(), longs(3)); err != nil {
		t.Fatalf("the next run: %v", err)
	}
}

func TestModelThatHangsWhileLoading(t *testing.T) {
	needRuntime(t)
	_, err := Runtime{Logger: slog.New(slog.DiscardHandler)}.Open(t.Context(), readModel(t, "nest"), models.OpenOptions{Timeout: time.Second})
	if !errors.Is(err, models.ErrCrashed) || !strings.Contains(err.Error(), "no answer within 1s") {
		t.Fatalf("nested branches: %v", err)
	}
}

func TestCancelStopsTheModel(t *testing.T) {
	both(t, func(t *testing.T, inProcess bool) {
		s := open(t, "count", models.OpenOptions{InProcess: inProcess})
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error)
		go func() {
			_, err := s.Run(ctx, longs(math.MaxInt64))
			result <- err
		}()
		if !inProcess {
			busy(t, onlyChild(t))
		}
		cancel()
		if err := <-result; !errors.Is(err, context.Canceled) || errors.Is(err, models.ErrCrashed) {
			t.Fatalf("cancelled: %v", err)
		}
		if _, err := s.Run(t.Context(), longs(3)); err != nil {
			t.Fatalf("the next run: %v", err)
		}
	})
}

// onlyChild is the one child of this process, free or busy.
func onlyChild(t *testing.T) int {
	t.Helper()
	own := os.Getpid()
	children, err := os.ReadDir("/proc")
	if err != nil {
		t.Skip("needs /proc:", err)
	}
	for _, c := range children {
		data, _ := os.ReadFile("/proc/" + c.Name() + "/stat")
		_, rest, ok := strings.Cut(string(data), ") ")
		if ok && strings.Fields(rest)[1] == fmt.Sprint(own) {
			var pid int
			fmt.Sscan(c.Name(), &pid)
			return pid
		}
	}
	t.Fatal("no child")
	return 0
}

func TestMemoryLimit(t *testing.T) {
	s := open(t, "eater", models.OpenOptions{MaxMemory: 64 << 20, Measure: true})
	pid := pids(t, s)[0]
	if _, err := s.Run(t.Context(), longs(4096)); !errors.Is(err, models.ErrRejected) || !strings.Contains(err.Error(), "more memory than its limit of 64 MiB") {
		t.Fatalf("4 GiB: %v", err)
	}
	if _, err := s.Run(t.Context(), longs(16)); err != nil {
		t.Fatalf("16 MiB: %v", err)
	}
	if u := s.Usage(); u.PeakBytes-u.BaseBytes < 16<<20 || u.PeakBytes-u.BaseBytes > 64<<20 {
		t.Errorf("measured %d bytes above %d for an allocation of 16 MiB", u.PeakBytes-u.BaseBytes, u.BaseBytes)
	}
	if got := pids(t, s)[0]; got != pid {
		t.Error("a refused allocation cost the process")
	}
}

func TestConcurrentRuns(t *testing.T) {
	both(t, func(t *testing.T, inProcess bool) {
		s := open(t, "poison", models.OpenOptions{InProcess: inProcess, Processes: 3})
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				for i := range 50 {
					v := int64(g*1000 + i)
					out, err := s.Run(t.Context(), longs(v, v+1))
					if err != nil {
						t.Error(err)
						return
					}
					if got := models.Values[int64](out[0]); !slices.Equal(got, []int64{-v, -v - 1}) {
						t.Errorf("%d: %v", v, got)
					}
				}
			})
		}
		wg.Wait()
		if !inProcess {
			if n := len(pids(t, s)); n > 3 {
				t.Errorf("%d processes", n)
			}
		}
	})
}

func TestWarmChildIsPreferred(t *testing.T) {
	s := open(t, "poison", models.OpenOptions{Processes: 4})
	for range 10 {
		if _, err := s.Run(t.Context(), longs(1)); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(pids(t, s)); n != 1 {
		t.Errorf("%d processes for one run at a time", n)
	}
}

func TestRestartsAreSpacedOut(t *testing.T) {
	for crashes, want := range []time.Duration{0, 0, 0, 0, 50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond} {
		if got := restartWait(crashes); got != want {
			t.Errorf("after %d crashes: %s, want %s", crashes, got, want)
		}
	}
	if got := restartWait(1000); got != maxWait {
		t.Errorf("after many: %s", got)
	}
}

func TestChildrenEndWithTheirParent(t *testing.T) {
	s := open(t, "count", models.OpenOptions{})
	iso := s.(*isolated)
	slot := <-iso.warm
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		meta, data := appendTensors(nil, longs(math.MaxInt64))
		// There may be an answer: a process that exits takes the runtime down under the graph.
		_, _, _ = slot.child.call(kindRun, meta, data)
	}()
	busy(t, slot.child.pid)
	slot.child.in.Close() // all that a child sees of a parent that died, elsewhere than on Linux
	<-slot.child.done
	<-ended
	slot.child = nil
	iso.release(slot)
}

func TestBrokenChildren(t *testing.T) {
	needRuntime(t)
	for _, test := range []struct{ name, script, text string }{
		{"exits", "exit 3", "exit status 3"},
		{"says why", "echo model is cursed >&2; exit 1", "model is cursed"},
		{"talks nonsense", "echo hello from a library that prints; sleep 60", "nonsense"},
		{"says nothing", "sleep 60", "no answer within"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := OpenIsolated(t.Context(), readModel(t, "linear"), IsolatedOptions{
				OpenOptions: models.OpenOptions{Timeout: time.Second}, Command: []string{"/bin/sh", "-c", "exec 2>&2; " + test.script},
				Logger: slog.New(slog.DiscardHandler)})
			if !errors.Is(err, models.ErrCrashed) || !strings.Contains(err.Error(), test.text) {
				t.Errorf("%v", err)
			}
		})
	}
	_, err := OpenIsolated(t.Context(), readModel(t, "linear"), IsolatedOptions{Command: []string{"/no/such/program"}})
	if !errors.Is(err, models.ErrRuntime) {
		t.Errorf("no program: %v", err)
	}
}

func TestChildHasNoSecrets(t *testing.T) {
	t.Setenv("AWS_SECRET_ACCESS_KEY", "do-not-pass-on")
	if env := childEnvironment("/lib.so"); slices.ContainsFunc(env, func(s string) bool { return strings.Contains(s, "do-not-pass-on") }) {
		t.Errorf("environment %q", env)
	}
}

func TestMissingLibrary(t *testing.T) {
	t.Setenv(ortlib.Env, "/nowhere/libonnxruntime.so")
	_, err := OpenIsolated(t.Context(), readModel(t, "linear"), IsolatedOptions{})
	if !errors.Is(err, models.ErrRuntime) || !strings.Contains(err.Error(), "go tool task setup") {
		t.Errorf("isolated: %v", err)
	}
	other := filepath.Join(t.TempDir(), ortlib.FileName("linux"))
	if err := os.WriteFile(other, []byte("not a library"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv(ortlib.Env, other)
	_, err = OpenIsolated(t.Context(), readModel(t, "linear"), IsolatedOptions{})
	if !errors.Is(err, models.ErrRuntime) || !strings.Contains(err.Error(), "go tool task setup") {
		t.Errorf("another file: %v", err)
	}
}
