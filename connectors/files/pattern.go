package files

import (
	"path"
	"strings"
)

// pattern is where to look and what to take there.
type pattern struct {
	base string   // what lies before the first segment with a wildcard
	segs []string // the rest; empty: base itself, or everything below it
}

// Segments are matched one by one: `*` and `?` stay within one, `**` stands for
// any number of them that are not hidden.
func newPattern(p string) (pattern, error) {
	all := strings.Split(p, "/")
	i := 0
	for i < len(all) && !strings.ContainsAny(all[i], "*?[") {
		i++
	}
	out := pattern{base: strings.Join(all[:i], "/"), segs: all[i:]}
	for _, s := range out.segs {
		if _, err := path.Match(s, ""); err != nil {
			return pattern{}, err
		}
	}
	return out, nil
}

// match says whether a name below base, relative to it, is one to take.
func (p pattern) match(rel string) bool {
	if len(p.segs) == 0 {
		return !hidden(rel)
	}
	return matchSegments(p.segs, strings.Split(rel, "/"))
}

// reaches says whether anything below a directory, relative to base, can match.
func (p pattern) reaches(rel string) bool {
	if len(p.segs) == 0 {
		return !hidden(rel)
	}
	dirs := strings.Split(rel, "/")
	for i, s := range p.segs {
		if s == "**" {
			return true
		}
		if i == len(dirs) {
			return true
		}
		if !matchSegment(s, dirs[i]) {
			return false
		}
	}
	return false
}

// matchSegment: as in a shell, a wildcard does not stand for a dot at the beginning.
func matchSegment(pat, name string) bool {
	if strings.HasPrefix(name, ".") && !strings.HasPrefix(pat, ".") {
		return false
	}
	ok, err := path.Match(pat, name)
	return ok && err == nil
}

func matchSegments(pat, name []string) bool {
	for len(pat) > 0 {
		if pat[0] == "**" {
			for i := range len(name) + 1 {
				if matchSegments(pat[1:], name[i:]) {
					return true
				}
				if i < len(name) && hidden(name[i]) {
					return false
				}
			}
			return false
		}
		if len(name) == 0 {
			return false
		}
		if !matchSegment(pat[0], name[0]) {
			return false
		}
		pat, name = pat[1:], name[1:]
	}
	return len(name) == 0
}

// hidden says whether a name is one that writers use for what is not data: _SUCCESS,
// _temporary/, .crc.
func hidden(rel string) bool {
	for s := range strings.SplitSeq(rel, "/") {
		if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "_") {
			return true
		}
	}
	return false
}
