// Package sources holds what each source promises against everything that goes wrong
// on the way: two processes of the product share a real server as members of one
// group, are killed, run out of their grace, lose their connections and their server,
// and get everything once more. Then the numbers of the rows in the scored and the quarantine table
// are compared with those that were sent.
//
// A source is a value of type source in a file of its own; scenario_test.go does the
// rest.
package sources
