package connectors

import "strings"

// registryAway says whether a processor failed because it could not ask a schema
// registry: not for the message's sake, so that the same message passes later. A
// registry that answers and does not have the schema is another thing: then nobody can
// read the message.
//
// The processor keeps only the text of what went wrong.
func registryAway(err error) bool {
	_, cause, ok := strings.Cut(err.Error(), "not found by registry: ")
	if !ok {
		return false
	}
	cause = strings.ToLower(cause)
	// "Schema 7 not found", "Schema not found": as registries say it.
	return !strings.Contains(cause, "schema") || !strings.Contains(cause, "not found")
}
