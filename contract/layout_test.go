package contract

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestLayout(t *testing.T) {
	table := load(t, "layout.yaml")
	if got := table.PartitionBy(); !reflect.DeepEqual(got, []string{"country", "seen_at_date"}) {
		t.Errorf("partitioned by %q", got)
	}
	if got := table.Derived(); !reflect.DeepEqual(got, []Derived{{Name: "seen_at_date", Source: "seen_at"}}) {
		t.Errorf("derived %+v", got)
	}
	if got := table.ClusterBy(); !reflect.DeepEqual(got, []string{"id", "seen_at"}) {
		t.Errorf("clustered by %q", got)
	}
	if table.Retention() != 30*24*time.Hour || table.OnNewField() != NewFieldAdd {
		t.Errorf("retention %v, on new field %s", table.Retention(), table.OnNewField())
	}
	if table.ArrowSchema().HasField("seen_at_date") {
		t.Error("the derived column is among the contract's")
	}
	table.ClusterBy()[0], table.PartitionBy()[0] = "other", "other"
	if !reflect.DeepEqual(table, load(t, "layout.yaml")) {
		t.Error("a caller changed the table")
	}
}

func TestLayoutDefaults(t *testing.T) {
	const columns = "table: a\ncolumns: [{name: x, type: long}, {name: ts, type: timestamp}]\n"
	table := parse(t, columns)
	if table.ClusterBy() != nil || table.PartitionBy() != nil || table.Derived() != nil || table.Retention() != 0 {
		t.Errorf("got %+v", table)
	}
	table = parse(t, columns+"event_time: ts\n")
	if !reflect.DeepEqual(table.ClusterBy(), []string{"ts"}) {
		t.Errorf("clustered by %q", table.ClusterBy())
	}
	for _, same := range [][2]string{
		{"event_time: ts\n", "event_time: ts\ncluster_by: [ts]\n"},
		{"partition_by: [date(ts)]\n", "partition_by: ['date( ts )']\n"},
		{"event_time: ts\nretention: 30d\n", "event_time: ts\nretention: 720h\n"},
		{"event_time: ts\nretention: 2w\n", "event_time: ts\nretention: 13d24h\n"},
	} {
		a, b := parse(t, columns+same[0]), parse(t, columns+same[1])
		if a.Version() != b.Version() {
			t.Errorf("%s and %s", a.json, b.json)
		}
		if again := parse(t, string(a.json)); again.Version() != a.Version() || again.Retention() != a.Retention() {
			t.Errorf("%s is read back as %s", a.json, again.json)
		}
	}
	seen := map[string]bool{}
	for _, lines := range []string{"", "event_time: ts", "cluster_by: [x]", "cluster_by: [x, ts]", "partition_by: [x]", "partition_by: [date(ts)]",
		"event_time: ts\nretention: 30d", "event_time: ts\nretention: 30d1s", "on_new_field: add"} {
		table := parse(t, columns+lines)
		if seen[table.Version()] {
			t.Errorf("the version does not see %q", lines)
		}
		seen[table.Version()] = true
	}
}

func TestRetentionAsPeopleWriteIt(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"1h": time.Hour, "90m": 90 * time.Minute, "36h": 36 * time.Hour, "1d": 24 * time.Hour, "1.5d": 36 * time.Hour, "2w": 14 * 24 * time.Hour,
		"1w1d1h1m1s": 8*24*time.Hour + time.Hour + time.Minute + time.Second, "3650d": 3650 * 24 * time.Hour, "3600s": time.Hour,
	} {
		table := parse(t, "table: a\ncolumns: [{name: ts, type: timestamp}]\nevent_time: ts\nretention: "+text)
		if table.Retention() != want {
			t.Errorf("%s is %v", text, table.Retention())
		}
		if again := parse(t, string(table.json)); again.Retention() != want {
			t.Errorf("%s: %s is read back as %v", text, table.json, again.Retention())
		}
		if len(validate(t, schema(t), []byte(strings.ReplaceAll("table: a\ncolumns: [{name: ts, type: timestamp}]\nretention: T", "T", text)))) > 0 {
			t.Errorf("the schema refuses %s", text)
		}
	}
}
