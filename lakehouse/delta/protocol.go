package delta

import (
	"fmt"
	"slices"
	"strings"
)

// What we read and write.
const (
	ReaderVersion = 1
	WriterVersion = 2
)

// Protocol is what a table asks of those who read and write it.
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

// writerFeatures are what each writer version brought with it.
var writerFeatures = map[int]string{
	3: "checkConstraints",
	4: "changeDataFeed, generatedColumns",
	5: "columnMapping",
	6: "identityColumns",
}

// Check returns an [UnsupportedError] if the table asks for more than we support.
func (p Protocol) Check() error {
	declared := fmt.Sprintf("the table declares reader version %d and writer version %d, supported are %d and %d; "+
		"have its owner drop the feature, or copy the table", p.MinReaderVersion, p.MinWriterVersion, ReaderVersion, WriterVersion)
	names := append([]string{}, p.ReaderFeatures...)
	for _, f := range p.WriterFeatures {
		if !slices.Contains(names, f) {
			names = append(names, f)
		}
	}
	switch {
	case len(names) > 0:
		return &UnsupportedError{Feature: strings.Join(names, ", "), Detail: declared}
	case p.MinReaderVersion > 2 || p.MinWriterVersion > 6:
		return &UnsupportedError{Feature: "table features", Detail: declared}
	case p.MinReaderVersion > ReaderVersion:
		return &UnsupportedError{Feature: "columnMapping", Detail: declared}
	case p.MinWriterVersion > WriterVersion:
		return &UnsupportedError{Feature: writerFeatures[p.MinWriterVersion], Detail: declared}
	}
	return nil
}

// Check returns an [UnsupportedError] if the settings ask for what we do not support.
func (m *Metadata) Check() error {
	if m.Format.Provider != "" && m.Format.Provider != "parquet" {
		return &UnsupportedError{Feature: "format " + m.Format.Provider, Detail: "only parquet is known"}
	}
	if mode := m.Configuration["delta.columnMapping.mode"]; mode != "" && mode != "none" {
		return &UnsupportedError{Feature: "columnMapping", Detail: "delta.columnMapping.mode is " + mode}
	}
	return nil
}
