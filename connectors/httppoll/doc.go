// Package httppoll reads an HTTP API page by page.
//
// # Where it stands
//
// A response is a page of rows. What asks for the page is its cursor: a text that the page before
// named, put into a query parameter, or the address of the page itself. A page may be read
// before it is full: when it names no next one, it is asked for again after a while, and the
// rows at its front that are known already are left out. So the state is the cursor with
// the number of its rows that are taken. It needs of the API that a page, asked for again,
// begins with the rows that it had; rows may be added behind them.
//
// Without a next page at all, every response is new rows: readings, not a log. They
// have no state.
//
// # Secrets
//
// Headers, and addresses with what is in their query, may hold keys. They go to the host of the
// configured address only, never to another one that a response names, and into no error.
package httppoll
