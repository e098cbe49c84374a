package query

import (
	"slices"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"
)

// columnRef is a column of a relation that conditions can be about.
type columnRef struct {
	path []string
	typ  arrow.DataType // of the constants that it is compared with
	day  bool           // the day of a timestamp column
}

// column returns the column that an expression is, or the timestamp column whose day it is.
func (t *translator) column(e object) *columnRef {
	if str(e, "type") == "OPERATOR_CAST" && e["try_cast"] != true {
		to, _ := e["cast_type"].(object)
		child, _ := e["child"].(object)
		if str(to, "id") != "DATE" {
			return nil
		}
		col := t.column(child)
		if col == nil || col.typ.ID() != arrow.TIMESTAMP {
			return nil
		}
		return &columnRef{path: col.path, typ: arrow.FixedWidthTypes.Date32, day: true}
	}
	if str(e, "type") != "COLUMN_REF" {
		return nil
	}
	rel, path, typ := t.resolve(names(e))
	if rel == nil {
		return nil
	}
	if t.about != nil && t.about != rel {
		t.mixed = true
	}
	t.about = rel
	return &columnRef{path: path, typ: typ}
}

func names(e object) []string {
	values, _ := e["column_names"].([]any)
	out := make([]string, len(values))
	for i, v := range values {
		out[i], _ = v.(string)
	}
	return out
}

// catalogs are first parts of a name that may be a schema or a database.
var catalogs = []string{"main", "temp", "memory", "system"}

// resolve finds the relation and the column that a name means; nil when it is not certain.
func (t *translator) resolve(name []string) (*relation, []string, arrow.DataType) {
	if len(name) > 1 {
		if slices.ContainsFunc(catalogs, func(c string) bool { return strings.EqualFold(c, name[0]) }) {
			return nil, nil, nil
		}
		var named []*relation
		for _, r := range t.visible {
			if strings.EqualFold(r.alias, name[0]) {
				named = append(named, r)
			}
		}
		if len(named) > 1 || len(named) == 1 && (named[0].schema == nil || named[0].ref == nil) {
			return nil, nil, nil
		}
		if len(named) == 1 {
			path, typ := findColumn(named[0].schema, name[1:])
			if typ == nil {
				return nil, nil, nil
			}
			return named[0], path, typ
		}
	}
	if t.merged {
		return nil, nil, nil
	}
	var found *relation
	var path []string
	var typ arrow.DataType
	for _, r := range t.visible {
		if r.schema == nil {
			continue
		}
		if p, _ := findColumn(r.schema, name[:1]); p == nil {
			continue
		}
		if found != nil {
			return nil, nil, nil
		}
		found = r
		path, typ = findColumn(r.schema, name)
	}
	if typ == nil {
		return nil, nil, nil
	}
	return found, path, typ
}

// findColumn finds a column, or a field of a struct, by its path without regard to case.
func findColumn(schema *arrow.Schema, name []string) ([]string, arrow.DataType) {
	fields := schema.Fields()
	var path []string
	for i, part := range name {
		at := slices.IndexFunc(fields, func(f arrow.Field) bool { return strings.EqualFold(f.Name, part) })
		if at < 0 {
			return nil, nil
		}
		path = append(path, fields[at].Name)
		if i == len(name)-1 {
			return path, fields[at].Type
		}
		st, ok := fields[at].Type.(*arrow.StructType)
		if !ok {
			return nil, nil
		}
		fields = st.Fields()
	}
	return nil, nil
}
