package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tidemill/tidemill/internal/testserver"
)

// instance is one run of the product.
type instance struct {
	*testserver.Process
}

// launch starts the product; env adds to the environment.
func launch(t *testing.T, bin string, env []string, args ...string) *instance {
	t.Helper()
	cmd := exec.Command(bin, append(args, "--log-format", "json")...)
	cmd.Env = append(os.Environ(), env...)
	return &instance{testserver.Start(t, cmd)}
}

// fault asks a process to kill itself when it passes a point for the n-th time.
func fault(point string, n int) string { return fmt.Sprintf("TIDEMILL_FAULT=%s:%d", point, n) }

// died waits for the process to end and fails the test when it did so in any
// other way than by SIGKILL.
func (p *instance) died(t *testing.T, why string) {
	t.Helper()
	limit := time.NewTimer(2 * time.Minute)
	defer limit.Stop()
	select {
	case <-p.Done():
	case <-limit.C:
		t.Fatalf("%s: not reached within two minutes\n%s", why, p.Output())
	}
	if s, ok := p.State().Sys().(syscall.WaitStatus); !ok || s.Signal() != syscall.SIGKILL {
		t.Fatalf("%s: the process ended by itself: %s\n%s", why, p.State(), p.Output())
	}
}

// asleep waits until the process has stopped itself.
func (p *instance) asleep(t *testing.T, why string) {
	t.Helper()
	testserver.Eventually(t, "fall asleep at "+why, time.Minute, func(context.Context) error {
		select {
		case <-p.Done():
			t.Fatalf("%s: the process ended by itself: %s\n%s", why, p.State(), p.Output())
		default:
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Pid()))
		if err != nil {
			return err
		}
		// The state follows the name, which stands in parentheses.
		if _, state, _ := strings.Cut(string(stat), ") "); !strings.HasPrefix(state, "T") {
			return fmt.Errorf("its state is %.1s", state)
		}
		return nil
	})
}

// addresses are those that `tidemill dev --json` prints.
type addresses struct {
	Temporal string `json:"temporal"`
	S3       string `json:"s3"`
}

// addresses waits for a dev process to be up.
func (p *instance) addresses(t *testing.T) (a addresses) {
	t.Helper()
	p.WaitReady(t, func() error {
		for line := range bytes.Lines([]byte(p.Output())) {
			if bytes.HasPrefix(line, []byte(`{"bucket"`)) && json.Unmarshal(line, &a) == nil {
				return nil
			}
		}
		return errors.New("no addresses yet")
	})
	return a
}

// keys reads the store's keys from what dev keeps beside its state.
func keys(file []byte) (access, key string, err error) {
	var a struct {
		Access string `json:"access_key"`
		Secret string `json:"secret_key"`
	}
	err = json.Unmarshal(file, &a)
	return a.Access, a.Secret, err
}

// atWork waits until the process has begun to read.
func (p *instance) atWork(t *testing.T) {
	t.Helper()
	p.WaitReady(t, func() error {
		if !strings.Contains(p.Output(), "connector started") {
			return errors.New("no connector has been started")
		}
		return nil
	})
}

// fileDone says whether the file connector has read and landed everything.
func (p *instance) fileDone() bool {
	for line := range strings.Lines(p.Output()) {
		if strings.Contains(line, "connector finished") && strings.Contains(line, `"connector":"file"`) {
			return true
		}
	}
	return false
}
