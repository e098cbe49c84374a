package quality

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/query"
)

// tree is a SELECT as DuckDB parses it (json_serialize_sql): JSON that can be
// looked at, changed, and turned into SQL again.
type tree struct {
	all  map[string]any
	node map[string]any // of the SELECT
}

var errNotSelect = errors.New("not one SELECT")

// parse returns the tree of a statement that DuckDB accepts, or errNotSelect.
func parse(ctx context.Context, e *query.Engine, sql string) (*tree, error) {
	text, err := scalar(ctx, e, "SELECT json_serialize_sql("+literal(sql)+")::VARCHAR AS tree")
	if err != nil {
		return nil, err
	}
	t := &tree{}
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.UseNumber() // positions are unsigned and may need all 64 bits
	if err := d.Decode(&t.all); err != nil {
		return nil, fmt.Errorf("read syntax tree: %w", err)
	}
	statements, _ := t.all["statements"].([]any)
	if len(statements) != 1 {
		return nil, errNotSelect
	}
	statement, _ := statements[0].(map[string]any)
	if t.node, _ = statement["node"].(map[string]any); t.node == nil {
		return nil, errNotSelect
	}
	return t, nil
}

// sql writes the tree as SQL.
func (t *tree) sql(ctx context.Context, e *query.Engine) (string, error) {
	text, err := json.Marshal(t.all)
	if err != nil {
		return "", fmt.Errorf("write syntax tree: %w", err)
	}
	return scalar(ctx, e, "SELECT json_deserialize_sql("+literal(string(text))+") AS sql")
}

func scalar(ctx context.Context, e *query.Engine, sql string) (string, error) {
	recs, err := e.Run(ctx, sql, nil)
	if err != nil {
		return "", err
	}
	defer recs[0].Release()
	return strings.Clone(recs[0].Column(0).(*array.String).Value(0)), nil
}

func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

func (t *tree) items() []any {
	items, _ := t.node["select_list"].([]any)
	return items
}

func (t *tree) from() map[string]any {
	from, _ := t.node["from_table"].(map[string]any)
	return from
}

// plain reports whether the SELECT has nothing but a list and a FROM.
func (t *tree) plain() bool {
	if t.node["type"] != "SELECT_NODE" || t.node["aggregate_handling"] != "STANDARD_HANDLING" {
		return false
	}
	for _, clause := range []string{"modifiers", "where_clause", "group_expressions", "group_sets", "having", "sample", "qualify"} {
		if !empty(t.node[clause]) {
			return false
		}
	}
	ctes, _ := t.node["cte_map"].(map[string]any)
	return empty(ctes["map"])
}

func (t *tree) singleExpression() bool {
	return t.plain() && len(t.items()) == 1 && t.from()["type"] == "EMPTY"
}

// empty reports whether a part of a tree stands for nothing.
func empty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case bool:
		return !v
	case []any:
		return len(v) == 0
	}
	return false
}

// overBatch reports whether the SELECT begins with a bare star over nothing but
// the batch, so that the columns of the batch come out as they are.
func (t *tree) overBatch() bool {
	from := t.from()
	if t.node["type"] != "SELECT_NODE" || from["type"] != "BASE_TABLE" || !strings.EqualFold(fmt.Sprint(from["table_name"]), view) || len(t.items()) == 0 {
		return false
	}
	for _, k := range []string{"schema_name", "catalog_name", "column_name_alias", "sample", "at_clause"} {
		if !empty(from[k]) {
			return false
		}
	}
	ctes, _ := t.node["cte_map"].(map[string]any)
	if !empty(ctes["map"]) { // one of them may be called batch
		return false
	}
	star, _ := t.items()[0].(map[string]any)
	if star["class"] != "STAR" {
		return false
	}
	for _, k := range []string{"exclude_list", "replace_list", "columns", "expr", "qualified_exclude_list", "rename_list"} {
		if !empty(star[k]) {
			return false
		}
	}
	return true
}

// alias is the name under which the SELECT knows the batch.
func (t *tree) alias() string {
	if a, _ := t.from()["alias"].(string); a != "" {
		return a
	}
	return view
}

// walk calls f for every object of a part of the tree.
func walk(v any, f func(map[string]any)) {
	switch v := v.(type) {
	case map[string]any:
		f(v)
		for _, c := range v {
			walk(c, f)
		}
	case []any:
		for _, c := range v {
			walk(c, f)
		}
	}
}

// rowFunctions make several rows of one.
var rowFunctions = map[string]bool{"unnest": true, "unlist": true, "generate_subscripts": true}

// wide reports whether an expression looks at more than one row, or makes
// several of one.
func (t *tree) wide() bool {
	wide := false
	walk(t.node["select_list"], func(o map[string]any) {
		name, _ := o["function_name"].(string)
		if o["class"] == "WINDOW" || o["class"] == "SUBQUERY" || rowFunctions[strings.ToLower(name)] {
			wide = true
		}
	})
	return wide
}

// columns lists the contract's columns that the SELECT's list names, in the
// contract's order.
func (t *tree) columns(table *contract.Table) []string {
	named := map[string]bool{}
	walk(t.node["select_list"], func(o map[string]any) {
		if o["class"] != "COLUMN_REF" {
			return
		}
		names, _ := o["column_names"].([]any)
		for i, n := range names {
			if s, _ := n.(string); i == 0 || i == 1 && strings.EqualFold(fmt.Sprint(names[0]), view) {
				named[strings.ToLower(s)] = true
			}
		}
	})
	var out []string
	for _, c := range table.Columns() {
		if named[strings.ToLower(c.Name)] {
			out = append(out, c.Name)
		}
	}
	return out
}
