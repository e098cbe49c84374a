package query

import (
	"strings"
	"unicode/utf8"
)

type tokenKind uint8

const (
	wordToken   tokenKind = iota // a keyword or a name without quotes
	quotedToken                  // a name in double quotes
	stringToken                  // a string in single quotes
	numberToken
	otherToken // anything else: one character, "=>" or "::"
)

// token is a word of a statement. Comments and blanks are none.
type token struct {
	kind       tokenKind
	start, end int // bytes of the statement
	text       string
}

// is reports whether a token is one of some words, or the one other text.
func (t token) is(words ...string) bool {
	if t.kind != wordToken && t.kind != otherToken {
		return false
	}
	for _, w := range words {
		if strings.EqualFold(t.text, w) {
			return true
		}
	}
	return false
}

// name returns what a name in quotes or without them, or a string, stands for.
func (t token) name() string {
	switch t.kind {
	case quotedToken:
		return strings.ReplaceAll(t.text[1:len(t.text)-1], `""`, `"`)
	case stringToken:
		return strings.ReplaceAll(t.text[1:len(t.text)-1], `''`, `'`)
	}
	return t.text
}

// lex splits a statement as DuckDB does, as far as it takes to know names, strings and
// comments from each other. What has no end ends the list; DuckDB says what is wrong.
func lex(sql string) []token {
	var out []token
	for i := 0; i < len(sql); {
		kind, end := otherToken, i+1
		switch c := sql[i]; {
		case strings.IndexByte(" \t\r\n\f\v", c) >= 0:
			i++
			continue
		case strings.HasPrefix(sql[i:], "--"):
			if end = strings.IndexByte(sql[i:], '\n'); end < 0 {
				return out
			}
			i += end
			continue
		case strings.HasPrefix(sql[i:], "/*"):
			if end = commentEnd(sql, i); end < 0 {
				return out
			}
			i = end
			continue
		case c == '\'':
			kind, end = stringToken, quoteEnd(sql, i, escapes(out, i))
		case c == '"':
			kind, end = quotedToken, quoteEnd(sql, i, false)
		case c == '$':
			end = dollarEnd(sql, i)
		case c >= '0' && c <= '9', c == '.' && i+1 < len(sql) && sql[i+1] >= '0' && sql[i+1] <= '9' && !afterName(out, i):
			kind, end = numberToken, numberEnd(sql, i)
		case wordByte(c):
			kind, end = wordToken, wordEnd(sql, i)
		case strings.HasPrefix(sql[i:], "=>"), strings.HasPrefix(sql[i:], "::"):
			end = i + 2
		}
		if end < 0 {
			return out
		}
		out = append(out, token{kind: kind, start: i, end: end, text: sql[i:end]})
		i = end
	}
	return out
}

func wordByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c >= utf8.RuneSelf
}

func wordEnd(sql string, i int) int {
	for i < len(sql) && (wordByte(sql[i]) || sql[i] == '$') {
		i++
	}
	return i
}

func numberEnd(sql string, i int) int {
	for i < len(sql) && (wordByte(sql[i]) || sql[i] == '.' || (sql[i] == '-' || sql[i] == '+') && (sql[i-1] == 'e' || sql[i-1] == 'E')) {
		i++
	}
	return i
}

// afterName says whether a point at i parts two names.
func afterName(before []token, i int) bool {
	if len(before) == 0 {
		return false
	}
	last := before[len(before)-1]
	return last.end == i && (last.kind == wordToken || last.kind == quotedToken)
}

// escapes says whether the string at i is one of the form E'…', which has backslashes.
func escapes(before []token, i int) bool {
	return len(before) > 0 && before[len(before)-1].end == i && before[len(before)-1].is("e")
}

func quoteEnd(sql string, i int, backslashes bool) int {
	quote := sql[i]
	for i++; i < len(sql); i++ {
		switch {
		case backslashes && sql[i] == '\\':
			i++
		case sql[i] == quote && i+1 < len(sql) && sql[i+1] == quote:
			i++
		case sql[i] == quote:
			return i + 1
		}
	}
	return -1
}

// commentEnd finds the end of a comment, in which others may be.
func commentEnd(sql string, i int) int {
	depth := 0
	for ; i+1 < len(sql); i++ {
		switch sql[i : i+2] {
		case "/*":
			depth++
			i++
		case "*/":
			i++
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return -1
}

// dollarEnd finds the end of $$…$$ or $tag$…$tag$, or of a parameter such as $1.
func dollarEnd(sql string, i int) int {
	tag := i + 1
	for tag < len(sql) && wordByte(sql[tag]) {
		tag++
	}
	if tag == len(sql) || sql[tag] != '$' {
		return tag
	}
	mark := sql[i : tag+1]
	if n := strings.Index(sql[tag+1:], mark); n >= 0 {
		return tag + 1 + n + len(mark)
	}
	return -1
}
