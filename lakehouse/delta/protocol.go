package delta

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// What we create tables with.
const (
	ReaderVersion = 1
	WriterVersion = 2
)

// featuresVersion is the writer version whose demands are a list of features, and
// featuresReader the reader version.
const (
	featuresReader = 3
	featuresWriter = 7
)

// Protocol is what a table asks of those who read and write it. Features of reading bind
// readers and writers, those of writing only writers.
type Protocol struct {
	MinReaderVersion int      `json:"minReaderVersion"`
	MinWriterVersion int      `json:"minWriterVersion"`
	ReaderFeatures   []string `json:"readerFeatures,omitempty"`
	WriterFeatures   []string `json:"writerFeatures,omitempty"`
}

// UnsupportedError says that a table needs something of the Delta protocol that we do
// not have. Reading it as if it were not there could give wrong rows.
type UnsupportedError struct {
	Feature string // the protocol's name of it
	Detail  string
}

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("unsupported Delta feature %s: %s", e.Feature, e.Detail)
}

// readerFeatures are those that ask nothing of a reader beyond what we do.
// vacuumProtocolCheck is about vacuuming, where nothing is vacuumed that another writes.
var readerFeatures = []string{"vacuumProtocolCheck"}

// legacyFeatures are what each writer version brought with it.
var legacyFeatures = map[int]string{
	3: "checkConstraints",
	4: "changeDataFeed, generatedColumns",
	5: "columnMapping",
	6: "identityColumns",
}

// CheckRead returns an [UnsupportedError] if the table cannot be read without more than
// we support. Features that bind only writers do not matter to it.
func (p Protocol) CheckRead() error {
	declared := fmt.Sprintf("the table declares reader version %d%s; have its owner drop the feature, or copy the table", p.MinReaderVersion, listed(p.ReaderFeatures))
	if missing := without(p.ReaderFeatures, readerFeatures); len(missing) > 0 {
		return &UnsupportedError{Feature: strings.Join(missing, ", "), Detail: declared}
	}
	switch {
	case p.MinReaderVersion > featuresReader:
		return &UnsupportedError{Feature: fmt.Sprintf("reader version %d", p.MinReaderVersion), Detail: declared}
	case p.MinReaderVersion == 2:
		return &UnsupportedError{Feature: "columnMapping", Detail: declared}
	}
	return nil
}

// CheckWrite returns an [UnsupportedError] if the table cannot be written without more
// than we support. That is every table with a list of features, also when it has only
// those of writer version 2: our checkpoints have no column for a list.
func (p Protocol) CheckWrite() error {
	if err := p.CheckRead(); err != nil {
		return err
	}
	declared := fmt.Sprintf("the table declares writer version %d%s, so it can be read here and not written; have its owner drop the feature, or copy the table",
		p.MinWriterVersion, listed(p.WriterFeatures))
	features := slices.Clone(p.WriterFeatures)
	for _, f := range p.ReaderFeatures { // bind writers even when the other list has left them out
		if !slices.Contains(features, f) {
			features = append(features, f)
		}
	}
	switch {
	case len(features) > 0:
		return &UnsupportedError{Feature: strings.Join(features, ", "), Detail: declared}
	case p.MinWriterVersion > featuresWriter:
		return &UnsupportedError{Feature: fmt.Sprintf("writer version %d", p.MinWriterVersion), Detail: declared}
	case p.MinWriterVersion == featuresWriter || p.MinReaderVersion == featuresReader:
		return &UnsupportedError{Feature: "table features", Detail: declared}
	case p.MinWriterVersion > WriterVersion:
		return &UnsupportedError{Feature: legacyFeatures[p.MinWriterVersion], Detail: declared}
	}
	return nil
}

func listed(features []string) string {
	if len(features) == 0 {
		return ""
	}
	return " with " + strings.Join(features, ", ")
}

func without(all, known []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(f string) bool { return slices.Contains(known, f) })
}

// CheckRead returns an [UnsupportedError] if the settings ask more of a reader than we
// support.
func (m *Metadata) CheckRead() error {
	if m.Format.Provider != "" && m.Format.Provider != "parquet" {
		return &UnsupportedError{Feature: "format " + m.Format.Provider, Detail: "only parquet is known"}
	}
	if mode := m.Configuration["delta.columnMapping.mode"]; mode != "" && mode != "none" {
		return &UnsupportedError{Feature: "columnMapping", Detail: "delta.columnMapping.mode is " + mode}
	}
	return nil
}

// writerKeys are what a column's metadata asks of writers, by the beginning of the key.
var writerKeys = []struct{ prefix, feature, detail string }{
	{"delta.invariants", "invariants", "has one that we cannot check"},
	{"delta.generationExpression", "generatedColumns", "is made of others by its writer"},
	{"delta.identity.", "identityColumns", "is numbered by its writer"},
}

// CheckWrite returns an [UnsupportedError] if the settings, or a column's, ask more of a
// writer than we support: values that have to be made or checked.
func (m *Metadata) CheckWrite() error {
	if err := m.CheckRead(); err != nil {
		return err
	}
	var s structJSON
	if err := json.Unmarshal([]byte(m.SchemaString), &s); err != nil {
		return fmt.Errorf("parse schema: %w", err)
	}
	return checkFields("", s.Fields)
}

func checkFields(path string, fields []fieldJSON) error {
	for _, f := range fields {
		for key := range f.Metadata {
			for _, w := range writerKeys {
				if strings.HasPrefix(key, w.prefix) {
					return &UnsupportedError{Feature: w.feature, Detail: "column " + path + f.Name + " " + w.detail + "; the table can be read, not written"}
				}
			}
		}
		if err := checkNested(path+f.Name, f.Type); err != nil {
			return err
		}
	}
	return nil
}

// checkNested looks into the fields of a column's type, at any depth.
func checkNested(path string, raw json.RawMessage) error {
	var t struct {
		Fields                          []fieldJSON
		ElementType, KeyType, ValueType json.RawMessage
	}
	if !bytes.HasPrefix(bytes.TrimSpace(raw), []byte{'{'}) {
		return nil // a name
	}
	if err := json.Unmarshal(raw, &t); err != nil {
		return fmt.Errorf("column %s: %w", path, err)
	}
	if err := checkFields(path+".", t.Fields); err != nil {
		return err
	}
	for part, inner := range map[string]json.RawMessage{".element": t.ElementType, ".key": t.KeyType, ".value": t.ValueType} {
		if err := checkNested(path+part, inner); err != nil {
			return err
		}
	}
	return nil
}
