package embedded

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"time"

	"github.com/tidemill/tidemill/internal/secret"
)

// Default ports, those that people know from the originals.
const (
	DefaultTemporalPort = 7233
	DefaultUIPort       = 8233
	DefaultS3Port       = 9000
)

// Options of the embedded stack. Only Dir is required.
type Options struct {
	// Dir keeps all state; it is made if missing, for its owner only.
	Dir string
	// Host is the address that the three services listen on; default 127.0.0.1. None of
	// them asks who is calling except the object store: open it up only behind something that does.
	Host string
	// Ports; 0 is the default.
	TemporalPort, UIPort, S3Port int
	// FreePorts takes free ports for those that are 0, for tests.
	FreePorts bool
	// Which services to run; none set: all. The UI needs Temporal.
	Temporal, UI, S3 bool
	// Region of the object store; default us-east-1.
	Region string
	// AccessKey and SecretKey of the object store; both empty: those in Dir, generated
	// at the first start.
	AccessKey string
	SecretKey secret.String
	// NoSync lets the object store acknowledge before content is on disk. For tests.
	NoSync bool
	// SidecarMetadata keeps the object store's metadata in files of their own even where
	// extended attributes work. It counts at the first start in Dir.
	SidecarMetadata bool
	// HistoryEvents is after how many events the Temporal server suggests to a workflow
	// that it continue as new; default 4096. For tests.
	HistoryEvents int
	// StopTimeout bounds Stop when its context has no deadline; default 15 s.
	StopTimeout time.Duration
	// Logger gets the services' warnings and errors; none by default.
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.Host == "" {
		o.Host = "127.0.0.1"
	}
	if !o.Temporal && !o.UI && !o.S3 {
		o.Temporal, o.UI, o.S3 = true, true, true
	}
	if o.Region == "" {
		o.Region = "us-east-1"
	}
	if o.StopTimeout <= 0 {
		o.StopTimeout = 15 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if !o.FreePorts {
		o.TemporalPort = orDefault(o.TemporalPort, DefaultTemporalPort)
		o.UIPort = orDefault(o.UIPort, DefaultUIPort)
		o.S3Port = orDefault(o.S3Port, DefaultS3Port)
	}
	return o
}

func orDefault(port, def int) int {
	if port == 0 {
		return def
	}
	return port
}

func (o Options) validate() error {
	var errs []error
	if o.Dir == "" {
		errs = append(errs, errors.New("no directory given for the state of the embedded services"))
	}
	if net.ParseIP(o.Host) == nil {
		errs = append(errs, fmt.Errorf("host %q is not an IP address, such as 127.0.0.1", o.Host))
	}
	for _, p := range []struct {
		name string
		port int
	}{{"temporal-port", o.TemporalPort}, {"ui-port", o.UIPort}, {"s3-port", o.S3Port}} {
		if p.port < 0 || p.port > 65535 {
			errs = append(errs, fmt.Errorf("%s %d is not a port (1 to 65535)", p.name, p.port))
		}
	}
	if o.UI && !o.Temporal {
		errs = append(errs, errors.New("the embedded web UI shows the embedded Temporal server, which is off"))
	}
	if (o.AccessKey == "") != o.SecretKey.Empty() {
		errs = append(errs, errors.New("object store credentials: give both access and secret key, or neither to generate them"))
	}
	return errors.Join(errs...)
}

func (o Options) path(elem ...string) string {
	return filepath.Join(append([]string{o.Dir}, elem...)...)
}
