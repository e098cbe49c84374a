package query

import (
	"maps"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemill/tidemill/internal/predicate"
)

// What rows of each table a statement can need is read off DuckDB's own syntax tree
// (json_serialize_sql). For each SELECT over base tables, or over joins of them, a row of
// a table that one of the conjuncts in WHERE is not true of has no part in the result,
// nor one that one of the conjuncts in ON is not true of. The exceptions:
//
//   - WHERE says nothing of a table whose rows an outer join may replace by nulls, nor of
//     the table in which an ASOF join looks for the nearest row.
//   - ON of an outer join says nothing of the table that keeps all its rows.
//   - POSITIONAL joins and samples count rows: nothing may be left out.
//   - Functions that take the name of a table, or a whole statement, as a text may read
//     anything: then nothing is known of any table.
//
// A table that stands in a statement several times needs what any of the places needs,
// and a place that is not understood needs all.

type object = map[string]any

// needs gathers the tables of a statement and the conditions on them. It is walked through
// the tree twice: first without schemas, for the tables' names, then for the conditions.
type needs struct {
	schemas map[string]*arrow.Schema // by lower case name
	found   map[string][]*condition  // what each place of a table needs, by lower case name; nil: all
	names   map[string]string        // the tables' names as the statement has them, by lower case name
	ctes    map[string]bool          // the names of all common table expressions, lower case
	consts  []*constant
	opaque  bool // any table may be read in ways that are not seen
}

func newNeeds() *needs {
	return &needs{schemas: map[string]*arrow.Schema{}, found: map[string][]*condition{}, names: map[string]string{}, ctes: map[string]bool{}}
}

// cteScope is a list of names that mean common table expressions, innermost first.
type cteScope struct {
	name  string
	outer *cteScope
}

func (s *cteScope) has(name string) bool {
	for ; s != nil; s = s.outer {
		if strings.EqualFold(s.name, name) {
			return true
		}
	}
	return false
}

// walk looks through a piece of the tree.
func (n *needs) walk(v any, scope *cteScope) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			n.walk(e, scope)
		}
	case object:
		scope = n.walkCTEs(v, scope)
		switch str(v, "type") {
		case "RECURSIVE_CTE_NODE":
			scope = &cteScope{str(v, "cte_name"), scope}
		case "SELECT_NODE":
			n.selectNode(v, scope)
		case "BASE_TABLE":
			n.place(v, scope, nil)
		case "TABLE_FUNCTION":
			if f, _ := v["function"].(object); !slices.Contains(plainFunctions, strings.ToLower(str(f, "function_name"))) {
				n.opaque = true
			}
		}
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if key != "cte_map" {
				n.walk(v[key], scope)
			}
		}
	}
}

// plainFunctions are table functions that read no table by its name.
var plainFunctions = []string{"range", "generate_series", "unnest", "repeat"}

// walkCTEs looks through a node's common table expressions and returns the scope of its body.
// Each of them sees those before it; by its own name it means what is outside.
func (n *needs) walkCTEs(node object, scope *cteScope) *cteScope {
	ctes, _ := node["cte_map"].(object)
	list, _ := ctes["map"].([]any)
	for _, e := range list {
		entry, _ := e.(object)
		n.walk(entry["value"], scope)
		n.ctes[strings.ToLower(str(entry, "key"))] = true
		scope = &cteScope{str(entry, "key"), scope}
	}
	return scope
}

// placed marks a base table of the tree that has been dealt with.
const placed = "\x00placed"

// place notes what one place of a table needs.
func (n *needs) place(ref object, scope *cteScope, c *condition) {
	if ref[placed] == n {
		return
	}
	ref[placed] = n
	name := str(ref, "table_name")
	if str(ref, "schema_name") == "" && str(ref, "catalog_name") == "" && scope.has(name) {
		return
	}
	lower := strings.ToLower(name)
	n.names[lower] = name
	n.found[lower] = append(n.found[lower], c)
}

// relation is an entry of FROM.
type relation struct {
	ref    object        // nil unless it is a base table whose columns are known
	alias  string        // by which columns are qualified
	schema *arrow.Schema // nil: not known
	free   bool          // no join above it, as far as was looked, can make nulls of its rows or count them
	conds  []*condition
}

// fromClause is what was seen of FROM.
type fromClause struct {
	scope     *cteScope
	relations []*relation // that columns can come from
	gone      []*relation // those of semi and anti joins, which only ON sees
	merged    bool        // USING or NATURAL: a column without a qualifier may be either side's
}

func (n *needs) selectNode(node object, scope *cteScope) {
	from := &fromClause{scope: scope}
	root, _ := node["from_table"].(object)
	from.relations = n.flatten(root, from)
	if where, ok := node["where_clause"].(object); ok {
		n.conjuncts(where, from, from.relations, func(r *relation) bool { return r.free })
	}
	sampled := node["sample"] != nil
	for _, r := range slices.Concat(from.relations, from.gone) {
		if r.ref == nil {
			continue
		}
		if sampled || len(r.conds) == 0 {
			n.place(r.ref, scope, nil)
		} else {
			n.place(r.ref, scope, &condition{op: predicate.And, args: r.conds})
		}
	}
}

// flatten returns the relations of a piece of FROM, and reads the conditions of its joins.
func (n *needs) flatten(ref object, from *fromClause) []*relation {
	switch str(ref, "type") {
	case "JOIN":
		return n.join(ref, from)
	case "BASE_TABLE":
		r := &relation{ref: ref, alias: str(ref, "alias"), free: true}
		if r.alias == "" {
			r.alias = str(ref, "table_name")
		}
		cte := str(ref, "schema_name") == "" && from.scope.has(str(ref, "table_name"))
		if columns, _ := ref["column_name_alias"].([]any); len(columns) == 0 && !cte && ref["sample"] == nil {
			r.schema = n.schemas[strings.ToLower(str(ref, "table_name"))]
		}
		return []*relation{r}
	case "EMPTY", "":
		return nil
	}
	return []*relation{{alias: str(ref, "alias")}}
}

func (n *needs) join(ref object, from *fromClause) []*relation {
	leftRef, _ := ref["left"].(object)
	rightRef, _ := ref["right"].(object)
	left, right := n.flatten(leftRef, from), n.flatten(rightRef, from)
	using, _ := ref["using_columns"].([]any)
	kind := str(ref, "ref_type")
	from.merged = from.merged || len(using) > 0 || kind == "NATURAL"
	both := slices.Concat(left, right)
	on := func(side ...*relation) {
		if condition, ok := ref["condition"].(object); ok {
			n.conjuncts(condition, from, both, func(r *relation) bool { return r.free && slices.Contains(side, r) })
		}
	}
	bind := func(side []*relation) {
		for _, r := range side {
			r.free = false
		}
	}
	switch join := str(ref, "join_type"); {
	case kind == "POSITIONAL":
		bind(both)
	case kind == "ASOF":
		bind(right)
		if join != "INNER" && join != "LEFT" {
			bind(left)
		}
	case join == "INNER":
		on(both...)
	case join == "LEFT":
		on(right...)
		bind(right)
	case join == "RIGHT":
		on(left...)
		bind(left)
	case join == "SEMI":
		on(both...)
		from.gone = append(from.gone, right...)
		return left
	case join == "ANTI":
		on(right...)
		from.gone = append(from.gone, right...)
		return left
	default:
		bind(both)
	}
	return both
}

// conjuncts gives each relation the conjuncts that are about it alone, if it may have them.
func (n *needs) conjuncts(expr object, from *fromClause, visible []*relation, may func(*relation) bool) {
	if str(expr, "type") == "CONJUNCTION_AND" {
		for _, c := range children(expr) {
			n.conjuncts(c, from, visible, may)
		}
		return
	}
	t := &translator{needs: n, visible: visible, merged: from.merged}
	if c := t.condition(expr, false); c != nil && t.about != nil && !t.mixed && may(t.about) {
		t.about.conds = append(t.about.conds, c)
	}
}

// need is the condition on the rows of a table, once constants are known; nil: all rows.
func (n *needs) need(name string) *predicate.Node {
	places := n.found[strings.ToLower(name)]
	if n.opaque || len(places) == 0 {
		return nil
	}
	parts := make([]*predicate.Node, len(places))
	for i, c := range places {
		parts[i] = c.node()
	}
	return predicate.Any(parts...)
}

func str(o object, key string) string {
	s, _ := o[key].(string)
	return s
}

// children returns the arguments of an expression.
func children(o object) []object {
	values, _ := o["children"].([]any)
	out := make([]object, 0, len(values))
	for _, v := range values {
		if x, ok := v.(object); ok {
			out = append(out, x)
		}
	}
	return out
}
