package lakehouse

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// listing is what stands in a log, or at its end.
type listing struct {
	runs        []run           // stretches of commits without a gap, ascending
	checkpoints []checkpointRef // whole ones, ascending
	v2          int64           // version of the newest checkpoint of a kind that is not read; -1: none
}

type run struct{ first, last int64 }

// checkpointRef is a checkpoint and the objects that it is made of.
type checkpointRef struct {
	version int64 // -1: none, the commits begin at 0
	keys    []string
	time    time.Time // of the last object
}

func (l *listing) empty() bool { return len(l.runs) == 0 && len(l.checkpoints) == 0 && l.v2 < 0 }

func (l *listing) hasCheckpoint(version int64) bool {
	return slices.ContainsFunc(l.checkpoints, func(c checkpointRef) bool { return c.version == version })
}

// upTo returns the checkpoints up to a version.
func (l *listing) upTo(version int64) []checkpointRef {
	var out []checkpointRef
	for _, c := range l.checkpoints {
		if c.version <= version {
			out = append(out, c)
		}
	}
	return out
}

// lowest returns the first commit of the last stretch without a gap; 0 when there is none.
func (l *listing) lowest() int64 {
	if len(l.runs) == 0 {
		return 0
	}
	return l.runs[len(l.runs)-1].first
}

// lastAfter returns the last commit of a version that is built on a checkpoint, which
// is the checkpoint's own version when none follows. upTo is the version wanted, or -1.
func (l *listing) lastAfter(checkpoint, upTo int64) (int64, error) {
	end := upTo
	if end < 0 && len(l.runs) > 0 {
		end = l.runs[len(l.runs)-1].last
	}
	if checkpoint >= 0 && end <= checkpoint {
		return checkpoint, nil
	}
	for _, r := range l.runs {
		if r.first <= checkpoint+1 && checkpoint+1 <= r.last {
			if r.last >= end {
				return end, nil
			}
			return 0, missingCommit(r.last + 1)
		}
	}
	return 0, missingCommit(checkpoint + 1)
}

func missingCommit(version int64) error {
	return &DamagedError{Object: commitKey(version), Reason: "is missing, and no checkpoint makes up for it", Advice: restoreObject}
}

// list reads the log from a version on, -1 for all of it.
func (t *Table) list(ctx context.Context, from int64) (*listing, error) {
	after := ""
	if from >= 0 {
		after = fmt.Sprintf("%s%020d", logDir, from)
	}
	l, parts := &listing{v2: -1}, map[string]*checkpointRef{}
	for o, err := range t.store.List(ctx, logDir, after) {
		if err != nil {
			return nil, fmt.Errorf("list the log: %w", err)
		}
		n, ok := parseLogName(strings.TrimPrefix(o.Key, logDir))
		switch {
		case !ok:
		case n.commit:
			if i := len(l.runs) - 1; i >= 0 && l.runs[i].last+1 == n.version {
				l.runs[i].last = n.version
			} else {
				l.runs = append(l.runs, run{n.version, n.version})
			}
		case n.v2:
			l.v2 = n.version
		default:
			// The parts of one checkpoint stand together, but those of two attempts with other numbers of parts may mix.
			id := fmt.Sprintf("%d/%d", n.version, n.parts)
			c := parts[id]
			if c == nil {
				c = &checkpointRef{version: n.version}
				parts[id] = c
			}
			c.keys, c.time = append(c.keys, o.Key), o.ModTime
			if len(c.keys) == n.parts && !l.hasLast(n.version) {
				l.checkpoints = append(l.checkpoints, *c)
			}
		}
	}
	return l, nil
}

func (l *listing) hasLast(version int64) bool {
	return len(l.checkpoints) > 0 && l.checkpoints[len(l.checkpoints)-1].version == version
}

// logName is what the name of an object in the log says.
type logName struct {
	version int64
	commit  bool
	v2      bool // a checkpoint of the second kind
	parts   int  // of a checkpoint
}

// parseLogName reads "00000000000000000012.json", "….checkpoint.parquet",
// "….checkpoint.0000000001.0000000002.parquet" and "….checkpoint.<uuid>.parquet".
func parseLogName(name string) (n logName, ok bool) {
	number, rest, _ := strings.Cut(name, ".")
	version, err := strconv.ParseInt(number, 10, 64)
	if len(number) != 20 || err != nil || version < 0 {
		return n, false
	}
	n = logName{version: version, parts: 1}
	if rest == "json" {
		n.commit = true
		return n, true
	}
	kind, ok := strings.CutPrefix(rest, "checkpoint.")
	switch fields := strings.Split(kind, "."); {
	case !ok:
		return n, false
	case kind == "parquet":
		return n, true
	case len(fields) == 3 && fields[2] == "parquet":
		part, err1 := strconv.Atoi(fields[0])
		parts, err2 := strconv.Atoi(fields[1])
		n.parts = parts
		return n, err1 == nil && err2 == nil && part >= 1 && part <= parts
	case len(fields) == 2 && (fields[1] == "parquet" || fields[1] == "json"):
		n.v2 = true
		return n, true
	}
	return n, false
}
