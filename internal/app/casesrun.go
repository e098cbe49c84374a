package app

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/tidemill/tidemill/connectors"
	"github.com/tidemill/tidemill/connectors/cases"
	"github.com/tidemill/tidemill/internal/problem"
	"github.com/tidemill/tidemill/query"
)

// TestOptions of [TestConnectors].
type TestOptions struct {
	Paths  []string // project directories, connectors or files of tests
	Run    string   // regular expression: only tests whose names match
	Logger *slog.Logger
}

// TestResult is what one unit test of a connector showed.
type TestResult struct {
	Connector string       `json:"connector"` // file
	Name      string       `json:"name"`
	File      string       `json:"file"` // of the test
	Line      int          `json:"line"`
	Passed    bool         `json:"passed"`
	Diffs     []cases.Diff `json:"diffs,omitempty"`
	Error     string       `json:"error,omitempty"` // why it could not be run
	Notes     []string     `json:"notes,omitempty"`
}

// caseWithin bounds one test, should a processor hang.
const caseWithin = 30 * time.Second

// TestConnectors runs the unit tests of connectors, without a store and without
// Temporal. The error is for tests that cannot be read; a test that fails is none.
func TestConnectors(ctx context.Context, o TestOptions) ([]TestResult, error) {
	only, err := regexp.Compile(o.Run)
	if err != nil {
		return nil, fmt.Errorf("regular expression of tests' names: %w", err)
	}
	files, err := testedFiles(o.Paths)
	if err != nil {
		return nil, err
	}
	tested, err := readTests(files)
	if err != nil {
		return nil, err
	}
	engine, err := query.Open(query.Options{})
	if err != nil {
		return nil, err
	}
	defer engine.Close()
	out := []TestResult{}
	for _, t := range tested {
		t.cases = slices.DeleteFunc(t.cases, func(c cases.Case) bool { return !only.MatchString(c.Name) })
		for _, c := range t.cases {
			r := TestResult{Connector: t.connector, Name: c.Name, File: c.File, Line: c.Line}
			if err := runCase(ctx, engine, t.connector, c, &r, o.Logger); err != nil {
				if ctx.Err() != nil {
					return nil, ctx.Err()
				}
				r.Error = err.Error()
			}
			r.Passed = r.Error == "" && len(r.Diffs) == 0
			out = append(out, r)
		}
	}
	return out, nil
}

// runCase takes a test's messages through the connector and compares what comes out.
func runCase(ctx context.Context, engine *query.Engine, file string, c cases.Case, r *TestResult, log *slog.Logger) error {
	defer setEnvironment(c.Environment)()
	at, err := filepath.Abs(c.File) // the working directory is about to be the project's
	if err != nil {
		return fmt.Errorf("name of the test's file: %w", err)
	}
	t, err := openTrial(file, true)
	if err != nil {
		return err
	}
	defer t.back()
	config := t.config
	for _, name := range sortedKeys(c.Mocks) {
		if config, err = config.Mock(name, c.Mocks[name]); err != nil {
			return problem.List{{File: c.File, Line: c.MockLines[name], Field: "mocks." + name, Message: err.Error()}}
		}
	}
	var given [][]connectors.Given
	for _, b := range c.Batches {
		msgs := []connectors.Given{}
		for _, m := range b {
			msgs = append(msgs, connectors.Given{Data: m.Data, Meta: m.Meta})
		}
		given = append(given, msgs)
	}
	s, err := t.engine.Sample(ctx, config, connectors.SampleOptions{Given: given, Within: caseWithin})
	if err != nil {
		return err
	}
	if !s.Ended {
		return fmt.Errorf("the processors did not finish within %s; %s", caseWithin, s.LastWord)
	}
	if r.Diffs, err = s.CheckOutputs(c, filepath.Dir(at)); err != nil || !c.Rows && c.Warnings == nil {
		return err
	}
	looked, note, err := lookAt(ctx, engine, t, c, s, log)
	if err != nil {
		return err
	}
	if note != "" {
		r.Notes = append(r.Notes, note)
	}
	return compareCase(c, looked, r)
}

func lookAt(ctx context.Context, engine *query.Engine, t *trial, c cases.Case, s *connectors.Sample, log *slog.Logger) (_ *Looked, note string, err error) {
	l, err := newLook(ctx, engine, t.contract)
	if err != nil {
		return nil, "", err
	}
	defer l.close()
	score := t.contract.Score()
	switch {
	case score == nil:
	case c.MockScores != nil:
		l.mock = c.MockScores
		l.model = score.Model
	default:
		local, err := localModelOf(t.project, score)
		if err != nil {
			return nil, "", err
		}
		if note, err = l.load(ctx, local, log); err != nil {
			return nil, "", err
		}
	}
	d, err := s.Decode(t.contract)
	if err != nil {
		return nil, "", err
	}
	defer d.Release()
	looked, err := l.take(ctx, d, c.Now)
	return looked, note, err
}

func compareCase(c cases.Case, looked *Looked, r *TestResult) error {
	if c.Rows {
		good, bad, err := actual(looked)
		if err != nil {
			return err
		}
		r.Diffs = append(r.Diffs, c.CompareRows("scored", c.Scored, good)...)
		r.Diffs = append(r.Diffs, c.CompareRows("quarantined", c.Quarantined, bad)...)
	}
	if c.Warnings != nil {
		r.Diffs = append(r.Diffs, c.CompareWarnings(looked.Warnings)...)
	}
	return nil
}

// actual are the rows as tests compare them: those that pass in the order in which
// they came, the others by their positions.
func actual(looked *Looked) (good, bad []cases.Actual, err error) {
	rows := slices.Clone(looked.Rows)
	slices.SortStableFunc(rows, func(a, b LookRow) int { return int(min(max(a.ordinal-b.ordinal, -1), 1)) })
	for _, row := range rows {
		if row.Quarantined() {
			continue
		}
		values, err := row.Values.values()
		if err != nil {
			return nil, nil, err
		}
		good = append(good, cases.Actual{Values: values})
	}
	for _, row := range looked.Rows {
		if row.Quarantined() {
			bad = append(bad, cases.Actual{Note: row.Message, Values: map[string]any{
				"class": row.Class, "rule": row.Rule, "column": row.Column, "message": row.Message, "raw": row.Raw,
			}})
		}
	}
	return good, bad, nil
}

// setEnvironment sets variables and returns what puts them back.
func setEnvironment(vars map[string]string) func() {
	var undo []func()
	for name, value := range vars {
		was, had := os.LookupEnv(name)
		_ = os.Setenv(name, value) // a name that cannot be set is missed by whoever looks for it
		undo = append(undo, func() {
			if had {
				_ = os.Setenv(name, was)
			} else {
				_ = os.Unsetenv(name)
			}
		})
	}
	return func() {
		for _, u := range undo {
			u()
		}
	}
}

// Text shows a failed test to a person.
func (r TestResult) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "FAIL  %s:%d  %s\n", r.File, r.Line, r.Name)
	if r.Error != "" {
		b.WriteString("      " + strings.ReplaceAll(r.Error, "\n", "\n      ") + "\n")
	}
	for _, d := range r.Diffs {
		fmt.Fprintf(&b, "      %s:%d: %s", r.File, d.Line, d.Field)
		if d.Note != "" {
			b.WriteString("  (" + d.Note + ")")
		}
		b.WriteString("\n")
		if d.Want != "" {
			b.WriteString("        - " + d.Want + "\n")
		}
		if d.Got != "" {
			b.WriteString("        + " + d.Got + "\n")
		}
	}
	for _, n := range r.Notes {
		b.WriteString("      note: " + n + "\n")
	}
	return b.String()
}
