package lakehouse

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tidemill/tidemill/lakehouse/delta"
)

// reason finds out of which claims a commit was made.
func (m *model) reason(v int64, c *delta.Commit, next *state, added, removed []string) error {
	switch c.Info.Operation {
	case opOptimize, opDelete, opRestore:
		return m.rearranged(c, next, added, removed)
	case "CREATE TABLE":
		if v == 0 && len(added)+len(removed) == 0 {
			return nil
		}
	case "STREAMING UPDATE":
		if len(removed) == 0 {
			return m.appended(v, c, added)
		}
	case "WRITE":
		id, err := strconv.Atoi(c.Info.OperationParameters["claim"])
		if err != nil {
			return err
		}
		i := slices.IndexFunc(m.claims, func(c *claim) bool { return c.id == id && c.at < 0 })
		if i < 0 {
			return fmt.Errorf("claim %d is in already, or its caller was told that it is not", id)
		}
		x := m.claims[i]
		have, ok := m.last().txns[x.step.App]
		if !ok {
			have = -1
		}
		if have != x.expect {
			return fmt.Errorf("txn %s was %d, the commit expected %d", x.step.App, have, x.expect)
		}
		if !slices.Equal(added, x.ids) || len(removed) > 0 {
			return fmt.Errorf("it brings %v, claimed was %v", added, x.ids)
		}
		x.at = v
		return nil
	case "ADD COLUMNS":
		if len(added)+len(removed) > 0 || c.Metadata == nil || len(next.columns) != len(m.last().columns)+1 {
			break
		}
		for name, typ := range m.last().columns {
			if next.columns[name] != typ {
				return fmt.Errorf("column %s has changed", name)
			}
		}
		for _, x := range m.claims {
			if typ, ok := next.columns[x.step.Column]; x.step.Do == "columns" && ok && typ == typeName(x.step) {
				return nil
			}
		}
	}
	return fmt.Errorf("nothing that was begun explains it: %d rows added, %d removed, operation %s", len(added), len(removed), c.Info.Operation)
}

// appended finds the appends whose rows, without those that were in, make up a commit.
func (m *model) appended(v int64, c *delta.Commit, added []string) error {
	var open []*claim
	for _, x := range m.claims {
		if x.step.Do != "append" || x.at >= 0 {
			continue
		}
		x.piece = slices.DeleteFunc(slices.Clone(x.ids), func(id string) bool { _, in := m.landed[id]; return in })
		if len(x.piece) > 0 {
			open = append(open, x)
		}
	}
	// Of two that had the same rows to bring, it was the one whose caller was told so.
	slices.SortStableFunc(open, func(x, y *claim) int { return y.told(v) - x.told(v) })
	made, ok := cover(added, open)
	if !ok {
		return fmt.Errorf("no appends that were begun are, together and each as a whole, what it brings: %v", added)
	}
	for _, x := range made {
		x.at = v
	}
	tags := map[string]bool{}
	var said []string
	for _, a := range c.Adds {
		if tags[a.Tags[TagRanges]] {
			continue // files of one record have one tag
		}
		tags[a.Tags[TagRanges]] = true
		claims, err := Ranges(File{Path: a.Path, Tags: a.Tags})
		if err != nil {
			return err
		}
		for part, set := range claims {
			for _, i := range set {
				for off := i.First; off <= i.Last; off++ {
					said = append(said, fmt.Sprintf("%s/%d/0", part, off))
				}
			}
		}
	}
	firsts := slices.DeleteFunc(slices.Clone(added), func(id string) bool { return !strings.HasSuffix(id, "/0") })
	slices.Sort(said)
	if !slices.Equal(said, firsts) {
		return fmt.Errorf("its tags say %v, its rows are %v", said, firsts)
	}
	for _, id := range added {
		m.landed[id] = v
	}
	return nil
}

// told is how sure it is that the caller of a step knows it to be a version: 2 yes, 1 it was told nothing, 0 no.
func (c *claim) told(v int64) int {
	switch {
	case c.over && c.err == nil && c.out.Version == v && c.out.Rows > 0:
		return 2
	case !c.over || c.dead || errors.Is(c.err, ErrOutcomeUnknown):
		return 1
	}
	return 0
}

// cover finds claims whose pieces are disjoint and together all of want, which is sorted.
func cover(want []string, open []*claim) ([]*claim, bool) {
	if len(want) == 0 {
		return nil, true
	}
	for i, x := range open {
		if !slices.Contains(x.piece, want[0]) {
			continue
		}
		rest := slices.DeleteFunc(slices.Clone(want), func(id string) bool { _, in := slices.BinarySearch(x.piece, id); return in })
		if len(rest) != len(want)-len(x.piece) {
			continue
		}
		if more, ok := cover(rest, slices.Delete(slices.Clone(open), i, i+1)); ok {
			return append(more, x), true
		}
	}
	return nil, false
}

// truthful wants of a source's txn that what it says is in has come in, or never comes.
func (m *model) truthful(x delta.Txn, next *state) error {
	if strings.HasPrefix(x.AppID, "app") {
		return nil
	}
	if have, ok := next.txns[x.AppID]; ok && have >= x.Version {
		return fmt.Errorf("txn %s goes from %d to %d", x.AppID, have, x.Version)
	}
	part, first := spanOf(x.AppID)
	for off := first; off <= x.Version; off++ {
		if _, ok := m.landed[fmt.Sprintf("%s/%d/0", part, off)]; !ok && !dropped(part, off) {
			return fmt.Errorf("txn %s says that up to %d all is in, and %d is not", x.AppID, x.Version, off)
		}
	}
	return nil
}
