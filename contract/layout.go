package contract

import (
	"slices"
	"strings"

	"github.com/tidemill/tidemill/internal/strictyaml"
)

// partitions reads partition_by: columns, and days of timestamp columns.
func (b *builder) partitions() {
	seen := map[string]bool{}
	for _, n := range b.root.Get("partition_by").Each() {
		p := partition{column: n.Value}
		if inner, ok := strings.CutPrefix(n.Value, "date("); ok {
			p = partition{column: strings.TrimSpace(strings.TrimSuffix(inner, ")")), day: true}
		}
		if seen[p.String()] {
			b.add(n, "%s is listed twice; remove one", p)
			continue
		}
		seen[p.String()] = true
		b.t.partitions = append(b.t.partitions, p)
		ref := *n
		ref.Value = p.column
		c, ok := b.column(&ref)
		if !ok || c.Type.Kind == 0 {
			continue
		}
		if p.day {
			b.partitionDay(n, p, c)
		} else {
			b.partitionColumn(n, c)
		}
	}
}

func (b *builder) partitionColumn(n *strictyaml.Node, c Column) {
	switch c.Type.Kind {
	case String, Long, Int, Boolean, Date:
	case Timestamp:
		b.add(n, "the column %s is a timestamp, which would make a file of nearly every row; write date(%[1]s) to partition by its day", c.Name)
	default:
		b.add(n, "the column %s is of type %s; a table can be partitioned by string, long, int, boolean and date, and by date(…) of a timestamp", c.Name, c.Type)
	}
}

// partitionDay judges date(c), which adds a column to the tables.
func (b *builder) partitionDay(n *strictyaml.Node, p partition, c Column) {
	switch have, clash := b.columns[strings.ToLower(p.table())]; {
	case c.Type.Kind == Date:
		b.add(n, "the column %s is a date already; write %[1]s", c.Name)
	case c.Type.Kind != Timestamp:
		b.add(n, "the column %s is of type %s; date(…) takes a timestamp", c.Name, c.Type)
	case clash:
		b.add(n, "date(%s) adds a column %s to the table, but the contract has %s already; rename that, or partition by it if it is a date", c.Name, p.table(), have.Name)
	case len(p.table()) > 128:
		b.add(n, "date(%s) adds a column whose name would be longer than 128 characters; give the timestamp a shorter name", c.Name)
	}
}

// derived returns the derived column that has a name, whatever its case.
func (b *builder) derived(lower string) string {
	for _, p := range b.t.partitions {
		if p.day && strings.ToLower(p.table()) == lower {
			return p.table()
		}
	}
	return ""
}

// clusterBy reads cluster_by. What says the same as the default is the default.
func (b *builder) clusterBy() {
	b.t.clusterBy = b.refs("cluster_by", func(n *strictyaml.Node, c Column) {
		switch {
		case c.Type.Nested():
			b.add(n, "the column %s is of type %s, which cannot be sorted; choose a column with a single value", c.Name, c.Type)
		case slices.Contains(b.t.partitions, partition{column: c.Name}):
			b.add(n, "the table is partitioned by the column %s, so it is the same in all of a file; remove it here", c.Name)
		}
	})
	if b.t.eventTime != "" && slices.Equal(b.t.clusterBy, []string{b.t.eventTime}) {
		b.t.clusterBy = nil
	}
}

func (b *builder) retention() {
	n := b.root.Get("retention")
	b.t.retention = n.Duration()
	if n != nil && !b.root.Has("event_time") {
		b.add(n, "retention needs to know when rows happened; add event_time: and the name of a timestamp column to the table")
	}
}
