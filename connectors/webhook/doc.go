// Package webhook takes rows by HTTP and WebSocket and answers each request
// when it is told what became of its rows.
//
// A [Server] reads a request to its end, within its limits, undoes its
// compression, checks who sent it, turns CSV into JSON rows, and only then hands
// it over, as one [Message] or several: a request that is refused has left
// nothing behind. What all requests hold in memory at once is bounded; beyond
// it they are refused with 503 and Retry-After, before they are read.
//
// The package knows neither Benthos nor tables: the http_server input reads
// [Server.Next] and says [Message.Done].
package webhook
