package e2e

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/test/product"
)

// bad is a row of a quarantine table.
type bad struct {
	Class, Rule, Column, Message string
	Head                         []byte
	Bytes                        int
}

const badRows = `SELECT class, rule, coalesce("column", '') AS "column", message, raw[:300] AS head, octet_length(raw) AS bytes FROM %s_quarantine`

// TestBadInput posts what does not fit and finds it in quarantine: as soon as
// the answer is there, byte for byte, with a reason that a person can act on.
func TestBadInput(t *testing.T) {
	d := dev(t)
	big := append(append([]byte(`{"id": 9, "name": "`), bytes.Repeat([]byte("x"), 50_000_000)...), `"}`...)
	cases := []struct {
		name, table       string
		body              []byte
		rule, column      string
		message           []string
		raw               string // what is kept, if not the whole body
		class             string // decode when empty
		alsoInTheOtherHop bool   // found by hop two, so after the answer
	}{
		{name: "broken JSON", table: "things", body: []byte(`{"id": 1, "name": "cut o`), rule: "not_json", column: "name", message: []string{"not JSON", "byte"}},
		{name: "not JSON at all", table: "things", body: []byte("hello"), rule: "not_json", message: []string{"not JSON"}},
		{name: "wrong type", table: "things", body: []byte(`{"id": "seven"}`), rule: "wrong_type", column: "id", message: []string{`expected an integer, got the string "seven"`, "without quotes"}},
		{name: "missing required column", table: "things", body: []byte(`{"name": "nobody"}`), rule: "missing_required", column: "id", message: []string{"required"}},
		{name: "null in a required column", table: "things", body: []byte(`{"id": null}`), rule: "missing_required", column: "id", message: []string{"required"}},
		{name: "out of range for int", table: "things", body: []byte(`{"id": 2, "small": 3000000000}`), rule: "out_of_range", column: "small", message: []string{"3000000000", "32-bit"}},
		{name: "out of range for double", table: "things", body: []byte(`{"id": 3, "amount": 1e999}`), rule: "out_of_range", column: "amount", message: []string{"1e999"}},
		{name: "50 MB", table: "things", body: big, rule: "too_large", message: []string{"50000021 bytes", "more than"}},
		{name: "unknown column", table: "strict", body: []byte(`{"id": 4, "full_name": "typo"}`), rule: "unknown_column", column: "full_name", message: []string{"full_name"}},
		{name: "failed check", table: "things", body: []byte(`{"id": 5, "amount": -1}`), class: "check", rule: "positive_amount", column: "amount", message: []string{"amount > 0", "-1"}, alsoInTheOtherHop: true},
		{name: "one line of three", table: "things", body: []byte("{\"id\": 100}\n{\"id\": }\n{\"id\": 101}\n"), rule: "not_json", column: "id", message: []string{"not JSON"}, raw: `{"id": }`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			d.post(t, c.table, "", c.body)
			raw := c.body
			if c.raw != "" {
				raw = []byte(c.raw)
			}
			var rows []bad
			d.Until(t, func() error {
				rows = rows[:0]
				for _, r := range product.Query[bad](t, d.binary, d.dir, fmt.Sprintf(badRows, c.table)) {
					if r.Bytes == len(raw) && bytes.HasPrefix(raw, r.Head) {
						rows = append(rows, r)
					}
				}
				if len(rows) == 0 && c.alsoInTheOtherHop {
					return errNotYet
				}
				return nil
			})
			if len(rows) != 1 {
				t.Fatalf("%d rows in %s_quarantine have these bytes, want 1", len(rows), c.table)
			}
			r := rows[0]
			class := c.class
			if class == "" {
				class = "decode"
			}
			if r.Class != class || r.Rule != c.rule || c.column != "" && r.Column != c.column {
				t.Errorf("got class %s, rule %s, column %q; want %s, %s, %q", r.Class, r.Rule, r.Column, class, c.rule, c.column)
			}
			for _, want := range c.message {
				if !strings.Contains(r.Message, want) {
					t.Errorf("message %q does not say %q", r.Message, want)
				}
			}
		})
	}
	t.Run("the lines beside a bad one land", func(t *testing.T) {
		d.count(t, 2, "SELECT count(*) AS n FROM things WHERE id IN (100, 101)")
	})
	t.Run("unknown column is ignored", func(t *testing.T) {
		d.post(t, "things", "", []byte(`{"id": 200, "full_name": "typo"}`))
		d.count(t, 1, "SELECT count(*) AS n FROM things WHERE id = 200 AND name IS NULL")
		d.count(t, 1, "SELECT count(*) AS n FROM things_scored WHERE id = 200")
	})
	t.Run("nothing", func(t *testing.T) {
		before := d.total(t)
		for _, body := range []string{"", "\n\n", "[]", "  "} {
			d.post(t, "things", "", []byte(body))
		}
		if after := d.total(t); after != before {
			t.Errorf("requests without a row made %d rows", after-before)
		}
	})
	t.Run("every row is in one place", func(t *testing.T) {
		d.count(t, d.total(t), "SELECT (SELECT count(*) FROM things_scored) + (SELECT count(*) FROM things_quarantine) AS n")
	})
}

// total is how many rows came in for the table things.
func (d *devServer) total(t *testing.T) int64 {
	t.Helper()
	return product.Query[struct{ N int64 }](t, d.binary, d.dir,
		"SELECT (SELECT count(*) FROM things) + (SELECT count(*) FROM things_quarantine WHERE landed_version IS NULL) AS n")[0].N
}
