package query

import (
	"math"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemill/tidemill/internal/predicate"
)

// condition is a predicate whose constants DuckDB has not computed yet. nil is unknown.
type condition struct {
	op      predicate.Op // And, Or, In, IsNull, IsNotNull, Prefix or a comparison
	args    []*condition
	column  []string
	day     bool // the day of a timestamp is compared, not the timestamp
	like    bool // the constant of Prefix is a pattern of LIKE
	not     bool // LIKE is negated, which says something only if the pattern has no wildcard
	consts  []*constant
	oneType bool // DuckDB compares the constants of all args as one type
}

// node is the predicate, once the constants are computed.
func (c *condition) node() *predicate.Node {
	if c == nil || !c.comparable() {
		return nil
	}
	switch c.op {
	case predicate.And, predicate.Or:
		args := make([]*predicate.Node, len(c.args))
		for i, a := range c.args {
			args[i] = a.node()
		}
		if c.op == predicate.And {
			return predicate.All(args...)
		}
		return predicate.Any(args...)
	case predicate.IsNull, predicate.IsNotNull:
		return predicate.Null(c.column, c.op == predicate.IsNull)
	case predicate.Prefix:
		return c.prefix()
	case predicate.In:
		args := make([]*predicate.Node, len(c.consts))
		for i, k := range c.consts {
			args[i] = c.compare(predicate.Eq, k.value)
		}
		return predicate.Any(args...)
	}
	return c.compare(c.op, c.consts[0].value)
}

// comparable says whether the constants that are compared as one type are such that the
// type does not matter.
func (c *condition) comparable() bool {
	consts := c.consts
	if c.oneType {
		consts = nil
		for _, a := range c.args {
			consts = append(consts, a.consts...)
		}
	}
	return !slices.ContainsFunc(consts, func(k *constant) bool { return !k.value.ok || k.value.class != consts[0].value.class })
}

// compare is a comparison with one constant.
func (c *condition) compare(op predicate.Op, v constantValue) *predicate.Node {
	if c.day {
		return c.compareDay(op, v)
	}
	exact := v.low == v.high
	switch {
	case exact:
	case op == predicate.Eq:
		return predicate.Between(c.column, v.low, v.high)
	case op == predicate.Ne:
		return nil
	case op == predicate.Lt, op == predicate.Le:
		return predicate.Compare(predicate.Le, c.column, v.high)
	default:
		return predicate.Compare(predicate.Ge, c.column, v.low)
	}
	return predicate.Compare(op, c.column, v.low)
}

const day = 24 * 60 * 60 * 1_000_000 // microseconds

// compareDay compares a timestamp's day in UTC, which is that of the session.
func (c *condition) compareDay(op predicate.Op, v constantValue) *predicate.Node {
	first := v.low.Int()
	if v.class != "DATE" || first > math.MaxInt64-day {
		return nil
	}
	is := func(op predicate.Op, at int64) *predicate.Node {
		return predicate.Compare(op, c.column, predicate.Timestamp(at))
	}
	switch op {
	case predicate.Eq:
		return predicate.All(is(predicate.Ge, first), is(predicate.Lt, first+day))
	case predicate.Ne:
		return predicate.Any(is(predicate.Lt, first), is(predicate.Ge, first+day))
	case predicate.Le:
		return is(predicate.Lt, first+day)
	case predicate.Gt:
		return is(predicate.Ge, first+day)
	}
	return is(op, first)
}

// prefix is what a pattern or the beginning of a text asks for.
func (c *condition) prefix() *predicate.Node {
	v := c.consts[0].value.low
	if !c.like {
		return predicate.Compare(predicate.Prefix, c.column, v)
	}
	at := strings.IndexAny(v.Text(), "%_")
	switch {
	case at < 0 && c.not:
		return predicate.Compare(predicate.Ne, c.column, v)
	case at < 0:
		return predicate.Compare(predicate.Eq, c.column, v)
	case c.not:
		return nil
	}
	return predicate.Compare(predicate.Prefix, c.column, predicate.String(v.Text()[:at]))
}

// translator makes conditions of expressions. One is used for one conjunct.
type translator struct {
	needs   *needs
	visible []*relation
	merged  bool
	about   *relation // whose columns the conjunct names
	mixed   bool      // it names those of more than one
}

// mirrored is a comparison with its sides exchanged, opposite its negation.
var (
	comparisons = map[string]predicate.Op{"COMPARE_EQUAL": predicate.Eq, "COMPARE_NOTEQUAL": predicate.Ne, "COMPARE_LESSTHAN": predicate.Lt,
		"COMPARE_LESSTHANOREQUALTO": predicate.Le, "COMPARE_GREATERTHAN": predicate.Gt, "COMPARE_GREATERTHANOREQUALTO": predicate.Ge}
	mirrored = map[predicate.Op]predicate.Op{predicate.Eq: predicate.Eq, predicate.Ne: predicate.Ne, predicate.Lt: predicate.Gt,
		predicate.Le: predicate.Ge, predicate.Gt: predicate.Lt, predicate.Ge: predicate.Le}
	opposite = map[predicate.Op]predicate.Op{predicate.Eq: predicate.Ne, predicate.Ne: predicate.Eq, predicate.Lt: predicate.Ge,
		predicate.Le: predicate.Gt, predicate.Gt: predicate.Le, predicate.Ge: predicate.Lt}
)

// condition translates an expression, or with not its negation. SQL's negation of null
// is null, so that a negated comparison is just the opposite one.
func (t *translator) condition(e object, not bool) *condition {
	switch kind := str(e, "type"); kind {
	case "CONJUNCTION_AND", "CONJUNCTION_OR":
		return t.conjunction(e, (kind == "CONJUNCTION_OR") != not, not)
	case "OPERATOR_NOT":
		if args := children(e); len(args) == 1 {
			return t.condition(args[0], !not)
		}
	case "OPERATOR_IS_NULL", "OPERATOR_IS_NOT_NULL":
		if args := children(e); len(args) == 1 {
			return t.isNull(args[0], (kind == "OPERATOR_IS_NULL") != not)
		}
	case "COMPARE_BETWEEN":
		return t.between(e, not)
	case "COMPARE_IN", "COMPARE_NOT_IN":
		return t.in(e, (kind == "COMPARE_NOT_IN") != not)
	case "COMPARE_DISTINCT_FROM", "COMPARE_NOT_DISTINCT_FROM":
		return t.distinct(e, (kind == "COMPARE_DISTINCT_FROM") != not)
	case "COLUMN_REF":
		return t.flag(e, not)
	case "FUNCTION":
		return t.like(e, not)
	default:
		if op, ok := comparisons[kind]; ok {
			return t.comparison(e, op, not)
		}
	}
	return nil
}

func (t *translator) conjunction(e object, or, not bool) *condition {
	c := &condition{op: predicate.And}
	if or {
		c.op = predicate.Or
	}
	for _, x := range children(e) {
		arg := t.condition(x, not)
		switch {
		case arg != nil:
			c.args = append(c.args, arg)
		case or:
			return nil
		}
	}
	if len(c.args) == 0 {
		return nil
	}
	return c
}

func (t *translator) isNull(e object, is bool) *condition {
	col := t.column(e)
	if col == nil || col.day {
		return nil
	}
	if is {
		return &condition{op: predicate.IsNull, column: col.path}
	}
	return &condition{op: predicate.IsNotNull, column: col.path}
}

func (t *translator) comparison(e object, op predicate.Op, not bool) *condition {
	left, _ := e["left"].(object)
	right, _ := e["right"].(object)
	col, value := t.column(left), right
	if col == nil {
		col, value, op = t.column(right), left, mirrored[op]
	}
	if not {
		op = opposite[op]
	}
	return t.compare(op, col, value)
}

// compare is a comparison of a column, which may be nil, with constants.
func (t *translator) compare(op predicate.Op, col *columnRef, values ...object) *condition {
	if col == nil {
		return nil
	}
	c := &condition{op: op, column: col.path, day: col.day}
	for _, v := range values {
		k := t.constant(v, col)
		if k == nil {
			return nil
		}
		c.consts = append(c.consts, k)
	}
	return c
}

func (t *translator) between(e object, not bool) *condition {
	input, _ := e["input"].(object)
	lower, _ := e["lower"].(object)
	upper, _ := e["upper"].(object)
	col := t.column(input)
	ops := [2]predicate.Op{predicate.Ge, predicate.Le}
	out := &condition{op: predicate.And, oneType: true}
	if not {
		ops, out.op = [2]predicate.Op{predicate.Lt, predicate.Gt}, predicate.Or
	}
	low, high := t.compare(ops[0], col, lower), t.compare(ops[1], col, upper)
	if low == nil || high == nil {
		return nil
	}
	out.args = []*condition{low, high}
	return out
}

func (t *translator) in(e object, not bool) *condition {
	args := children(e)
	if len(args) < 2 {
		return nil
	}
	c := t.compare(predicate.In, t.column(args[0]), args[1:]...)
	if c == nil || !not {
		return c
	}
	out := &condition{op: predicate.And, oneType: true}
	for _, k := range c.consts {
		out.args = append(out.args, &condition{op: predicate.Ne, column: c.column, day: c.day, consts: []*constant{k}})
	}
	return out
}

// distinct is IS [NOT] DISTINCT FROM a constant that is not null.
func (t *translator) distinct(e object, differs bool) *condition {
	if !differs {
		return t.comparison(e, predicate.Eq, false)
	}
	ne := t.comparison(e, predicate.Ne, false)
	if ne == nil {
		return nil
	}
	return &condition{op: predicate.Or, args: []*condition{ne, {op: predicate.IsNull, column: ne.column}}}
}

// flag is a boolean column that is a condition itself.
func (t *translator) flag(e object, not bool) *condition {
	col := t.column(e)
	if col == nil || col.typ.ID() != arrow.BOOL {
		return nil
	}
	return &condition{op: predicate.Eq, column: col.path, consts: []*constant{{value: constantValue{ok: true, low: predicate.Bool(!not), high: predicate.Bool(!not)}}}}
}

// like is a LIKE with the beginning of the pattern known, or one of the functions that
// look at the beginning of a text.
func (t *translator) like(e object, not bool) *condition {
	args := children(e)
	pattern := false
	switch str(e, "function_name") {
	case "~~":
		pattern = true
	case "!~~":
		pattern, not = true, !not
	case "starts_with", "prefix", "^@":
		if not {
			return nil
		}
	default:
		return nil
	}
	if len(args) != 2 {
		return nil
	}
	col := t.column(args[0])
	if col == nil || col.typ.ID() != arrow.STRING {
		return nil
	}
	c := t.compare(predicate.Prefix, col, args[1])
	if c != nil {
		c.like, c.not = pattern, not
	}
	return c
}
