package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/tidemill/tidemill/internal/project"
	"github.com/tidemill/tidemill/query"
)

// SQLOptions say how a query's rows are written.
type SQLOptions struct {
	Format string    // "table", "json" or "csv"
	Stats  io.Writer // what was read and what was skipped goes here, a line per table; nil: nowhere
}

// SQL runs a query over the tables of the project in a directory, and over those that it
// names by their path, and writes its rows. Where there is no project, paths still work.
func SQL(ctx context.Context, dir, sql string, o SQLOptions, log *slog.Logger, w io.Writer) error {
	s := &source{log: log, connect: func(ctx context.Context) (*Client, error) { return Connect(ctx, dir, log) }}
	defer s.close()
	cacheDir, disk := filesDir(dir)
	cache, err := query.NewFileCache(cacheDir, disk)
	if err != nil {
		return err
	}
	s.cache = cache
	q, err := query.OpenTables(s, query.TablesOptions{Dir: cache.Dir()})
	if err != nil {
		return err
	}
	defer q.Close()
	rows, err := q.Query(ctx, sql)
	if err != nil {
		return err
	}
	defer rows.Close()
	if o.Stats != nil {
		for _, t := range rows.Stats() {
			if _, err := fmt.Fprintln(o.Stats, t.Reads()); err != nil {
				return err
			}
		}
	}
	switch {
	case o.Format == "json":
		return query.WriteJSON(w, rows)
	case o.Format == "csv":
		return query.WriteCSV(w, rows)
	case rows.IsPlan():
		return query.WritePlan(w, rows)
	}
	return query.WriteGrid(w, rows, query.GridOptions{Width: terminalWidth()})
}

// defaultDisk bounds the cache where no project says how large it is.
const defaultDisk = 2 << 30

// filesDir is where files are kept for queries, and how many bytes of them: in the
// project's state, or if there is none here, in the user's cache.
func filesDir(dir string) (string, int64) {
	name, disk := "sql", int64(defaultDisk)
	if p, err := project.Load(dir); err == nil {
		name, disk = p.Name(), p.Cache().Disk
	}
	if _, err := os.Stat(stateDir(dir)); err == nil {
		return filepath.Join(stateDir(dir), "cache"), disk
	}
	base, err := os.UserCacheDir()
	if err != nil {
		base = os.TempDir()
	}
	return filepath.Join(base, "tidemill", name), disk
}
