package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/internal/testserver"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/delta"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/quarantine"
)

// tables are the contract's.
var tables = []string{table, table + "_scored", table + quarantine.Suffix}

// retention is how long the tables keep what is not needed any more, instead of a day:
// maintenance has something to delete within a test, and writers have little time.
const retention = "interval 10 seconds"

// shorten waits for the tables and sets their retention, as any other writer of Delta
// tables would do it, while the product is at them.
func shorten(t *testing.T, store objstore.Store) {
	t.Helper()
	for _, name := range tables {
		var meta *delta.Metadata // nobody else changes it
		testserver.Eventually(t, "read the metadata of "+name, 3*time.Minute, func(ctx context.Context) (err error) {
			meta, err = metadata(ctx, store, name)
			return err
		})
		tbl, err := lakehouse.Open(t.Context(), store, name, lakehouse.WithoutCheckpoints())
		if err != nil {
			t.Fatal(err)
		}
		// To open it anew each time would take longer than the product needs for its next commit.
		testserver.Eventually(t, "shorten the retention of "+name, 3*time.Minute, func(ctx context.Context) error {
			if _, err := tbl.Refresh(ctx); err != nil {
				return err
			}
			meta.Configuration["delta.logRetentionDuration"] = retention
			meta.Configuration["delta.deletedFileRetentionDuration"] = retention
			c := delta.Commit{Metadata: meta, Info: &delta.CommitInfo{
				Timestamp: time.Now().UnixMilli(), Operation: "SET TBLPROPERTIES", OperationParameters: delta.Parameters{}, EngineInfo: "chaos", TxnID: "chaos-" + name,
			}}
			data, err := c.Encode()
			if err != nil {
				t.Fatal(err)
			}
			return store.PutIfAbsent(ctx, fmt.Sprintf("%s/_delta_log/%020d.json", name, tbl.Snapshot().Version()+1), data)
		})
	}
}

// metadata is the last one in a table's log.
func metadata(ctx context.Context, store objstore.Store, name string) (meta *delta.Metadata, err error) {
	for o, err := range store.List(ctx, name+"/_delta_log/", "") {
		if err != nil {
			return nil, err
		}
		if !strings.HasSuffix(o.Key, ".json") {
			continue
		}
		data, err := store.Get(ctx, o.Key)
		if err != nil {
			return nil, err
		}
		c, err := delta.Decode(data)
		if err != nil {
			return nil, err
		}
		if c.Metadata != nil {
			meta = c.Metadata
		}
	}
	if meta == nil {
		return nil, errors.New("no metaData in the log")
	}
	return meta, nil
}

// firstAncient and those after it are events of so long ago that the contract's
// retention takes them out of the tables again. They are not among those sent.
const (
	firstAncient = 2_000_000_000
	ancients     = 200
)

// ancient has the file connector read such events at the next start.
func (f *files) ancient(t *testing.T) {
	t.Helper()
	var b bytes.Buffer
	for i := range ancients {
		fmt.Fprintf(&b, `{"id":%d,"amount":1,"items":1,"units":"1","ts":"1900-01-01T00:00:00Z"}`+"\n", firstAncient+i)
	}
	name := filepath.Join(f.dir, "in", "ancient.ndjson")
	if err := os.WriteFile(name, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// tidy waits until maintenance has caught up with what dead processes have left: the
// tables' files are all that is in the store, and nothing ancient is in the tables.
func tidy(t *testing.T, store objstore.Store) {
	t.Helper()
	began := time.Now()
	testserver.Eventually(t, "everything cleaned up", 2*time.Minute, func(ctx context.Context) error {
		for _, name := range tables {
			tbl, err := lakehouse.Open(ctx, store, name, lakehouse.WithoutCheckpoints())
			if err != nil {
				return err
			}
			live := map[string]bool{}
			for f := range tbl.Snapshot().Files() {
				live[name+"/"+f.Path] = true
			}
			left := 0
			for o, err := range store.List(ctx, name+"/", "") {
				if err != nil {
					return err
				}
				if !live[o.Key] && !strings.HasPrefix(o.Key, name+"/_") {
					left++
				}
			}
			if left > 0 {
				return fmt.Errorf("%d files of %s are not needed", left, name)
			}
		}
		l, err := readLedger(ctx, store)
		if err != nil {
			return err
		}
		if l.ancient > 0 {
			return fmt.Errorf("%d ancient rows are in the tables", l.ancient)
		}
		return nil
	})
	t.Logf("cleaned up %.1f s later", time.Since(began).Seconds())
}
