// Package models holds what Tidemill knows about ONNX models: the registry of
// immutable versions and movable aliases, the signature read from a graph, the
// gate that a model passes before it is registered, and the scorer that turns
// Arrow columns into tensors and a model's outputs back into columns.
//
// It is pure Go. What runs a graph is a [Runtime]; package models/onnx has the
// one there is, with all of the cgo, and its supervised child process. Nothing
// here knows tables, workflows or object stores: [Store] is all that the
// registry asks of one.
//
// # Stored format
//
// Everything is written once, with a conditional write, and never changed:
//
//	<prefix>/<name>/blobs/<sha256>.onnx               the model's bytes
//	<prefix>/<name>/versions/<version, 20 digits>.json  a [Version]; dense from 1
//	<prefix>/<name>/aliases/<alias>/<n, 20 digits>.json an [AliasEntry]; dense from 1, the highest holds
//
// A version is written after its bytes, so a version that can be seen can be
// loaded. Bytes without a version are left by a registration that died; the
// next registration of the same bytes takes them over.
package models
