package app

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/lakehouse"
)

// Table is one table, opened to be looked at.
type Table struct {
	name  string
	url   string // for people, and for other readers
	table *lakehouse.Table
	close func()
}

// OpenTable opens the table at a path or URL (see IsLocation), else the one with that
// name in the project in dir.
func OpenTable(ctx context.Context, dir, table string, log *slog.Logger) (*Table, error) {
	if IsLocation(table) {
		return openLocation(ctx, table, log)
	}
	c, err := Connect(ctx, dir, log)
	if err != nil {
		return nil, fmt.Errorf("table %s: %w; a table outside of a project is named by its path, with a slash in it", table, err)
	}
	t, err := c.openTable(ctx, table)
	if err != nil {
		c.Close()
		return nil, err
	}
	t.close = c.Close
	return t, nil
}

// Close ends what OpenTable opened.
func (t *Table) Close() { t.close() }

// At says which version of a table is meant: the newest, unless one of its fields is set.
type At struct {
	Version *int64
	Time    *time.Time // the last one at or before it
}

func (t *Table) at(ctx context.Context, at At) (s *lakehouse.Snapshot, err error) {
	switch {
	case at.Version != nil:
		s, err = t.table.At(ctx, *at.Version)
	case at.Time != nil:
		s, err = t.table.AsOf(ctx, *at.Time)
	default:
		s, err = t.table.Refresh(ctx)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// TableInfo is a table at one version.
type TableInfo struct {
	Name         string            `json:"name"`
	Version      int64             `json:"version"`
	Rows         *int64            `json:"rows"` // nil: not known, a writer left statistics out
	Files        int64             `json:"files"`
	Bytes        int64             `json:"bytes"`
	Committed    time.Time         `json:"committed"`
	Location     string            `json:"location"`
	ID           string            `json:"id,omitempty"`
	Columns      []Column          `json:"columns,omitempty"`
	PartitionBy  []string          `json:"partition_by,omitempty"`
	Properties   map[string]string `json:"properties,omitempty"`
	Protocol     *Protocol         `json:"protocol,omitempty"`
	Transactions []Transaction     `json:"transactions,omitempty"`
	DataFiles    []DataFile        `json:"data_files,omitempty"`
}

// Column of a table.
type Column struct {
	Name     string `json:"name"`
	Type     string `json:"type"`
	Nullable bool   `json:"nullable"`
}

// Protocol is what a table asks of its readers and writers.
type Protocol struct {
	MinReaderVersion int      `json:"min_reader_version"`
	MinWriterVersion int      `json:"min_writer_version"`
	ReaderFeatures   []string `json:"reader_features,omitempty"`
	WriterFeatures   []string `json:"writer_features,omitempty"`
}

// Transaction is what a table's log remembers of one source or pipeline.
type Transaction struct {
	AppID   string `json:"app_id"`
	Version int64  `json:"version"`
}

// DataFile is a file of a table.
type DataFile struct {
	Path            string             `json:"path"` // below the table's location
	Size            int64              `json:"size"`
	Rows            *int64             `json:"rows"`
	PartitionValues map[string]*string `json:"partition_values"`
	Stats           json.RawMessage    `json:"stats,omitempty"`
	Modified        time.Time          `json:"modified"`
	Version         int64              `json:"version"` // that added it, as far as the log still tells
}

// Show describes the table, with its files if they are wanted.
func (t *Table) Show(ctx context.Context, at At, files bool) (TableInfo, error) {
	s, err := t.at(ctx, at)
	if err != nil {
		return TableInfo{}, err
	}
	p := s.Protocol()
	info := TableInfo{
		Name: t.name, Version: s.Version(), Files: int64(s.NumFiles()), Bytes: s.Bytes(), Committed: s.Time().UTC(), Location: t.url, ID: s.TableID(),
		PartitionBy: s.PartitionBy(), Properties: maps.Clone(s.Configuration()), Protocol: &Protocol{p.MinReaderVersion, p.MinWriterVersion, p.ReaderFeatures, p.WriterFeatures},
	}
	for _, f := range s.Schema().Fields() {
		info.Columns = append(info.Columns, Column{Name: f.Name, Type: contract.TypeName(f.Type), Nullable: f.Nullable})
	}
	for x := range s.Txns() {
		info.Transactions = append(info.Transactions, Transaction{AppID: x.AppID, Version: x.Version})
	}
	slices.SortFunc(info.Transactions, func(a, b Transaction) int { return strings.Compare(a.AppID, b.AppID) })
	rows := s.NumRows()
	info.Rows = &rows
	for f := range s.Files() {
		if f.Rows < 0 {
			info.Rows = nil
		}
		if files {
			info.DataFiles = append(info.DataFiles, dataFile(f))
		}
	}
	return info, nil
}

func dataFile(f lakehouse.File) DataFile {
	d := DataFile{Path: f.Path, Size: f.Size, PartitionValues: f.PartitionValues, Modified: f.ModTime, Version: f.Version}
	if f.Rows >= 0 {
		d.Rows = &f.Rows
	}
	if d.PartitionValues == nil {
		d.PartitionValues = map[string]*string{}
	}
	if json.Valid([]byte(f.Stats)) {
		d.Stats = json.RawMessage(f.Stats)
	}
	return d
}

// Commit is one version of a table.
type Commit struct {
	Version   int64     `json:"version"`
	Time      time.Time `json:"time"`
	Operation string    `json:"operation"`
	Files     int       `json:"files"`
	Rows      *int64    `json:"rows"` // nil: not known
	Bytes     int64     `json:"bytes"`
}

// History lists the table's versions, newest first, at most limit of them (0: all).
// Those that were cleaned up are left out.
func (t *Table) History(ctx context.Context, limit int) ([]Commit, error) {
	s, err := t.at(ctx, At{})
	if err != nil {
		return nil, err
	}
	first, _, err := t.table.Commits(ctx)
	if err != nil {
		return nil, err
	}
	after := first - 1
	if limit > 0 {
		after = max(after, s.Version()-int64(limit))
	}
	cs, err := t.table.Changes(ctx, after, s.Version())
	if err != nil {
		return nil, err
	}
	out := make([]Commit, 0, len(cs))
	for _, c := range slices.Backward(cs) {
		out = append(out, commitOf(c))
	}
	return out, nil
}

func commitOf(c lakehouse.Change) Commit {
	rows := int64(0)
	h := Commit{Version: c.Version, Time: c.Time.UTC(), Files: len(c.Adds), Rows: &rows}
	if c.Info != nil {
		h.Operation = c.Info.Operation
	}
	for _, f := range c.Adds {
		rows += f.Rows
		h.Bytes += f.Size
		if f.Rows < 0 {
			h.Rows = nil
		}
	}
	return h
}
