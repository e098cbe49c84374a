// Package cases holds unit tests of connectors: their YAML form, which is that of
// Benthos' config tests with what a contract adds, and how what came out is compared
// with what was expected. It runs nothing: who feeds the messages through processors,
// decoding, checks and models is package app.
//
// A file connectors/orders_test.yaml is for connectors/orders.yaml; a connector may
// also hold its tests itself, under `tests`.
package cases
