package quality

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/internal/problem"
	"github.com/tidemill/tidemill/query"
)

// Classes of failures, the same words as in quarantine tables.
const (
	ClassCheck    = "check"    // a check is false for the row, or cannot be computed for it
	ClassFeatures = "features" // a feature cannot be computed for the row
)

// RuleFeatures is the rule of failures of class features.
const RuleFeatures = "features"

// view is the name under which SQL knows the rows.
const view = "batch"

// Failure is a row that does not go on.
type Failure struct {
	Row     int64  // its _row
	Rule    string // name of the check, or RuleFeatures
	Class   string
	Column  string // first column that the check looks at, "" when it looks at none
	Message string // for people: the check and the values it saw, or DuckDB's error
}

// Result is what became of the rows of one call.
type Result struct {
	Passed   []arrow.Record   // see the package comment; the caller releases them
	Failed   []Failure        // in the order of the rows
	Warnings map[string]int64 // check -> rows that fail it; 1 for a batch that is not fresh; nil when there are none
}

// Release releases the records.
func (r *Result) Release() {
	for _, rec := range r.Passed {
		rec.Release()
	}
	r.Passed = nil
}

// Plan is a contract's checks and features, compiled. It is safe for concurrent use.
type Plan struct {
	engine *query.Engine
	table  *contract.Table
	now    func() time.Time

	input     *arrow.Schema // what SQL sees
	columns   *arrow.Schema // contract columns and features
	checks    []check       // in the contract's order, freshness left out
	freshness []contract.Check
	features  *features // nil when there are none

	flags     string // SQL: a boolean per check, true where it fails; "" without checks
	flagsWide bool   // the flags look at more than their own row
	combined  string // SQL: flags and features in one; "" when features need a query of their own
}

// check is one boolean expression over a row.
type check struct {
	contract.Check
	flag    string   // SQL: true where the check fails, never null
	columns []string // contract columns that it looks at
}

// Compile compiles a contract's checks and features for records of the given
// schema, which must have the contract's columns. SQL that is wrong is
// reported as problems of the contract's file, all at once.
func Compile(ctx context.Context, engine *query.Engine, table *contract.Table, schema *arrow.Schema) (*Plan, error) {
	p := &Plan{engine: engine, table: table, now: time.Now}
	fields := table.ArrowSchema().Fields()
	for _, f := range fields {
		if err := hasColumn(schema, f); err != nil {
			return nil, fmt.Errorf("compile checks of %s: %w", table.Name(), err)
		}
	}
	row := arrow.Field{Name: batch.ColRow, Type: arrow.PrimitiveTypes.Int64}
	p.input = arrow.NewSchema(append(append([]arrow.Field(nil), fields...), row), nil)
	p.columns = table.ArrowSchema()

	var problems problem.List
	for _, compile := range []func(context.Context, *problem.List) error{p.compileChecks, p.compileFeatures} {
		if err := compile(ctx, &problems); err != nil {
			return nil, fmt.Errorf("compile checks of %s: %w", table.Name(), err)
		}
	}
	if err := problems.Err(); err != nil {
		return nil, err
	}
	p.compileFlags()
	if err := p.compileCombined(ctx); err != nil {
		return nil, fmt.Errorf("compile checks of %s: %w", table.Name(), err)
	}
	return p, nil
}

func hasColumn(schema *arrow.Schema, f arrow.Field) error {
	at := schema.FieldIndices(f.Name)
	if len(at) != 1 {
		return fmt.Errorf("records have %d columns %q, one expected", len(at), f.Name)
	}
	if have := schema.Field(at[0]).Type; !arrow.TypeEqual(have, f.Type) {
		return fmt.Errorf("column %q of the records is %s, the contract says %s", f.Name, have, f.Type)
	}
	return nil
}

// WithClock returns a plan that takes the time for freshness checks from now.
func (p *Plan) WithClock(now func() time.Time) *Plan {
	q := *p
	q.now = now
	return &q
}

// Columns are the contract's columns followed by the features: what a model may
// score. Records that passed have further columns behind them.
func (p *Plan) Columns() *arrow.Schema { return p.columns }

// compileChecks checks one expression at a time, so that each problem is told
// of its own check.
func (p *Plan) compileChecks(ctx context.Context, problems *problem.List) error {
	for i, c := range p.table.Checks() {
		if c.Freshness > 0 {
			p.freshness = append(p.freshness, c)
			continue
		}
		field := fmt.Sprintf("checks[%d].expr", i)
		compiled, message, err := p.compileCheck(ctx, c)
		if err != nil {
			return err
		}
		if message != "" {
			problems.Add(p.table.Problem(field, "%s", message))
			continue
		}
		p.checks = append(p.checks, compiled)
	}
	return nil
}

// compileCheck returns what is wrong with a check as a message, and as an error
// what nobody can mend by changing it.
func (p *Plan) compileCheck(ctx context.Context, c contract.Check) (check, string, error) {
	out := check{Check: c, flag: "NOT coalesce((\n" + c.Expr + "\n), true)"}
	const before = "SELECT (\n"
	schema, err := p.describe(ctx, before+c.Expr+"\n) AS c FROM "+view)
	if err != nil {
		message, err := sqlMessage(err, c.Expr, len(before), nil)
		return out, message, err
	}
	tree, err := parse(ctx, p.engine, "SELECT "+c.Expr)
	if err != nil || !tree.singleExpression() {
		return out, "is not one expression; write a condition over the columns of a row, such as amount > 0", contextError(err)
	}
	if t := schema.Field(0).Type; t.ID() != arrow.BOOL {
		return out, fmt.Sprintf("is of type %s, not a condition; compare it with something, such as %s > 0", t, strings.TrimSpace(c.Expr)), nil
	}
	if _, err := p.describe(ctx, "SELECT "+batch.ColRow+", "+out.flag+" AS c FROM "+view); err != nil {
		return out, "looks at all rows at once; write a condition over one row, or add OVER () to the aggregate", contextError(err)
	}
	if c.OnFail == contract.OnFailWarn {
		// A row on which it cannot be computed is one more to warn of. TRY does
		// not take subqueries and windows; such a row then becomes a failure.
		try := "coalesce(TRY(" + out.flag + "), true)"
		if _, err := p.describe(ctx, "SELECT "+try+" AS c FROM "+view); err == nil {
			out.flag = try
		} else if err := contextError(err); err != nil {
			return out, "", err
		}
	}
	out.columns = tree.columns(p.table)
	p.flagsWide = p.flagsWide || tree.wide()
	return out, "", nil
}

// compileFlags writes the query that all checks are evaluated in. It has a row
// for every row of the batch, in order.
func (p *Plan) compileFlags() {
	if len(p.checks) == 0 {
		return
	}
	p.flags = "SELECT " + strings.Join(p.flagItems(), ", ") + " FROM " + view
	if p.flagsWide {
		p.flags += " ORDER BY " + batch.ColRow
	}
}

func (p *Plan) flagItems() []string {
	items := make([]string, len(p.checks))
	for i, c := range p.checks {
		items[i] = c.flag + " AS " + flagName(i)
	}
	return items
}

// flagName cannot be a column of a contract: those do not begin with "_".
func flagName(i int) string { return fmt.Sprintf("_check_%d", i) }

func (p *Plan) describe(ctx context.Context, sql string) (*arrow.Schema, error) {
	return p.engine.Describe(ctx, sql, map[string]*arrow.Schema{view: p.input})
}

// contextError keeps an error only if nobody can mend it by changing SQL: the
// caller gave up, or the engine is gone.
func contextError(err error) error {
	if e, ok := errors.AsType[*query.Error](err); ok && e.ByAuthor() || errors.Is(err, errNotSelect) {
		return nil
	}
	return err
}

// sqlMessage turns DuckDB's objection to a user's SQL into a problem's message.
// before is how many bytes stood ahead of the SQL in the statement. at, when
// not nil, is told the offset in the SQL. What is not the SQL's fault comes
// back as an error.
func sqlMessage(err error, sql string, before int, at func(offset int)) (string, error) {
	e, ok := errors.AsType[*query.Error](err)
	if !ok || !e.ByAuthor() {
		return "", err
	}
	offset := e.Offset - before
	inside := e.Offset >= 0 && offset >= 0 && offset < len(sql)
	if inside && at != nil {
		at(offset)
	}
	message := strings.TrimRight(e.Message, ".!")
	if e.Name != "" && len(e.Near) > 0 {
		message = fmt.Sprintf("%q does not exist; did you mean %q?", e.Name, e.Near[0])
	} else if e.Name != "" {
		message, _, _ = strings.Cut(message, "\n")
	}
	message = strings.Join(strings.Fields(message), " ")
	if inside {
		message += " (at " + excerpt(sql[offset:]) + ")"
	}
	return message, nil
}

// excerpt is the beginning of what is wrong, short enough for an error.
func excerpt(s string) string {
	const most = 30
	s, _, _ = strings.Cut(s, "\n")
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "…"
	}
	return "`" + strings.TrimSpace(s) + "`"
}
