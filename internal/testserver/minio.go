package testserver

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"testing"

	"github.com/tidemill/tidemill/internal/secret"
)

// minioInstall is the last release of MinIO's community server, as its module version.
const minioInstall = "install it with: go install github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c"

// MinIO is a running MinIO server.
type MinIO struct {
	*Process
	Addr      string // host:port
	Dir       string // where its data is
	AccessKey string
	SecretKey secret.String
	bin       string
}

// StartMinIO runs a MinIO server until the test ends. It skips the test when there is
// no binary ($TIDEMILL_TEST_MINIO, PATH, or the go bin directory).
func StartMinIO(tb testing.TB) *MinIO {
	tb.Helper()
	bin := Binary(tb, "TIDEMILL_TEST_MINIO", "minio", minioInstall)
	m := &MinIO{Addr: Addr(FreePort(tb)), Dir: tb.TempDir(), AccessKey: "tidemill-test", SecretKey: secret.New("tidemill-test-secret"), bin: bin}
	m.Start(tb)
	return m
}

// Start runs the server again, at its address and on its data, after it was stopped or killed.
func (m *MinIO) Start(tb testing.TB) {
	tb.Helper()
	cmd := exec.Command(m.bin, "server", "--quiet", "--address", m.Addr, "--console-address", Addr(FreePort(tb)), m.Dir)
	cmd.Env = append(os.Environ(),
		"MINIO_ROOT_USER="+m.AccessKey, "MINIO_ROOT_PASSWORD="+m.SecretKey.Reveal(),
		"MINIO_BROWSER=off", "MINIO_UPDATE=off", "MINIO_CALLHOME_ENABLE=off")
	m.Process = Start(tb, cmd)
	m.WaitReady(tb, func() error {
		// Not its health check: that is content before requests are.
		resp, err := http.Get("http://" + m.Addr + "/")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusForbidden {
			return fmt.Errorf("an unsigned request gives %s", resp.Status)
		}
		return nil
	})
}
