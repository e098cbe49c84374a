package testserver

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Postgres is a running PostgreSQL server.
type Postgres struct {
	*Process
	DSN string // of the superuser postgres and the database postgres

	bin, dir string
	args     []string
}

// StartPostgres runs a server with logical replication until the test ends; conf are more settings,
// as name=value. It skips the test when initdb and postgres are found neither in
// $TIDEMILL_TEST_POSTGRES, a directory, nor where Debian puts them, nor in PATH.
func StartPostgres(tb testing.TB, conf ...string) *Postgres {
	tb.Helper()
	p := &Postgres{bin: postgresBin(tb)}
	var err error
	// Not tb.TempDir: the server's user may not enter it.
	if p.dir, err = os.MkdirTemp("", "tidemill-postgres"); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(p.dir) })
	if as := postgresUser(tb); as != nil {
		if err := os.Chown(p.dir, int(as.Uid), int(as.Gid)); err != nil {
			tb.Fatal(err)
		}
	}
	data := filepath.Join(p.dir, "data")
	if out, err := p.command(tb, "initdb", "-D", data, "-U", "postgres", "--auth=trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync").CombinedOutput(); err != nil {
		tb.Fatalf("initdb: %v\n%s", err, out)
	}
	port := FreePort(tb)
	p.DSN = fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", port)
	p.args = []string{"-D", data}
	for _, c := range append([]string{
		"listen_addresses=127.0.0.1", "port=" + strconv.Itoa(port), "unix_socket_directories=", "wal_level=logical", "fsync=off",
		"max_wal_senders=8", "max_replication_slots=8", "shared_buffers=16MB", "log_min_messages=warning", "autovacuum=off",
	}, conf...) {
		p.args = append(p.args, "-c", c)
	}
	p.Restart(tb)
	return p
}

// Restart starts the server, after it was stopped or killed, with the data it had.
func (p *Postgres) Restart(tb testing.TB) {
	tb.Helper()
	p.Process = Start(tb, p.command(tb, "postgres", p.args...))
	p.WaitReady(tb, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		c, err := pgx.Connect(ctx, p.DSN)
		if err != nil {
			return err
		}
		return c.Close(ctx)
	})
}

// StopFast stops the server without waiting for its clients.
func (p *Postgres) StopFast() {
	_ = p.cmd.Process.Signal(syscall.SIGINT)
	select {
	case <-p.Done():
	case <-time.After(10 * time.Second):
		p.Kill()
	}
}

// Connect returns a connection that is closed when the test ends. It is for one goroutine.
func (p *Postgres) Connect(tb testing.TB) *pgx.Conn {
	tb.Helper()
	c, err := pgx.Connect(context.Background(), p.DSN)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

// Exec runs statements, each of its own.
func (p *Postgres) Exec(tb testing.TB, sql ...string) {
	tb.Helper()
	c, err := pgx.Connect(context.Background(), p.DSN)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = c.Close(context.Background()) }()
	for _, s := range sql {
		if _, err := c.Exec(context.Background(), s); err != nil {
			tb.Fatalf("%s: %v", s, err)
		}
	}
}

// command runs one of the server's programs, as the user postgres if this is root, whom
// it refuses to serve.
func (p *Postgres) command(tb testing.TB, name string, args ...string) *exec.Cmd {
	tb.Helper()
	cmd := exec.Command(filepath.Join(p.bin, name), args...)
	cmd.Dir = p.dir
	if as := postgresUser(tb); as != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	}
	return cmd
}

func postgresUser(tb testing.TB) *syscall.Credential {
	tb.Helper()
	if os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		Missing(tb, "PostgreSQL does not run as root, and there is no user postgres; install the package postgresql")
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		tb.Fatal(err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		tb.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

func postgresBin(tb testing.TB) string {
	tb.Helper()
	if dir := os.Getenv("TIDEMILL_TEST_POSTGRES"); dir != "" {
		return dir
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) > 0 {
		return filepath.Dir(slices.Max(found))
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path)
	}
	Missing(tb, "no PostgreSQL: initdb is not in $TIDEMILL_TEST_POSTGRES, /usr/lib/postgresql/*/bin or PATH; install the package postgresql")
	return ""
}
