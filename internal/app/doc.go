// Package app wires a Tidemill process together: it is the only place that
// knows the drivers (S3, Temporal, DuckDB, ONNX Runtime, Prometheus) and hands
// them to the packages that only know interfaces. What the commands of
// cmd/tidemill do, they do through it. It holds no logic of the two hops.
package app
