package contract

import (
	"time"

	"github.com/tidemill/tidemill/internal/strictyaml"
)

// Dedupe says how repeated rows of sources that have no positions are found.
type Dedupe struct {
	By      DedupeBy
	Window  time.Duration // for how long a row is remembered, from when it landed; at least a second
	MaxKeys int           // remembered at most
}

// DedupeBy says what makes two rows the same row.
type DedupeBy string

const (
	DedupeByKey       DedupeBy = "key"        // the columns of the contract's key; the default
	DedupeByMessageID DedupeBy = "message_id" // the id that the publisher gave the message, and the row's place in it
)

const (
	leastDedupeWindow = time.Second
	defaultMaxKeys    = 5_000_000
	leastMaxKeys      = 1000
	mostMaxKeys       = 100_000_000
)

var dedupeSpec = strictyaml.Spec{
	Kind: strictyaml.Object,
	Doc:  "Leaves out repeated rows of sources that have no positions, such as MQTT, AMQP and HTTP",
	Fields: []strictyaml.Field{
		{Name: "window", Required: true, Spec: strictyaml.Spec{
			Kind: strictyaml.Duration, Least: leastDedupeWindow, Examples: []string{"1h", "10m"},
			Doc: "For how long, at least, a row that landed is remembered; a repeat that comes later lands again"}},
		{Name: "by", Spec: strictyaml.Spec{
			Kind: strictyaml.Text, Enum: []string{string(DedupeByKey), string(DedupeByMessageID)}, Default: string(DedupeByKey),
			Doc: "What makes two rows the same: the columns of key, or the id that the publisher gave the message"}},
		{Name: "max_keys", Spec: strictyaml.Spec{
			Kind: strictyaml.Integer, Min: leastMaxKeys, Max: mostMaxKeys, Default: "5000000",
			Doc: "How many rows are remembered at most, each in at most 32 bytes of memory; with more, the oldest are forgotten early"}},
	},
}

// Dedupe says how repeated rows of sources without positions are found; nil: they are not.
func (t *Table) Dedupe() *Dedupe {
	if t.dedupe == nil {
		return nil
	}
	d := *t.dedupe
	return &d
}

func (b *builder) dedupe() {
	n := b.root.Get("dedupe")
	if n == nil {
		return
	}
	d := &Dedupe{
		By:      DedupeBy(n.Get("by").TextOr(string(DedupeByKey))),
		Window:  n.Get("window").Duration(),
		MaxKeys: n.Get("max_keys").IntOr(defaultMaxKeys),
	}
	switch {
	case d.By == DedupeByKey && !b.root.Has("key"):
		b.add(n, "dedupe needs to know what tells rows apart; add key: and the names of required columns to the table, or write by: message_id")
	case b.t.retention > 0 && d.Window > b.t.retention:
		b.add(n.Get("window").Or(n), "is longer than the table's retention, and rows that are gone cannot be compared with; make it at most %s", strictyaml.FormatDuration(b.t.retention))
	}
	b.t.dedupe = d
}

type canonicalDedupe struct {
	Window  string   `json:"window"`
	By      DedupeBy `json:"by"`
	MaxKeys int      `json:"max_keys"`
}

func (t *Table) canonicalDedupe() *canonicalDedupe {
	if t.dedupe == nil {
		return nil
	}
	return &canonicalDedupe{strictyaml.FormatDuration(t.dedupe.Window), t.dedupe.By, t.dedupe.MaxKeys}
}
