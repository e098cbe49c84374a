package query

import (
	"fmt"
	"regexp"
	"strings"
)

// trimStatement takes comments and blanks off the front of a statement, blanks
// and semicolons off its end.
func trimStatement(sql string) string {
	for {
		sql = strings.TrimSpace(sql)
		switch {
		case strings.HasPrefix(sql, "--"):
			_, sql, _ = strings.Cut(sql, "\n")
		case strings.HasPrefix(sql, "/*"):
			_, sql, _ = strings.Cut(sql, "*/")
		default:
			return strings.TrimRight(sql, "; \t\r\n")
		}
	}
}

var firstWord = regexp.MustCompile(`^[A-Za-z_]+`)

// cutWord takes a keyword off the front.
func cutWord(sql, word string) (rest string, ok bool) {
	w := firstWord.FindString(sql)
	if !strings.EqualFold(w, word) {
		return sql, false
	}
	return trimStatement(sql[len(w):]), true
}

func startsQuery(sql string) bool {
	switch strings.ToLower(firstWord.FindString(sql)) {
	case "select", "with", "from", "values", "table", "pivot", "unpivot":
		return true
	}
	return strings.HasPrefix(sql, "(")
}

var explainOptions = regexp.MustCompile(`^\([^()]*\)`)

// readingStatement refuses statements that do more than read, by their first
// word, and returns what an EXPLAIN explains. DuckDB's own classification is
// checked as well once the statement is prepared; it needs the tables first.
func readingStatement(sql string) (inner string, err error) {
	inner = sql
	if rest, ok := cutWord(sql, "explain"); ok {
		inner, _ = cutWord(rest, "analyze")
		if options := explainOptions.FindString(inner); options != "" {
			if after := trimStatement(inner[len(options):]); startsQuery(after) {
				inner = after
			}
		}
	}
	word := strings.ToLower(firstWord.FindString(inner))
	switch {
	case inner == "":
		return "", &Error{Class: "Statement", Message: "there is no SQL here; write a SELECT", Offset: -1}
	case startsQuery(inner):
	case word == "describe" || word == "desc" || word == "summarize" || word == "show":
	default:
		return "", &Error{Class: "Statement", Offset: -1, Message: fmt.Sprintf(
			"%s is refused: SQL only reads here (SELECT, WITH, FROM, DESCRIBE, SUMMARIZE, SHOW TABLES, EXPLAIN); rows come in through connectors and pipelines", refusedName(inner, word))}
	}
	return inner, nil
}

func refusedName(sql, word string) string {
	if word == "" {
		return "a statement that begins with " + literal(sql[:1])
	}
	return strings.ToUpper(word)
}
