package checkpoint

import (
	"bytes"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/file"

	"github.com/tidemill/tidemill/lakehouse/delta"
)

func openDecoder(t *testing.T, data []byte) *decoder {
	t.Helper()
	r, err := file.NewParquetReader(bytes.NewReader(data))
	check(t, err)
	t.Cleanup(func() { r.Close() })
	return &decoder{data: data, r: r, mem: &bounded{limit: 1 << 30}}
}

// The columns that the constants stand for.
func TestColumns(t *testing.T) {
	data, _ := some(1).encode(t)
	s := openDecoder(t, data).r.MetaData().Schema
	if s.NumColumns() != numLeaves {
		t.Fatalf("%d columns", s.NumColumns())
	}
	for leaf, path := range map[int]string{
		txnAppID: "txn.appId", txnLastUpdated: "txn.lastUpdated", addPath: "add.path", addPartitionValue: "add.partitionValues.key_value.value",
		addStats: "add.stats", addTagValue: "add.tags.key_value.value", removePath: "remove.path", removeSize: "remove.size", metaID: "metaData.id",
		metaOptionKey: "metaData.format.options.key_value.key", metaPartitionColumn: "metaData.partitionColumns.list.element",
		metaConfigurationValue: "metaData.configuration.key_value.value", metaCreatedTime: "metaData.createdTime",
		protocolReader: "protocol.minReaderVersion", protocolWriter: "protocol.minWriterVersion",
	} {
		if got := s.Column(leaf).Path(); got != path {
			t.Errorf("column %d is %s, want %s", leaf, got, path)
		}
		if k := keyColumns[kindOf(leaf)]; !strings.HasPrefix(k, path[:strings.IndexByte(path, '.')+1]) {
			t.Errorf("column %s is of the kind of %s", path, k)
		}
	}
}

// Null, empty and absent are different to other readers, and the same to ours.
func TestLevels(t *testing.T) {
	c := some(0)
	c.Metadata[0] = delta.Metadata{ID: "m"}
	c.Txns = []delta.Txn{{AppID: "a"}}
	c.Adds = []delta.Add{{Path: "a"}, {Path: "b", PartitionValues: map[string]*string{"d": nil, "e": ptr("")}, Tags: map[string]string{"k": ""}}}
	c.Removes = []delta.Remove{{Path: "a"}, {Path: "b", ExtendedFileMetadata: true}}
	data, _ := c.encode(t)
	d := openDecoder(t, data)
	for leaf, want := range map[int][]int16{ // protocol, metaData, txn, add, add, remove, remove
		protocolReader:         {1, 0, 0, 0, 0, 0, 0},
		metaID:                 {0, 1, 0, 0, 0, 0, 0},
		metaName:               {0, 1, 0, 0, 0, 0, 0},
		metaOptionKey:          {0, 1, 0, 0, 0, 0, 0},
		metaOptionValue:        {0, 1, 0, 0, 0, 0, 0},
		metaSchema:             {0, 1, 0, 0, 0, 0, 0},
		metaPartitionColumn:    {0, 1, 0, 0, 0, 0, 0},
		metaConfigurationValue: {0, 1, 0, 0, 0, 0, 0},
		txnVersion:             {0, 0, 1, 0, 0, 0, 0},
		txnLastUpdated:         {0, 0, 1, 0, 0, 0, 0},
		addPath:                {0, 0, 0, 1, 1, 0, 0},
		addPartitionKey:        {0, 0, 0, 1, 2, 2, 0, 0},
		addPartitionValue:      {0, 0, 0, 1, 2, 3, 0, 0},
		addStats:               {0, 0, 0, 1, 1, 0, 0},
		addTagKey:              {0, 0, 0, 1, 3, 0, 0},
		addTagValue:            {0, 0, 0, 1, 4, 0, 0},
		removePath:             {0, 0, 0, 0, 0, 1, 1},
		removeExtended:         {0, 0, 0, 0, 0, 2, 2},
		removePartitionKey:     {0, 0, 0, 0, 0, 1, 2},
		removePartitionValue:   {0, 0, 0, 0, 0, 1, 2},
		removeSize:             {0, 0, 0, 0, 0, 1, 2},
	} {
		chunk, err := d.chunk(0, leaf)
		check(t, err)
		defs, n := make([]int16, 20), int64(0)
		switch r := chunk.(type) {
		case *file.ByteArrayColumnChunkReader:
			n, _, err = r.ReadBatch(20, make([]parquet.ByteArray, 20), defs, nil)
		case *file.Int64ColumnChunkReader:
			n, _, err = r.ReadBatch(20, make([]int64, 20), defs, nil)
		case *file.Int32ColumnChunkReader:
			n, _, err = r.ReadBatch(20, make([]int32, 20), defs, nil)
		case *file.BooleanColumnChunkReader:
			n, _, err = r.ReadBatch(20, make([]bool, 20), defs, nil)
		}
		if err != nil || !reflect.DeepEqual(defs[:n], want) {
			t.Errorf("%s: %v, want %v, %v", chunk.Descriptor().Path(), defs[:n], want, err)
		}
	}
}

// A text that is no UTF-8 is what it is in the log's JSON.
func TestInvalidText(t *testing.T) {
	c := some(0)
	c.Adds = []delta.Add{{Path: "x", PartitionValues: map[string]*string{"d": ptr("a\xff\xfeb")}, Tags: map[string]string{"k": "\xc3"}}}
	data, _ := c.encode(t)
	got, _, err := decodeAll(data)
	if err != nil || *got.Adds[0].PartitionValues["d"] != "a\ufffd\ufffdb" || got.Adds[0].Tags["k"] != "\ufffd" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestHolds(t *testing.T) {
	for _, c := range []struct {
		data  []byte
		limit int16
		n     int64
		want  bool
	}{
		{nil, 1, 0, true},
		{nil, 1, 1, false},
		{[]byte{3 << 1, 1}, 1, 3, true},                         // a run of three
		{[]byte{3 << 1, 1}, 1, 4, false},                        // and no more
		{[]byte{3 << 1}, 1, 3, false},                           // without its value
		{[]byte{0, 1, 3 << 1, 1}, 1, 3, false},                  // of none
		{[]byte{1<<1 | 1, 0xff}, 1, 8, true},                    // eight bits
		{[]byte{1<<1 | 1, 0xff}, 1, 9, false},                   //
		{[]byte{1<<1 | 1, 0xff}, 3, 4, true},                    // half a group of two bits each
		{[]byte{1<<1 | 1, 0xff}, 3, 5, false},                   //
		{[]byte{1<<1 | 1, 0xff, 5 << 1, 1}, 1, 13, true},        // group and run
		{[]byte{0xff, 0xff, 0xff, 0xff, 0xff}, 1, 1, false},     // a length without an end
		{append(bytes.Repeat([]byte{0xff}, 9), 1), 1, 1, false}, // of all bits
	} {
		if got := holds(c.data, c.limit, c.n); got != c.want {
			t.Errorf("%x, %d values up to %d: %v", c.data, c.n, c.limit, got)
		}
	}
	if holds([]byte{1<<1 | 1, 0xff}, 1, math.MaxInt64) {
		t.Error("endless")
	}
}

// What a header's reader must not believe.
func TestHeader(t *testing.T) {
	// type 0, 300 and 200 bytes, {5 values, encodings 0, 3, 3, statistics {"max" "x", true}}
	header := []byte{0x15, 0, 0x15, 0xd8, 4, 0x15, 0x90, 3, 0x2c, 0x15, 10, 0x15, 0, 0x15, 6, 0x15, 6, 0x1c, 0x18, 1, 'x', 0x11, 0, 0, 0}
	h, n, err := readHeader(append(header, 1, 2, 3))
	want := pageHeader{uncompressed: 300, compressed: 200, values: 5, defEncoding: 3, repEncoding: 3}
	if err != nil || n != len(header) || h != want {
		t.Errorf("%+v, %d of %d bytes, %v", h, n, len(header), err)
	}
	for n := range header {
		if _, _, err := readHeader(header[:n]); err == nil {
			t.Errorf("no error when cut to %d bytes", n)
		}
	}
	for name, bad := range map[string][]byte{
		"deep":        append(bytes.Repeat([]byte{0x9c}, 1000), make([]byte, 1001)...),
		"long binary": {0x98, 0xff, 0xff, 0xff, 0xff, 0x0f, 0},
		"list":        {0x99, 0, 0},
		"wrong type":  {0x18, 0, 0},
	} {
		if _, _, err := readHeader(bad); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
