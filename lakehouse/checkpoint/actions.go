package checkpoint

import (
	"fmt"

	"github.com/apache/arrow/go/v17/parquet"

	"github.com/tidemill/tidemill/lakehouse/delta"
)

func (d *decoder) protocols() error {
	if d.v.Protocol == nil {
		return nil
	}
	minReader := scalar[int64](d, "protocol", "minReaderVersion")
	minWriter := scalar[int64](d, "protocol", "minWriterVersion")
	readerFeatures, _ := d.entries("protocol", "readerFeatures")
	writerFeatures, _ := d.entries("protocol", "writerFeatures")
	return rows(d, minReader, func() error {
		r, def := minReader.next()
		w, _ := minWriter.get()
		p := delta.Protocol{MinReaderVersion: int(r), MinWriterVersion: int(w), ReaderFeatures: listRow(readerFeatures), WriterFeatures: listRow(writerFeatures)}
		if def < minReader.present || d.err != nil {
			return d.err
		}
		return visit(d, d.v.Protocol, p)
	})
}

func listRow(c *texts) (list []string) {
	if c == nil {
		return nil
	}
	for {
		if v, def := c.next(); def >= c.entry {
			list = append(list, string(v))
		}
		if !c.more() {
			return list
		}
	}
}

func stringMap(m *mapReader) (out map[string]string) {
	m.row(func(key string, value *string) {
		if out == nil {
			out = map[string]string{}
		}
		out[key] = ""
		if value != nil {
			out[key] = *value
		}
	})
	return out
}

func valueMap(m *mapReader) (out map[string]*string) {
	m.row(func(key string, value *string) {
		if out == nil {
			out = map[string]*string{}
		}
		out[key] = value
	})
	return out
}

func (d *decoder) metadata() error {
	if d.v.Metadata == nil {
		return nil
	}
	id := scalar[parquet.ByteArray](d, "metaData", "id")
	name := scalar[parquet.ByteArray](d, "metaData", "name")
	description := scalar[parquet.ByteArray](d, "metaData", "description")
	provider := scalar[parquet.ByteArray](d, "metaData", "format", "provider")
	options := d.pairs("metaData", "format", "options")
	schemaString := scalar[parquet.ByteArray](d, "metaData", "schemaString")
	partitionColumns, _ := d.entries("metaData", "partitionColumns")
	configuration := d.pairs("metaData", "configuration")
	created := scalar[int64](d, "metaData", "createdTime")
	return rows(d, id, func() error {
		v, def := id.next()
		m := delta.Metadata{
			ID: string(v), Name: getText(name), Description: getText(description),
			Format:       delta.Format{Provider: getText(provider), Options: stringMap(&options)},
			SchemaString: getText(schemaString), PartitionColumns: listRow(partitionColumns), Configuration: stringMap(&configuration),
		}
		m.CreatedTime, _ = created.get()
		if def < id.present || d.err != nil {
			return d.err
		}
		return visit(d, d.v.Metadata, m)
	})
}

func (d *decoder) txns() error {
	if d.v.Txn == nil {
		return nil
	}
	app := scalar[parquet.ByteArray](d, "txn", "appId")
	version := scalar[int64](d, "txn", "version")
	updated := scalar[int64](d, "txn", "lastUpdated")
	return rows(d, app, func() error {
		v, def := app.next()
		var x delta.Txn
		x.Version, _ = version.get()
		x.LastUpdated, _ = updated.get()
		if def < app.present || d.err != nil {
			return d.err
		}
		x.AppID = string(v)
		if d.state != nil {
			d.tally.txn(x.AppID, x.Version)
		}
		return visit(d, d.v.Txn, x)
	})
}

func (d *decoder) adds() error {
	if d.v.Add == nil {
		return nil
	}
	path := scalar[parquet.ByteArray](d, "add", "path")
	partition := d.pairs("add", "partitionValues")
	size := scalar[int64](d, "add", "size")
	modified := scalar[int64](d, "add", "modificationTime")
	change := scalar[bool](d, "add", "dataChange")
	stats := scalar[parquet.ByteArray](d, "add", "stats")
	tags := d.pairs("add", "tags")
	vector := scalar[parquet.ByteArray](d, "add", "deletionVector", "storageType")
	parsed := newParsedStats(d)
	return rows(d, path, func() error {
		v, def := path.next()
		a := delta.Add{PartitionValues: valueMap(&partition), Stats: getText(stats), Tags: stringMap(&tags)}
		a.Size, _ = size.get()
		a.ModificationTime, _ = modified.get()
		a.DataChange, _ = change.get()
		_, deleted := vector.get()
		parsed.next()
		if def < path.present || d.err != nil {
			return d.err
		}
		if def < path.max {
			return fmt.Errorf("an add action has no path")
		}
		a.Path = string(v)
		if deleted {
			return &delta.UnsupportedError{Feature: "deletionVectors", Detail: "file " + a.Path + " has a deletion vector"}
		}
		if a.Stats == "" {
			a.Stats = parsed.json()
		}
		if d.state != nil {
			d.tally.add(a.Path, a.Size)
		}
		return visit(d, d.v.Add, a)
	})
}

func (d *decoder) removes() error {
	if d.v.Remove == nil {
		return nil
	}
	path := scalar[parquet.ByteArray](d, "remove", "path")
	deletion := scalar[int64](d, "remove", "deletionTimestamp")
	change := scalar[bool](d, "remove", "dataChange")
	extended := scalar[bool](d, "remove", "extendedFileMetadata")
	partition := d.pairs("remove", "partitionValues")
	size := scalar[int64](d, "remove", "size")
	tags := d.pairs("remove", "tags")
	return rows(d, path, func() error {
		v, def := path.next()
		r := delta.Remove{PartitionValues: valueMap(&partition), Tags: stringMap(&tags)}
		r.DeletionTimestamp, _ = deletion.get()
		r.DataChange, _ = change.get()
		r.ExtendedFileMetadata, _ = extended.get()
		r.Size, _ = size.get()
		if def < path.present || d.err != nil {
			return d.err
		}
		if def < path.max {
			return fmt.Errorf("a remove action has no path")
		}
		r.Path = string(v)
		return visit(d, d.v.Remove, r)
	})
}
