// Package onnx runs ONNX models: it is the driver behind models.Runtime and
// holds all of the cgo that talks to the ONNX Runtime library.
//
// A model runs in this process ([OpenInProcess]) or in a supervised child
// ([OpenIsolated]), which is this program again with another first argument
// ([WorkerMain]). Isolation is there because a graph can take the process that
// runs it down: an integer division of the smallest number by -1 is enough.
//
// # Protocol
//
// Parent and child speak over the child's stdin and stdout, one request and
// one answer at a time, in the machine's byte order:
//
//	header  magic uint32, kind uint32, length of meta uint64, length of data uint64
//	meta    what the kind says, then the tensors' types and shapes; padded to 8 bytes
//	data    the tensors' elements, each tensor padded to 8 bytes
//
// Numeric tensors travel as they lie in memory: the child computes on the
// bytes it read. The parent believes nothing that the child says: lengths,
// types and shapes are checked before they are used.
//
// A child ends when its stdin does, and with its parent's thread on Linux. It
// gets a bare environment, no core dumps, a limit on its memory (Linux) and a
// deadline for each answer.
package onnx
