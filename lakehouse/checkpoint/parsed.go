package checkpoint

// parsedStats reads add.stats_parsed.
type parsedStats struct{}

func newParsedStats(*decoder) *parsedStats { return nil }
func (p *parsedStats) next()               {}
func (p *parsedStats) json() string        { return "" }
