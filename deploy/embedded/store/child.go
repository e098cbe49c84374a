package store

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
)

// childEnv makes a program with this package in it be the store.
const childEnv = "TIDEMILL_EMBEDDED_STORE_CHILD"

// healthPath answers 200 without credentials. A bucket cannot have this name.
const healthPath = "/-tidemill-ready"

// shutdownGrace bounds how long the child finishes requests once it should end.
const shutdownGrace = 3 * time.Second

// childConfig is the one line of JSON that the child reads first.
type childConfig struct {
	Data      string // directory of the buckets
	Sidecar   string // directory of the metadata; empty: extended attributes
	Addr      string // host:port
	Region    string
	AccessKey string
	SecretKey string // plain, for it must arrive; it goes through a pipe only
	Sync      bool
}

func init() {
	if os.Getenv(childEnv) == "" {
		return
	}
	if err := childMain(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func childMain() error {
	// The terminal, systemd and container runtimes signal the whole group; the store
	// stays until the parent, which still writes while it shuts down, lets go of it.
	signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	_ = os.Unsetenv(childEnv)

	in := bufio.NewReader(os.Stdin)
	line, err := in.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	var cfg childConfig
	if err := json.Unmarshal(line, &cfg); err != nil {
		return errors.New("configuration is not JSON") // the error would quote it, secrets and all
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, in)
		cancel()
		time.AfterFunc(shutdownGrace, func() { os.Exit(0) })
	}()
	return serve(ctx, cfg)
}

func serve(ctx context.Context, cfg childConfig) error {
	var storer meta.MetadataStorer = meta.XattrMeta{}
	if cfg.Sidecar != "" {
		s, err := meta.NewSideCar(cfg.Sidecar)
		if err != nil {
			return fmt.Errorf("metadata directory: %w", err)
		}
		storer = s
	}
	opts := posix.PosixOpts{SideCarDir: cfg.Sidecar}
	opts.SetNewDirPerm(0o700)
	opts.SetNewFilePerm(0o600)
	px, err := posix.New(cfg.Data, storer, opts)
	if err != nil {
		return fmt.Errorf("open data directory: %w", err)
	}
	return embedgw.RunVersityGW(ctx, newBackend(px, storer, cfg.Sync), &embedgw.Config{
		RootUserAccess: cfg.AccessKey,
		RootUserSecret: cfg.SecretKey,
		Region:         cfg.Region,
		Ports:          []string{cfg.Addr},
		// Far above what one machine's writers use; the limits only bound memory.
		MaxConnections:    4096,
		MaxRequests:       2048,
		MultipartMaxParts: 10000,
		Quiet:             true,
		KeepAlive:         true,
		HealthPath:        healthPath,
	})
}
