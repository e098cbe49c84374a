package contract

import (
	"regexp"
	"time"

	"github.com/tidemill/tidemill/internal/strictyaml"
)

// Names are at most 128 characters: they become object keys and SQL names.
const (
	tablePattern  = `^[a-z][a-z0-9_]{0,127}$`
	columnPattern = `^[A-Za-z][A-Za-z0-9_]{0,127}$`
	columnLooks   = "letters, digits and _, beginning with a letter, at most 128 (names beginning with _ belong to Tidemill)"
	modelPattern  = `^[a-z][a-z0-9_-]{0,127}@([a-z][a-z0-9_-]{0,127}|[1-9][0-9]{0,8})$`
	// An entry of partition_by; the parser says what is wrong with others.
	partitionPattern = `^([A-Za-z][A-Za-z0-9_]{0,127}|date\(\s*[A-Za-z][A-Za-z0-9_]{0,127}\s*\))$`
	typePattern      = `^\s*(string|long|int|double|float|boolean|timestamp|date|decimal\s*\(.*\)|list\s*<.*>|struct\s*<.*>)\s*$`
)

func columnRef(doc string) strictyaml.Spec {
	return strictyaml.Spec{Kind: strictyaml.Text, Doc: doc, Pattern: regexp.MustCompile(columnPattern), Looks: "a column's name: " + columnLooks}
}

func columnRefs(doc string) strictyaml.Spec {
	of := columnRef("Name of a column")
	return strictyaml.Spec{Kind: strictyaml.List, Doc: doc, Of: &of, MinItems: 1}
}

// tableSpec is the format of a table contract: what [Parse] reads, and what
// [JSONSchema] tells editors. What fields mean for each other is in build.go.
var tableSpec = strictyaml.Spec{
	Kind: strictyaml.Object,
	Doc:  "A table contract: the columns of a table, and how its rows are checked, enriched and scored",
	Fields: []strictyaml.Field{
		{Name: "table", Required: true, Spec: strictyaml.Spec{
			Kind: strictyaml.Text, Pattern: regexp.MustCompile(tablePattern),
			Looks: "lower-case letters, digits and _, beginning with a letter, at most 128",
			Doc:   "The table's name; T_scored and T_quarantine are made beside a table T"}},
		{Name: "columns", Required: true, Spec: strictyaml.Spec{
			Kind: strictyaml.List, MinItems: 1, Of: &columnSpec,
			Doc: "The columns of the landed table, in order"}},
		{Name: "key", Spec: columnRefs("The required columns whose values tell rows apart; they with dedupe, they find repeated rows of sources that have no positions")},
		{Name: "dedupe", Spec: dedupeSpec},
		{Name: "event_time", Spec: columnRef("The timestamp column that says when a row happened")},
		{Name: "partition_by", Spec: strictyaml.Spec{
			Kind: strictyaml.List, MinItems: 1, Of: &partitionSpec,
			Doc: "What the table's files are grouped by, outermost first: columns with few values, of type string, long, int, boolean or date, or date(ts), the day of a timestamp column"}},
		{Name: "cluster_by", Spec: columnRefs("The columns that compacted files are sorted by, so that queries on them skip what they do not need; by default event_time")},
		{Name: "retention", Spec: strictyaml.Spec{
			Kind: strictyaml.Duration, Least: leastRetention, Examples: []string{"30d", "12h"},
			Doc: "How long rows are kept, by their event_time; by default for ever"}},
		{Name: "on_new_field", Spec: strictyaml.Spec{
			Kind: strictyaml.Text, Enum: []string{string(NewFieldIgnore), string(NewFieldAdd), string(NewFieldQuarantine)}, Default: string(NewFieldIgnore),
			Doc: "What happens to a row with a field that is not a column: the field is dropped, a column is added for it, or the row goes to the quarantine table"}},
		{Name: "checks", Spec: strictyaml.Spec{
			Kind: strictyaml.List, MinItems: 1, Of: &checkSpec,
			Doc: "Rules that rows must meet before they are scored"}},
		{Name: "features", Spec: strictyaml.Spec{
			Kind: strictyaml.Text, Examples: []string{"SELECT *, ln(amount) AS log_amount FROM batch"},
			Doc: "SQL over the relation batch that adds columns; it begins with SELECT * and keeps every row"}},
		{Name: "score", Spec: scoreSpec},
		{Name: "sinks", Spec: strictyaml.Spec{
			Kind: strictyaml.List, MinItems: 1, Of: &sinkSpec,
			Doc: "Where scored rows are sent on to"}},
	},
}

// leastRetention leaves room for what is on its way through the pipeline.
const leastRetention = time.Hour

var partitionSpec = strictyaml.Spec{
	Kind: strictyaml.Text, Pattern: regexp.MustCompile(partitionPattern), Looks: "a column's name, or date(ts) of a timestamp column ts",
	Doc: "Name of a column, or date(ts) of a timestamp column ts"}

var columnSpec = strictyaml.Spec{
	Kind: strictyaml.Object,
	Fields: []strictyaml.Field{
		{Name: "name", Required: true, Spec: columnRef("The column's name, and the name of the field it is read from")},
		{Name: "type", Required: true, Spec: strictyaml.Spec{
			Kind: strictyaml.Text, SchemaOnly: typePattern,
			Examples: []string{"string", "long", "int", "double", "float", "boolean", "timestamp", "date", "decimal(18,2)", "list<string>", "struct<lat: double, lon: double>"},
			Doc:      "string, long, int, double, float, boolean, timestamp, date, decimal(p,s), list<T> or struct<a: T, b: T>"}},
		{Name: "required", Spec: strictyaml.Spec{
			Kind: strictyaml.Boolean, Default: "false",
			Doc: "Whether a row that lacks the column, or has null there, goes to the quarantine table"}},
	},
}

var checkSpec = strictyaml.Spec{
	Kind:       strictyaml.Object,
	ExactlyOne: []string{"expr", "freshness"},
	Fields: []strictyaml.Field{
		{Name: "name", Required: true, Spec: strictyaml.Spec{
			Kind: strictyaml.Text, Pattern: regexp.MustCompile(columnPattern), Looks: "letters, digits and _, beginning with a letter, at most 128",
			Doc: "The check's name, as metrics and quarantined rows show it"}},
		{Name: "expr", Spec: strictyaml.Spec{
			Kind: strictyaml.Text, Examples: []string{"amount > 0"},
			Doc: "A SQL boolean expression over a row's columns; a row for which it is false fails; null passes, as in a CHECK of SQL"}},
		{Name: "freshness", Spec: strictyaml.Spec{
			Kind: strictyaml.Duration, Examples: []string{"30s", "1m"},
			Doc: "How old a batch's newest event_time may be"}},
		{Name: "on_fail", Spec: strictyaml.Spec{
			Kind: strictyaml.Text, Enum: []string{string(OnFailQuarantine), string(OnFailWarn)},
			Doc: "What happens to rows that fail: quarantine (the default of expr) keeps them from being scored, warn (the only one for freshness) counts them"}},
	},
}

var scoreSpec = strictyaml.Spec{
	Kind: strictyaml.Object,
	Doc:  "The model that scores the rows",
	Fields: []strictyaml.Field{
		{Name: "model", Required: true, Spec: strictyaml.Spec{
			Kind: strictyaml.Text, Pattern: regexp.MustCompile(modelPattern), Looks: "name@alias or name@version, such as fraud@champion or fraud@3",
			Examples: []string{"fraud@champion", "fraud@3"},
			Doc:      "A registered model, as name@alias or name@version"}},
		{Name: "inputs", Spec: columnRefs("The columns or features to feed, in the model's order; by default they are matched by name against the model's inputs")},
		{Name: "output", Required: true, Spec: strictyaml.Spec{
			Kind: strictyaml.Map, MinItems: 1,
			Keys: &strictyaml.Spec{Kind: strictyaml.Text, Pattern: regexp.MustCompile(columnPattern), Looks: columnLooks},
			Of: &strictyaml.Spec{Kind: strictyaml.Text, Examples: []string{"probability", "probabilities[1]"},
				Doc: "Name of the model's output; name[i] takes its i-th value of each row, from 0"},
			Doc: "The columns to add, each with the model's output that fills it, such as {fraud_score: probability}"}},
		{Name: "isolation", Spec: strictyaml.Spec{
			Kind: strictyaml.Text, Enum: []string{string(IsolationProcess), string(IsolationNone)}, Default: string(IsolationProcess),
			Doc: "Where the model runs: in a child process that may crash without harm, or, for models you trust, in the worker itself"}},
	},
}

// JSONSchema returns the format of table contracts as a JSON Schema, draft
// 2020-12, for editors. It knows names, kinds and patterns; that a key names
// an existing column, say, only [Parse] knows.
func JSONSchema() ([]byte, error) {
	return tableSpec.JSONSchema(strictyaml.SchemaOptions{
		ID: "urn:tidemill:table", Title: "Tidemill table contract",
	})
}
