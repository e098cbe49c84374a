package contract

import (
	"testing"
	"time"
)

func TestDedupe(t *testing.T) {
	const columns = "table: a\ncolumns: [{name: id, type: long, required: true}]\nkey: [id]\n"
	if d := parse(t, columns).Dedupe(); d != nil {
		t.Errorf("without dedupe: %+v", d)
	}
	for line, want := range map[string]Dedupe{
		"dedupe: {window: 1h}":                   {DedupeByKey, time.Hour, 5_000_000},
		"dedupe: {window: 90s, by: key}":         {DedupeByKey, 90 * time.Second, 5_000_000},
		"dedupe: {window: 1d, by: message_id}":   {DedupeByMessageID, 24 * time.Hour, 5_000_000},
		"dedupe: {window: 10m, max_keys: 20000}": {DedupeByKey, 10 * time.Minute, 20_000},
	} {
		table := parse(t, columns+line)
		if d := table.Dedupe(); *d != want {
			t.Errorf("%s: got %+v", line, d)
		}
		if again := parse(t, string(table.json)); again.Version() != table.Version() || *again.Dedupe() != want {
			t.Errorf("%s is read back as %s", table.json, again.json)
		}
		table.Dedupe().Window = 0
		if table.Dedupe().Window == 0 {
			t.Error("a caller changed the table")
		}
	}
	if parse(t, "table: a\ncolumns: [{name: id, type: long}]\ndedupe: {window: 1h, by: message_id}\n").Dedupe() == nil {
		t.Error("message ids need no key")
	}
	if a, b := parse(t, columns+"dedupe: {window: 1h}"), parse(t, columns+"dedupe: {window: 60m, by: key, max_keys: 5000000}"); a.Version() != b.Version() {
		t.Errorf("%s and %s", a.json, b.json)
	}
}
