package contract

import (
	"fmt"
	"slices"
	"testing"
)

func TestDiff(t *testing.T) {
	parse := func(text string) *Table {
		t.Helper()
		c, err := Parse("t.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	from := parse("table: t\ncolumns:\n  - {name: a, type: long, required: true}\n  - {name: b, type: string}\n  - {name: c, type: date}\nkey: [a]\nchecks:\n  - {name: p, expr: a > 0}\n  - {name: q, expr: a > 1}\n")
	to := parse("table: t\ncolumns:\n  - {name: a, type: long, required: true}\n  - {name: c, type: timestamp}\n  - {name: d, type: int}\nevent_time: c\nchecks:\n  - {name: q, expr: a >= 1}\n  - {name: r, expr: a < 9}\nfeatures: SELECT * FROM batch\n")
	ds, err := Diff(from, to)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range ds {
		got = append(got, fmt.Sprintf("%s %s %s > %s", d.Change, d.Field, d.From, d.To))
	}
	want := []string{
		`changed columns.c {"required":false,"type":"date"} > {"required":false,"type":"timestamp"}`,
		`added columns.d  > {"required":false,"type":"int"}`,
		`removed columns.b {"required":false,"type":"string"} > `,
		`removed key ["a"] > `,
		`added event_time  > "c"`,
		`changed checks.q {"expr":"a > 1","on_fail":"quarantine"} > {"expr":"a >= 1","on_fail":"quarantine"}`,
		`added checks.r  > {"expr":"a < 9","on_fail":"quarantine"}`,
		`removed checks.p {"expr":"a > 0","on_fail":"quarantine"} > `,
		`added features  > "SELECT * FROM batch"`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
	if ds, err := Diff(from, from); len(ds) != 0 || err != nil {
		t.Error(ds, err)
	}
}
