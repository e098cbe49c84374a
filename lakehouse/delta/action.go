package delta

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// EngineInfo is how our commits name their writer.
const EngineInfo = "tidemill/0.1"

// Commit holds the actions of one commit: one JSON object per line in the log.
type Commit struct {
	Info     *CommitInfo
	Protocol *Protocol
	Metadata *Metadata
	Txns     []Txn
	Adds     []Add
	Removes  []Remove
}

// CommitInfo says who committed, when and why. Other writers may leave it out.
type CommitInfo struct {
	Timestamp           int64      `json:"timestamp"` // ms since 1970
	Operation           string     `json:"operation"`
	OperationParameters Parameters `json:"operationParameters"`
	IsBlindAppend       bool       `json:"isBlindAppend"` // the commit did not depend on what the table held
	EngineInfo          string     `json:"engineInfo,omitempty"`
	TxnID               string     `json:"txnId,omitempty"` // unique per attempt to commit: how a writer knows its own commit again
}

// Parameters are an operation's parameters. Values that other writers give as
// something else than a string are kept as their JSON text.
type Parameters map[string]string

// UnmarshalJSON implements json.Unmarshaler.
func (p *Parameters) UnmarshalJSON(data []byte) error {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return err
	}
	*p = make(Parameters, len(raw))
	for k, v := range raw {
		var s string
		if json.Unmarshal(v, &s) != nil {
			s = string(v)
		}
		(*p)[k] = s
	}
	return nil
}

// Metadata is the table's schema and settings.
type Metadata struct {
	ID               string            `json:"id"`
	Name             string            `json:"name,omitempty"`
	Description      string            `json:"description,omitempty"`
	Format           Format            `json:"format"`
	SchemaString     string            `json:"schemaString"`
	PartitionColumns []string          `json:"partitionColumns"`
	Configuration    map[string]string `json:"configuration"`
	CreatedTime      int64             `json:"createdTime,omitempty"` // ms since 1970
}

// Format is the file format of a table's data; only parquet exists.
type Format struct {
	Provider string            `json:"provider"`
	Options  map[string]string `json:"options"`
}

// Txn is an application's own version, remembered by the table: of several with one
// AppID the latest commit's counts.
type Txn struct {
	AppID       string `json:"appId"`
	Version     int64  `json:"version"`
	LastUpdated int64  `json:"lastUpdated,omitempty"` // ms since 1970
}

// Add puts a file into the table. Path is as it stands in the log: see [DecodePath].
type Add struct {
	Path             string             `json:"path"`
	PartitionValues  map[string]*string `json:"partitionValues"`
	Size             int64              `json:"size"`             // bytes
	ModificationTime int64              `json:"modificationTime"` // ms since 1970
	DataChange       bool               `json:"dataChange"`
	Stats            string             `json:"stats,omitempty"` // JSON: see [Stats]
	Tags             map[string]string  `json:"tags,omitempty"`
}

// Remove takes a file out of the table; its object stays until it is vacuumed.
type Remove struct {
	Path                 string             `json:"path"`
	DeletionTimestamp    int64              `json:"deletionTimestamp,omitempty"` // ms since 1970
	DataChange           bool               `json:"dataChange"`
	ExtendedFileMetadata bool               `json:"extendedFileMetadata,omitempty"`
	PartitionValues      map[string]*string `json:"partitionValues,omitempty"`
	Size                 int64              `json:"size,omitempty"`
	Tags                 map[string]string  `json:"tags,omitempty"`
}

// line is one line of a commit as we write it.
type line struct {
	CommitInfo *CommitInfo `json:"commitInfo,omitempty"`
	Protocol   *Protocol   `json:"protocol,omitempty"`
	Metadata   *Metadata   `json:"metaData,omitempty"`
	Txn        *Txn        `json:"txn,omitempty"`
	Add        *Add        `json:"add,omitempty"`
	Remove     *Remove     `json:"remove,omitempty"`
}

// Encode returns the commit's lines. The error says which of the protocol's rules for
// one commit is broken: a path or an application stands in it twice.
func (c *Commit) Encode() ([]byte, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	put := func(l line) error { return enc.Encode(l) }
	var err error
	if c.Info != nil {
		err = put(line{CommitInfo: c.Info})
	}
	if err == nil && c.Protocol != nil {
		err = put(line{Protocol: c.Protocol})
	}
	if err == nil && c.Metadata != nil {
		err = put(line{Metadata: c.Metadata})
	}
	for i := 0; err == nil && i < len(c.Txns); i++ {
		err = put(line{Txn: &c.Txns[i]})
	}
	for i := 0; err == nil && i < len(c.Removes); i++ {
		err = put(line{Remove: &c.Removes[i]})
	}
	for i := 0; err == nil && i < len(c.Adds); i++ {
		add := c.Adds[i]
		if add.PartitionValues == nil {
			add.PartitionValues = map[string]*string{} // required by the protocol
		}
		err = put(line{Add: &add})
	}
	if err != nil {
		return nil, fmt.Errorf("encode commit: %w", err)
	}
	return buf.Bytes(), nil
}

func (c *Commit) check() error {
	seen := make(map[string]bool, len(c.Adds)+len(c.Removes)+len(c.Txns))
	once := func(kind, name string) error {
		if k := kind + "\x00" + name; !seen[k] {
			seen[k] = true
			return nil
		}
		return fmt.Errorf("encode commit: %s %q stands in it twice", kind, name)
	}
	for _, x := range c.Txns {
		if err := once("txn", x.AppID); err != nil {
			return err
		}
	}
	for _, x := range c.Removes {
		if err := once("file", x.Path); err != nil {
			return err
		}
	}
	for _, x := range c.Adds {
		if err := once("file", x.Path); err != nil {
			return err
		}
	}
	return nil
}

// Decode reads a commit. Actions and fields it does not know are left out, also a
// commitInfo of a form that is not ours; a deletion vector is an [UnsupportedError].
// Whether the protocol is one we support is for the caller to ask.
func Decode(data []byte) (*Commit, error) {
	c := &Commit{}
	for n := 1; len(data) > 0; n++ {
		var text []byte
		text, data, _ = bytes.Cut(data, []byte{'\n'})
		if text = bytes.TrimSpace(text); len(text) == 0 {
			continue
		}
		if err := c.decodeLine(text); err != nil {
			return nil, fmt.Errorf("decode commit, line %d: %w", n, err)
		}
	}
	return c, nil
}

func (c *Commit) decodeLine(text []byte) error {
	var l struct {
		line
		CommitInfo json.RawMessage `json:"commitInfo"` // shadows ours: it may hold anything
		Add        *struct {
			Add
			DeletionVector json.RawMessage `json:"deletionVector"`
		} `json:"add"`
	}
	if err := json.Unmarshal(text, &l); err != nil {
		return err
	}
	if len(l.CommitInfo) > 0 {
		var info CommitInfo
		if json.Unmarshal(l.CommitInfo, &info) == nil {
			c.Info = &info
		}
	}
	if l.Protocol != nil {
		c.Protocol = l.Protocol
	}
	if l.Metadata != nil {
		c.Metadata = l.Metadata
	}
	if l.Txn != nil {
		c.Txns = append(c.Txns, *l.Txn)
	}
	if l.Remove != nil {
		c.Removes = append(c.Removes, *l.Remove)
	}
	if l.Add != nil {
		if v := l.Add.DeletionVector; len(v) > 0 && !bytes.Equal(v, []byte("null")) {
			return &UnsupportedError{Feature: "deletionVectors", Detail: "file " + l.Add.Path + " has a deletion vector"}
		}
		c.Adds = append(c.Adds, l.Add.Add)
	}
	return nil
}
