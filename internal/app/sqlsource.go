package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/tidemill/tidemill/internal/problem"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/query"
)

// fetchers is how many files are fetched for a query at once, if they do not take more
// than fetchBytes of memory together.
const (
	fetchers   = 16
	fetchBytes = 256 << 20
)

// source gives SQL the tables of a project, which is connected to when the first of them
// is named, and those at paths. Their files are kept in the local cache.
type source struct {
	connect func(ctx context.Context) (*Client, error)
	cache   *query.FileCache
	log     *slog.Logger

	mu      sync.Mutex
	project *tables           // guarded by mu; nil until a table is named
	closers []func()          // guarded by mu
	places  map[string]*Table // guarded by mu
}

func (s *source) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.closers {
		c()
	}
	s.closers = nil
}

func (s *source) tables(ctx context.Context) (*tables, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.project == nil {
		c, err := s.connect(ctx)
		if problem.Of(err) != nil {
			return nil, fmt.Errorf("%w\ntables outside of a project are read by their path: delta_scan('s3://bucket/path')", err)
		}
		if err != nil {
			return nil, err
		}
		s.project = c.tables
		s.closers = append(s.closers, c.Close)
	}
	return s.project, nil
}

// Names implements query.TableSource.
func (s *source) Names(ctx context.Context) ([]string, error) {
	t, err := s.tables(ctx)
	if err != nil {
		return nil, err
	}
	return t.names(ctx)
}

// table opens a table by name or path. The key is unlike that of any other table's files.
func (s *source) table(ctx context.Context, ref query.Ref) (t *lakehouse.Table, key string, err error) {
	if !ref.Path {
		p, err := s.tables(ctx)
		if err != nil {
			return nil, "", err
		}
		t, err := p.Open(ctx, ref.Name)
		return t, "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.places[ref.Name]
	if l == nil {
		if l, err = openLocation(ctx, ref.Name, s.log); err != nil {
			return nil, "", err
		}
		if s.places == nil {
			s.places = map[string]*Table{}
		}
		s.places[ref.Name] = l
		s.closers = append(s.closers, l.close)
	}
	return l.table, l.url + "/", nil
}

// Open implements query.TableSource.
func (s *source) Open(ctx context.Context, ref query.Ref) (*query.Source, error) {
	t, key, err := s.table(ctx, ref)
	if err != nil {
		return nil, err
	}
	snap, err := snapshot(ctx, t, ref)
	if err != nil {
		return nil, err
	}
	f := &fetching{source: s, table: t, snap: snap, key: key + snap.TableID() + "/", newest: ref.Version == nil && ref.At == nil}
	return &query.Source{Version: snap.Version(), Schema: snap.Schema(), PartitionBy: snap.PartitionBy(), Fetch: f.fetch}, nil
}

// snapshot returns the version that is meant.
func snapshot(ctx context.Context, t *lakehouse.Table, ref query.Ref) (snap *lakehouse.Snapshot, err error) {
	switch {
	case ref.Version != nil:
		snap, err = t.At(ctx, *ref.Version)
	case ref.At != nil:
		snap, err = t.AsOf(ctx, *ref.At)
	default:
		snap, err = t.Refresh(ctx)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %v", ref, err) //nolint:errorlint // the table is there: what is missing is not the table
	}
	return snap, err
}

// fetching brings files of a snapshot to local disk.
type fetching struct {
	source *source
	table  *lakehouse.Table
	snap   *lakehouse.Snapshot
	key    string // of the table's files in the cache; a table that was deleted and made anew has another id
	newest bool   // no version was asked for
}

func (f *fetching) fetch(ctx context.Context, need query.Need) (*query.Fetched, error) {
	keep, skipped := f.snap.Prune(need.Where)
	out := &query.Fetched{Stats: query.ReadStats{
		Total:       query.Amount{Files: f.snap.NumFiles(), Bytes: f.snap.Bytes()},
		ByPartition: skipped.ByPartition, ByStats: skipped.ByStats, Skipped: skipped.Bytes,
	}}
	if need.Plan {
		keep = smallest(keep)
	}
	out.Files = make([]query.SourceFile, len(keep))
	var mu sync.Mutex
	var held []*query.CachedFile
	out.Close = func() {
		for _, c := range held {
			c.Release()
		}
	}
	room := semaphore.NewWeighted(fetchBytes)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(fetchers)
	for i, file := range keep {
		g.Go(func() error {
			c, err := f.fetchFile(gctx, file, room)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			held = append(held, c)
			if c.Hit {
				out.Stats.Cache.Add(file.Size)
			} else {
				out.Stats.Store.Add(file.Size)
			}
			out.Files[i] = query.SourceFile{Path: c.Path, Partition: file.PartitionValues}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		out.Close()
		return nil, err
	}
	return out, nil
}

// smallest is the one file that costs least to plan with.
func smallest(files []lakehouse.File) []lakehouse.File {
	best := 0
	for i := range files {
		if files[i].Size < files[best].Size {
			best = i
		}
	}
	return files[best:min(best+1, len(files))]
}

func (f *fetching) fetchFile(ctx context.Context, file lakehouse.File, room *semaphore.Weighted) (*query.CachedFile, error) {
	c, err := f.source.cache.Fetch(ctx, f.key+file.Path, file.Size, func(ctx context.Context) (io.ReadCloser, error) {
		weight := min(file.Size, fetchBytes)
		if err := room.Acquire(ctx, weight); err != nil {
			return nil, err
		}
		data, err := f.table.Bytes(ctx, file)
		if err != nil {
			room.Release(weight)
			return nil, err
		}
		return &inMemory{bytes.NewReader(data), func() { room.Release(weight) }}, nil
	})
	switch {
	case err == nil:
		return c, nil
	case errors.Is(err, fs.ErrNotExist) && f.newest:
		return nil, fmt.Errorf("version %d: %w", f.snap.Version(), err)
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("version %d has file %s, which is no longer there: files are kept for %s after a later version took them out of the table (delta.deletedFileRetentionDuration); "+
			"ask for a newer version, and raise that property for tables whose past is needed for longer: %w", f.snap.Version(), file.Path, f.snap.FileRetention(), err)
	}
	return nil, fmt.Errorf("file %s of version %d: %w", file.Path, f.snap.Version(), err)
}

// inMemory is a file in memory, which is given back when the file is closed.
type inMemory struct {
	*bytes.Reader
	done func()
}

// Close implements io.Closer.
func (m *inMemory) Close() error {
	m.done()
	return nil
}
