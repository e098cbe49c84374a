package strictyaml

import (
	"strings"
	"unicode/utf8"
)

// Suggest returns the known name that someone who wrote name most likely
// meant, or "" when none is near.
func Suggest(name string, known []string) string {
	const longest = 64 // names that long are not typing errors of ours
	if len(name) > longest {
		return ""
	}
	best, least := "", 1+max(1, utf8.RuneCountInString(name)/3)
	lower := strings.ToLower(name)
	for _, k := range known {
		if d := distance(lower, strings.ToLower(k)); d < least {
			best, least = k, d
		}
	}
	if best != "" || len(name) < 3 {
		return best
	}
	for _, k := range known { // "partition" for "partition_by", "models" for "model"
		if strings.HasPrefix(k, lower) || strings.HasPrefix(lower, k) {
			return k
		}
	}
	return ""
}

// distance counts the insertions, deletions, substitutions and swaps of
// neighbours that turn a into b (optimal string alignment).
func distance(a, b string) int {
	s, t := []rune(a), []rune(b)
	rows := make([][]int, len(s)+1)
	for i := range rows {
		rows[i] = make([]int, len(t)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(s); i++ {
		for j := 1; j <= len(t); j++ {
			cost := 1
			if s[i-1] == t[j-1] {
				cost = 0
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && s[i-1] == t[j-2] && s[i-2] == t[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(s)][len(t)]
}
