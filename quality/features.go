package quality

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/internal/problem"
)

// features is a contract's features query, compiled.
type features struct {
	sql    string        // the query of its own: feature columns and what else is listed in fields, then _row
	names  []string      // of the features
	fields []arrow.Field // of the query's columns but the last; begins with the contract's columns when copied
	copied bool          // the contract's columns are taken from the query too, which may have changed them
	tree   *tree
}

var columnName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]*$`)

const featuresHint = "write SELECT *, … FROM batch"

// compileFeatures describes the contract's features and judges their columns.
func (p *Plan) compileFeatures(ctx context.Context, problems *problem.List) error {
	sql := strings.TrimRight(p.table.Features(), "; \t\r\n")
	if strings.TrimSpace(sql) == "" {
		return nil
	}
	schema, err := p.describe(ctx, sql)
	if err != nil {
		at := p.table.Problem("features", "")
		message, err := sqlMessage(err, sql, 0, func(offset int) {
			at.Line = p.table.FeaturesLine() + strings.Count(sql[:offset], "\n")
			at.Column = 0
		})
		if err != nil {
			return err
		}
		at.Message = message
		problems.Add(at)
		return nil
	}
	f := &features{}
	messages := p.judgeFeatures(schema, f)
	for _, m := range messages {
		problems.Add(p.table.Problem("features", "%s", m))
	}
	if len(messages) > 0 {
		return nil
	}
	if f.tree, err = parse(ctx, p.engine, sql); err != nil && !errors.Is(err, errNotSelect) {
		return err
	}
	f.copied = f.tree == nil || !f.tree.overBatch()
	p.finishFeatures(sql, f)
	return nil
}

// judgeFeatures says what is wrong with the columns that come out, and notes
// the features among them.
func (p *Plan) judgeFeatures(schema *arrow.Schema, f *features) (messages []string) {
	seen := map[string]string{}
	for _, c := range schema.Fields() {
		lower := strings.ToLower(c.Name)
		if was, ok := seen[lower]; ok {
			messages = append(messages, fmt.Sprintf("two columns come out as %q and %q; give one another name, or change the contract's column with * REPLACE (… AS %s)", was, c.Name, was))
			continue
		}
		seen[lower] = c.Name
		if c.Name == batch.ColRow || len(p.table.ArrowSchema().FieldIndices(c.Name)) > 0 {
			continue
		}
		if !columnName.MatchString(c.Name) {
			messages = append(messages, fmt.Sprintf("column %q has no name that tables can have; write … AS some_name (letters, digits and _, beginning with a letter)", c.Name))
			continue
		}
		if i := slices.IndexFunc(p.table.Derived(), func(d contract.Derived) bool { return strings.EqualFold(d.Name, c.Name) }); i >= 0 {
			messages = append(messages, fmt.Sprintf("partition_by adds the column %s to the table; give the feature another name", p.table.Derived()[i].Name))
			continue
		}
		f.names = append(f.names, c.Name)
	}
	for _, want := range p.input.Fields() {
		at := schema.FieldIndices(want.Name)
		switch {
		case len(at) == 0 && want.Name == batch.ColRow:
			messages = append(messages, fmt.Sprintf("the query drops %s, which tells the rows apart; %s, or list %[1]s as well", batch.ColRow, featuresHint))
		case len(at) == 0:
			messages = append(messages, fmt.Sprintf("the query drops column %q of the contract; %s", want.Name, featuresHint))
		case len(at) == 1 && !arrow.TypeEqual(schema.Field(at[0]).Type, want.Type):
			messages = append(messages, fmt.Sprintf("the query makes column %q %s, but the contract says %s; give the new column another name", want.Name, schema.Field(at[0]).Type, want.Type))
		}
	}
	if len(messages) == 0 {
		for _, n := range f.names {
			f.fields = append(f.fields, schema.Field(schema.FieldIndices(n)[0]))
		}
	}
	return messages
}

// finishFeatures writes the query that brings the features back in the order of
// the rows, and nothing that is not needed.
func (p *Plan) finishFeatures(sql string, f *features) {
	p.columns = arrow.NewSchema(slices.Concat(p.table.ArrowSchema().Fields(), f.fields), nil)
	if f.copied {
		f.fields = slices.Concat(p.table.ArrowSchema().Fields(), f.fields)
	}
	var list []string
	for _, c := range f.fields {
		list = append(list, quote(c.Name))
	}
	f.sql = "SELECT " + strings.Join(append(list, batch.ColRow), ", ") + " FROM (\n" + sql + "\n) ORDER BY " + batch.ColRow
	p.features = f
}

// compileCombined writes one query for checks and features, when the features
// look at one row each. A feature is computed only where the checks hold: the
// features may rely on them (ln(amount) after amount > 0).
func (p *Plan) compileCombined(ctx context.Context) error {
	f := p.features
	if f == nil || f.copied || p.flagsWide || len(f.names) == 0 || !f.tree.plain() || f.tree.wide() {
		return nil
	}
	guarded, err := parse(ctx, p.engine, "SELECT CASE WHEN _ok THEN 1 END")
	if err != nil {
		return err
	}
	items := f.tree.items()[1:]
	if len(items) != len(f.names) { // COLUMNS(…) or another star
		return nil
	}
	var list []any
	for i, item := range items {
		expr := item.(map[string]any)
		expr["alias"] = ""
		var w map[string]any
		if len(p.checks) == 0 {
			w = expr
			w["alias"] = f.names[i]
		} else if w, err = guard(guarded, expr, f.names[i]); err != nil {
			return err
		}
		list = append(list, w)
	}
	guarded.node["select_list"] = list
	sql, err := guarded.sql(ctx, p.engine)
	if err != nil {
		return err
	}
	p.combined = p.combine(sql)
	// What the rewriting may have changed (a name that means something else
	// inside) shows here; the query of the features' own is always right.
	schema, err := p.describe(ctx, p.combined)
	if err != nil {
		p.combined = ""
		return contextError(err)
	}
	for i, c := range f.fields {
		if got := schema.Field(len(p.checks) + i); got.Name != c.Name || !arrow.TypeEqual(got.Type, c.Type) {
			p.combined = ""
		}
	}
	return nil
}

// guard fills an expression into the tree of CASE WHEN _ok THEN … END.
func guard(template *tree, expr map[string]any, name string) (map[string]any, error) {
	shape, _ := template.items()[0].(map[string]any)
	checks, _ := shape["case_checks"].([]any)
	if len(checks) != 1 {
		return nil, fmt.Errorf("syntax tree of CASE is not as expected: %v", shape)
	}
	branch, _ := checks[0].(map[string]any)
	w := map[string]any{}
	for k, v := range shape {
		w[k] = v
	}
	w["alias"] = name
	w["case_checks"] = []any{map[string]any{"when_expr": branch["when_expr"], "then_expr": expr}}
	return w, nil
}

// combine puts the list of features (SELECT a, b) over the flags.
func (p *Plan) combine(list string) string {
	list = strings.TrimPrefix(list, "SELECT ")
	if len(p.checks) == 0 {
		return "SELECT " + list + " FROM " + view + " AS " + quote(p.features.tree.alias())
	}
	flags, ok := make([]string, len(p.checks)), []string{"true"}
	for i, c := range p.checks {
		flags[i] = flagName(i)
		if c.OnFail != "warn" {
			ok = append(ok, "NOT "+flagName(i))
		}
	}
	return "SELECT " + strings.Join(flags, ", ") + ", " + list +
		" FROM (SELECT *, " + strings.Join(ok, " AND ") + " AS _ok FROM (SELECT *, " + strings.Join(p.flagItems(), ", ") + " FROM " + view + ")) AS " + quote(p.features.tree.alias())
}
