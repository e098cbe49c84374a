package cases

import "github.com/tidemill/tidemill/internal/strictyaml"

type (
	spec  = strictyaml.Spec
	field = strictyaml.Field
)

var anything = spec{Kind: strictyaml.Any}

func text(doc string) spec { return spec{Kind: strictyaml.Text, Doc: doc} }

func mapOf(doc string, of *spec) spec { return spec{Kind: strictyaml.Map, Doc: doc, Of: of} }

func listOf(doc string, of *spec) spec { return spec{Kind: strictyaml.List, Doc: doc, Of: of} }

var inputSpec = spec{
	Kind: strictyaml.Object,
	Doc:  "A message as the source has it",
	Fields: []field{
		{Name: "content", Spec: spec{Kind: strictyaml.Any, Doc: "The message's bytes"}},
		{Name: "json_content", Spec: spec{Kind: strictyaml.Any, Doc: "The message, as a value that is encoded as JSON"}},
		{Name: "file_content", Spec: text("A file with the message's bytes, relative to the test's file")},
		{Name: "metadata", Spec: mapOf("The message's metadata, such as kafka_topic, kafka_partition and kafka_offset", &anything)},
	},
}

var inputBatchSpec = listOf("One batch of messages", &inputSpec)

var outputSpec = spec{
	Kind: strictyaml.Object,
	Doc:  "What must be true of a message behind the processors",
	Fields: []field{
		{Name: "bloblang", Spec: text("A Bloblang expression that must be true")},
		{Name: "content_equals", Spec: spec{Kind: strictyaml.Any, Doc: "The whole content"}},
		{Name: "content_matches", Spec: text("A regular expression that the content must match")},
		{Name: "metadata_equals", Spec: mapOf("Metadata and their values", &anything)},
		{Name: "file_equals", Spec: text("A file with the whole content, relative to the test's file")},
		{Name: "file_json_equals", Spec: text("A file with the content as JSON, relative to the test's file")},
		{Name: "file_json_contains", Spec: text("A file with JSON that the content must hold, relative to the test's file")},
		{Name: "json_equals", Spec: spec{Kind: strictyaml.Any, Doc: "The content as a JSON value"}},
		{Name: "json_contains", Spec: spec{Kind: strictyaml.Any, Doc: "A JSON value that the content must hold"}},
	},
}

var outputBatchSpec = listOf("One batch of messages", &outputSpec)

var scoredSpec = mapOf("A row: columns and their values; columns that are not named may be anything", &anything)

var quarantinedSpec = spec{
	Kind: strictyaml.Object,
	Doc:  "A quarantined row; what is not named may be anything",
	Fields: []field{
		{Name: "class", Spec: spec{Kind: strictyaml.Text, Enum: []string{"decode", "check", "features", "score"}, Doc: "The stage that turned the row away"}},
		{Name: "rule", Spec: text("The rule, such as the name of a check")},
		{Name: "column", Spec: text("The column that it is about")},
		{Name: "message", Spec: text("A part of the message")},
		{Name: "raw", Spec: spec{Kind: strictyaml.Any, Doc: "The row's bytes"}},
	},
}

var caseSpec = spec{
	Kind: strictyaml.Object,
	Fields: []field{
		{Name: "name", Required: true, Spec: text("What is tested")},
		{Name: "environment", Spec: mapOf("Environment variables for the time of the test", &anything)},
		{Name: "mocks", Spec: mapOf("Processors to put in the place of others, by their labels or as JSON pointers", &anything)},
		{Name: "now", Spec: spec{Kind: strictyaml.Any, Doc: "The time of freshness checks, such as 2026-01-31T12:00:00Z; by default the time of the test"}},
		{Name: "mock_scores", Spec: mapOf("What the model answers for every row, by column of score.output; the model is not run", &anything)},
		{Name: "input_batch", Spec: inputBatchSpec},
		{Name: "input_batches", Spec: listOf("Several batches of messages", &inputBatchSpec)},
		{Name: "output_batches", Spec: listOf("The messages behind the processors, by batch", &outputBatchSpec)},
		{Name: "scored", Spec: listOf("The rows of the scored table, in order", &scoredSpec)},
		{Name: "quarantined", Spec: listOf("The rows of the quarantine table, in the order of the rows that came in", &quarantinedSpec)},
		{Name: "warnings", Spec: mapOf("How many rows failed checks that only warn, by check", &spec{Kind: strictyaml.Integer, Min: 0, Max: 1 << 30, Doc: "Rows"})},
		{Name: "tolerance", Spec: spec{Kind: strictyaml.Any, Default: "", Doc: "How far numbers may be off, in parts of their size; by default 0.000001"}},
	},
}

// listSpec is the value of `tests`.
var listSpec = spec{Kind: strictyaml.List, MinItems: 1, Doc: "Unit tests", Of: &caseSpec}

var fileSpec = spec{
	Kind:   strictyaml.Object,
	Doc:    "Unit tests of a connector",
	Fields: []field{{Name: "tests", Required: true, Spec: listSpec}},
}

// JSONSchema describes files of tests, for editors.
func JSONSchema() ([]byte, error) {
	return fileSpec.JSONSchema(strictyaml.SchemaOptions{ID: "urn:tidemill:tests", Title: "Tidemill connector tests"})
}
