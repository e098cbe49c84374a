package lakehouse

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/lakehouse/delta"
)

// TestVerify: each damage is found and named, what is harmless is told apart, and
// looking changes nothing.
func TestVerify(t *testing.T) {
	first := func(k *kept) File {
		for f := range k.Snapshot().Files() {
			return f
		}
		return File{}
	}
	const prefix = "tables/t/"
	put := func(t *testing.T, k *kept, key string, data []byte) {
		if err := k.store.Put(t.Context(), prefix+key, data); err != nil {
			t.Fatal(err)
		}
	}
	get := func(t *testing.T, k *kept, key string) []byte {
		data, err := k.store.Get(t.Context(), prefix+key)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	remove := func(t *testing.T, k *kept, key string) {
		if err := k.store.Delete(t.Context(), prefix+key); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		damage   func(t *testing.T, k *kept)
		object   func(k *kept) string // "" for none
		says     string
		harmless bool
	}{
		"nothing": {func(*testing.T, *kept) {}, nil, "", true},
		"file missing": {func(t *testing.T, k *kept) { remove(t, k, first(k).Path) },
			func(k *kept) string { return first(k).Path }, "is missing", false},
		"file cut off": {func(t *testing.T, k *kept) { put(t, k, first(k).Path, get(t, k, first(k).Path)[:20]) },
			func(k *kept) string { return first(k).Path }, "has 20 bytes", false},
		"commit torn": {func(t *testing.T, k *kept) { put(t, k, commitKey(11), get(t, k, commitKey(11))[:60]) },
			func(*kept) string { return commitKey(11) }, "line 1", false},
		"commit missing": {func(t *testing.T, k *kept) { remove(t, k, commitKey(3)) },
			func(*kept) string { return commitKey(3) }, "is missing", true},
		"commit edited": {func(t *testing.T, k *kept) {
			put(t, k, commitKey(2), bytes.Replace(get(t, k, commitKey(2)), []byte("part-00000-"), []byte("part-00001-"), 1))
		}, func(*kept) string { return checkpointKey(5) }, "holds 1 files", false},
		"checkpoint torn": {func(t *testing.T, k *kept) { put(t, k, checkpointKey(10), get(t, k, checkpointKey(10))[:99]) },
			func(*kept) string { return checkpointKey(10) }, "is not a checkpoint", true},
		"hint lies": {func(t *testing.T, k *kept) { put(t, k, hintKey, []byte(`{"version":77,"size":1}`)) },
			func(*kept) string { return hintKey }, "version 77", true},
		"clock wrong": {func(t *testing.T, k *kept) {
			d := &delta.Commit{Info: &delta.CommitInfo{Timestamp: k.clock.now().Add(26 * time.Hour).UnixMilli(), Operation: "WRITE"}}
			data, err := d.Encode()
			if err != nil {
				t.Fatal(err)
			}
			put(t, k, commitKey(13), data)
		}, func(*kept) string { return commitKey(13) }, "26h0m0s off", true},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKept(t, CreateOptions{})
			k.append(t, 5)
			k.checkpoint(t)
			k.append(t, 5)
			k.checkpoint(t)
			k.append(t, 2)
			c.damage(t, k)
			before := k.dataFiles(t)
			v, err := k.Verify(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if c.object == nil {
				if len(v.Problems) > 0 || v.Version != 12 || v.Commits != 13 || v.Checkpoints != 2 || v.Files != 12 {
					t.Errorf("%+v", v)
				}
				return
			}
			found := false
			for _, p := range v.Problems {
				found = found || p.Object == c.object(k) && strings.Contains(p.Message, c.says) && p.Harmless == c.harmless && p.Advice != ""
			}
			if !found {
				t.Errorf("%+v", v.Problems)
			}
			if k.dataFiles(t) != before {
				t.Error("looking changed something")
			}
		})
	}
}
