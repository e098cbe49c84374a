// Package infer proposes a table contract from a sample of messages: columns with the
// narrowest type that takes every value, which of them are in every row, and as
// comments what only a person can decide. A proposal is held against the decoder
// before it is handed out: every row of the sample that is a JSON object lands under
// it. Where messages come from is not its business.
package infer
