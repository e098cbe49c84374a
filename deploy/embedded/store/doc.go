// Package store runs the object store of the embedded stack: Versity's S3 gateway over
// a directory, as a child process of the program that uses it.
//
// A child, although the gateway is a library, because the gateway changes the working
// directory of its process and depends on it for good: in the user's process every
// relative path in a connector would then mean another file. It also frees us from the
// library's limit of one gateway per process, and a crash of it costs a restart only.
//
// The child is this same program. The package's init takes over when the environment
// says so, before main runs: it must work in every program that embeds the stack, test
// binaries included, where no main of ours is in charge and a missed call would start
// the tests again instead of a store. Configuration, secrets included, goes through the
// child's standard input, never its arguments or environment; the end of that input,
// which the death of the parent brings about too, ends the child.
//
// On top of the gateway the package adds what tables need: an acknowledged object is on
// disk, and a conditional write looks at the object itself (see backend).
package store
