package contract

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/internal/problem"
	"github.com/tidemill/tidemill/internal/strictyaml"
)

// with returns a good contract with lines added.
func with(lines string) string {
	return `table: t
columns:
  - {name: id, type: string, required: true}
  - {name: amount, type: double}
  - {name: ts, type: timestamp}
  - {name: day, type: date}
  - {name: tags, type: list<string>}
` + lines // begins on line 8
}

var problemCases = []struct{ name, src, want string }{
	{"unknown key", with("check: [{name: a, expr: b}]"), "8: check: unknown field; did you mean checks?"},
	{"unknown key far from all", with("xyzzy: 1"), "8: xyzzy: unknown field; the fields here are table, columns, key, dedupe, event_time, partition_by, cluster_by, retention, on_new_field, checks, features, score, sinks"},
	{"unknown nested key", with("score: {modle: a@b, model: a@b, output: {s: p}}"), "8: score.modle: unknown field; did you mean model?"},
	{"duplicate key", with("table: u"), "8: table: is given twice, first on line 1; keep one"},
	{"no value", with("checks:"), "8: checks: has no value; give it one or remove it (Rules that rows must meet before they are scored)"},
	{"not a list", with("key: id"), "8: key: must be a list, not text; write [a, b] or lines that begin with a dash"},
	{"not a mapping", with("score: a@b"), "8: score: must be a mapping with the fields model, inputs, output, isolation, not text"},
	{"empty list", with("key: []"), "8: key: is an empty list; give it an entry or remove it"},
	{"number for text", with("event_time: 2024"), `8: event_time: YAML takes "2024" for a number; put it in quotes if you mean text`},
	{"date for text", with("event_time: 2024-01-01"), `8: event_time: YAML takes "2024-01-01" for a date; put it in quotes if you mean text`},
	{"truth value for text", with("event_time: true"), `8: event_time: YAML takes "true" for a truth value; put it in quotes if you mean text`},
	{"yes", "table: t\ncolumns:\n  - {name: x, type: long, required: yes}", `3: columns[0].required: must be true or false without quotes, not "yes"`},
	{"quoted truth", "table: t\ncolumns:\n  - {name: x, type: long, required: 'true'}", `3: columns[0].required: must be true or false without quotes, not "true"`},
	{"key is no text", with("1: 2"), `8: the field's name "1" is a number; put it in quotes`},
	{"empty text", with(`features: "  "`), "8: features: is empty; give it a value or remove it (SQL over the relation batch that adds columns; it begins with SELECT * and keeps every row)"},
	{"control character", with(`features: "a\u0007b"`), "8: features: holds the control character U+0007; remove it"},

	{"table upper case", strings.Replace(with(""), "table: t", "table: Orders", 1), `1: table: "Orders" must be lower-case letters, digits and _, beginning with a letter, at most 128`},
	{"table scored", strings.Replace(with(""), "table: t", "table: t_scored", 1), "1: table: a name may not end in _scored: such tables are made beside the table they belong to; choose another"},
	{"table quarantine", strings.Replace(with(""), "table: t", "table: t_quarantine", 1), "1: table: a name may not end in _quarantine: such tables are made beside the table they belong to; choose another"},

	{"system column", "table: t\ncolumns: [{name: _source, type: string}]", `2: columns[0].name: "_source" must be a column's name: letters, digits and _, beginning with a letter, at most 128 (names beginning with _ belong to Tidemill)`},
	{"same column", "table: t\ncolumns:\n  - {name: a, type: string}\n  - {name: a, type: long}", "4: columns[1].name: is the name of the column on line 3 too; names must differ"},
	{"same column but case", "table: t\ncolumns:\n  - {name: a, type: string}\n  - {name: A, type: long}", "4: columns[1].name: differs from the column on line 3 only in upper and lower case; readers of the table cannot tell them apart"},
	{"unknown type", "table: t\ncolumns: [{name: a, type: strng}]", `2: columns[0].type: "strng": unknown type strng; did you mean string?`},
	{"nested type", "table: t\ncolumns: [{name: a, type: 'list<varchar>'}]", `2: columns[0].type: "list<varchar>", character 6: unknown type varchar; did you mean string?`},

	{"key unknown", with("key: [idd]"), "8: key[0]: there is no column idd; did you mean id?"},
	{"key in other case", with("key: [ID]"), "8: key[0]: there is no column ID, but there is id; write it that way"},
	{"key not required", with("key: [amount]"), "8: key[0]: a key's columns must be required; add required: true to the column amount"},
	{"key nested", with("key: [tags]"), "8: key[0]: the column tags is of type list<string>, which cannot be compared; choose a column with a single value"},
	{"key twice", with("key: [id, id]"), "8: key[1]: id is listed twice; remove one"},
	{"event time unknown", with("event_time: tss"), "8: event_time: there is no column tss; did you mean ts?"},
	{"event time type", with("event_time: day"), "8: event_time: the column day is of type date; it must be a timestamp"},
	{"partition unknown", with("partition_by: [country]"), "8: partition_by[0]: there is no column country; the columns are id, amount, ts, day, tags"},
	{"partition timestamp", with("partition_by: [ts]"), "8: partition_by[0]: the column ts is a timestamp, which would make a file of nearly every row; write date(ts) to partition by its day"},
	{"partition double", with("partition_by: [amount]"), "8: partition_by[0]: the column amount is of type double; a table can be partitioned by string, long, int, boolean and date, and by date(…) of a timestamp"},
	{"partition of no form", with("partition_by: [month(ts)]"), `8: partition_by[0]: "month(ts)" must be a column's name, or date(ts) of a timestamp column ts`},
	{"partition day unknown", with("partition_by: [date(tss)]"), "8: partition_by[0]: there is no column tss; did you mean ts?"},
	{"partition day of a day", with("partition_by: [date(day)]"), "8: partition_by[0]: the column day is a date already; write day"},
	{"partition day of text", with("partition_by: [date(id)]"), "8: partition_by[0]: the column id is of type string; date(…) takes a timestamp"},
	{"partition twice", with("partition_by: [date(ts), day, 'date( ts )']"), "8: partition_by[2]: date(ts) is listed twice; remove one"},
	{"partition day's column", "table: t\ncolumns: [{name: id, type: long}, {name: ts, type: timestamp}, {name: TS_date, type: date}]\npartition_by: [date(ts)]", "3: partition_by[0]: date(ts) adds a column ts_date to the table, but the contract has TS_date already; rename that, or partition by it if it is a date"},
	{"partition day's name", "table: t\ncolumns: [{name: id, type: long}, {name: t" + strings.Repeat("s", 123) + ", type: timestamp}]\npartition_by: [date(t" + strings.Repeat("s", 123) + ")]", "3: partition_by[0]: date(t" + strings.Repeat("s", 123) + ") adds a column whose name would be longer than 128 characters; give the timestamp a shorter name"},
	{"output is the partition's day", with("partition_by: [date(ts)]\nscore: {model: fraud@3, output: {Ts_Date: p}}"), "9: score.output.Ts_Date: partition_by adds the column ts_date to the table; give the score another name"},
	{"cluster unknown", with("cluster_by: [tss]"), "8: cluster_by[0]: there is no column tss; did you mean ts?"},
	{"cluster nested", with("cluster_by: [tags]"), "8: cluster_by[0]: the column tags is of type list<string>, which cannot be sorted; choose a column with a single value"},
	{"cluster twice", with("cluster_by: [id, ts, id]"), "8: cluster_by[2]: id is listed twice; remove one"},
	{"cluster by a partition", with("partition_by: [day]\ncluster_by: [ts, day]"), "9: cluster_by[1]: the table is partitioned by the column day, so it is the same in all of a file; remove it here"},
	{"new field", with("on_new_field: ignored"), `8: on_new_field: must be ignore or add or quarantine, not "ignored"; did you mean ignore?`},

	{"check without rule", with("checks: [{name: a}]"), "8: checks[0]: needs expr or freshness; add one"},
	{"check with both", with("event_time: ts\nchecks: [{name: a, expr: b, freshness: 1m}]"), "9: checks[0]: has expr and freshness; keep one and make the other an entry of its own"},
	{"check names", with("checks:\n  - {name: a, expr: b}\n  - {name: A, expr: c}"), "10: checks[1].name: is the name of the check on line 9 too; metrics and quarantined rows name checks, so names must differ"},
	{"freshness quarantine", with("event_time: ts\nchecks: [{name: a, freshness: 1m, on_fail: quarantine}]"), "9: checks[0].on_fail: freshness is about a whole batch, so it can only warn; write on_fail: warn or leave it out"},
	{"freshness without time", with("checks: [{name: a, freshness: 1m}]"), "8: checks[0].freshness: freshness needs to know when rows happened; add event_time: and the name of a timestamp column to the table"},
	{"freshness without unit", with("event_time: ts\nchecks: [{name: a, freshness: 30}]"), `9: checks[0].freshness: must be a duration above zero with a unit, such as 30s, 1m or 1h30m, not "30"`},
	{"freshness below zero", with("event_time: ts\nchecks: [{name: a, freshness: -1m}]"), `9: checks[0].freshness: must be a duration above zero with a unit, such as 30s, 1m or 1h30m, not "-1m"`},

	{"model without alias", with("score: {model: fraud, output: {s: p}}"), `8: score.model: "fraud" must be name@alias or name@version, such as fraud@champion or fraud@3`},
	{"model version 0", with("score: {model: fraud@0, output: {s: p}}"), `8: score.model: "fraud@0" must be name@alias or name@version, such as fraud@champion or fraud@3`},
	{"no output", with("score: {model: fraud@3}"), "8: score.output: is missing; add it: The columns to add, each with the model's output that fills it, such as {fraud_score: probability}"},
	{"empty output", with("score: {model: fraud@3, output: {}}"), "8: score.output: is empty; give it an entry or remove it"},
	{"output is a column", with("score: {model: fraud@3, output: {Amount: p}}"), "8: score.output.Amount: the table has the column amount already; give the score another name"},
	{"outputs but case", with("score: {model: fraud@3, output: {s: p, S: p}}"), "8: score.output.S: another output differs only in upper and lower case; readers of the table cannot tell them apart"},
	{"output system name", with("score: {model: fraud@3, output: {_model: p}}"), `8: score.output._model: the name "_model" must be letters, digits and _, beginning with a letter, at most 128 (names beginning with _ belong to Tidemill)`},
	{"output index", with("score: {model: fraud@3, output: {s: 'p[x]'}}"), `8: score.output.s: "p[x]" must name an output of the model, with a whole number in brackets if it takes one value of several, such as probabilities[1]`},
	{"input unknown", with("score: {model: fraud@3, inputs: [amuont], output: {s: p}}"), "8: score.inputs[0]: there is no column amuont; did you mean amount?"},
	{"input nested", with("score: {model: fraud@3, inputs: [tags], output: {s: p}}"), "8: score.inputs[0]: the column tags is of type list<string>; a model takes single values"},
	{"isolation", with("score: {model: fraud@3, isolation: no, output: {s: p}}"), `8: score.isolation: must be process or none, not "no"`},
	{"sinks shape", with("sinks: [{name: a}]"), "8: sinks[0].output: is missing; add it: A Benthos output"},
	{"sinks of one name", with("sinks: [{name: a, output: {drop: {}}}, {name: A, output: {drop: {}}}]"), "8: sinks[1].name: is the name of the sink on line 8 too; positions are kept by name, so names must differ"},
	{"sink column", with("sinks: [{name: a, columns: [amuont], output: {drop: {}}}]"), "8: sinks[0].columns[0]: there is no column amuont; did you mean amount?"},
	{"sink column twice", with("sinks: [{name: a, columns: [id, id], output: {drop: {}}}]"), "8: sinks[0].columns[1]: id is listed twice; remove one"},
	{"sink system column", with("sinks: [{name: a, columns: [_models], output: {drop: {}}}]"), "8: sinks[0].columns[0]: there is no column _models; those of the system are _source, _offset, _landed_version, _contract, _model, _model_version, _model_sha256"},
	{"sink start", with("sinks: [{name: a, start: now, output: {drop: {}}}]"), `8: sinks[0].start: must be newest or oldest, not "now"`},
	{"sink batching", with("sinks: [{name: a, batching: {size: 3}, output: {drop: {}}}]"), "8: sinks[0].batching.size: unknown field; the fields here are count, byte_size, period"},
	{"sink empty batch", with("sinks: [{name: a, batching: {byte_size: 0B}, output: {drop: {}}}]"), "8: sinks[0].batching.byte_size: is 0; give it a size such as 1MiB, or leave it out"},
	{"sink processors", with("sinks: [{name: a, processors: {mapping: root = this}, output: {drop: {}}}]"), "8: sinks[0].processors: must be a list, not a mapping; write [a, b] or lines that begin with a dash"},
	{"retention without time", with("retention: 30d"), "8: retention: retention needs to know when rows happened; add event_time: and the name of a timestamp column to the table"},
	{"retention without unit", with("event_time: ts\nretention: 30"), `9: retention: must be a duration with a unit, such as 30d or 12h, not "30"`},
	{"retention in months", with("event_time: ts\nretention: 3 months"), `9: retention: must be a duration with a unit, such as 30d or 12h, not "3 months"`},
	{"retention below zero", with("event_time: ts\nretention: -30d"), `9: retention: must be a duration with a unit, such as 30d or 12h, not "-30d"`},
	{"retention too long", with("event_time: ts\nretention: 20000w"), `9: retention: must be a duration with a unit, such as 30d or 12h, not "20000w"`},
	{"retention too short", with("event_time: ts\nretention: 6m"), `9: retention: is "6m"; it must be at least 1h (m stands for minutes, h for hours, d for days, w for weeks)`},

	{"dedupe without key", with("dedupe: {window: 1h}"), "8: dedupe: dedupe needs to know what tells rows apart; add key: and the names of required columns to the table, or write by: message_id"},
	{"dedupe without window", with("key: [id]\ndedupe: {}"), "9: dedupe.window: is missing; add it: For how long, at least, a row that landed is remembered; a repeat that comes later lands again"},
	{"dedupe for a number", with("key: [id]\ndedupe: {window: 60}"), `9: dedupe.window: must be a duration with a unit, such as 1h or 10m, not "60"`},
	{"dedupe by column", with("key: [id]\ndedupe: {window: 1h, by: id}"), `9: dedupe.by: must be key or message_id, not "id"`},
	{"dedupe for too many", with("key: [id]\ndedupe: {window: 1h, max_keys: 1000000000}"), `9: dedupe.max_keys: is "1000000000"; it must be between 1000 and 100000000`},
	{"dedupe beyond retention", with("event_time: ts\nretention: 12h\nkey: [id]\ndedupe: {window: 1d}"), "11: dedupe.window: is longer than the table's retention, and rows that are gone cannot be compared with; make it at most 12h"},

	{"empty", "", "1: holds no fields; begin with table:"},
	{"comments only", "# nothing\n", "1: holds no fields; begin with table:"},
	{"list", "- a\n", "1: must be a mapping with the fields table, columns, key, dedupe, event_time, partition_by, cluster_by, retention, on_new_field, checks, features, score, sinks, not a list"},
	{"two documents", with("---\ntable: u\n"), "8: a second document begins here; keep one document in a file and move the rest to a file of its own"},
	{"tab", "table: t\ncolumns:\n\t- {name: a, type: long}\n", "3: is not valid YAML: found character that cannot start any token; indent with spaces, YAML does not take tabs"},
	{"colon in a value", "table: t\nfeatures: a: b\n", `2: is not valid YAML: mapping values are not allowed in this context; check the indentation, and put values that hold ": " in quotes`},
	{"text after a value", "table: t\ncolumns:\n  - {name: a, type: long}\n x: y\n", "4: is not valid YAML: did not find expected key; check the indentation, and put values that hold quotes, commas or braces in quotes"},
	{"bracket on line 1", "table: [t\nx: y\n", "2: is not valid YAML: did not find expected ',' or ']'; close the bracket or brace, put commas between the entries, and put values that hold brackets or braces in quotes"},
	{"open quote", "table: \"t\ncolumns: x\n", "3: is not valid YAML: found unexpected end of stream; close the quote"},
	{"brackets in a flow value", with("score: {model: a@b, output: {s: p[1]}}"), "8: is not valid YAML: did not find expected ',' or '}'; close the bracket or brace, put commas between the entries, and put values that hold brackets or braces in quotes"},
	{"not UTF-8", "table: t\nfeatures: \xff\n", "2: is not UTF-8 text; save the file as UTF-8"},
	{"UTF-16", "\xff\xfet\x00", "is UTF-16 text; save the file as UTF-8"},
	{"anchor unknown", with("key: *nowhere"), `is not valid YAML: unknown anchor 'nowhere' referenced; define it with & above this line`},
	{"anchor of itself", with("key: &k [*k]"), `8: key[0]: the anchor "k" holds itself; write the value out`},
	{"merge of a list", with("score: {<<: [1], model: a@b, output: {s: p}}"), "8: score.<<[0]: merges what is not a mapping; name an anchor of a mapping, such as <<: *defaults"},

	{"all at once", "table: T\ncolumns:\n  - {name: a, typ: long}\n  - {name: 5, type: foo}\nkey: [a, b]\nscore: {model: m}\n",
		`1: table: "T" must be lower-case letters, digits and _, beginning with a letter, at most 128
3: columns[0].type: is missing; add it: string, long, int, double, float, boolean, timestamp, date, decimal(p,s), list<T> or struct<a: T, b: T>
3: columns[0].typ: unknown field; did you mean type?
4: columns[1].name: YAML takes "5" for a number; put it in quotes if you mean text
4: columns[1].type: "foo": unknown type foo; the types are string, long, int, double, float, boolean, timestamp, date, decimal(p,s), list<T> and struct<a: T, b: T>
6: score.output: is missing; add it: The columns to add, each with the model's output that fills it, such as {fraud_score: probability}
6: score.model: "m" must be name@alias or name@version, such as fraud@champion or fraud@3`},
}

func TestProblems(t *testing.T) {
	for _, c := range problemCases {
		t.Run(c.name, func(t *testing.T) {
			table, err := Parse("", []byte(c.src))
			if err == nil || table != nil {
				t.Fatalf("parsed as %+v", table)
			}
			if problem.Of(err) == nil {
				t.Fatalf("error is %T", err)
			}
			if got := strings.ReplaceAll("\n"+err.Error(), "\nline ", "\n")[1:]; got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

func TestProblemCasesRestOnAGoodContract(t *testing.T) { parse(t, with("")) }

// TestBounds feeds what would grow or recurse without bound.
func TestBounds(t *testing.T) {
	var bomb strings.Builder
	bomb.WriteString("table: t\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := 1; i <= 12; i++ {
		fmt.Fprintf(&bomb, "a%d: &a%d [%s]\n", i, i, strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 10))
	}
	deepType := strings.Repeat("list<", 500) + "int" + strings.Repeat(">", 500)
	for name, c := range map[string]struct{ src, want string }{
		"aliases":   {bomb.String(), "values once its anchors are filled in; use fewer aliases"},
		"nesting":   {"table: " + strings.Repeat("[", 5000) + strings.Repeat("]", 5000), "levels deep; make it flatter"},
		"deeper":    {"table: " + strings.Repeat("[", 500_000), "is not valid YAML"},
		"type":      {"table: t\ncolumns: [{name: a, type: '" + deepType + "'}]", "list and struct nest more than 16 deep"},
		"size":      {string(bytes.Repeat([]byte("# 10 MB of comment\n"), 10<<20/19)), "is it the right file?"},
		"long name": {"table: " + strings.Repeat("t", 1000), "must be lower-case letters"},
	} {
		_, err := Parse("t.yaml", []byte(c.src))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %.300v", name, err)
		}
		if err != nil && len(err.Error()) > 5000 {
			t.Errorf("%s: the error has %d bytes", name, len(err.Error()))
		}
	}
	if strictyaml.MaxSize > 10<<20 {
		t.Error("files are read beyond 10 MB")
	}
}
