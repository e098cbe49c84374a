package activities

import (
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
)

// TurnInput asks for one turn of a table's pipeline.
type TurnInput struct {
	Table string `json:"table"`
	// MaxRows bounds the landed rows of the turn; 0 is the worker's default.
	MaxRows int64 `json:"max_rows,omitempty"`
}

// TurnResult says what a turn did. From == To means that there was nothing to do.
type TurnResult struct {
	From         int64  `json:"from"` // landed version the scored table had before, -1: none
	To           int64  `json:"to"`   // landed version it has now
	Rows         int64  `json:"rows"` // landed rows taken: Scored + Quarantined + Recovering
	Scored       int64  `json:"scored"`
	Quarantined  int64  `json:"quarantined"`
	Recovering   int64  `json:"recovering,omitempty"`
	Warnings     int64  `json:"warnings,omitempty"` // failed warn checks, rows
	Contract     string `json:"contract,omitempty"`
	Model        string `json:"model,omitempty"`
	ModelVersion int64  `json:"model_version,omitempty"`
	// Backlog is what had landed and was left for the next turn; of a long one
	// the rows are an estimate.
	BacklogVersions int64 `json:"backlog_versions,omitempty"`
	BacklogRows     int64 `json:"backlog_rows,omitempty"`
	// Recover are the parts that were handed over to recovery by this turn, or
	// by an earlier one without a recovery having finished.
	Recover []Part `json:"recover,omitempty"`
}

// Part names consecutive rows of one landed file.
type Part struct {
	Version int64  `json:"version"` // landed version that added the file
	File    string `json:"file"`    // path below the table's root
	From    int64  `json:"from"`    // first row
	To      int64  `json:"to"`      // one past the last row
}

// ID names the part within its table; the scored table's transaction of the
// same name says whether it is open (0) or done (1).
func (p Part) ID() string { return fmt.Sprintf("recover/%d/%d-%d/%s", p.Version, p.From, p.To, p.File) }

// RecoverInput asks for one more attempt at a part.
type RecoverInput struct {
	Table string `json:"table"`
	Part  Part   `json:"part"`
	// Last makes the attempt final: what still fails is quarantined.
	Last bool `json:"last"`
}

// RecoverResult says where a part's rows went.
type RecoverResult struct {
	Scored      int64 `json:"scored"`
	Quarantined int64 `json:"quarantined"`
}

// Candidate names a model that wants to be registered.
type Candidate struct {
	Name string `json:"name"`
	// File is the ONNX file: a path in the project directory of the worker, or
	// the key of an upload as `tidemill model register` makes it ("upload/<sha256>.onnx").
	File string `json:"file"`
	// Table limits the gate to one contract; by default every contract that
	// scores with a model of this name is checked.
	Table string `json:"table,omitempty"`
}

// Inspected is what a candidate turned out to be.
type Inspected struct {
	SHA256    string   `json:"sha256"`
	Bytes     int64    `json:"bytes"`
	Signature string   `json:"signature"`
	Upload    string   `json:"upload"` // key under which the bytes are safe from edits
	Tables    []string `json:"tables"` // contracts the gate checks it against
}

// GateInput asks for the gate's checks of one inspected candidate.
type GateInput struct {
	Candidate Candidate `json:"candidate"`
	Inspected Inspected `json:"inspected"`
}

// Check is one check that a model passed.
type Check struct {
	Name   string `json:"name"`
	Detail string `json:"detail"`
}

// PublishInput makes an inspected and checked candidate a version.
type PublishInput struct {
	Candidate Candidate `json:"candidate"`
	Inspected Inspected `json:"inspected"`
	Checks    []Check   `json:"checks"`
}

// Published is a registered version.
type Published struct {
	Name    string `json:"name"`
	Version int64  `json:"version"`
	SHA256  string `json:"sha256"`
}

// AliasInput moves an alias to a version.
type AliasInput struct {
	Name    string `json:"name"`
	Alias   string `json:"alias"`
	Version int64  `json:"version"`
}

// Types of application errors, as they show in the Temporal UI.
const (
	ErrTypeContract = "Contract" // a contract must be mended
	ErrTypeModel    = "Model"    // a model is missing or does not fit
	ErrTypeInput    = "Input"    // the workflow's input must be corrected
	ErrTypePoison   = "Poison"   // rows that still crash the model
	ErrTypeTable    = "Table"    // a table must be mended
)

// Permanent marks an error that repeating cannot mend.
func Permanent(kind string, err error) error {
	return temporal.NewNonRetryableApplicationError(err.Error(), kind, err)
}

// Kind returns the type of an application error anywhere in the chain, or "".
func Kind(err error) string {
	if ae, ok := errors.AsType[*temporal.ApplicationError](err); ok {
		return ae.Type()
	}
	return ""
}

// heartbeatEvery is how often a long activity says that it lives.
const heartbeatEvery = 2 * time.Second
