package lakehouse

import (
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/tidemill/tidemill/lakehouse/delta"
)

// File is one data file of a table. It is a value: its maps are shared and must not be
// changed.
type File struct {
	Path            string             // below the table's root, decoded
	PartitionValues map[string]*string // by partition column; nil is null
	Size            int64              // bytes
	Rows            int64              // -1: not known, another writer left its statistics out
	Stats           string             // as in the log, see delta.Stats; may be empty
	Tags            map[string]string
	ModTime         time.Time
	Version         int64 // of the commit that added it; 0 for a file that is not committed yet

	logPath string    // the path as it stands in the log
	meta    *metadata // the table as it was when the file was written; nil when it was not written here
	written time.Time // when it began to be stored; zero when it was not written here
}

func fileOf(a delta.Add, version int64) (File, error) {
	path, err := delta.DecodePath(a.Path)
	if err != nil {
		return File{}, err
	}
	values := a.PartitionValues
	for k, v := range values {
		if v != nil && *v == "" { // means null as well
			values = maps.Clone(values)
			values[k] = nil
		}
	}
	return File{
		Path: path, PartitionValues: values, Size: a.Size, Rows: numRecords(a.Stats), Stats: a.Stats, Tags: a.Tags,
		ModTime: time.UnixMilli(a.ModificationTime).UTC(), Version: version, logPath: a.Path,
	}, nil
}

func (f *File) add(dataChange bool) delta.Add {
	return delta.Add{
		Path: f.pathInLog(), PartitionValues: f.PartitionValues, Size: f.Size, ModificationTime: f.ModTime.UnixMilli(),
		DataChange: dataChange, Stats: f.Stats, Tags: f.Tags,
	}
}

func (f *File) remove(now time.Time, dataChange bool) delta.Remove {
	return delta.Remove{
		Path: f.pathInLog(), DeletionTimestamp: now.UnixMilli(), DataChange: dataChange, ExtendedFileMetadata: true,
		PartitionValues: f.PartitionValues, Size: f.Size, Tags: f.Tags,
	}
}

func (f *File) pathInLog() string {
	if f.logPath != "" {
		return f.logPath
	}
	return delta.EncodePath(f.Path)
}

// numRecords reads the row count out of statistics, which we write first.
func numRecords(stats string) int64 {
	const first = `{"numRecords":`
	if rest, ok := strings.CutPrefix(stats, first); ok {
		if end := strings.IndexAny(rest, ",}"); end > 0 {
			if n, err := strconv.ParseInt(rest[:end], 10, 64); err == nil {
				return n
			}
		}
	}
	var s struct{ NumRecords *int64 }
	if json.Unmarshal([]byte(stats), &s) != nil || s.NumRecords == nil {
		return -1
	}
	return *s.NumRecords
}

// Change is what one commit did to a table.
type Change struct {
	Version int64
	Time    time.Time
	Adds    []File // those that brought rows; see changeOf
	Txns    []delta.Txn
	Info    *delta.CommitInfo // nil when its writer left it out

	removes []delta.Remove
}

// changeOf says what a commit did. Files whose rows the table had before are not among
// its Adds: a compaction's, what a delete has left of a file, and what a restore has
// brought back.
func changeOf(version int64, c *delta.Commit, files []File, at time.Time) Change {
	ch := Change{Version: version, Time: at, Txns: c.Txns, Info: c.Info, removes: c.Removes}
	if c.Info != nil && (c.Info.Operation == opRestore || c.Info.Operation == opDelete) {
		return ch
	}
	for i, f := range files {
		if c.Adds[i].DataChange {
			ch.Adds = append(ch.Adds, f)
		}
	}
	return ch
}

// Operations as the field names them.
const (
	opRestore  = "RESTORE"
	opDelete   = "DELETE"
	opOptimize = "OPTIMIZE"
)

func filesOf(version int64, c *delta.Commit) ([]File, error) {
	files := make([]File, len(c.Adds))
	for i, a := range c.Adds {
		f, err := fileOf(a, version)
		if err != nil {
			return nil, fmt.Errorf("version %d: %w", version, err)
		}
		files[i] = f
	}
	return files, nil
}

// Removed returns the paths of the files that the commit took out of the table.
func (c *Change) Removed() []string {
	out := make([]string, 0, len(c.removes))
	for _, r := range c.removes {
		if path, err := delta.DecodePath(r.Path); err == nil {
			out = append(out, path)
		}
	}
	return out
}
