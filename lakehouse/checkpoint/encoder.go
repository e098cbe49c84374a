package checkpoint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/compress"
	"github.com/apache/arrow/go/v17/parquet/file"

	"github.com/tidemill/tidemill/lakehouse/delta"
	_ "github.com/tidemill/tidemill/lakehouse/parquet" // its zstd: the library's own makes a compressor for every page
)

const (
	groupActions = 50_000   // of a row group
	groupBytes   = 32 << 20 // of text in a row group
	pageBytes    = 1 << 20
	createdBy    = "tidemill"

	stateKey = "tidemill.state" // key-value metadata: the State as JSON
	sumKey   = "tidemill.sum"   // CRC-32C of the file, in hexadecimal, with noSum in its own place
	noSum    = "00000000"
)

// Info counts what a checkpoint holds.
type Info struct{ Actions, Adds, Removes int64 }

// Encoder writes one checkpoint. Actions are written in row groups as they come; those
// of one kind best come together. Strings are referred to until then, not copied. After
// an error, every call returns it. An Encoder is used by one goroutine.
type Encoder struct {
	out    bytes.Buffer
	w      *file.Writer
	leaves [numLeaves]leaf
	rows   [numKinds]int // not written yet
	texts  int           // bytes of text not written yet
	keys   []string      // scratch
	info   Info
	counts [numKinds]int64
	tally  tally
	group  int // actions of a row group
	err    error
}

// NewEncoder begins a checkpoint.
func NewEncoder() *Encoder {
	e := &Encoder{group: groupActions}
	e.w = file.NewParquetWriter(&e.out, newSchema(), file.WithWriterProps(properties()))
	for i := range e.leaves {
		c := e.w.Schema.Column(i)
		e.leaves[i] = leaf{column: c, kind: kindOf(i), max: c.MaxDefinitionLevel(), repeated: c.MaxRepetitionLevel() > 0}
	}
	return e
}

func properties() *parquet.WriterProperties {
	o := []parquet.WriterProperty{
		parquet.WithAllocator(memory.DefaultAllocator), parquet.WithVersion(parquet.V2_LATEST), parquet.WithDataPageVersion(parquet.DataPageV1),
		parquet.WithCompression(compress.Codecs.Zstd), parquet.WithDictionaryDefault(false), parquet.WithDataPageSize(pageBytes),
		parquet.WithBatchSize(math.MaxInt32), // a call is a batch: see writeColumn
		parquet.WithCreatedBy(createdBy), parquet.WithStats(false),
	}
	for _, path := range []string{"add.partitionValues", "add.tags", "remove.partitionValues"} {
		o = append(o, parquet.WithDictionaryFor(path+".key_value.key", true))
	}
	for _, path := range []string{"add.partitionValues", "remove.partitionValues"} {
		o = append(o, parquet.WithDictionaryFor(path+".key_value.value", true))
	}
	for _, path := range keyColumns { // readers leave out row groups where one is all null
		o = append(o, parquet.WithStatsFor(path, true))
	}
	return parquet.NewWriterProperties(o...)
}

// keyColumns are those that an action always has.
var keyColumns = [numKinds]string{"protocol.minReaderVersion", "metaData.id", "txn.appId", "add.path", "remove.path"}

func kindOf(leaf int) kind {
	switch {
	case leaf < addPath:
		return kindTxn
	case leaf < removePath:
		return kindAdd
	case leaf < metaID:
		return kindRemove
	case leaf < protocolReader:
		return kindMetadata
	}
	return kindProtocol
}

// Protocol takes the table's protocol, once. One with table features is an error: there is no column for them.
func (e *Encoder) Protocol(p delta.Protocol) error {
	if len(p.ReaderFeatures)+len(p.WriterFeatures) > 0 {
		return e.fail(p.CheckWrite())
	}
	e.leaves[protocolReader].integer(int32(p.MinReaderVersion))
	e.leaves[protocolWriter].integer(int32(p.MinWriterVersion))
	return e.took(kindProtocol, 0)
}

// Metadata takes the table's metadata, once.
func (e *Encoder) Metadata(m delta.Metadata) error {
	e.leaves[metaID].text(m.ID)
	e.leaves[metaName].textOrNull(m.Name)
	e.leaves[metaDescription].textOrNull(m.Description)
	e.leaves[metaProvider].text(m.Format.Provider)
	e.pairs(metaOptionKey, m.Format.Options, false)
	e.leaves[metaSchema].text(m.SchemaString)
	l := &e.leaves[metaPartitionColumn]
	for i, c := range m.PartitionColumns {
		l.entry(c, i > 0)
	}
	if len(m.PartitionColumns) == 0 {
		l.null()
	}
	e.pairs(metaConfigurationKey, m.Configuration, false)
	e.leaves[metaCreatedTime].longOrNull(m.CreatedTime)
	return e.took(kindMetadata, len(m.SchemaString))
}

// Txn takes an application's version. Each application comes once.
func (e *Encoder) Txn(x delta.Txn) error {
	e.leaves[txnAppID].text(x.AppID)
	e.leaves[txnVersion].long(x.Version)
	e.leaves[txnLastUpdated].longOrNull(x.LastUpdated)
	e.tally.txn(x.AppID, x.Version)
	return e.took(kindTxn, len(x.AppID))
}

// Add takes a live file. Each path comes once. It is written with dataChange false: in a
// checkpoint it changes nothing.
func (e *Encoder) Add(a delta.Add) error {
	e.leaves[addPath].text(a.Path)
	size := e.values(addPartitionKey, a.PartitionValues)
	e.leaves[addSize].long(a.Size)
	e.leaves[addModificationTime].long(a.ModificationTime)
	e.leaves[addDataChange].boolean(false)
	e.leaves[addStats].textOrNull(a.Stats)
	size += e.pairs(addTagKey, a.Tags, true)
	e.tally.add(a.Path, a.Size)
	return e.took(kindAdd, size+len(a.Path)+len(a.Stats))
}

// Remove takes a tombstone. It is written with dataChange false and without tags.
func (e *Encoder) Remove(r delta.Remove) error {
	e.leaves[removePath].text(r.Path)
	e.leaves[removeDeletionTimestamp].longOrNull(r.DeletionTimestamp)
	e.leaves[removeDataChange].boolean(false)
	e.leaves[removeExtended].boolean(r.ExtendedFileMetadata)
	size := 0
	if r.ExtendedFileMetadata || r.PartitionValues != nil {
		size = e.values(removePartitionKey, r.PartitionValues)
	} else {
		e.noPairs(removePartitionKey, true)
	}
	if r.ExtendedFileMetadata {
		e.leaves[removeSize].long(r.Size)
	} else {
		e.leaves[removeSize].longOrNull(r.Size)
	}
	return e.took(kindRemove, size+len(r.Path))
}

// noPairs appends an empty map, or null.
func (e *Encoder) noPairs(key int, null bool) {
	k, v := &e.leaves[key], &e.leaves[key+1]
	def := k.max - 1
	if null {
		def--
	}
	k.level(def, false)
	v.level(def, false)
}

// pairs appends a map to the columns key and key+1, and returns its size. emptyIsNull is for maps that may be null.
func (e *Encoder) pairs(key int, m map[string]string, emptyIsNull bool) (size int) {
	if len(m) == 0 {
		e.noPairs(key, emptyIsNull)
		return 0
	}
	e.keys = slices.AppendSeq(e.keys[:0], maps.Keys(m))
	slices.Sort(e.keys)
	for i, k := range e.keys {
		e.leaves[key].entry(k, i > 0)
		e.leaves[key+1].entry(m[k], i > 0)
		size += len(k) + len(m[k])
	}
	return size
}

// values is pairs for values that may be null.
func (e *Encoder) values(key int, m map[string]*string) (size int) {
	if len(m) == 0 {
		e.noPairs(key, false)
		return 0
	}
	e.keys = slices.AppendSeq(e.keys[:0], maps.Keys(m))
	slices.Sort(e.keys)
	for i, k := range e.keys {
		e.leaves[key].entry(k, i > 0)
		size += len(k)
		if v := m[k]; v != nil {
			e.leaves[key+1].entry(*v, i > 0)
			size += len(*v)
		} else {
			e.leaves[key+1].level(e.leaves[key+1].max-1, i > 0)
		}
	}
	return size
}

func (e *Encoder) fail(err error) error {
	if e.err == nil && err != nil {
		e.err = fmt.Errorf("encode checkpoint: %w", err)
	}
	return e.err
}

// took counts an action that is in the leaves, and writes them if they are many.
func (e *Encoder) took(k kind, size int) error {
	if e.err != nil {
		return e.err
	}
	e.rows[k]++
	e.counts[k]++
	e.info.Actions++
	e.texts += size
	rows := 0
	for _, n := range e.rows {
		rows += n
	}
	if rows < e.group && e.texts < groupBytes {
		return nil
	}
	return e.fail(e.flush())
}

// flush writes a row group.
func (e *Encoder) flush() (err error) {
	defer func() {
		// What the encoder cannot bear must not end the process.
		if r := recover(); r != nil {
			err = fmt.Errorf("write row group: %v", r)
		}
	}()
	var before [numKinds]int
	total := 0
	for k, n := range e.rows {
		before[k] = total
		total += n
	}
	if total == 0 {
		return nil
	}
	g := e.w.AppendRowGroup()
	for i := range e.leaves {
		l := &e.leaves[i]
		cw, err := g.NextColumn()
		if err != nil {
			return err
		}
		if err := l.write(cw, before[l.kind], total-before[l.kind]-e.rows[l.kind]); err != nil {
			return fmt.Errorf("column %s: %w", l.column.Path(), err)
		}
		if err := cw.Close(); err != nil {
			return fmt.Errorf("column %s: %w", l.column.Path(), err)
		}
		l.reset()
	}
	e.rows, e.texts = [numKinds]int{}, 0
	return g.Close()
}

// Finish ends the file and returns it. It is an error if the state is not that of the
// actions which came: then whoever keeps the state has a mistake, and the file would
// tell it to everybody.
func (e *Encoder) Finish(state State) ([]byte, Info, error) {
	if e.err != nil {
		return nil, Info{}, e.err
	}
	info, err := e.finish(state)
	if err != nil {
		return nil, Info{}, e.fail(err)
	}
	e.err = errors.New("encode checkpoint: it is finished")
	return e.out.Bytes(), info, nil
}

func (e *Encoder) finish(state State) (info Info, err error) {
	if e.counts[kindProtocol] != 1 || e.counts[kindMetadata] != 1 {
		return info, fmt.Errorf("%d protocol and %d metaData actions, want one of each", e.counts[kindProtocol], e.counts[kindMetadata])
	}
	if err := e.tally.check(state, true, true); err != nil {
		return info, err
	}
	if err := e.flush(); err != nil {
		return info, err
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("write footer: %v", r)
		}
	}()
	text, err := json.Marshal(state)
	if err != nil {
		return info, err
	}
	if err := e.w.AppendKeyValueMetadata(stateKey, string(text)); err != nil {
		return info, err
	}
	if err := e.w.AppendKeyValueMetadata(sumKey, noSum); err != nil {
		return info, err
	}
	if err := e.w.Close(); err != nil {
		return info, err
	}
	file := e.out.Bytes()
	at, err := sumPosition(file)
	if err != nil {
		return info, err
	}
	copy(file[at:], checksum(file, at))
	e.info.Adds, e.info.Removes = e.counts[kindAdd], e.counts[kindRemove]
	return e.info, nil
}
