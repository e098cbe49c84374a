package query

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/tidemill/tidemill/internal/predicate"
)

// constant is an expression without columns that a column is compared with.
type constant struct {
	expr  object
	typ   arrow.DataType // of the column
	text  bool           // the expression is just a string, which takes the column's type
	value constantValue
}

// constantValue is what DuckDB makes of a constant in the column's terms.
type constantValue struct {
	ok        bool
	low, high predicate.Value // the same, unless the type in which DuckDB compares is not certain
	class     string          // constants of one class are compared in one type
}

// functions without a state that constants may be made with. now() and its like are the
// start of the transaction, in which the statement itself runs, too.
var pureFunctions = []string{
	"+", "-", "*", "/", "//", "%", "||", "concat", "abs", "round", "floor", "ceil", "trunc", "least", "greatest", "lower", "upper",
	"now", "today", "current_date", "get_current_timestamp", "current_timestamp", "transaction_timestamp",
	"to_years", "to_quarters", "to_months", "to_weeks", "to_days", "to_hours", "to_minutes", "to_seconds", "to_milliseconds", "to_microseconds",
	"date_trunc", "datetrunc", "date_add", "last_day", "make_date", "make_timestamp", "make_timestamptz", "to_timestamp", "epoch_ms", "strptime",
}

// nowNames are functions that are written like columns.
var nowNames = []string{"current_date", "current_timestamp", "today"}

// constant returns an expression as a constant for comparisons with a column, nil when
// it is none.
func (t *translator) constant(e object, col *columnRef) *constant {
	if !t.pure(e) {
		return nil
	}
	k := &constant{expr: e, typ: col.typ}
	if value, ok := e["value"].(object); ok && str(e, "type") == "VALUE_CONSTANT" {
		typ, _ := value["type"].(object)
		k.text = str(typ, "id") == "VARCHAR"
	}
	t.needs.consts = append(t.needs.consts, k)
	return k
}

func (t *translator) pure(e object) bool {
	switch str(e, "type") {
	case "VALUE_CONSTANT":
		return true
	case "OPERATOR_CAST":
		child, _ := e["child"].(object)
		return t.pure(child)
	case "COLUMN_REF":
		name := names(e)
		if len(name) != 1 || !slices.Contains(nowNames, strings.ToLower(name[0])) {
			return false
		}
		return !slices.ContainsFunc(t.visible, func(r *relation) bool {
			if r.schema == nil {
				return true
			}
			path, _ := findColumn(r.schema, name)
			return path != nil
		})
	case "FUNCTION":
		if !slices.Contains(pureFunctions, strings.ToLower(str(e, "function_name"))) || e["distinct"] == true || e["filter"] != nil {
			return false
		}
	case "OPERATOR_COALESCE":
	default:
		return false
	}
	return !slices.ContainsFunc(children(e), func(c object) bool { return !t.pure(c) })
}

// syntax returns the tree of a statement, nil when DuckDB has none to give: only SELECT has one.
func (c *conn) syntax(ctx context.Context, sql string) object {
	rows, err := c.texts(ctx, "SELECT json_serialize_sql("+literal(sql)+", skip_null := true, skip_empty := true, skip_default := true)::VARCHAR")
	if err != nil || len(rows) != 1 || rows[0] == nil {
		return nil
	}
	var tree object
	d := json.NewDecoder(strings.NewReader(*rows[0]))
	d.UseNumber()
	if d.Decode(&tree) != nil || tree["error"] == true {
		return nil
	}
	return tree
}

// compute has DuckDB compute constants. What it cannot, stays unknown; the error is the
// context's only.
func (c *conn) compute(ctx context.Context, consts []*constant) error {
	if len(consts) == 0 {
		return nil
	}
	exprs, err := c.unparse(ctx, consts)
	if err != nil {
		return ctx.Err()
	}
	parts := make([]string, len(consts))
	for i, k := range consts {
		parts[i] = k.query(exprs[i])
	}
	values, err := c.texts(ctx, "SELECT "+strings.Join(parts, ", "))
	if err == nil && len(values) == 3*len(consts) {
		for i, k := range consts {
			k.set(values[3*i], values[3*i+1], values[3*i+2])
		}
		return nil
	}
	for i, k := range consts { // one of them is at fault: the others may be computed
		if values, err := c.texts(ctx, "SELECT "+parts[i]); err == nil && len(values) == 3 {
			k.set(values[0], values[1], values[2])
		}
	}
	return ctx.Err()
}

// typed returns an expression with its floating point constants as casts of strings: DuckDB
// writes them as decimals, which is another type.
func typed(v any) any {
	switch v := v.(type) {
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = typed(e)
		}
		return out
	case object:
		if value, ok := v["value"].(object); ok && str(v, "type") == "VALUE_CONSTANT" {
			typ, _ := value["type"].(object)
			number, isNumber := value["value"].(json.Number)
			if id := str(typ, "id"); isNumber && (id == "DOUBLE" || id == "FLOAT") {
				text := object{"class": "CONSTANT", "type": "VALUE_CONSTANT", "value": object{"type": object{"id": "VARCHAR"}, "is_null": false, "value": number.String()}}
				return object{"class": "CAST", "type": "OPERATOR_CAST", "child": text, "cast_type": object{"id": id}}
			}
			return v
		}
		out := make(object, len(v))
		for key, e := range v {
			out[key] = typed(e)
		}
		return out
	}
	return v
}

// unparse returns the SQL of constants.
func (c *conn) unparse(ctx context.Context, consts []*constant) ([]string, error) {
	parts := make([]string, len(consts))
	for i, k := range consts {
		list := []any{typed(k.expr)}
		node := object{"type": "SELECT_NODE", "cte_map": object{"map": []any{}}, "select_list": list, "from_table": object{"type": "EMPTY"}, "aggregate_handling": "STANDARD_HANDLING"}
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(object{"error": false, "statements": []any{object{"node": node}}}); err != nil {
			return nil, fmt.Errorf("write a constant: %w", err)
		}
		parts[i] = "json_deserialize_sql(" + literal(b.String()) + "::JSON)::VARCHAR"
	}
	out, err := c.texts(ctx, "SELECT "+strings.Join(parts, ", "))
	if err != nil {
		return nil, err
	}
	for i, sql := range out {
		if sql == nil {
			return nil, fmt.Errorf("a constant has no SQL")
		}
		parts[i] = "(" + strings.TrimPrefix(strings.TrimSuffix(strings.TrimSpace(*sql), ";"), "SELECT ") + ")"
	}
	return parts, nil
}

// query is the SQL of three texts: the constant's own type, its value as columns of the
// type are compared with it, and for FLOAT its other possible value. Errors become null.
func (k *constant) query(e string) string {
	value, other := e, "NULL"
	cast := func(e, typ string) string { return "CAST(" + e + " AS " + typ + ")" }
	typ, _ := fileType(k.typ)
	switch id := k.typ.ID(); id {
	case arrow.FLOAT64:
		value = cast(e, "DOUBLE")
	case arrow.FLOAT32:
		value, other = cast(e, "DOUBLE"), cast(cast(e, "FLOAT"), "DOUBLE")
	case arrow.TIMESTAMP:
		value = "epoch_us(" + cast(e, "TIMESTAMPTZ") + ")"
	case arrow.DATE32:
		if k.text {
			value = cast(e, "DATE")
		}
		value = "epoch_us(" + cast(value, "TIMESTAMP") + ")"
	case arrow.STRING:
	default:
		if k.text {
			value = cast(e, typ)
		}
	}
	return "typeof(" + e + "), TRY(" + cast(value, "VARCHAR") + "), TRY(" + cast(other, "VARCHAR") + ")"
}

// set notes what DuckDB has computed: nothing if it does not compare with the column in a
// way that is certain. A null, too, is left to DuckDB.
func (k *constant) set(typ, value, other *string) {
	if typ == nil || value == nil {
		return
	}
	class := constantClass(*typ)
	if k.text {
		class = "text"
	}
	low, ok := k.parse(class, *value)
	v := constantValue{ok: ok, low: low, high: low, class: class}
	if ok && k.typ.ID() == arrow.FLOAT32 {
		if other == nil {
			return
		}
		f, err := strconv.ParseFloat(*other, 64)
		v.ok = err == nil && !math.IsNaN(f)
		v.low, v.high = predicate.Float(min(f, low.Float())), predicate.Float(max(f, low.Float()))
	}
	switch id := k.typ.ID(); {
	case id == arrow.FLOAT32, id == arrow.FLOAT64, id == arrow.TIMESTAMP: // whatever it was
		v.class = ""
	case id == arrow.DATE32 && class == "text":
		v.class = "DATE"
	}
	k.value = v
}

func constantClass(typ string) string {
	switch base, _, _ := strings.Cut(typ, "("); base {
	case "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT", "DECIMAL":
		return "exact"
	case "DOUBLE", "FLOAT", "VARCHAR", "BOOLEAN", "DATE", "text":
		return base
	case "TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "TIMESTAMP_S", "TIMESTAMP_MS":
		return "TIMESTAMP"
	}
	return ""
}

// parse reads a value that DuckDB wrote, of a class that compares with the column's type.
func (k *constant) parse(class, value string) (v predicate.Value, ok bool) {
	switch k.typ.ID() {
	case arrow.INT8, arrow.INT16, arrow.INT32, arrow.INT64, arrow.DECIMAL128:
		switch class {
		case "exact", "text":
			n, ok := predicate.ParseNumber(value)
			return predicate.Decimal(n), ok
		case "DOUBLE":
			f, err := strconv.ParseFloat(value, 64)
			return predicate.Float(f), err == nil && k.typ.ID() != arrow.DECIMAL128
		}
	case arrow.FLOAT32, arrow.FLOAT64:
		f, err := strconv.ParseFloat(value, 64)
		return predicate.Float(f), err == nil && !math.IsNaN(f) && slices.Contains([]string{"exact", "DOUBLE", "FLOAT", "text"}, class)
	case arrow.STRING:
		return predicate.String(value), class == "text" || class == "VARCHAR"
	case arrow.BOOL:
		return predicate.Bool(value == "true"), class == "text" || class == "BOOLEAN"
	case arrow.TIMESTAMP, arrow.DATE32:
		us, err := strconv.ParseInt(value, 10, 64)
		return predicate.Timestamp(us), err == nil && slices.Contains([]string{"text", "DATE", "TIMESTAMP"}, class)
	}
	return v, false
}

// texts runs a query of ours and returns its rows' texts, one after another; null is nil.
func (c *conn) texts(ctx context.Context, sql string) ([]*string, error) {
	s, err := c.prepare(sql)
	if err != nil {
		return nil, orContext(ctx, err)
	}
	rec, err := c.collect(s)
	c.forget()
	if err != nil {
		return nil, orContext(ctx, err)
	}
	defer rec.Release()
	var out []*string
	for row := range int(rec.NumRows()) {
		for _, col := range rec.Columns() {
			if col.IsNull(row) {
				out = append(out, nil)
				continue
			}
			value := strings.Clone(col.(*array.String).Value(row))
			out = append(out, &value)
		}
	}
	return out, nil
}
