package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/tidemill/tidemill/deploy/embedded"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/objstore/s3"
)

func start(tb testing.TB, o embedded.Options) *embedded.Stack {
	tb.Helper()
	o.FreePorts = true
	if o.Dir == "" {
		o.Dir = tb.TempDir()
	}
	if o.Logger == nil {
		o.Logger = testLogger(tb)
	}
	s, err := embedded.Start(tb.Context(), o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { stop(tb, s) })
	return s
}

func stop(tb testing.TB, s *embedded.Stack) {
	tb.Helper()
	if err := s.Stop(context.Background()); err != nil {
		tb.Error(err)
	}
}

// testLogger writes to the test's log as long as the test runs: servers may log later.
func testLogger(tb testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(tb.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
}

func dial(tb testing.TB, addr string) client.Client {
	tb.Helper()
	c, err := client.Dial(client.Options{HostPort: addr, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.Close)
	return c
}

func bucket(tb testing.TB, c embedded.S3) *s3.Store {
	tb.Helper()
	s, err := s3.New(tb.Context(), s3.Config{
		Endpoint: c.Endpoint, Region: c.Region, AccessKey: c.AccessKey, SecretKey: c.SecretKey, Bucket: "lake", CreateBucket: true,
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Close)
	return s
}

func get(tb testing.TB, url string) string {
	tb.Helper()
	resp, err := http.Get(url)
	if err != nil {
		tb.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		tb.Fatalf("%s: %s %v", url, resp.Status, err)
	}
	return string(body)
}

func TestStack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state with # and ? and %")
	began := time.Now()
	s := start(t, embedded.Options{Dir: dir})
	t.Logf("first start: %v", time.Since(began))

	c := dial(t, s.TemporalAddress())
	ns, err := c.WorkflowService().DescribeNamespace(t.Context(), &workflowservice.DescribeNamespaceRequest{Namespace: embedded.Namespace})
	if err != nil {
		t.Fatal(err)
	}
	if r := ns.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration(); r != embedded.Retention {
		t.Errorf("retention is %v, want %v", r, embedded.Retention)
	}
	sa, err := c.OperatorService().ListSearchAttributes(t.Context(), &operatorservice.ListSearchAttributesRequest{Namespace: embedded.Namespace})
	if err != nil {
		t.Fatal(err)
	}
	for name := range embedded.SearchAttributes {
		if sa.CustomAttributes[name] != enumspb.INDEXED_VALUE_TYPE_KEYWORD {
			t.Errorf("search attribute %s is %v", name, sa.CustomAttributes[name])
		}
	}
	if body := get(t, s.UIURL()+"/"); !strings.Contains(body, "<html") {
		t.Errorf("UI gives %.100q", body)
	}
	if body := get(t, s.UIURL()+"/api/v1/settings"); !strings.Contains(body, `"DefaultNamespace":"default"`) {
		t.Errorf("UI settings: %s", body)
	}
	if err := objstore.Probe(t.Context(), bucket(t, s.S3()), "x"); err != nil {
		t.Error(err)
	}
	if _, err := embedded.Start(t.Context(), embedded.Options{Dir: t.TempDir(), FreePorts: true}); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("second start in the process: %v", err)
	}

	fi, err := os.Stat(filepath.Join(dir, "credentials.json"))
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("credentials: %v %v", fi.Mode(), err)
	}
	began = time.Now()
	stop(t, s)
	t.Logf("stop: %v", time.Since(began))
	stop(t, s)
	began = time.Now()
	s2 := start(t, embedded.Options{Dir: dir})
	t.Logf("second start: %v", time.Since(began))
	if s2.S3().SecretKey != s.S3().SecretKey {
		t.Error("credentials changed with a restart")
	}
}

func TestPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	_, err = embedded.Start(t.Context(), embedded.Options{Dir: t.TempDir(), FreePorts: true, TemporalPort: port})
	var perr *embedded.PortError
	if !errors.As(err, &perr) {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{fmt.Sprint(port), "temporal-port", fmt.Sprint(os.Getpid()), "Temporal"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q lacks %q", err, want)
		}
	}
	// Nothing is left behind: the process can start again.
	start(t, embedded.Options{S3: true})
}

func TestNotWritable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := embedded.Start(t.Context(), embedded.Options{Dir: filepath.Join(file, "dir"), FreePorts: true})
	if err == nil || !strings.Contains(err.Error(), "cannot write to "+file) || !strings.Contains(err.Error(), "choose a directory") {
		t.Errorf("got %v", err)
	}
}

func TestOptions(t *testing.T) {
	_, err := embedded.Start(t.Context(), embedded.Options{Host: "localhost", TemporalPort: -1, UI: true, AccessKey: "a"})
	for _, want := range []string{"no directory", "IP address", "temporal-port -1", "web UI", "credentials"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %q", err, want)
		}
	}
}
