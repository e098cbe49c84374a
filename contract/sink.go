package contract

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/internal/strictyaml"
)

// Start says where a sink begins that a table with history has not had before.
type Start string

const (
	StartNewest Start = "newest" // with what is scored from now on; the default
	StartOldest Start = "oldest" // with all that the scored table's log still has
)

// Sink sends scored rows on to another system.
type Sink struct {
	Name    string
	Where   string   // SQL condition over a scored row; "": all rows
	Columns []string // of the scored table, in the order to send; nil: all but system columns
	Start   Start

	Count       int           // rows of a batch at most
	Bytes       int64         // of the rows of a batch, about
	Period      time.Duration // how long a batch waits for more rows; 0: not at all
	MaxInFlight int           // batches
	Attempts    int           // of a row by itself, before it is refused
	Timeout     time.Duration // for an answer to a batch

	Output     *strictyaml.Node // a mapping: a Benthos output
	Processors *strictyaml.Node // a list of Benthos processors; nil: none
}

const (
	defaultSinkCount    = 500
	defaultSinkBytes    = 4 << 20
	defaultSinkAttempts = 3
	defaultSinkTimeout  = 30 * time.Second
)

// systemColumns are those of a scored table that a sink may send, too.
var systemColumns = []string{
	batch.ColSource, batch.ColOffset, batch.ColLandedVersion, batch.ColContract, batch.ColModel, batch.ColModelVersion, batch.ColModelSHA256,
}

var sinkSpec = strictyaml.Spec{
	Kind: strictyaml.Object,
	Fields: []strictyaml.Field{
		{Name: "name", Required: true, Spec: strictyaml.Spec{
			Kind: strictyaml.Text, Pattern: regexp.MustCompile(columnPattern), Looks: "letters, digits and _, beginning with a letter, at most 128",
			Doc: "The sink's name; its position in the table is kept under it"}},
		{Name: "where", Spec: strictyaml.Spec{
			Kind: strictyaml.Text, Examples: []string{"fraud_score > 0.9"},
			Doc: "A SQL condition over a scored row; rows for which it is true are sent, by default all"}},
		{Name: "columns", Spec: strictyaml.Spec{
			Kind: strictyaml.List, MinItems: 1,
			Of:  &strictyaml.Spec{Kind: strictyaml.Text, Pattern: regexp.MustCompile(`^_?[A-Za-z][A-Za-z0-9_]{0,127}$`), Looks: "a column's name", Doc: "Name of a column of the scored table"},
			Doc: "The columns to send, in their order; by default all of the scored table but those whose names begin with _"}},
		{Name: "start", Spec: strictyaml.Spec{
			Kind: strictyaml.Text, Enum: []string{string(StartNewest), string(StartOldest)}, Default: string(StartNewest),
			Doc: "Where a sink begins that is new on a table with history: with what is scored from now on, or with what is there"}},
		{Name: "batching", Spec: strictyaml.Spec{
			Kind: strictyaml.Object,
			Doc:  "How many rows are sent at once",
			Fields: []strictyaml.Field{
				{Name: "count", Spec: strictyaml.Spec{Kind: strictyaml.Integer, Min: 1, Max: 100_000, Default: "500", Doc: "Rows of a batch at most"}},
				{Name: "byte_size", Spec: strictyaml.Spec{Kind: strictyaml.Bytes, Default: "4MiB", Doc: "Size of a batch's rows, about, at most"}},
				{Name: "period", Spec: strictyaml.Spec{Kind: strictyaml.Duration, Examples: []string{"1s", "5m"}, Doc: "How long a batch that is not full waits for more rows; by default it does not"}},
			}}},
		{Name: "max_in_flight", Spec: strictyaml.Spec{Kind: strictyaml.Integer, Min: 1, Max: 256, Default: "1",
			Doc: "Batches that are sent at the same time; with more than one, rows may arrive in another order"}},
		{Name: "attempts", Spec: strictyaml.Spec{Kind: strictyaml.Integer, Min: 1, Max: 1000, Default: "3",
			Doc: "How often a row is tried by itself that the sink refuses while it takes others, before the row goes to the quarantine table"}},
		{Name: "timeout", Spec: strictyaml.Spec{Kind: strictyaml.Duration, Least: time.Second, Default: "30s",
			Doc: "How long the output may take for a batch before it is opened anew"}},
		{Name: "processors", Spec: strictyaml.Spec{Kind: strictyaml.List, MinItems: 1, Of: &strictyaml.Spec{Kind: strictyaml.Map, MinItems: 1, Of: &strictyaml.Spec{Kind: strictyaml.Any}, Doc: "A Benthos processor"},
			Doc: "Benthos processors that every batch goes through before the output"}},
		{Name: "output", Required: true, Spec: strictyaml.Spec{Kind: strictyaml.Map, MinItems: 1, Of: &strictyaml.Spec{Kind: strictyaml.Any}, Doc: "A Benthos output"}},
	},
}

// Sinks say where scored rows are sent on to, in file order.
func (t *Table) Sinks() []Sink {
	out := slices.Clone(t.sinks)
	for i := range out {
		out[i].Columns = slices.Clone(out[i].Columns)
	}
	return out
}

func (b *builder) sinks() {
	first := map[string]int{}
	for _, item := range b.root.Get("sinks").Each() {
		batching := item.Get("batching")
		s := Sink{
			Name: item.Get("name").Text(), Where: trimEnd(item.Get("where").Text()),
			Start: Start(item.Get("start").TextOr(string(StartNewest))),
			Count: batching.Get("count").IntOr(defaultSinkCount), Bytes: batching.Get("byte_size").BytesOr(defaultSinkBytes),
			Period: batching.Get("period").Duration(), MaxInFlight: item.Get("max_in_flight").IntOr(1),
			Attempts: item.Get("attempts").IntOr(defaultSinkAttempts), Timeout: item.Get("timeout").DurationOr(defaultSinkTimeout),
			Output: item.Get("output"), Processors: item.Get("processors"),
		}
		if name := item.Get("name"); name != nil {
			lower := strings.ToLower(s.Name)
			if line, ok := first[lower]; ok {
				b.add(name, "is the name of the sink on line %d too; positions are kept by name, so names must differ", line)
			} else {
				first[lower] = name.Line
			}
		}
		if n := batching.Get("byte_size"); n != nil && s.Bytes < 1 {
			b.add(n, "is 0; give it a size such as 1MiB, or leave it out")
		}
		for _, n := range item.Get("columns").Each() {
			if slices.Contains(s.Columns, n.Value) {
				b.add(n, "%s is listed twice; remove one", n.Value)
				continue
			}
			s.Columns = append(s.Columns, n.Value)
			b.sinkColumn(n)
		}
		b.t.sinks = append(b.t.sinks, s)
	}
}

// sinkColumn looks up a column that a sink sends. Which columns features bring,
// only their SQL knows.
func (b *builder) sinkColumn(n *strictyaml.Node) {
	if strings.HasPrefix(n.Value, "_") {
		if !slices.Contains(systemColumns, n.Value) {
			b.add(n, "there is no column %s; those of the system are %s", n.Value, strings.Join(systemColumns, ", "))
		}
		return
	}
	if b.t.score != nil && slices.ContainsFunc(b.t.score.Outputs, func(o Output) bool { return o.Column == n.Value }) {
		return
	}
	if b.derived(strings.ToLower(n.Value)) == n.Value || b.root.Has("features") || b.t.onNewField == NewFieldAdd {
		return
	}
	b.column(n)
}
