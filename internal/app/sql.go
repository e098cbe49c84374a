package app

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/tidemill/tidemill/internal/project"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/query"
)

// fetchers is how many files are fetched for a query at once.
const fetchers = 16

// source gives SQL the newest snapshot of each table, its files in the local cache.
type source struct {
	tables *tables
	cache  *query.FileCache
}

func (s *source) Names(ctx context.Context) ([]string, error) { return s.tables.names(ctx) }

func (s *source) Open(ctx context.Context, name string) (*query.Source, error) {
	t, err := s.tables.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	snap, err := t.Refresh(ctx)
	if err != nil {
		return nil, err
	}
	var files []lakehouse.File
	for f := range snap.Files() {
		files = append(files, f)
	}
	var mu sync.Mutex
	var held []*query.CachedFile
	release := func() {
		for _, f := range held {
			f.Release()
		}
	}
	out := &query.Source{Schema: snap.Schema(), PartitionBy: snap.PartitionBy(), Files: make([]query.SourceFile, len(files)), Close: release}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(fetchers)
	for i, f := range files {
		g.Go(func() error {
			// A table that was deleted and made anew has another id.
			key := snap.TableID() + "/" + f.Path
			c, err := s.cache.Fetch(ctx, key, f.Size, func(ctx context.Context) (io.ReadCloser, error) {
				data, err := s.tables.store.Get(ctx, name+"/"+f.Path)
				return io.NopCloser(bytes.NewReader(data)), err
			})
			if err != nil {
				return fmt.Errorf("file %s of version %d: %w", f.Path, snap.Version(), err)
			}
			mu.Lock()
			defer mu.Unlock()
			held = append(held, c)
			out.Files[i] = query.SourceFile{Path: c.Path, Partition: f.PartitionValues}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		release()
		return nil, err
	}
	return out, nil
}

func runSQL(ctx context.Context, t *tables, p *project.Project, sql, format string, w io.Writer) error {
	dir := filepath.Join(stateDir(p.Dir()), "cache")
	if _, err := os.Stat(stateDir(p.Dir())); err != nil {
		// A project that runs elsewhere has no state here; its files are cached for the user.
		if base, err := os.UserCacheDir(); err == nil {
			dir = filepath.Join(base, "tidemill", p.Name())
		}
	}
	cache, err := query.NewFileCache(dir, p.Cache().Disk)
	if err != nil {
		return err
	}
	q, err := query.OpenTables(&source{tables: t, cache: cache}, query.TablesOptions{Dir: cache.Dir()})
	if err != nil {
		return err
	}
	defer q.Close()
	rows, err := q.Query(ctx, sql)
	if err != nil {
		return err
	}
	defer rows.Close()
	switch format {
	case "json":
		return query.WriteJSON(w, rows)
	case "csv":
		return query.WriteCSV(w, rows)
	}
	return query.WriteGrid(w, rows, query.GridOptions{Width: terminalWidth()})
}
