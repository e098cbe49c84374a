package lakehouse

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/lakehouse/delta"
)

// TagRanges is the tag of a file that says which source offsets came in with it.
const TagRanges = "tidemill.ranges"

// rangesTag returns the tag's value for what the log has to remember of some claims:
// {"connector/topic/3":[[100,199],[205,205]]}. Empty when there is nothing.
func rangesTag(c batch.Claims) string {
	out := make(map[string][][2]int64, len(c))
	for p, set := range c {
		if len(set) == 0 || !batch.Durable(p) && !batch.Keyed(p) {
			continue
		}
		list := make([][2]int64, len(set))
		for i, v := range set {
			list[i] = [2]int64{v.First, v.Last}
		}
		out[p] = list
	}
	if len(out) == 0 {
		return ""
	}
	b, _ := json.Marshal(out) //nolint:errchkjson // strings and integers cannot fail
	return string(b)
}

// Ranges returns the source offsets that came in with a file, from its tags.
func Ranges(f File) (batch.Claims, error) {
	c, err := parseRanges(f.Tags[TagRanges])
	if err != nil {
		return nil, &inputError{f.Path, err}
	}
	return c, nil
}

func parseRanges(tag string) (batch.Claims, error) {
	if tag == "" {
		return nil, nil
	}
	var in map[string][][2]int64
	if err := json.Unmarshal([]byte(tag), &in); err != nil {
		return nil, fmt.Errorf("tag %s: %w", TagRanges, err)
	}
	out := make(batch.Claims, len(in))
	for p, list := range in {
		var set batch.Intervals
		for _, v := range list {
			set = set.Add(batch.Interval{First: v[0], Last: v[1]})
		}
		out[p] = set
	}
	return out, nil
}

// TagKeysAt is the tag of a file that replaces others with idempotency keys: when the
// newest of its keys came in, in ms since 1970. Other files' keys are as old as the file.
const TagKeysAt = "tidemill.keys_at"

// keysAt returns when a file's idempotency keys came in.
func keysAt(f File) time.Time {
	if ms, err := strconv.ParseInt(f.Tags[TagKeysAt], 10, 64); err == nil {
		return time.UnixMilli(ms)
	}
	return f.ModTime
}

// keysKept says which idempotency keys are remembered.
type keysKept struct {
	window time.Duration
	limit  int // of how many, the newest
}

// mergeTags returns the tags for a file that takes the place of others: what the log has
// to remember of where their rows came from. Offsets that covered has are remembered
// without it, as the log's spans are. Keys from before the window are forgotten, and so
// are the oldest files' if there are too many. Of cursors the one that counts is
// remembered, and those above it. The files' other tags are not carried on.
func mergeTags(files []File, covered batch.Claims, keep keysKept, now time.Time) (map[string]string, error) {
	files = slices.Clone(files)
	slices.SortStableFunc(files, func(a, b File) int { return keysAt(b).Compare(keysAt(a)) })
	all, keys, newest := batch.Claims{}, 0, time.Time{}
	for _, f := range files {
		c, err := Ranges(f)
		if err != nil {
			return nil, err
		}
		at := keysAt(f)
		for part, set := range c {
			if batch.Keyed(part) {
				if now.Sub(at) > keep.window || keys >= keep.limit && all[part] == nil {
					continue
				}
				if all[part] == nil {
					keys++
				}
				if at.After(newest) {
					newest = at
				}
			}
			all[part] = all[part].AddSet(set)
		}
	}
	for part, set := range all {
		for _, v := range covered[part] {
			set = set.Remove(v)
		}
		all[part] = set
	}
	tags := withCursors(tagsWith(map[string]string{}, all), mergeCursors(files, covered))
	if keys > 0 {
		tags[TagKeysAt] = strconv.FormatInt(newest.UnixMilli(), 10)
	}
	return tags, nil
}

func withCursors(tags map[string]string, c map[string][]Cursor) map[string]string {
	return withTag(tags, TagCursors, cursorsTag(c))
}

func tagsWith(tags map[string]string, c batch.Claims) map[string]string {
	return withTag(tags, TagRanges, rangesTag(c))
}

// withTag returns tags with one more, unless its value is empty.
func withTag(tags map[string]string, name, value string) map[string]string {
	if value == "" {
		return tags
	}
	out := maps.Clone(tags)
	if out == nil {
		out = map[string]string{}
	}
	out[name] = value
	return out
}

// spanApp returns the appId of the span of a partition's offsets that begins at first:
// the partition itself for 0, else with "@" and the offset. A partition that ends like
// that itself always gets its "@0", so that the last "@" can be believed.
func spanApp(partition string, first int64) string {
	if p, _ := spanOf(partition); first == 0 && p == partition {
		return partition
	}
	return partition + "@" + strconv.FormatInt(first, 10)
}

// spanOf returns the partition and the beginning of the span that an appId names; at is
// 0 also when it names none.
func spanOf(appID string) (partition string, at int64) {
	i := strings.LastIndexByte(appID, '@')
	if i < 0 {
		return appID, 0
	}
	n, err := strconv.ParseInt(appID[i+1:], 10, 64)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != appID[i+1:] {
		return appID, 0
	}
	return appID[:i], n
}

// spanTxn is the transaction that says that a span's offsets are all in.
func spanTxn(partition string, first, last int64) delta.Txn {
	return delta.Txn{AppID: spanApp(partition, first), Version: last}
}
