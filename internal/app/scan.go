package app

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/parquet"
)

// Scanned says what a scan has written.
type Scanned struct {
	Table   string `json:"table"`
	Version int64  `json:"version"`
	Rows    int64  `json:"rows"`
	Files   int    `json:"files"` // that were read
	Bytes   int64  `json:"bytes"` // that were written
	Out     string `json:"out"`
}

// Scan writes the table's rows, or some of their columns, to a Parquet file. The file is
// there when it is whole, and not before.
func (t *Table) Scan(ctx context.Context, at At, columns []string, out string) (Scanned, error) {
	dir, base := filepath.Split(out)
	if info, err := os.Stat(out); err == nil && info.IsDir() {
		return Scanned{}, fmt.Errorf("%s: it is a directory; name the file", out)
	}
	temp := filepath.Join(dir, "."+base+"-"+rand.Text())
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return Scanned{}, fmt.Errorf("%s: %w", out, errors.Unwrap(err))
	}
	s, err := t.ScanTo(ctx, at, columns, f)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(temp, out)
	}
	if err != nil {
		_ = os.Remove(temp)
		return Scanned{}, err
	}
	s.Out = out
	return s, nil
}

// ScanTo is Scan to a writer. After an error what was written is no Parquet file.
func (t *Table) ScanTo(ctx context.Context, at At, columns []string, w io.Writer) (Scanned, error) {
	s, err := t.at(ctx, at)
	if err != nil {
		return Scanned{}, err
	}
	schema, err := s.Project(columns)
	if err != nil {
		return Scanned{}, fmt.Errorf("%s: %w", t.url, err)
	}
	count := &counter{w: w}
	stream, err := parquet.NewStream(count, schema, parquet.Options{Zstd: true})
	if err != nil {
		return Scanned{}, err
	}
	defer stream.Abort()
	done := Scanned{Table: t.url, Version: s.Version(), Files: s.NumFiles(), Out: "-"}
	files := make([]lakehouse.File, 0, s.NumFiles())
	for f := range s.Files() {
		files = append(files, f)
	}
	for rec, err := range t.table.Scan(ctx, s, files, columns...) {
		if err != nil {
			return Scanned{}, err
		}
		done.Rows += rec.NumRows()
		err = stream.Write(rec)
		rec.Release()
		if err != nil {
			return Scanned{}, fmt.Errorf("%s: %w", t.url, err)
		}
	}
	if err := stream.Close(); err != nil {
		return Scanned{}, fmt.Errorf("%s: %w", t.url, err)
	}
	done.Bytes = count.n
	return done, nil
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
