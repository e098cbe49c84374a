package main

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	embedded "github.com/tidemill/tidemill/deploy/embedded/store"
	"github.com/tidemill/tidemill/internal/freeport"
	"github.com/tidemill/tidemill/internal/secret"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/objstore/s3"
)

// server is a store that runs until stop is called.
type server struct {
	name string
	objstore.Store
	stop func() error
}

const accessKey = "tidemill-bench"

// start runs a store in a directory of its own, on a free port.
func start(ctx context.Context, kind string) (*server, error) {
	dir, err := os.MkdirTemp("", "tidemill-lakehouse-")
	if err != nil {
		return nil, err
	}
	port, err := freeport.Find(ctx, "127.0.0.1")
	if err != nil {
		return nil, err
	}
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	key := secret.New("tidemill-bench-secret")
	var end func() error
	switch kind {
	case "embedded":
		end, err = startEmbedded(ctx, dir, addr, key)
	case "minio":
		end, err = startMinIO(ctx, dir, addr, key)
	default:
		err = fmt.Errorf("-store is %q, want embedded or minio", kind)
	}
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	stop := func() error {
		err := end()
		if rerr := os.RemoveAll(dir); err == nil {
			err = rerr
		}
		return err
	}
	c, err := s3.New(ctx, s3.Config{Endpoint: addr, Bucket: "bench", AccessKey: accessKey, SecretKey: key, CreateBucket: true})
	if err != nil {
		_ = stop()
		return nil, err
	}
	return &server{kind, c, stop}, nil
}

func startEmbedded(ctx context.Context, dir, addr string, key secret.String) (func() error, error) {
	s, err := embedded.Start(ctx, embedded.Options{Dir: dir, Addr: addr, Region: "us-east-1", AccessKey: accessKey, SecretKey: key})
	if err != nil {
		return nil, err
	}
	return func() error { return s.Stop(context.Background()) }, nil
}

// startMinIO runs the minio program of PATH or of `go install`.
func startMinIO(ctx context.Context, dir, addr string, key secret.String) (func() error, error) {
	bin, err := exec.LookPath("minio")
	if err != nil {
		home, herr := os.UserHomeDir()
		bin = filepath.Join(home, "go", "bin", "minio")
		if _, serr := os.Stat(bin); herr != nil || serr != nil {
			return nil, fmt.Errorf("%w; .ci/run says how to install it", err)
		}
	}
	cmd := exec.Command(bin, "server", "--quiet", "--address", addr, dir)
	cmd.Env = append(os.Environ(), "MINIO_ROOT_USER="+accessKey, "MINIO_ROOT_PASSWORD="+key.Reveal(), "MINIO_BROWSER=off", "MINIO_UPDATE=off", "MINIO_CALLHOME_ENABLE=off")
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	end := func() error {
		err := cmd.Process.Signal(syscall.SIGTERM)
		<-ended
		return err
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			return nil, fmt.Errorf("minio ended: %w", err)
		case <-ctx.Done():
			return nil, fmt.Errorf("minio is not ready: %w", ctx.Err())
		case <-tick.C:
		}
		resp, err := http.Get("http://" + addr + "/")
		if err != nil {
			continue
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusForbidden { // requests are looked at
			return end, nil
		}
	}
}

// counting counts the requests that a store is asked for, as it is billed for them.
type counting struct {
	objstore.Store
	far                                        time.Duration // added to each request
	puts, commits, gets, stats, lists, deletes atomic.Int64
}

// wait counts a request, and waits for as long as it takes on its way.
func (c *counting) wait(ctx context.Context, n *atomic.Int64) error {
	n.Add(1)
	if c.far == 0 {
		return nil
	}
	return until(ctx, time.Now().Add(c.far))
}

// listPage is how many objects a store lists in one request.
const listPage = 1000

func (c *counting) Get(ctx context.Context, key string) ([]byte, error) {
	if err := c.wait(ctx, &c.gets); err != nil {
		return nil, err
	}
	return c.Store.Get(ctx, key)
}

func (c *counting) Stat(ctx context.Context, key string) (objstore.Object, error) {
	if err := c.wait(ctx, &c.stats); err != nil {
		return objstore.Object{}, err
	}
	return c.Store.Stat(ctx, key)
}

func (c *counting) Put(ctx context.Context, key string, data []byte) error {
	if err := c.wait(ctx, &c.puts); err != nil {
		return err
	}
	return c.Store.Put(ctx, key, data)
}

func (c *counting) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	if err := c.wait(ctx, &c.commits); err != nil {
		return err
	}
	return c.Store.PutIfAbsent(ctx, key, data)
}

func (c *counting) Delete(ctx context.Context, key string) error {
	if err := c.wait(ctx, &c.deletes); err != nil {
		return err
	}
	return c.Store.Delete(ctx, key)
}

func (c *counting) List(ctx context.Context, prefix, startAfter string) iter.Seq2[objstore.Object, error] {
	return func(yield func(objstore.Object, error) bool) {
		n := 0
		for o, err := range c.Store.List(ctx, prefix, startAfter) {
			if n%listPage == 0 && err == nil {
				err = c.wait(ctx, &c.lists)
			}
			n++
			if !yield(o, err) {
				return
			}
		}
		if n == 0 {
			if err := c.wait(ctx, &c.lists); err != nil {
				yield(objstore.Object{}, err)
			}
		}
	}
}
