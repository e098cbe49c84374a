package checkpoint

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/internal/testserver"
	"github.com/tidemill/tidemill/lakehouse/delta"
)

func python(t *testing.T, script string, args ...string) []byte {
	t.Helper()
	program := filepath.Join("..", "..", "tools", "venv", "bin", "python")
	if _, err := os.Stat(program); err != nil {
		testserver.Missing(t, "no Python with the readers: %v; make it with: python3 -m venv tools/venv && tools/venv/bin/pip install -r .ci/requirements.txt", err)
	}
	cmd := exec.CommandContext(t.Context(), program, append([]string{filepath.Join("testdata", script)}, args...)...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, errs.String())
	}
	return out
}

// replay returns what a log's commits add up to.
func replay(t *testing.T, log string) *contents {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(log, "*.json"))
	check(t, err)
	txns, adds, removes := map[string]delta.Txn{}, map[string]delta.Add{}, map[string]delta.Remove{}
	c := &contents{}
	for _, f := range files {
		data, err := os.ReadFile(f)
		check(t, err)
		commit, err := delta.Decode(data)
		check(t, err)
		if commit.Protocol != nil {
			c.Protocol = []delta.Protocol{*commit.Protocol}
		}
		if commit.Metadata != nil {
			c.Metadata = []delta.Metadata{*commit.Metadata}
		}
		for _, x := range commit.Txns {
			txns[x.AppID] = x
		}
		for _, x := range commit.Removes {
			delete(adds, x.Path)
			removes[x.Path] = x
		}
		for _, x := range commit.Adds {
			adds[x.Path] = x
		}
	}
	c.Txns, c.Adds, c.Removes = slices.Collect(maps.Values(txns)), slices.Collect(maps.Values(adds)), slices.Collect(maps.Values(removes))
	return c
}

// normal sorts contents, and makes equal what means the same.
func normal(t *testing.T, c *contents) *contents {
	slices.SortFunc(c.Txns, func(a, b delta.Txn) int { return cmp.Compare(a.AppID, b.AppID) })
	slices.SortFunc(c.Adds, func(a, b delta.Add) int { return cmp.Compare(a.Path, b.Path) })
	slices.SortFunc(c.Removes, func(a, b delta.Remove) int { return cmp.Compare(a.Path, b.Path) })
	for i := range c.Adds {
		a := &c.Adds[i]
		a.Stats, a.DataChange = normalJSON(t, a.Stats), false
		if len(a.PartitionValues) == 0 {
			a.PartitionValues = nil
		}
	}
	for i := range c.Removes {
		r := &c.Removes[i]
		r.DataChange, r.Tags = false, nil
		if len(r.PartitionValues) == 0 {
			r.PartitionValues = nil
		}
	}
	for i := range c.Metadata {
		m := &c.Metadata[i]
		if len(m.Format.Options) == 0 {
			m.Format.Options = nil
		}
		if len(m.Configuration) == 0 {
			m.Configuration = nil
		}
	}
	return c
}

// normalJSON sorts statistics, gives numbers one form, and leaves out what is no bound.
func normalJSON(t *testing.T, s string) string {
	t.Helper()
	if s == "" {
		return ""
	}
	d := json.NewDecoder(strings.NewReader(s))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	b, err := json.Marshal(normalValue(v))
	check(t, err)
	return string(b)
}

func normalValue(v any) any {
	switch v := v.(type) {
	case json.Number:
		r, _ := new(big.Rat).SetString(v.String())
		return r.RatString()
	case string:
		if v == "NaN" || v == "Infinity" || v == "-Infinity" {
			return nil
		}
	case map[string]any:
		for k, x := range v {
			if v[k] = normalValue(x); v[k] == nil {
				delete(v, k)
			}
		}
		if len(v) == 0 {
			return nil
		}
	}
	return v
}

func compare(t *testing.T, got, want *contents) {
	t.Helper()
	got, want = normal(t, got), normal(t, want)
	if !reflect.DeepEqual(got, want) {
		g, err := json.MarshalIndent(got, "", " ")
		check(t, err)
		w, err := json.MarshalIndent(want, "", " ")
		check(t, err)
		t.Fatalf("got\n%s\nwant\n%s", g, w)
	}
}

// checkpointIn returns the one checkpoint of a log.
func checkpointIn(t *testing.T, log string) (string, []byte) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(log, "*.checkpoint.parquet"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	data, err := os.ReadFile(files[0])
	check(t, err)
	return files[0], data
}

// A table that delta-rs 1.6.6 wrote; testdata/write.py makes its like.
func TestKeptDeltaRs(t *testing.T) {
	log := filepath.Join("testdata", "delta_rs", "_delta_log")
	_, data := checkpointIn(t, log)
	got, state, err := decodeAll(data)
	check(t, err)
	if state != nil {
		t.Errorf("state %+v", state)
	}
	if len(got.Adds) != 11 || len(got.Removes) != 1 || len(got.Txns) != 4 {
		t.Errorf("%d adds, %d removes, %d txns", len(got.Adds), len(got.Removes), len(got.Txns))
	}
	compare(t, got, replay(t, log))
	text, err := os.ReadFile(filepath.Join(log, "_last_checkpoint"))
	check(t, err)
	h, err := DecodeHint(text)
	if err != nil || h.Version != 3 || h.Size != 18 || h.Parts != nil || *h.SizeInBytes != int64(len(data)) || *h.NumOfAddFiles != 11 {
		t.Errorf("%+v, %v", h, err)
	}
}

// A table that Delta 3.3.2 wrote in Spark 3.5.7. (With writeStatsAsStruct this release
// leaves the statistics out.)
func TestKeptSpark(t *testing.T) {
	log := filepath.Join("testdata", "spark", "_delta_log")
	_, data := checkpointIn(t, log)
	got, _, err := decodeAll(data)
	check(t, err)
	want := replay(t, log)
	if len(want.Adds) != 11 || len(want.Removes) != 1 || len(want.Txns) != 2 {
		t.Errorf("%d adds, %d removes, %d txns", len(want.Adds), len(want.Removes), len(want.Txns))
	}
	compare(t, got, want)
	text, err := os.ReadFile(filepath.Join(log, "_last_checkpoint"))
	check(t, err)
	h, err := DecodeHint(text)
	if err != nil || h.Version != 4 || h.Size != 16 || *h.SizeInBytes != int64(len(data)) || *h.NumOfAddFiles != 11 {
		t.Errorf("%+v, %v", h, err)
	}
}

// Readers see the same table when the log is nothing but our checkpoint.
func TestOthersRead(t *testing.T) {
	dir := t.TempDir()
	python(t, "write.py", dir)
	root := filepath.Join(dir, "delta_rs")
	log := filepath.Join(root, "_delta_log")
	name, data := checkpointIn(t, log)
	got, _, err := decodeAll(data)
	check(t, err)
	compare(t, got, replay(t, log))
	before := python(t, "read.py", root)

	ours, info := got.encode(t)
	size, adds := int64(len(ours)), info.Adds
	check(t, os.WriteFile(name, ours, 0o600))
	check(t, os.WriteFile(filepath.Join(log, "_last_checkpoint"), EncodeHint(Hint{Version: 3, Size: info.Actions, SizeInBytes: &size, NumOfAddFiles: &adds}), 0o600))
	for v := range 3 {
		check(t, os.Remove(filepath.Join(log, fmt.Sprintf("%020d.json", v))))
	}
	after := python(t, "read.py", root)
	if !bytes.Equal(before, after) || !bytes.Contains(after, []byte(`"files": 11`)) {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
}

func TestParsedStats(t *testing.T) {
	dir := t.TempDir()
	python(t, "write.py", dir)
	// The exact text: numRecords first, members in the schema's order, NaN and what is null left out.
	const format = `{"numRecords":7,` +
		`"minValues":{"id":-5,"small":-3,"day":"1900-02-03","ts":"1600-01-02T03:04:05.678Z","text":"\u003ca\u003e","x":-1e-300,"f":0.1,"flag":false,` +
		`"d5":-1.05,"d18":-99999999999999.9999,"d38":-1234567890123456789012345678.0123456789,"in":{"a":1,"b":{"c":"ü"}}},` +
		`"maxValues":{"id":4611686018427387904,"small":-3,"day":"1900-02-03","ts":"%s","text":"\u003ca\u003e","f":0.1,"flag":false,` +
		`"d5":-1.05,"d18":0.0001,"d38":-1234567890123456789012345678.0123456789},` +
		`"nullCount":{"id":0,"list":2,"in":{"a":1,"b":{"c":0}}}}`
	for name, last := range map[string]string{"spark": "9999-12-31T23:59:59.999999Z", "spark_int96": "9999-12-31T23:59:59.999999Z", "spark_v2pages": "9999-12-31T23:59:59.999999Z", "spark_ms": "9999-12-31T23:59:59.999Z"} {
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join(dir, name+".parquet"))
			check(t, err)
			got, state, err := decodeAll(data)
			if err != nil || state != nil {
				t.Fatal(state, err)
			}
			stats := fmt.Sprintf(format, last)
			want := &contents{
				Protocol: []delta.Protocol{{MinReaderVersion: 1, MinWriterVersion: 2}},
				Metadata: []delta.Metadata{{ID: "m", Format: delta.Format{Provider: "parquet"}, SchemaString: "{}", PartitionColumns: []string{"p", "q"}}},
				Txns:     []delta.Txn{{AppID: "q", Version: 9}},
				Removes:  []delta.Remove{{Path: "gone", DataChange: true}},
			}
			for i := range 3000 {
				a := delta.Add{Path: fmt.Sprintf("p=2026-01-01/%d.parquet", i), PartitionValues: map[string]*string{"p": nil}, Size: 100 + int64(i), ModificationTime: 17e11, Stats: stats}
				if i < 2 {
					a.PartitionValues["p"] = ptr("2026-01-01")
				}
				if i == 1 {
					a.Stats, a.Tags = "", map[string]string{"INSERTION_TIME": "1", "none": ""}
				}
				want.Adds = append(want.Adds, a)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got\n%+v\n%s\nwant\n%+v\n%s", got.Adds[:3], got.Adds[0].Stats, want.Adds[:3], stats)
			}
		})
	}
	for name, feature := range map[string]string{"v2_sidecar": "v2Checkpoint", "v2_metadata": "v2Checkpoint", "vectors": "deletionVectors"} {
		_, _, err := decodeFile(t, dir, name)
		if u := (*delta.UnsupportedError)(nil); !errors.As(err, &u) || u.Feature != feature {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, want := range map[string]string{"nopath": "an add action has no path", "odd": "column add.path: INT64 is not the type"} {
		if _, _, err := decodeFile(t, dir, name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
	// Columns whose function is nil are not read: the wrong type goes unnoticed.
	data, err := os.ReadFile(filepath.Join(dir, "odd.parquet"))
	check(t, err)
	if _, err := Decode(context.Background(), data, Visitor{Txn: func(delta.Txn) error { return nil }}); err != nil {
		t.Error(err)
	}
	if got, _, err := decodeFile(t, dir, "narrow"); err != nil || len(got.Adds) != 1 || got.Protocol != nil {
		t.Errorf("narrow: %+v, %v", got, err)
	}
	if got, _, err := decodeFile(t, dir, "bare"); err != nil || !reflect.DeepEqual(got.Adds, []delta.Add{{Path: "x", Size: 3}}) {
		t.Errorf("bare: %+v, %v", got, err)
	}
}

func decodeFile(t *testing.T, dir, name string) (*contents, *State, error) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name+".parquet"))
	check(t, err)
	return decodeAll(data)
}
