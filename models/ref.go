package models

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Ref names a model version, by number or by alias.
type Ref struct {
	Name    string
	Alias   string // "" when Version is given
	Version int    // 0 when Alias is given
}

var (
	namePattern    = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,127}$`)
	versionPattern = regexp.MustCompile(`^[1-9][0-9]{0,8}$`)
)

// ParseRef reads "fraud@champion" or "fraud@3".
func ParseRef(s string) (Ref, error) {
	name, which, ok := strings.Cut(s, "@")
	r := Ref{Name: name}
	switch {
	case !ok || !namePattern.MatchString(name):
	case versionPattern.MatchString(which):
		r.Version, _ = strconv.Atoi(which)
		return r, nil
	case namePattern.MatchString(which):
		r.Alias = which
		return r, nil
	}
	return Ref{}, fmt.Errorf("model %q must be name@alias or name@version, such as fraud@champion or fraud@3", s)
}

// String is the form that ParseRef reads.
func (r Ref) String() string {
	if r.Alias != "" {
		return r.Name + "@" + r.Alias
	}
	return r.Name + "@" + strconv.Itoa(r.Version)
}

func checkName(what, name string) error {
	if !namePattern.MatchString(name) {
		return fmt.Errorf("%s %q must be lower-case letters, digits, _ and -, beginning with a letter, at most 128", what, name)
	}
	return nil
}
