// Package workflows orders the work of hop two: which activity runs when, what
// is retried, what waits for a person. It is deterministic: no clock, no
// randomness, no I/O but through the SDK. Histories of real runs are committed
// under testdata and replayed by a test; a change that breaks them needs a
// version marker.
//
// [Pipeline] runs for as long as its table lives. [RegisterModel] and
// [RecoverBatch] come to an end. All take one JSON object with defaults, so
// that a person can start them from the Temporal UI.
package workflows
