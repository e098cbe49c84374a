package contract

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/tidemill/tidemill/internal/strictyaml"
)

// The canonical form has the fields of the YAML, in this order, with defaults
// filled in. A change here changes every contract's version, which scored rows
// carry: add fields so that contracts without them keep their form.
type canonical struct {
	Table       string            `json:"table"`
	Columns     []canonicalColumn `json:"columns"`
	Key         []string          `json:"key,omitempty"`
	Dedupe      *canonicalDedupe  `json:"dedupe,omitempty"`
	EventTime   string            `json:"event_time,omitempty"`
	PartitionBy []string          `json:"partition_by,omitempty"`
	ClusterBy   []string          `json:"cluster_by,omitempty"`
	Retention   string            `json:"retention,omitempty"`
	OnNewField  NewField          `json:"on_new_field"`
	Checks      []canonicalCheck  `json:"checks,omitempty"`
	Features    string            `json:"features,omitempty"`
	Score       *canonicalScore   `json:"score,omitempty"`
}

type canonicalColumn struct {
	Name     string `json:"name"`
	Type     string `json:"type"`
	Required bool   `json:"required"`
}

type canonicalCheck struct {
	Name      string `json:"name"`
	Expr      string `json:"expr,omitempty"`
	Freshness string `json:"freshness,omitempty"`
	OnFail    OnFail `json:"on_fail"`
}

type canonicalScore struct {
	Model     string           `json:"model"`
	Inputs    []string         `json:"inputs,omitempty"`
	Output    canonicalOutputs `json:"output"`
	Isolation Isolation        `json:"isolation"`
}

// canonicalOutputs is an object whose order counts: it is the order of the
// columns in the scored table.
type canonicalOutputs []Output

// String returns the output's tensor as contracts write it: "probabilities[1]".
func (o Output) String() string {
	if o.Index < 0 {
		return o.Tensor
	}
	return fmt.Sprintf("%s[%d]", o.Tensor, o.Index)
}

// MarshalJSON keeps the outputs in order.
func (outputs canonicalOutputs) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, o := range outputs {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := marshal(o.Column)
		if err != nil {
			return nil, err
		}
		tensor, err := marshal(o.String())
		if err != nil {
			return nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(tensor)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// marshal encodes without escaping <, > and &, which SQL is full of.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}

func (t *Table) canonical() canonical {
	c := canonical{
		Table: t.name, Key: t.key, Dedupe: t.canonicalDedupe(), EventTime: t.eventTime, ClusterBy: t.clusterBy,
		OnNewField: t.onNewField, Features: t.features,
	}
	for _, p := range t.partitions {
		c.PartitionBy = append(c.PartitionBy, p.String())
	}
	if t.retention > 0 {
		c.Retention = strictyaml.FormatDuration(t.retention)
	}
	for _, col := range t.columns {
		c.Columns = append(c.Columns, canonicalColumn{col.Name, col.Type.String(), col.Required})
	}
	for _, check := range t.checks {
		cc := canonicalCheck{Name: check.Name, Expr: check.Expr, OnFail: check.OnFail}
		if check.Freshness > 0 {
			cc.Freshness = check.Freshness.String()
		}
		c.Checks = append(c.Checks, cc)
	}
	if s := t.score; s != nil {
		c.Score = &canonicalScore{s.Model, s.Inputs, s.Outputs, s.Isolation}
	}
	return c
}

// seal derives what follows from the rest, once and for all.
func (t *Table) seal() {
	t.schema = arrowSchema(t.columns)
	data, err := marshal(t.canonical())
	if err != nil {
		panic(fmt.Sprintf("contract: canonical form: %v", err)) // strings, numbers and booleans always encode
	}
	t.json = data
	sum := sha256.Sum256(data)
	t.version = "sha256:" + hex.EncodeToString(sum[:])[:16]
}
