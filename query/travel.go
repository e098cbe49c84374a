package query

import (
	"context"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Ref names a table in SQL, and which of its versions is meant.
type Ref struct {
	Name    string
	Path    bool       // Name is a URL or a directory, not the name of a table
	Version *int64     // the version asked for
	At      *time.Time // the newest version that was there at a time; both nil: the newest of all
}

// String returns the reference as an error or a line of statistics shows it.
func (r Ref) String() string {
	switch {
	case r.Version != nil:
		return fmt.Sprintf("%s VERSION AS OF %d", r.Name, *r.Version)
	case r.At != nil:
		return r.Name + " TIMESTAMP AS OF '" + r.At.UTC().Format("2006-01-02 15:04:05.999999") + "'"
	}
	return r.Name
}

// isPath says whether a table's name in SQL is a path.
func isPath(name string) bool { return strings.Contains(name, "://") }

// pathFunction reads a table by its path, under the name that DuckDB's own extension gives it.
const pathFunction = "delta_scan"

// rewritten is a statement with each reference to another version of a table, and each
// path given to delta_scan, replaced by the name of a view.
type rewritten struct {
	sql   string
	edits []edit             // in the order of the statement
	refs  map[string]*travel // by the view's name
}

// edit replaces a part of the user's text.
type edit struct {
	start, end int
	text       string
}

// travel is a reference as it was found.
type travel struct {
	ref       Ref
	unit      string // "version", "timestamp", or "" for the newest version
	expr      string // the constant that says which
	exprStart int    // in the user's text
}

// position returns where in the user's text an offset of the rewritten one lies.
func (r *rewritten) position(offset int) int {
	if offset < 0 {
		return offset
	}
	shift := 0
	for _, e := range r.edits {
		from := e.start + shift // of the edit in the rewritten text
		if offset < from {
			break
		}
		if offset < from+len(e.text) {
			return e.start
		}
		shift += len(e.text) - (e.end - e.start)
	}
	return offset - shift
}

// rewrite finds the references to versions and paths. Three forms are understood, after
// a table's name or after its alias:
//
//	t FOR VERSION AS OF 12        t FOR TIMESTAMP AS OF '2026-01-01 12:00:00'   (SQL's)
//	t VERSION AS OF 12            t TIMESTAMP AS OF …                           (Spark's)
//	t AT (VERSION => 12)          t AT (TIMESTAMP => …)                         (DuckDB's)
//
// The words are looked for behind what can be a table's name in FROM or JOIN only.
func rewrite(sql string) (*rewritten, error) {
	r := &rewritten{refs: map[string]*travel{}}
	toks := lex(sql)
	done := map[int]bool{} // tokens at which a delta_scan begins that is taken care of
	for i := range toks {
		c, ok := clauseAt(toks, i)
		if !ok {
			continue
		}
		t, ok := tableBefore(toks, i)
		if !ok {
			continue
		}
		done[t.first] = true
		if !t.aliased {
			t.aliased = aliasAt(toks, c.end) || toks[t.first-1].is("describe", "desc", "summarize") // which know no alias
		}
		view := fmt.Sprintf("%s %s #%d", t.name, strings.ToUpper(c.unit), len(r.refs)+1)
		r.add(toks[t.first].start, toks[t.last].end, view, t)
		r.edits = append(r.edits, edit{start: toks[i].start, end: toks[c.end-1].end})
		r.refs[view] = &travel{
			ref: Ref{Name: t.name, Path: t.path}, unit: c.unit,
			expr: sql[toks[c.from].start:toks[c.to-1].end], exprStart: toks[c.from].start,
		}
	}
	for i := range toks {
		if done[i] || !toks[i].is(pathFunction) || i+1 == len(toks) || !toks[i+1].is("(") {
			continue
		}
		last, ok := pathCall(toks, i)
		if !ok {
			return nil, &Error{Class: "Statement", Offset: toks[i].start, Message: "delta_scan takes the path of a table, in quotes: delta_scan('s3://bucket/path')"}
		}
		t := table{first: i, last: last, name: toks[i+2].name(), path: true, alias: pathFunction, aliased: aliasAt(toks, last+1)}
		r.add(toks[i].start, toks[last].end, t.name, t)
		r.refs[t.name] = &travel{ref: Ref{Name: t.name, Path: true}}
	}
	sort.Slice(r.edits, func(i, j int) bool { return r.edits[i].start < r.edits[j].start })
	var b strings.Builder
	at := 0
	for _, e := range r.edits {
		b.WriteString(sql[at:e.start])
		b.WriteString(e.text)
		at = e.end
	}
	b.WriteString(sql[at:])
	r.sql = b.String()
	return r, nil
}

func (r *rewritten) add(start, end int, view string, t table) {
	text := quote(view)
	if !t.aliased {
		text += " AS " + quote(t.alias)
	}
	r.edits = append(r.edits, edit{start, end, text})
}

// clause is a "FOR VERSION AS OF expr" of tokens; from and to are those of the constant.
type clause struct {
	unit          string
	from, to, end int
}

var units = map[string]string{"version": "version", "system_version": "version", "timestamp": "timestamp", "system_time": "timestamp"}

// clauseAt reads a clause that begins at a token.
func clauseAt(toks []token, i int) (c clause, ok bool) {
	at := func(j int) token {
		if j < len(toks) {
			return toks[j]
		}
		return token{kind: otherToken}
	}
	if at(i).is("at") && at(i+1).is("(") && at(i+3).is("=>") {
		c.unit = units[strings.ToLower(at(i+2).text)]
		end, closed := closing(toks, i+1)
		c.from, c.to, c.end = i+4, end, end+1
		return c, closed && c.unit != "" && c.from < c.to
	}
	j := i
	if at(j).is("for") {
		j++
	}
	if at(j).kind == wordToken {
		c.unit = units[strings.ToLower(at(j).text)]
	}
	if c.unit == "" || !at(j+1).is("as") || !at(j+2).is("of") || i > 0 && toks[i-1].is("for") {
		return c, false
	}
	c.from = j + 3
	c.to, ok = constantEnd(toks, c.from)
	c.end = c.to
	return c, ok
}

// constantEnd finds the end of a constant without brackets around it: a number, a string,
// a typed string, a call or something in brackets, with casts behind it, and more of them
// behind + and -.
func constantEnd(toks []token, i int) (end int, ok bool) {
	for {
		if i < len(toks) && toks[i].is("-", "+") {
			i++
		}
		if i, ok = primaryEnd(toks, i); !ok {
			return i, false
		}
		for i+1 < len(toks) && toks[i].is("::") {
			i += 2
		}
		if i == len(toks) || !toks[i].is("+", "-") {
			return i, true
		}
		i++
	}
}

func primaryEnd(toks []token, i int) (end int, ok bool) {
	if i >= len(toks) {
		return i, false
	}
	next := token{kind: otherToken}
	if i+1 < len(toks) {
		next = toks[i+1]
	}
	switch t := toks[i]; {
	case t.kind == numberToken || t.kind == stringToken:
		return i + 1, true
	case t.is("("):
		end, ok = closing(toks, i)
		return end + 1, ok
	case t.is("interval"):
		if end, ok = primaryEnd(toks, i+1); ok && end < len(toks) && toks[end].is(intervalUnits...) {
			end++
		}
		return end, ok
	case t.is("timestamp", "timestamptz", "date", "e") && next.kind == stringToken:
		return i + 2, true
	case t.kind == wordToken && next.is("("):
		end, ok = closing(toks, i+1)
		return end + 1, ok
	case t.is("current_date", "current_timestamp"):
		return i + 1, true
	}
	return i, false
}

var intervalUnits = []string{"year", "years", "month", "months", "week", "weeks", "day", "days", "hour", "hours", "minute", "minutes", "second", "seconds",
	"millisecond", "milliseconds", "microsecond", "microseconds"}

// closing finds the bracket that closes the one at i.
func closing(toks []token, i int) (int, bool) {
	depth := 0
	for ; i < len(toks); i++ {
		switch {
		case toks[i].is("("):
			depth++
		case toks[i].is(")"):
			if depth--; depth == 0 {
				return i, true
			}
		}
	}
	return i, false
}

// table is a table's name in a statement.
type table struct {
	first, last int // tokens
	name        string
	path        bool
	alias       string // what the table is called if nothing else is said
	aliased     bool   // something else is said
}

// tableBefore finds the table that a clause at token i is about.
func tableBefore(toks []token, i int) (table, bool) {
	t, ok := nameBefore(toks, i)
	if !ok || t.first == 0 {
		return t, false
	}
	before := toks[t.first-1]
	if beforeTable(before) {
		return t, true
	}
	end := t.first
	if before.is("as") {
		end--
	}
	if t.first != t.last || t.path { // no alias
		return t, false
	}
	t, ok = nameBefore(toks, end)
	t.aliased = true
	return t, ok && t.first > 0 && beforeTable(toks[t.first-1])
}

// beforeTable says whether a token can stand in front of a table's name.
func beforeTable(t token) bool {
	return t.is("from", "join", ",", "(", "table", "describe", "desc", "summarize", "lateral")
}

// nameBefore reads a table's name, or a call of delta_scan, that ends before token i.
func nameBefore(toks []token, i int) (table, bool) {
	last := i - 1
	if last < 0 {
		return table{}, false
	}
	switch t := toks[last]; {
	case t.is(")"):
		if last < 3 || !toks[last-3].is(pathFunction) {
			return table{}, false
		}
		_, ok := pathCall(toks, last-3)
		return table{first: last - 3, last: last, name: toks[last-1].name(), path: true, alias: pathFunction}, ok
	case t.kind == stringToken:
		return table{first: last, last: last, name: t.name(), path: isPath(t.name()), alias: t.name()}, true
	case t.kind != wordToken && t.kind != quotedToken:
		return table{}, false
	}
	first := last
	for first >= 2 && toks[first-1].is(".") && (toks[first-2].kind == wordToken || toks[first-2].kind == quotedToken) {
		first -= 2
	}
	name := toks[last].name()
	return table{first: first, last: last, name: name, path: isPath(name), alias: name}, true
}

// pathCall reads delta_scan('path') and returns its last token.
func pathCall(toks []token, i int) (last int, ok bool) {
	last = i + 3
	return last, last < len(toks) && toks[i+1].is("(") && toks[i+2].kind == stringToken && toks[last].is(")") && !escapes(toks[:i+2], toks[i+2].start)
}

// aliasAt says whether an alias stands at a token, behind a table.
func aliasAt(toks []token, i int) bool {
	if i >= len(toks) {
		return false
	}
	t := toks[i]
	return t.kind == quotedToken || t.kind == wordToken && !t.is(afterTable...)
}

// afterTable are the words that follow a table and are no alias of it.
var afterTable = []string{"where", "group", "having", "order", "limit", "offset", "union", "except", "intersect", "join", "inner", "left", "right", "full", "cross",
	"natural", "semi", "anti", "asof", "positional", "on", "using", "window", "qualify", "tablesample", "sample", "fetch", "for", "at", "select", "pivot", "unpivot"}

// version computes which version a reference asks for.
func (c *conn) version(ctx context.Context, t *travel) (Ref, error) {
	ref := t.ref
	if t.unit == "" {
		return ref, nil
	}
	typ, what := "BIGINT", "VERSION AS OF takes a whole number"
	if t.unit == "timestamp" {
		typ, what = "TIMESTAMPTZ", "TIMESTAMP AS OF takes a time, such as '2026-01-01 12:00:00' (UTC) or '2026-01-01 12:00:00+02'"
	}
	bad := func(why string) (Ref, error) {
		return ref, &Error{Class: "Statement", Message: what + ": " + why, Offset: t.exprStart, inUsersText: true}
	}
	value := "CAST((\n" + t.expr + "\n) AS " + typ + ")"
	number := value
	if t.unit == "timestamp" {
		number = "epoch_us(" + value + ")"
	}
	out, err := c.texts(ctx, "SELECT CAST("+number+" AS VARCHAR), typeof((\n"+t.expr+"\n))")
	switch e := asError(err); {
	case e != nil:
		return bad(e.Message)
	case err != nil:
		return ref, err
	case len(out) != 2 || out[0] == nil:
		return bad("this is null")
	}
	n, err := strconv.ParseInt(*out[0], 10, 64)
	class := constantClass(*out[1])
	switch {
	case err != nil || class == "DOUBLE" || class == "FLOAT" || class == "BOOLEAN" || strings.HasPrefix(*out[1], "DECIMAL"):
		return bad("this is of type " + *out[1])
	case t.unit == "version" && n < 0:
		return bad("versions begin at 0")
	case t.unit == "version":
		ref.Version = &n
	default:
		at := time.UnixMicro(n).UTC()
		ref.At = &at
	}
	return ref, nil
}
