// Package archtest holds the rules of how Tidemill's packages may depend on
// each other and on the large libraries, each with its reason. Its test reads
// the import clauses of every Go file of the module, whatever its build tags,
// and judges them; nothing imports this package.
//
// The rules are about what ships: tests may import what they like, except
// where a rule says otherwise.
package archtest
