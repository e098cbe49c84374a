// Package e2e holds the tests that use Tidemill as its users do: the binary,
// project files, HTTP requests and SQL. They ask what a user sees: of bad
// input, bad configuration and bad models, when a server it needs is away, and
// of real readings. Crashes are package chaos's; other readers of the tables
// are package interop's.
//
// There is only test code here.
package e2e
