package files

import (
	"cmp"
	"context"
	"log/slog"
	"path"
	"time"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemill/tidemill/internal/batch"
)

// Config says what a [Reader] reads.
type Config struct {
	Places []Place
	Format Format
	CSV    CSVOptions
	// Poll is how long to wait between two looks for new objects; 0: one look, and the
	// reader ends when what it saw is read.
	Poll time.Duration
	// Still is for how long a local file must not have changed to be taken for complete.
	Still time.Duration
	// Retry is how long to wait before what failed is tried again; each time longer, up to
	// half a minute.
	Retry time.Duration
	// Parallel is how many objects are read at a time.
	Parallel int
	// MaxRowBytes bounds a row that lands; NDJSON may have lines of four times that.
	MaxRowBytes int
	// Schema has the contract's columns, by which CSV fields get their types; may be nil.
	Schema *arrow.Schema
	// Claims returns what is in of a partition. It is asked before an object is read, so
	// that what is in need not be.
	Claims func(ctx context.Context, partition string) batch.Intervals
	Logger *slog.Logger
}

// Defaults of a [Config].
const (
	DefaultPoll     = 5 * time.Second
	DefaultStill    = 10 * time.Second
	DefaultRetry    = 500 * time.Millisecond
	DefaultParallel = 4
)

func (c *Config) fill() {
	c.Format = cmp.Or(c.Format, Auto)
	c.Still = cmp.Or(c.Still, DefaultStill)
	c.Retry = cmp.Or(c.Retry, DefaultRetry)
	c.Parallel = max(1, c.Parallel)
	c.MaxRowBytes = cmp.Or(c.MaxRowBytes, 16<<20)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Claims == nil {
		c.Claims = func(context.Context, string) batch.Intervals { return nil }
	}
}

func pathExt(name string) string { return path.Ext(bare(name)) }
